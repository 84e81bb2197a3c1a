//! A lab as a lab file describes it, with what else is found out about a host made up.

use std::path::Path;

use uuid::Uuid;
use virtlab::images::Readiness;
use virtlab::lab::Lab;
use virtlab::lab::hardware::Arch;
use virtlab::lab::options::{HostFacts, LabOptions};
use virtlab::lab::spec::{ConfigSource, ImageRef, TemplateRef, VirtType};

/// The lab `demo` of what `text` says, lines of a lab file.
pub(crate) fn lab(text: &str, virt_type: VirtType) -> Lab {
    let text = format!("version = 1\nname = 'demo'\n{text}");
    let options = LabOptions::from_toml(&text, Path::new("lab.toml")).unwrap();
    let facts = HostFacts {
        uuid: Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"demo.virtlab"),
        hostname: "host".to_owned(),
        occupied: Vec::new(),
        image: ImageRef { name: "micro".to_owned(), digest: None },
        arch: Arch::default(),
        least_memory: 512.try_into().unwrap(),
        config: ConfigSource::of(TemplateRef::new("config-templates/etcd-micro.ign.j2", "")),
        data_dir: None,
        domain_template: None,
        network_template: None,
        ready: Readiness::Etcd,
        ssh_user: None,
        virt_type,
        boot_address: Some("192.0.2.1".parse().unwrap()),
        boot_port: 8470,
    };
    options.resolve(facts).unwrap()
}
