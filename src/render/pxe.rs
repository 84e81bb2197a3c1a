//! What a PXE server that is not ours needs: loader configs, and snippets for DHCP servers and
//! nginx.

mod dhcp;

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use ipnet::Ipv4Net;
use serde::Serialize;

pub use self::dhcp::{DhcpRange, DhcpSite};
use super::{LabContext, NodeContext, all_nodes};
use crate::lab::Lab;
use crate::lab::boot::Loader;
use crate::template::Templates;

/// Where an exported tree will be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The TFTP server, as DHCP names it to the nodes.
    pub tftp_server: IpAddr,
    /// The path of the folder `tftp` on that server.
    pub tftp_root: String,
    /// Who gives out files and configs; `None`: the lab's boot server.
    pub http: Option<HttpSite>,
    /// What the DHCP server is told of its network; `None`: it knows that already.
    pub dhcp: Option<DhcpSite>,
}

/// An HTTP server that is not ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpSite {
    /// The URL of the folder `http`, without a slash at the end.
    #[serde(rename = "http_url")]
    pub url: String,
    /// The URL's path: empty, or with a slash at its beginning.
    #[serde(rename = "http_path")]
    pub path: String,
    /// The TCP port.
    #[serde(rename = "http_port")]
    pub port: u16,
    /// The path of the folder `http` on the server.
    #[serde(rename = "http_root")]
    pub root: String,
}

/// The pxelinux config of machines that are no node.
///
/// # Errors
/// If the template is wrong.
pub fn pxelinux_default(templates: &Templates, lab: &Lab) -> Result<String> {
    templates
        .render("boot-templates/pxe/pxelinux.default.j2", LabOnly { lab: LabContext::new(lab) })
}

/// The configs of servers of others, by file name.
///
/// # Errors
/// If a template is wrong.
pub fn snippets(templates: &Templates, lab: &Lab, site: &Site) -> Result<Vec<(String, String)>> {
    let mut names =
        vec!["dnsmasq.conf", "dhcpd.conf", "kea-dhcp4.json", "pfsense.txt", "tftpd-hpa"];
    names.extend(site.http.is_some().then_some("nginx.conf"));
    let context = Snippet {
        lab: LabContext::new(lab),
        nodes: all_nodes(lab),
        tag: tag(lab),
        tftp_server: site.tftp_server,
        tftp_root: &site.tftp_root,
        loader: lab.spec.boot.loader,
        dhcp: site.dhcp.map(Into::into),
        http: site.http.as_ref(),
    };
    let render = |name: &str| {
        let text = templates.render(&format!("boot-templates/pxe/{name}.j2"), &context)?;
        Ok((name.to_owned(), text))
    };
    names.into_iter().map(render).collect()
}

/// The config of a dnsmasq that gives the lab's nodes their boot files beside a DHCP server that
/// does not. `host` is our address on `bridge`.
///
/// # Errors
/// If the template is wrong.
pub fn proxy_dhcp(
    templates: &Templates,
    lab: &Lab,
    bridge: &str,
    host: Ipv4Net,
    tftp_root: &str,
) -> Result<String> {
    let context = Proxy {
        lab: LabContext::new(lab),
        nodes: all_nodes(lab),
        tag: tag(lab),
        bridge,
        subnet: host.network(),
        netmask: host.netmask(),
        tftp_server: host.addr(),
        tftp_root,
    };
    templates.render("boot-templates/pxe/proxy-dhcp.conf.j2", context)
}

/// What marks the nodes among all machines of a DHCP server.
fn tag(lab: &Lab) -> String {
    format!("virtlab-{}", lab.name)
}

#[derive(Serialize)]
struct LabOnly<'a> {
    lab: LabContext<'a>,
}

#[derive(Serialize)]
struct Snippet<'a> {
    lab: LabContext<'a>,
    nodes: Vec<NodeContext>,
    tag: String,
    tftp_server: IpAddr,
    tftp_root: &'a str,
    loader: Loader,
    dhcp: Option<DhcpContext>,
    #[serde(flatten)]
    http: Option<&'a HttpSite>,
}

#[derive(Serialize)]
struct DhcpContext {
    first: Ipv4Addr,
    last: Ipv4Addr,
    subnet: Ipv4Addr,
    prefix: u8,
    netmask: Ipv4Addr,
    router: Option<Ipv4Addr>,
    dns: Option<Ipv4Addr>,
}

impl From<DhcpSite> for DhcpContext {
    fn from(DhcpSite { range, router, dns }: DhcpSite) -> Self {
        let subnet = range.subnet();
        Self {
            first: range.first(),
            last: range.last(),
            subnet: subnet.network(),
            prefix: subnet.prefix_len(),
            netmask: subnet.netmask(),
            router,
            dns,
        }
    }
}

#[derive(Serialize)]
struct Proxy<'a> {
    lab: LabContext<'a>,
    nodes: Vec<NodeContext>,
    tag: String,
    bridge: &'a str,
    subnet: Ipv4Addr,
    netmask: Ipv4Addr,
    tftp_server: Ipv4Addr,
    tftp_root: &'a str,
}

#[cfg(test)]
mod tests;
