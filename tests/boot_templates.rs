//! The XML and the boot files of every way to boot: compared whole, and checked against libvirt's
//! own schemas by `virt-xml-validate` (package libvirt-clients).

#[path = "shared/schemas.rs"]
mod schemas;
#[path = "shared/snapshots.rs"]
mod snapshots;

use std::fs;
use std::process::{Command, Output};

use insta::Settings;

use crate::schemas::validate_old_and_new;
use crate::snapshots::filter_xml;

/// The flags of each case, by the name of its snapshots.
const CASES: [(&str, &[&str]); 9] = [
    ("bios-ipxe-http", &[]),
    ("bios-ipxe-tftp", &["--transport", "tftp"]),
    ("bios-pxelinux-tftp", &["--loader", "pxelinux"]),
    ("uefi-ipxe-http", &["--firmware", "uefi"]),
    ("uefi-ipxe-tftp", &["--firmware", "uefi", "--transport", "tftp"]),
    ("uefi-secure-boot", &["--firmware", "uefi", "--secure-boot"]),
    (
        "screen-disk-cards",
        &["--graphics", "spice", "--disk", "10GiB", "--nic", "lan", "--nic", "bridge:br1"],
    ),
    ("machine-cpu", &["--machine", "pc", "--cpu", "Haswell", "--hugepages", "--no-share-pages"]),
    ("cpu-mode", &["--cpu", "maximum", "--graphics", "vnc", "--network", "isolated"]),
];

fn render(flags: &[&str], part: &str) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtlab"));
    command.env_clear().env("HOME", home.path()).args(["render", "demo", "--nodes", "2"]);
    command.args(["--part", part]).args(flags).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_way_to_boot_is_valid_and_what_it_was() {
    let mut settings = Settings::clone_current();
    filter_xml(&mut settings);
    for (case, flags) in CASES {
        for part in ["domain", "network", "boot"] {
            let text = text(&render(flags, part));
            if part != "boot" {
                validate_old_and_new(part, &text);
            }
            settings.bind(|| insta::assert_snapshot!(format!("{case}.{part}"), text));
        }
    }
}

#[test]
fn a_template_of_the_users_extends_ours() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let domain = write(
        "my-domain.xml",
        "{% extends 'domain-templates/domain.xml.j2' %}\n\
         {% block devices %}<watchdog model='i6300esb' action='reset'/>{% endblock %}\n",
    );
    let network = write(
        "my-network.xml",
        "{% extends 'network-templates/nat.xml.j2' %}\n\
         {% block options %}<dnsmasq:option value='log-dhcp'/>{% endblock %}\n",
    );
    let xml = text(&render(&["--domain-template", &domain], "domain"));
    assert!(xml.contains("<watchdog model='i6300esb' action='reset'/>  </devices>"), "{xml}");
    let xml = text(&render(&["--network-template", &network], "network"));
    assert!(xml.contains("<forward mode='nat'/>") && xml.contains("'log-dhcp'"), "{xml}");

    let wrong = write("wrong.xml", "<domain>{{ nodes }}</domain>");
    let error = render(&["--domain-template", &wrong], "domain");
    assert_eq!(
        String::from_utf8_lossy(&error.stderr),
        format!(
            "error: rendering template `--domain-template {wrong}`, line 1: `nodes` is not defined; \
             docs/templates.md lists what a template may use\n"
        )
    );
}
