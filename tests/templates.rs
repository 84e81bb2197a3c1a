//! Every template in every combination: what it renders, and whether the programs that read it
//! agree that it is right.

#[path = "shared/schemas.rs"]
mod schemas;
mod shared;
#[path = "shared/snapshots.rs"]
mod snapshots;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use fs_err as fs;
use insta::Settings;
use quick_xml::Reader;
use quick_xml::events::Event;
use virtlab::hypervisor::Hypervisor;
use virtlab::lab::metadata::{Mark, Power};
use virtlab::lab::spec::VirtType;
use virtlab::lab::{Lab, LibvirtVersion};
use virtlab::render::boot::{self, BootFiles, Entry};
use virtlab::render::config::{self, ConfigInput};
use virtlab::render::{filters, xml};
use virtlab::template::Templates;

use crate::schemas::{validate, validate_all_old_and_new, validate_old_and_new};
use crate::shared::lab;
use crate::snapshots::filter_xml;

#[test]
fn networks_are_what_libvirt_calls_a_network() {
    for mode in ["nat", "isolated", "routed"] {
        let lab = lab(&format!("network = '{mode}'\n{SUBNET}"), VirtType::Qemu);
        for ipv6 in [true, false] {
            let old = network(&lab, ipv6, LibvirtVersion::OLDEST);
            validate_old_and_new("network", &old);
            let xml = network(&lab, ipv6, TITLED);
            assert_eq!(without_title(&xml), old);
            if Hypervisor::library_version().unwrap() >= TITLED {
                validate("network", &xml);
            }
            assert_eq!(Mark::from_object_xml(&xml).unwrap().unwrap().lab, lab);
            let suffix = if ipv6 { "ipv6" } else { "ipv4" };
            assert_snapshot(&format!("network-{mode}-{suffix}"), &xml);
        }
    }
}

#[test]
fn domains_are_what_libvirt_calls_a_domain() {
    for virt_type in [VirtType::Kvm, VirtType::Qemu, VirtType::Test] {
        for (name, network) in
            [("own", SUBNET), ("bridge", "network = 'bridge'"), ("existing", "network = 'default'")]
        {
            let lab = lab(&format!("nodes = 2\n{network}"), virt_type);
            let xml = domain(&lab, 2);
            validate_old_and_new("domain", &xml);
            let mark = Mark::from_object_xml(&xml).unwrap().unwrap();
            assert_eq!(mark, Mark::of_node(&lab, 2, Power::On));
            assert_snapshot(&format!("domain-{virt_type}-{name}"), &xml);
        }
    }
}

#[test]
fn filters_that_keep_nodes_apart_are_what_libvirt_calls_a_filter() {
    let lab = lab(&format!("nodes = 4\n{SUBNET}\nnics = ['lan']"), VirtType::Qemu);
    let xml = filters::xml(&lab, 1, [2, 4].into_iter().collect());
    validate_old_and_new("nwfilter", &xml);
    // Two nodes with two cards each, there and back.
    assert_eq!(xml.matches("<rule ").count(), 8);
}

#[test]
fn every_combination_is_what_libvirt_calls_a_domain_and_a_network() {
    let boots =
        ["", "loader = 'pxelinux'", "firmware = 'uefi'", "firmware = 'uefi'\nsecure-boot = true"];
    let networks = [SUBNET, "network = 'bridge'", "network = 'lan'"];
    let screens = ["graphics = 'none'", "graphics = 'vnc'", "graphics = 'spice'"];
    let disks = ["", "disk = '10GiB'"];
    let nics = ["", "nics = ['lan', 'bridge:br1']"];
    let memories = ["", "hugepages = true\nno-share-pages = true"];
    let processors = ["", "cpu = 'maximum'", "cpu = 'Haswell'\nmachine = 'pc'"];
    let virt_types = [VirtType::Kvm, VirtType::Qemu];
    let mut texts = vec![String::new()];
    for choices in [&boots[..], &networks, &screens, &disks, &nics, &memories, &processors] {
        let and = |text: &String| -> Vec<String> {
            choices.iter().map(|choice| format!("{text}{choice}\n")).collect()
        };
        texts = texts.iter().flat_map(and).collect();
    }
    let labs = texts.iter().flat_map(|text| virt_types.map(|virt_type| lab(text, virt_type)));
    let domains: Vec<String> = labs.map(|lab| domain(&lab, 1)).collect();
    assert_eq!(domains.len(), 4 * 3 * 3 * 2 * 2 * 2 * 3 * 2);
    validate_all_old_and_new("domain", &domains);

    let modes = ["nat", "isolated", "routed"];
    let labs = modes.iter().flat_map(|mode| {
        boots.map(|boot| lab(&format!("network = '{mode}'\n{SUBNET}\n{boot}"), VirtType::Kvm))
    });
    let networks: Vec<String> = labs
        .flat_map(|lab| [true, false].map(|ipv6| network(&lab, ipv6, LibvirtVersion::OLDEST)))
        .collect();
    assert_eq!(networks.len(), 3 * 4 * 2);
    validate_all_old_and_new("network", &networks);
}

