//! libvirt's XML of a lab: the domain of each node and the network.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use minijinja::Value;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::element::Element;
use super::{LabContext, NodeContext, all_nodes, filters, limits, links, reserved_nodes};
use crate::lab::boot::{Firmware, Loader};
use crate::lab::fault::FaultName;
use crate::lab::hardware::{Graphics, ModelName, Nic};
use crate::lab::metadata::{Desired, Mark, Power};
use crate::lab::spec::ManagedNetwork;
use crate::lab::{Lab, LibvirtVersion, MacAddr, Network, Node, address};
use crate::template::Templates;

/// The domain XML of a node. <https://libvirt.org/formatdomain.html>
///
/// The node's UUID is put in where the template has none, so that a domain that is defined twice is
/// the same.
///
/// # Errors
/// If the template is wrong, or drops what virtlab needs: its metadata or the MAC address.
pub fn domain(templates: &Templates, lab: &Lab, node: &Node) -> Result<String> {
    let mark = Mark::of_node(lab, node.index, Power::On);
    let hardware = &lab.spec.hardware;
    let context = DomainContext {
        lab: LabContext::new(lab),
        node: node.clone().into(),
        arch: hardware.arch.as_str(),
        virt_type: lab.spec.virt_type.to_string(),
        memory_mib: lab.spec.memory.mib(),
        vcpus: lab.spec.vcpus,
        network: AttachContext::new(lab),
        firmware: lab.spec.boot.firmware,
        secure_boot: lab.spec.boot.secure_boot,
        machine: hardware.machine.as_ref().map(ModelName::as_str),
        cpu: hardware.cpu.as_ref().map(ModelName::as_str),
        graphics: hardware.graphics,
        hugepages: hardware.hugepages,
        no_share_pages: hardware.no_share_pages,
        disk: hardware.disk.map(|_| format!("{}/{}", lab.pool_path(), lab.disk_name(node))),
        nics: NicContext::all(lab, node),
        console_log: lab.console_log(node),
        metadata: Value::from_safe_string(mark.to_xml()?),
    };
    let name = DOMAIN_TEMPLATE_NAME;
    let xml = templates.render(name, context)?;
    require_mark(name, &xml, &mark)?;
    let domain: DomainNics =
        quick_xml::de::from_str(&xml).context("reading the domain's interfaces")?;
    let named: Named = quick_xml::de::from_str(&xml).context("reading the domain's name")?;
    if named.name != node.name {
        bail!("template `{name}` makes a domain of another name; use {{{{ node.name }}}}");
    }
    if named.uuid.is_some_and(|uuid| uuid != node.uuid) {
        bail!("template `{name}` makes a domain of another UUID; use {{{{ node.uuid }}}}");
    }
    let mac = node.mac.to_string();
    let nics = domain.devices.unwrap_or_default().interface;
    if !nics
        .iter()
        .any(|nic| nic.mac.as_ref().is_some_and(|nic| nic.address.eq_ignore_ascii_case(&mac)))
    {
        bail!(
            "template `{name}` makes a domain without the node's MAC address; use {{{{ node.mac }}}}"
        );
    }
    Ok(if named.uuid.is_some() { xml } else { with_uuid(&xml, node.uuid) })
}

/// A domain's XML as it is for a node of which this is wanted, with that in its mark.
///
/// # Errors
/// If the mark cannot be written, which is a bug, or the XML is not well-formed.
pub(crate) fn with_desired(xml: &str, lab: &Lab, index: u32, desired: Desired) -> Result<String> {
    let as_rendered = Mark::of_node(lab, index, Power::On).to_xml()?;
    let marked = xml.replace(&as_rendered, &Mark::of_node(lab, index, desired).to_xml()?);
    if desired.faults.is_empty() {
        return Ok(marked);
    }
    let mut domain = Element::parse(&marked)?;
    if desired.faults.has(FaultName::Cut) {
        domain = links::with_links(domain, false);
    }
    if desired.faults.has(FaultName::Partition) {
        domain = filters::with_filters(domain, &lab.filter_name(index), true);
    }
    let limits = desired.faults.iter().filter_map(|fault| fault.kind.limit());
    Ok(limits.fold(domain, limits::with).to_string())
}

/// The same with a UUID as the domain's last element; libvirt reads them in any order.
fn with_uuid(xml: &str, uuid: Uuid) -> String {
    match xml.rsplit_once("</domain>") {
        Some((domain, rest)) => format!("{domain}  <uuid>{uuid}</uuid>\n</domain>{rest}"),
        None => xml.to_owned(),
    }
}

