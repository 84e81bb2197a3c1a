use serde_json::{Value, json};

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
        dhcp: None,
    }
}

/// A DHCP server that is set up by our files alone.
fn whole() -> Site {
    let range = "10.77.0.100-10.77.0.199/24".parse().unwrap();
    let router = Some(Ipv4Addr::new(10, 77, 0, 1));
    Site { dhcp: Some(DhcpSite { range, router, dns: router }), ..site() }
}

fn snippet(name: &str, loader: Loader, site: &Site) -> String {
    let mut lab = lab(2);
    lab.spec.boot.loader = loader;
    let snippets = snippets(&Templates::new(vec![]), &lab, site).unwrap();
    snippets.into_iter().find(|(found, _)| found == name).unwrap().1
}

/// Without comments and empty lines.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn dnsmasq_gives_boot_files_to_the_nodes_only() {
    let nodes = [
        "enable-tftp",
        "tftp-root=/srv/lab/tftp",
        "dhcp-host=52:54:00:12:34:01,id:*,set:virtlab-demo,demo-1",
        "dhcp-host=52:54:00:12:34:02,id:*,set:virtlab-demo,demo-2",
    ];
    let ipxe = [
        "dhcp-match=set:virtlab-demo-ipxe,175",
        "dhcp-match=set:virtlab-demo-efi,option:client-arch,7",
        "dhcp-match=set:virtlab-demo-efi,option:client-arch,9",
        "dhcp-boot=tag:virtlab-demo,tag:virtlab-demo-ipxe,boot.ipxe,,10.77.0.2",
        "dhcp-boot=tag:virtlab-demo,tag:!virtlab-demo-ipxe,tag:virtlab-demo-efi,snponly.efi,,10.77.0.2",
        "dhcp-boot=tag:virtlab-demo,tag:!virtlab-demo-ipxe,tag:!virtlab-demo-efi,undionly.kpxe,,10.77.0.2",
    ];
    let last = "dhcp-option=tag:virtlab-demo,encap:175,176,1b";
    assert_eq!(
        lines(&snippet("dnsmasq.conf", Loader::Ipxe, &site())),
        [&nodes[..], &ipxe, &[last]].concat()
    );
    let network = [
        "dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0",
        "dhcp-option=option:router,10.77.0.1",
        "dhcp-option=option:dns-server,10.77.0.1",
    ];
    let classic = ["dhcp-boot=tag:virtlab-demo,pxelinux.0,,10.77.0.2", last];
    assert_eq!(
        lines(&snippet("dnsmasq.conf", Loader::Pxelinux, &whole())),
        [&network[..], &nodes, &classic].concat()
    );
}