#[test]
fn text_of_the_users_is_escaped_wherever_it_goes() {
    let nasty = "<&'\"> ]]> {{ 1 }} ümläut";
    let text = format!("description = {nasty:?}\nnetwork = 'a<b&c'");
    let lab = lab(&text, VirtType::Qemu);
    let xml = domain(&lab, 1);
    validate_old_and_new("domain", &xml);
    assert_eq!(text_of(&xml, "description"), nasty);
    assert!(xml.contains("<source network='a&lt;b&amp;c'/>"), "{xml}");
    assert_eq!(Mark::from_object_xml(&xml).unwrap().unwrap().lab, lab);
    assert_snapshot("domain-escaped", &xml);
}

#[test]
fn the_pool_and_its_volumes_are_what_libvirt_calls_so() {
    let lab = lab(SUBNET, VirtType::Qemu);
    validate_old_and_new("storagepool", &xml::pool(&lab));
    let mut own = lab.clone();
    own.spec.data_dir = Some("/home/a<b&c/virtlab".to_owned());
    validate_old_and_new("storagepool", &xml::pool(&own));
    assert_eq!(text_of(&xml::pool(&own), "path"), "/home/a<b&c/virtlab/demo");
    validate_old_and_new("storagevol", &xml::volume("boot.ipxe", 512));
    validate_old_and_new("storagevol", &xml::volume("<&'\">", 0));
}

#[test]
fn every_mac_is_unicast_and_its_own_and_every_address_in_its_subnet() {
    for (options, nodes) in [
        ("subnet = '192.168.150.0/24'", 253),
        ("subnet = '10.200.0.0/30'", 1),
        ("subnet = '10.64.0.0/22'", 1000),
        ("subnet = '192.168.150.0/24'\nmac-prefix = '52:54:00:12:34'", 253),
        ("subnet = '192.168.150.0/24'\nmac-prefix = 'fe:ff:ff'", 253),
    ] {
        let lab = lab(&format!("nodes = {nodes}\n{options}"), VirtType::Qemu);
        let xml = network(&lab, true, LibvirtVersion::OLDEST);
        validate_old_and_new("network", &xml);
        let (subnet, gateway) =
            lab.spec.network.managed().map(|n| (n.subnet, lab.spec.boot_address)).unwrap();
        let mut macs = HashSet::new();
        let mut addresses = HashSet::new();
        for host in attributes(&xml, "host") {
            let value = |name: &str| &host.iter().find(|(key, _)| key == name).unwrap().1;
            let first = u8::from_str_radix(&value("mac")[..2], 16).unwrap();
            assert_eq!(first & 1, 0, "{} is multicast", value("mac"));
            assert!(macs.insert(value("mac").clone()), "{} is there twice", value("mac"));
            let ip: Ipv4Addr = value("ip").parse().unwrap();
            assert!(subnet.contains(&ip), "{ip} is outside of {subnet}");
            assert!(ip != subnet.network() && ip != subnet.broadcast() && gateway != ip, "{ip}");
            assert!(addresses.insert(ip), "{ip} is there twice");
        }
        assert_eq!((macs.len(), addresses.len()), (nodes, nodes), "{options}");
    }
}