/// The XML of the lab's own network. <https://libvirt.org/formatnetwork.html>
///
/// `ipv6` makes boots three times as fast; it is off only where libvirt refuses it. `libvirt` is the version
/// that is to read the XML.
///
/// # Errors
/// If the template is wrong or drops what virtlab needs: its metadata, name or UUID.
pub fn network(
    templates: &Templates,
    lab: &Lab,
    network: &ManagedNetwork,
    ipv6: bool,
    libvirt: LibvirtVersion,
) -> Result<String> {
    let mark = Mark::of_lab(lab);
    let nodes = all_nodes(lab);
    let subnet = network.subnet;
    let reserved = reserved_nodes(lab, subnet);
    let last = u32::try_from(reserved.len())?;
    let context = NetworkContext {
        lab: LabContext::new(lab),
        nodes,
        reserved,
        loader: lab.spec.boot.loader,
        firmware: lab.spec.boot.firmware,
        has_title: libvirt >= NETWORK_TITLE,
        network: NetworkFields {
            uuid: lab.uuid,
            bridge: address::bridge_name(lab.uuid),
            gateway: address::gateway(subnet),
            prefix: subnet.prefix_len(),
            range_start: address::node_ip(subnet, 1),
            range_end: address::node_ip(subnet, last),
            tftp_root: lab.pool_path(),
            ipv6,
            ipv6_gateway: Ipv6Addr::from(u128::from(address::ula(lab.uuid).network()) + 1),
        },
        metadata: Value::from_safe_string(mark.to_xml()?),
    };
    let name = network_template_name(network);
    let xml = templates.render(&name, context)?;
    require_mark(&name, &xml, &mark)?;
    let named: Named = quick_xml::de::from_str(&xml).context("reading the network's name")?;
    if named.name != lab.name.as_str() || named.uuid != Some(lab.uuid) {
        bail!(
            "template `{name}` makes a network of another name or UUID; use {{{{ lab.name }}}} and {{{{ network.uuid }}}}"
        );
    }
    Ok(xml)
}

/// The name of the template that [`network`] renders.
pub fn network_template_name(network: &ManagedNetwork) -> String {
    format!("network-templates/{}.xml.j2", network.mode)
}

/// The XML of the lab's storage pool: a folder that libvirtd makes and owns, readable by dnsmasq.
/// <https://libvirt.org/formatstorage.html>
pub fn pool(lab: &Lab) -> String {
    format!(
        "<pool type='dir'><name>{}</name><uuid>{}</uuid><target><path>{}</path>\
         <permissions><mode>0755</mode></permissions></target></pool>",
        lab.pool_name(),
        lab.pool_uuid(),
        quick_xml::escape::escape(lab.pool_path())
    )
}

/// The XML of a volume of `bytes` bytes that dnsmasq may read.
pub fn volume(name: &str, bytes: u64) -> String {
    format!(
        "<volume><name>{}</name><capacity unit='bytes'>{bytes}</capacity><target>\
         <format type='raw'/><permissions><mode>0644</mode></permissions></target></volume>",
        quick_xml::escape::escape(name)
    )
}

/// The XML of a volume of `bytes` bytes that nobody but libvirt's own processes may read.
pub(crate) fn private_volume(name: &str, bytes: u64) -> String {
    volume(name, bytes).replace("<mode>0644</mode>", "<mode>0600</mode>")
}

/// The XML of a snapshot of a domain's memory in a file at `path`. <https://libvirt.org/formatsnapshot.html>
pub(crate) fn memory_snapshot(path: &str) -> String {
    format!(
        "<domainsnapshot><memory snapshot='external' file='{}'/></domainsnapshot>",
        quick_xml::escape::escape(path)
    )
}

/// The XML of an empty disk of `bytes` bytes, which takes room on libvirt's host as it is filled.
pub fn disk(name: &str, bytes: u64) -> String {
    format!(
        "<volume><name>{}</name><capacity unit='bytes'>{bytes}</capacity>\
         <allocation>0</allocation><target><format type='qcow2'/></target></volume>",
        quick_xml::escape::escape(name)
    )
}

/// Well-formed, and with our metadata where a later virtlab looks for it.
fn require_mark(template: &str, xml: &str, mark: &Mark) -> Result<()> {
    let found = Mark::from_object_xml(xml)
        .with_context(|| format!("checking what template `{template}` made"))?;
    if found.as_ref() != Some(mark) {
        bail!(
            "template `{template}` drops virtlab's metadata, by which the lab is known; keep {{{{ metadata }}}} in <metadata>"
        );
    }
    Ok(())
}

#[derive(Serialize)]
struct DomainContext<'a> {
    lab: LabContext<'a>,
    node: NodeContext,
    arch: &'a str,
    virt_type: String,
    memory_mib: u64,
    vcpus: u32,
    network: AttachContext,
    firmware: Firmware,
    secure_boot: bool,
    machine: Option<&'a str>,
    cpu: Option<&'a str>,
    graphics: Graphics,
    hugepages: bool,
    no_share_pages: bool,
    disk: Option<String>,
    nics: Vec<NicContext>,
    console_log: String,
    metadata: Value,
}

/// What a domain attaches to: exactly one of the two.
#[derive(Serialize)]
struct AttachContext {
    bridge: Option<String>,
    name: Option<String>,
}

impl AttachContext {
    fn new(lab: &Lab) -> Self {
        match &lab.spec.network {
            Network::Managed(_) => Self { bridge: None, name: Some(lab.name.to_string()) },
            Network::Bridge(bridge) => Self { bridge: Some(bridge.clone()), name: None },
            Network::Existing(name) => Self { bridge: None, name: Some(name.clone()) },
        }
    }
}

