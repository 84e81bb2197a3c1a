//! What libvirt's host can run. <https://libvirt.org/formatcaps.html>

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use virt::error::ErrorNumber;

use super::Hypervisor;
use super::error::{Already, Doing};

/// The capabilities of libvirt's host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The architecture of its processors, such as `x86_64`.
    pub host_arch: String,
    /// The model of its processors, as libvirt names it.
    pub cpu_model: Option<String>,
    /// The size in bytes of its ordinary pages: the smallest that it has.
    pub page_size: Option<u64>,
    /// The types of domains (`kvm`, `qemu`) that it can run, by the architecture of the guest.
    pub guests: BTreeMap<String, Vec<String>>,
}

impl Hypervisor {
    /// What libvirt's host can run; `None` where the driver does not tell.
    pub fn capabilities(&self) -> Result<Option<Capabilities>> {
        let doing = || "asking libvirt for its host's capabilities".to_owned();
        let xml = self.connection()?.capabilities().already(&[ErrorNumber::NoSupport]);
        xml.doing(doing)?.map(|xml| Capabilities::parse(&xml)).transpose()
    }
}

impl Capabilities {
    fn parse(xml: &str) -> Result<Self> {
        let CapabilitiesXml { host, guest } =
            quick_xml::de::from_str(xml).context("reading libvirt's capabilities")?;
        let cpu = host.cpu.unwrap_or_default();
        let pages = cpu.pages.iter().filter(|page| page.unit == "KiB");
        let types = |arch: &ArchXml| arch.domain.iter().map(|it| it.kind.clone()).collect();
        Ok(Self {
            page_size: pages.map(|page| page.size * 1024).min(),
            host_arch: cpu.arch.unwrap_or_default(),
            cpu_model: cpu.model,
            guests: guest.iter().map(|it| (it.arch.name.clone(), types(&it.arch))).collect(),
        })
    }
}

#[derive(Deserialize)]
struct CapabilitiesXml {
    host: HostXml,
    #[serde(default)]
    guest: Vec<GuestXml>,
}

#[derive(Deserialize)]
struct HostXml {
    cpu: Option<CpuXml>,
}

#[derive(Default, Deserialize)]
struct CpuXml {
    arch: Option<String>,
    model: Option<String>,
    #[serde(default)]
    pages: Vec<PagesXml>,
}

#[derive(Deserialize)]
struct PagesXml {
    #[serde(rename = "@unit")]
    unit: String,
    #[serde(rename = "@size")]
    size: u64,
}

#[derive(Deserialize)]
struct GuestXml {
    arch: ArchXml,
}

#[derive(Deserialize)]
struct ArchXml {
    #[serde(rename = "@name")]
    name: String,
    #[serde(default)]
    domain: Vec<DomainXml>,
}

#[derive(Deserialize)]
struct DomainXml {
    #[serde(rename = "@type")]
    kind: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_its_pages_and_its_guests_are_read() {
        let xml = "<capabilities><host><uuid>x</uuid><cpu><arch>aarch64</arch><model>cortex-a57</model><feature name='a'/>\
            <pages unit='KiB' size='2048'/><pages unit='KiB' size='4'/></cpu></host>\
            <guest><os_type>hvm</os_type><arch name='aarch64'><wordsize>64</wordsize>\
            <machine maxCpus='255'>virt</machine><domain type='qemu'/><domain type='kvm'/></arch></guest>\
            <guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/></arch></guest>\
            </capabilities>";
        let types = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            Capabilities::parse(xml).unwrap(),
            Capabilities {
                host_arch: "aarch64".to_owned(),
                cpu_model: Some("cortex-a57".to_owned()),
                page_size: Some(4096),
                guests: BTreeMap::from([
                    ("aarch64".to_owned(), types(&["qemu", "kvm"])),
                    ("x86_64".to_owned(), types(&["qemu"])),
                ]),
            }
        );
        let none = "<capabilities><host><cpu><arch>i686</arch></cpu></host></capabilities>";
        assert_eq!(Capabilities::parse(none).unwrap().page_size, None);
    }
}