#[test]
fn boot_scripts_are_ipxe_scripts() {
    let lab = lab(SUBNET, VirtType::Qemu);
    let files = BootFiles {
        kernel: "vmlinuz".to_owned(),
        initrds: vec!["first.img".to_owned(), "second.img".to_owned()],
    };
    let start = boot::ipxe_start(&templates(), &lab, &boot::ipxe_script_url(&lab)).unwrap();
    let node = lab.node(1);
    let base = format!("{}/", boot::files_url(&lab));
    let entry = Entry {
        lab: &lab,
        node: Some(&node),
        files: &files,
        base: &base,
        kernel_args: "console=ttyS0",
    };
    let own = boot::ipxe_script(&templates(), &entry).unwrap();
    for script in [&start, &own] {
        assert!(script.starts_with("#!ipxe\n"), "{script}");
        // Every label that is gone to exists, or the boot ends there.
        for label in script.split("goto ").skip(1).filter_map(|rest| rest.split_whitespace().next())
        {
            assert!(script.contains(&format!("\n:{label}\n")), "no label {label}:\n{script}");
        }
    }
    assert_snapshot("boot", &start);
    assert_snapshot("boot-node", &own);
    assert_snapshot("boot-pxelinux", &boot::pxelinux_cfg(&templates(), &entry).unwrap());
}

#[test]
fn every_ignition_config_is_one_to_ignition_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config-templates");
    let mut seen = 0;
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".ign.j2") {
            continue;
        }
        seen += 1;
        for (nodes, voters, name_of_it) in [(1, 7, "1"), (3, 7, "3"), (3, 2, "client")] {
            let text = format!("nodes = {nodes}\nvoters = {voters}\n{SUBNET}");
            let lab = lab(&text, VirtType::Qemu);
            let input = ConfigInput {
                template: fs::read_to_string(&path).unwrap(),
                ssh_keys: vec!["ssh-ed25519 AAAA user@host".to_owned()],
            };
            let text = config::config(&templates(), &lab, &lab.node(nodes), &input).unwrap();
            let text = config::substitute_addresses(&text, "192.168.150.2".parse().unwrap());
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &text).unwrap();
            run("ignition-validate", "ignition", &[file.path().to_str().unwrap()], &text);
            if name == "etcd-micro.ign.j2" {
                assert_snapshot(&format!("config-micro-{name_of_it}"), &text);
            }
        }
    }
    assert!(seen > 0, "there are no Ignition templates");
}

fn templates() -> Templates {
    Templates::new(Vec::new())
}

fn domain(lab: &Lab, index: u32) -> String {
    xml::domain(&templates(), lab, &lab.node(index)).unwrap()
}

fn network(lab: &Lab, ipv6: bool, libvirt: LibvirtVersion) -> String {
    let network = lab.spec.network.managed().unwrap();
    xml::network(&templates(), lab, network, ipv6, libvirt).unwrap()
}

/// What libvirt before 9.7 is given: networks had no title then.
fn without_title(xml: &str) -> String {
    let lines = xml.split_inclusive('\n').filter(|line| !line.contains("<title>"));
    lines.collect()
}

fn run(program: &str, package: &str, args: &[&str], text: &str) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| {
        panic!("`{program}` is needed for this test; install package {package} ({error})")
    });
    assert!(
        output.status.success(),
        "{program}: {}{}\n{text}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The attributes of all elements of this name.
fn attributes(xml: &str, name: &str) -> Vec<Vec<(String, String)>> {
    let mut reader = Reader::from_str(xml);
    let mut found = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) | Event::Empty(element) if element.name().as_ref() == name => {
                let attributes = element.attributes().map(|attribute| {
                    let attribute = attribute.unwrap();
                    (attribute.key.as_ref().to_owned(), attribute.value.into_owned())
                });
                found.push(attributes.collect());
            }
            Event::Eof => return found,
            _ => {}
        }
    }
}

/// The text of the only element of this name, as a program reads it.
fn text_of(xml: &str, name: &str) -> String {
    let start = format!("<{name}>");
    let from = xml.find(&start).unwrap() + start.len();
    let to = xml.find(&format!("</{name}>")).unwrap();
    quick_xml::escape::unescape(&xml[from..to]).unwrap().into_owned()
}

/// Compares with `tests/snapshots/`, but for virtlab's own version.
fn assert_snapshot(name: &str, text: &str) {
    let mut settings = Settings::clone_current();
    filter_xml(&mut settings);
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

const SUBNET: &str = "subnet = '192.168.150.0/24'";
/// Networks have a title since then.
const TITLED: LibvirtVersion = LibvirtVersion::new(9, 7, 0);