/// A further network card.
#[derive(Serialize)]
struct NicContext {
    bridge: Option<String>,
    name: Option<String>,
    mac: MacAddr,
}

impl NicContext {
    fn all(lab: &Lab, node: &Node) -> Vec<Self> {
        let card = |(position, nic): (usize, &Nic)| {
            let mac = address::further_mac(lab.uuid, node.index, position);
            match nic {
                Nic::Bridge(bridge) => Self { bridge: Some(bridge.clone()), name: None, mac },
                Nic::Network(name) => Self { bridge: None, name: Some(name.clone()), mac },
            }
        };
        lab.spec.hardware.nics.iter().enumerate().map(card).collect()
    }
}

#[derive(Serialize)]
struct NetworkContext<'a> {
    lab: LabContext<'a>,
    nodes: Vec<NodeContext>,
    reserved: Vec<NodeContext>,
    network: NetworkFields,
    loader: Loader,
    firmware: Firmware,
    has_title: bool,
    metadata: Value,
}

#[derive(Serialize)]
struct NetworkFields {
    uuid: Uuid,
    bridge: String,
    gateway: Ipv4Addr,
    prefix: u8,
    range_start: Ipv4Addr,
    range_end: Ipv4Addr,
    tftp_root: String,
    ipv6: bool,
    ipv6_gateway: Ipv6Addr,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
    uuid: Option<Uuid>,
}

#[derive(Deserialize)]
struct DomainNics {
    devices: Option<Devices>,
}

#[derive(Default, Deserialize)]
struct Devices {
    #[serde(default)]
    interface: Vec<Interface>,
}

#[derive(Deserialize)]
struct Interface {
    mac: Option<Mac>,
}

#[derive(Deserialize)]
struct Mac {
    #[serde(rename = "@address")]
    address: String,
}

/// Networks have a title since this version. <https://libvirt.org/formatnetwork.html>
const NETWORK_TITLE: LibvirtVersion = LibvirtVersion::new(9, 7, 0);

/// The name of the template that [`domain`] renders.
pub const DOMAIN_TEMPLATE_NAME: &str = "domain-templates/domain.xml.j2";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    fn with_template(name: &str, text: &str) -> Templates {
        let folder = tempfile::tempdir().unwrap().keep();
        fs_err::create_dir_all(folder.join("domain-templates")).unwrap();
        fs_err::write(folder.join(name), text).unwrap();
        Templates::new(vec![folder])
    }

    #[test]
    fn a_description_is_escaped() {
        let mut lab = lab(1);
        lab.spec.description = Some("<&'\">".to_owned());
        let xml = domain(&Templates::new(vec![]), &lab, &lab.node(1)).unwrap();
        assert!(xml.contains("<description>&lt;&amp;&apos;&quot;&gt;</description>"), "{xml}");
    }

    #[test]
    fn a_template_that_drops_what_virtlab_needs_is_refused() {
        let name = "domain-templates/domain.xml.j2";
        for (text, expected) in [
            ("<domain><name>x</name></domain>", "drops virtlab's metadata"),
            (
                "<domain><name>x</name><metadata>{{ metadata }}</metadata></domain>",
                "makes a domain of another name; use {{ node.name }}",
            ),
            (
                "<domain><name>{{ node.name }}</name><metadata>{{ metadata }}</metadata></domain>",
                "without the node's MAC address",
            ),
            (
                "<domain><name>{{ node.name }}</name><uuid>{{ lab.uuid }}</uuid>\
                 <metadata>{{ metadata }}</metadata></domain>",
                "makes a domain of another UUID; use {{ node.uuid }}",
            ),
            ("<domain><metadata>{{ metadata }}</metadata>", "checking what template"),
        ] {
            let lab = lab(1);
            let error = domain(&with_template(name, text), &lab, &lab.node(1)).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }

    #[test]
    fn a_template_without_a_uuid_gets_the_nodes() {
        let name = "domain-templates/domain.xml.j2";
        let text = "<domain><name>{{ node.name }}</name><metadata>{{ metadata }}</metadata>\
                    <devices><interface><mac address='{{ node.mac }}'/></interface></devices></domain>";
        let (lab, node) = (lab(1), lab(1).node(1));
        let xml = domain(&with_template(name, text), &lab, &node).unwrap();
        let named: Named = quick_xml::de::from_str(&xml).unwrap();
        assert_eq!(named.uuid, Some(node.uuid), "{xml}");
    }

    #[test]
    fn a_network_template_that_drops_what_virtlab_needs_is_refused() {
        let lab = lab(1);
        let managed = lab.spec.network.managed().unwrap();
        for (text, expected) in [
            ("<network><name>demo</name></network>", "drops virtlab's metadata"),
            (
                "<network><name>demo</name><metadata>{{ metadata }}</metadata></network>",
                "makes a network of another name or UUID",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("network-templates/nat.xml.j2");
            fs_err::create_dir_all(file.parent().unwrap()).unwrap();
            fs_err::write(file, text).unwrap();
            let templates = Templates::new(vec![folder.path().to_owned()]);
            let error =
                network(&templates, &lab, managed, true, LibvirtVersion::OLDEST).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
