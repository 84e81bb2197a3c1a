//! A lab file is refused with its name, or means a lab that can be made and is the same when it is looked at again.

use std::path::Path;
use std::sync::LazyLock;

use uuid::Uuid;
use virtlab::images::Readiness;
use virtlab::lab::Lab;
use virtlab::lab::hardware::Arch;
use virtlab::lab::options::{HostFacts, LabOptions};
use virtlab::lab::spec::{ConfigSource, ImageRef, TemplateRef, VirtType};
use virtlab::render::xml;
use virtlab::template::Templates;

pub(crate) fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let options = match LabOptions::from_toml(text, Path::new("/home/me/lab.toml")) {
        Ok(options) => options,
        Err(error) => {
            assert!(error.to_string().starts_with("reading lab file `/home/me/lab.toml`: "));
            return;
        }
    };
    assert_eq!(options.clone().or(LabOptions::default()), options);
    assert_eq!(LabOptions::default().or(options.clone()), options);
    assert_eq!(options.clone().seen_from(Path::new("/elsewhere")), options);
    if let Ok(lab) = options.resolve(host_facts(&options)) {
        can_be_made(&lab);
        assert_eq!(options.differences(&lab), Vec::<String>::new());
    }
}

/// libvirt's XML of the lab is XML, and the lab can be read from it.
fn can_be_made(lab: &Lab) {
    let last = lab.node(lab.spec.nodes);
    let xml = xml::domain(&TEMPLATES, lab, &last).expect("a lab that is accepted can be rendered");
    // <https://www.w3.org/TR/xml/#charsets>
    let is_xml =
        |c: char| !matches!(c, '\0'..' ' | '\u{fffe}' | '\u{ffff}') || "\t\n\r".contains(c);
    assert!(xml.chars().all(is_xml), "{xml:?}");
}

/// A host on which nothing is taken, and an image of this name that is here.
fn host_facts(options: &LabOptions) -> HostFacts {
    let template = |path: &Path| TemplateRef::new(path.display().to_string(), "");
    let config = options.config.as_deref().map(template);
    HostFacts {
        uuid: Uuid::nil(),
        hostname: "host".to_owned(),
        occupied: Vec::new(),
        image: ImageRef { name: options.image_name().to_owned(), digest: None },
        arch: Arch::default(),
        least_memory: 64.try_into().expect("a good size"),
        config: config.map_or(ConfigSource::None, ConfigSource::of),
        data_dir: None,
        domain_template: options.domain_template.as_deref().map(template),
        network_template: options.network_template.as_deref().map(template),
        ready: Readiness::Config,
        ssh_user: None,
        virt_type: VirtType::Kvm,
        boot_address: Some([192, 0, 2, 1].into()),
        boot_port: 8470,
    }
}

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::new(Vec::new()));
