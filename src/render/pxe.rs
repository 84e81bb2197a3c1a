//! What a PXE server that is not ours needs: loader configs, and snippets for DHCP servers and
//! nginx.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use ipnet::Ipv4Net;
use serde::Serialize;

use super::{LabContext, NodeContext, all_nodes};
use crate::lab::Lab;
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

/// The snippets for servers of others, by file name.
///
/// # Errors
/// If a template is wrong.
pub fn snippets(templates: &Templates, lab: &Lab, site: &Site) -> Result<Vec<(String, String)>> {
    let mut names = vec!["dnsmasq.conf", "dhcpd.conf", "kea-dhcp4.json", "pfsense.txt"];
    names.extend(site.http.is_some().then_some("nginx.conf"));
    let prefix = lab.spec.mac_prefix.to_string();
    let context = Snippet {
        lab: LabContext::new(lab),
        nodes: all_nodes(lab),
        tag: tag(lab),
        tftp_server: site.tftp_server,
        tftp_root: &site.tftp_root,
        mac_octets: prefix.split(':').count(),
        mac_hex: prefix.replace(':', ""),
        mac_prefix: prefix,
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
    mac_prefix: String,
    mac_octets: usize,
    mac_hex: String,
    #[serde(flatten)]
    http: Option<&'a HttpSite>,
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
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    fn site() -> Site {
        Site {
            tftp_server: "10.77.0.2".parse().unwrap(),
            tftp_root: "/srv/lab/tftp".to_owned(),
            http: Some(HttpSite {
                url: "http://10.77.0.2:8080/lab".to_owned(),
                path: "/lab".to_owned(),
                port: 8080,
                root: "/srv/lab/http".to_owned(),
            }),
        }
    }

    fn snippet(name: &str) -> String {
        let snippets = snippets(&Templates::new(vec![]), &lab(1), &site()).unwrap();
        snippets.into_iter().find(|(found, _)| found == name).unwrap().1
    }

    /// Without comments and empty lines.
    fn lines(text: &str) -> Vec<&str> {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect()
    }

    #[test]
    fn dnsmasq_gives_boot_files_to_the_nodes_only() {
        assert_eq!(
            lines(&snippet("dnsmasq.conf")),
            [
                "enable-tftp",
                "tftp-root=/srv/lab/tftp",
                "dhcp-host=52:54:00:12:34:01,id:*,set:virtlab-demo,demo-1",
                "dhcp-match=set:virtlab-demo-ipxe,175",
                "dhcp-match=set:virtlab-demo-efi,option:client-arch,7",
                "dhcp-match=set:virtlab-demo-efi,option:client-arch,9",
                "dhcp-boot=tag:virtlab-demo,tag:virtlab-demo-ipxe,boot.ipxe,,10.77.0.2",
                "dhcp-boot=tag:virtlab-demo,tag:!virtlab-demo-ipxe,tag:virtlab-demo-efi,snponly.efi,,10.77.0.2",
                "dhcp-boot=tag:virtlab-demo,tag:!virtlab-demo-ipxe,tag:!virtlab-demo-efi,undionly.kpxe,,10.77.0.2",
                "dhcp-option=tag:virtlab-demo,encap:175,176,1b",
            ]
        );
    }

    #[test]
    fn nginx_substitutes_as_the_article_does() {
        let text = snippet("nginx.conf");
        for line in [
            "geo $dollar {",
            "listen  8080;",
            "location /lab/configs/ {",
            "alias /srv/lab/http/configs/;",
            "sub_filter '${dollar}private_ipv4' '$remote_addr';",
            "sub_filter '${dollar}public_ipv4' '$remote_addr';",
            "sub_filter_once off;",
        ] {
            assert!(lines(&text).contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn keas_classes_go_by_the_mac_prefix() {
        let text = snippet("kea-dhcp4.json");
        let json: Vec<&str> = text.lines().filter(|line| !line.trim().starts_with("//")).collect();
        let json: serde_json::Value = serde_json::from_str(&json.join("\n")).unwrap();
        let class = &json["Dhcp4"]["client-classes"][0];
        assert_eq!(
            class["test"],
            "substring(pkt4.mac, 0, 5) == 0x5254001234 and option[175].exists"
        );
        assert_eq!(class["boot-file-name"], "boot.ipxe");
    }

    #[test]
    fn a_proxy_dhcp_ignores_strangers() {
        let host = "10.77.0.1/24".parse().unwrap();
        let text = proxy_dhcp(&Templates::new(vec![]), &lab(1), "br0", host, "/tmp/x").unwrap();
        for line in [
            "interface=br0",
            "dhcp-range=10.77.0.0,proxy,255.255.255.0",
            "dhcp-host=52:54:00:12:34:01,id:*,set:virtlab-demo",
            "dhcp-ignore=tag:!known",
            "dhcp-boot=tag:ipxe,boot.ipxe,,10.77.0.1",
        ] {
            assert!(lines(&text).contains(&line), "{line} in {text}");
        }
    }
}