#[test]
fn dhcpd_gives_each_loader_what_it_boots_and_nothing_is_left_to_be_deleted() {
    assert_eq!(
        snippet("dhcpd.conf", Loader::Pxelinux, &whole()),
        "# Lab `demo` of virtlab, for ISC dhcpd.
# The whole config of a DHCP server for 10.77.0.0/24: copy it to /etc/dhcp/dhcpd.conf.
# The TFTP server at 10.77.0.2 serves the folder /srv/lab/tftp.
# https://kb.isc.org/docs/isc-dhcp-44-manual-pages-dhcpdconf

subnet 10.77.0.0 netmask 255.255.255.0 {
  range 10.77.0.100 10.77.0.199;
  option routers 10.77.0.1;
  option domain-name-servers 10.77.0.1;
}

group {
  next-server 10.77.0.2;
  # A system in memory makes up a new client id at each boot.
  ignore-client-uids true;
  filename \"pxelinux.0\";
  host demo-1 { hardware ethernet 52:54:00:12:34:01; option host-name \"demo-1\"; }
  host demo-2 { hardware ethernet 52:54:00:12:34:02; option host-name \"demo-2\"; }
}
"
    );
    assert_eq!(
        snippet("dhcpd.conf", Loader::Ipxe, &site()),
        "# Lab `demo` of virtlab, for ISC dhcpd.
# Copy it to /etc/dhcp/virtlab-demo.conf, and put this line into /etc/dhcp/dhcpd.conf, after your subnets:
#   include \"/etc/dhcp/virtlab-demo.conf\";
# The TFTP server at 10.77.0.2 serves the folder /srv/lab/tftp.
# https://kb.isc.org/docs/isc-dhcp-44-manual-pages-dhcpdconf

option virtlab-demo-arch code 93 = unsigned integer 16;
option virtlab-demo-ipxe code 175 = string;

group {
  next-server 10.77.0.2;
  # A system in memory makes up a new client id at each boot.
  ignore-client-uids true;
  # QEMU's network cards are iPXE, which needs no loader; UEFI and other BIOS cards get one.
  if exists virtlab-demo-ipxe {
    filename \"boot.ipxe\";
  } elsif option virtlab-demo-arch = 00:07 or option virtlab-demo-arch = 00:09 {
    filename \"snponly.efi\";
  } else {
    filename \"undionly.kpxe\";
  }
  host demo-1 { hardware ethernet 52:54:00:12:34:01; option host-name \"demo-1\"; }
  host demo-2 { hardware ethernet 52:54:00:12:34:02; option host-name \"demo-2\"; }
}
"
    );
}

#[test]
fn nginx_substitutes_as_the_article_does() {
    let text = snippet("nginx.conf", Loader::Ipxe, &site());
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
fn keas_classes_give_each_loader_what_it_boots() {
    let nodes = "pkt4.mac == 0x525400123401 or pkt4.mac == 0x525400123402";
    let class = |name: &str, test: &str, file: &str| {
        json!({
            "name": format!("virtlab-demo-{name}"), "test": format!("member('virtlab-demo') and {test}"),
            "next-server": "10.77.0.2", "boot-file-name": file
        })
    };
    let ipxe = json!([
        { "name": "virtlab-demo", "test": nodes },
        class("ipxe", "option[175].exists", "boot.ipxe"),
        class(
            "efi",
            "not option[175].exists and (option[93].hex == 0x0007 or option[93].hex == 0x0009)",
            "snponly.efi"
        ),
        class("bios", "not option[175].exists and option[93].hex == 0x0000", "undionly.kpxe"),
    ]);
    let classic = json!([
        { "name": "virtlab-demo", "next-server": "10.77.0.2", "boot-file-name": "pxelinux.0", "test": nodes }
    ]);
    for (loader, classes) in [(Loader::Ipxe, ipxe), (Loader::Pxelinux, classic)] {
        let text = without_comments(&snippet("kea-dhcp4.json", loader, &site()));
        assert_eq!(serde_json::from_str::<Value>(&format!("[{text}]")).unwrap(), classes);
        let text = without_comments(&snippet("kea-dhcp4.json", loader, &whole()));
        let whole = json!({ "Dhcp4": {
            "interfaces-config": { "interfaces": ["*"] },
            "valid-lifetime": 3600,
            "match-client-id": false,
            "subnet4": [{
                "id": 1,
                "subnet": "10.77.0.0/24",
                "option-data": [{ "name": "routers", "data": "10.77.0.1" }],
                "pools": [{ "pool": "10.77.0.100 - 10.77.0.199" }]
            }],
            "option-data": [{ "name": "domain-name-servers", "data": "10.77.0.1" }],
            "client-classes": classes
        } });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), whole);
    }
}

fn without_comments(json: &str) -> String {
    json.lines().filter(|line| !line.trim().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn pfsense_names_the_file_of_the_labs_loader() {
    let field = |loader| {
        let text = snippet("pfsense.txt", loader, &site());
        text.lines().find(|line| line.contains("BIOS File Name")).unwrap().trim().to_owned()
    };
    assert_eq!(field(Loader::Ipxe), "Default BIOS File Name    boot.ipxe");
    assert_eq!(field(Loader::Pxelinux), "Default BIOS File Name    pxelinux.0");
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
