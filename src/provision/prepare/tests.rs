//! From an image and a template to what a node is told, by the boot server itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::connect_info::MockConnectInfo;
use axum::http::Request;
use fs_err as fs;
use tower::ServiceExt;

use super::served::served_files;
use super::*;
use crate::boot_server::{Discovery, Server, router};
use crate::hint::hints;
use crate::host::neighbour::Neighbour;
use crate::images::fetch::Patience;
use crate::images::{Catalogue, Fetcher, Library, Pin};
use crate::lab::spec::{ConfigSource, TemplateRef};
use crate::lab::tests::lab;

/// A lab of three nodes of an image, with a config template.
fn prepare(image: &str, config: Option<&str>) -> Result<Prepared> {
    let templates = Templates::new(vec![]);
    let spec = Catalogue::new(&[])?.find(image)?;
    let config = ConfigTemplate::read(&templates, config.map(Path::new), &spec)?;
    let mut lab = lab(3);
    lab.spec.image.name = image.to_owned();
    lab.spec.config = config.reference;
    let input = ConfigInput { template: config.text, ssh_keys: vec![KEY.to_owned()] };
    prepared(&templates, lab, &spec, &input)
}

fn prepared(
    templates: &Templates,
    lab: Lab,
    spec: &ImageSpec,
    config: &ConfigInput,
) -> Result<Prepared> {
    let libvirt = LibvirtVersion::OLDEST;
    Prepared::new(lab, &Ingredients { templates, spec, image: None, config, kept: None, libvirt })
}

fn ask(server: Server, from: &str, path: &str) -> String {
    let peer: SocketAddr = format!("{from}:40000").parse().unwrap();
    let app = router(Arc::new(server)).layer(MockConnectInfo(peer));
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = runtime.block_on(async {
        let response = app.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        to_bytes(response.into_body(), usize::MAX).await.unwrap()
    });
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn a_template_that_makes_more_members_than_there_are_to_be_is_refused() {
    let templates = Templates::new(vec![]);
    let spec = Catalogue::new(&[]).unwrap().find("micro").unwrap();
    let mut lab = lab(3);
    lab.spec.voters = Some(2);
    let mut prepare = |template: &str| {
        let input = ConfigInput { template: template.to_owned(), ssh_keys: Vec::new() };
        lab.spec.config = ConfigSource::of(TemplateRef::new("/my.ign.j2", template));
        prepared(&templates, lab.clone(), &spec, &input)
    };
    let everybody = r#"{"ignition":{"version":"3.3.0"}, "x": "$etcd_initial_cluster"}"#;
    let error = prepare(everybody).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`/my.ign.j2` makes an etcd member of demo-3, but only the first 2 nodes are to be members"
    );
    assert_eq!(
        hints(&error),
        [
            "`--voters 3` makes members of all; or let it ask `node.index <= lab.voters`, see docs/configs.md"
        ]
    );
    let some = everybody.replace('$', "{{ '$' if node.index <= lab.voters else '' }}");
    let content = prepare(&some).unwrap().content;
    assert_eq!(
        content.founders(),
        "demo-1=http://192.168.150.2:2380,demo-2=http://192.168.150.3:2380"
    );
}

#[test]
fn the_articles_template_gives_what_the_article_says() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["coreos_production_pxe.vmlinuz", "coreos_production_pxe_image.cpio.gz"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let image = format!("coreos:{}", folder.path().display());
    let fetcher = Fetcher::new(Patience::default()).unwrap();
    let store = Library::open(&folder.path().join("store"), fetcher).unwrap();
    let spec = Catalogue::new(&[]).unwrap().find(&image).unwrap();
    let kept = store.find(&spec, &Pin::default()).unwrap().unwrap();

    let mut content = prepare(&image, Some(ARTICLE)).unwrap().content;
    content.files = served_files(&kept);
    assert!(content.wants_discovery());
    let base = content.discovery_base();
    let registry = folder.path().join("discovery.json");
    let url = Discovery::open(&registry, &base).unwrap().new_token(3).unwrap();
    assert!(url.starts_with("http://192.168.150.1:8470/discovery/"), "{url}");
    content.put_discovery_url(url.clone());
    assert!(!content.wants_discovery());

    let server = || {
        let mut server = Server::new(content.clone(), &folder.path().join("journal")).unwrap();
        // This host has no such network.
        server.neighbour = |_, _| Neighbour::Unknown;
        server
    };
    let text = ask(server(), "192.168.150.3", "/config");
    let expected = format!(
        "#cloud-config
ssh_authorized_keys:
  - ssh-rsa AAAAB3NzaC1yc2[...] (REPLACE THIS)

coreos:
  units:
    - name: etcd2.service
      command: start
    - name: fleet.service
      command: start

  etcd2:
    discovery: {url}
    advertise-client-urls: \"http://192.168.150.3:2379\"
    initial-advertise-peer-urls: \"http://192.168.150.3:2380\"
    listen-client-urls: \"http://0.0.0.0:2379\"
    listen-peer-urls: \"http://192.168.150.3:2380\"
"
    );
    assert_eq!(text, expected);
    // The names that the kernel arguments and the article's pxelinux.cfg expect.
    let script = ask(server(), "192.168.150.3", "/ipxe");
    assert!(
        script.contains(
            "files/coreos_production_pxe.vmlinuz initrd=coreos_production_pxe_image.cpio.gz"
        ),
        "{script}"
    );
    assert!(script.contains("cloud-config-url=http://192.168.150.1:8470/config"), "{script}");
    assert_eq!(
        ask(server(), "192.168.150.3", "/files/coreos_production_pxe.vmlinuz"),
        "coreos_production_pxe.vmlinuz"
    );
}

/// Newer releases of coreos-cloudinit drop keys with hyphens, older ones take both.
#[test]
fn the_config_of_coreos_has_no_hyphens_in_etcd2s_keys() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["coreos_production_pxe.vmlinuz", "coreos_production_pxe_image.cpio.gz"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let image = format!("coreos:{}", folder.path().display());
    let content = prepare(&image, None).unwrap().content;
    let (_, etcd2) = content.nodes[0].config.split_once("  etcd2:\n").unwrap();
    assert_eq!(
        etcd2,
        "    discovery: <DISCOVERY_URL>
    advertise_client_urls: \"http://$private_ipv4:2379\"
    initial_advertise_peer_urls: \"http://$private_ipv4:2380\"
    listen_client_urls: \"http://0.0.0.0:2379\"
    listen_peer_urls: \"http://$private_ipv4:2380\"
"
    );
}

#[test]
fn every_image_makes_configs_that_are_valid_and_have_the_ssh_key() {
    for (image, discovery) in [
        ("coreos", true),
        ("debian", false),
        ("fedora-coreos", false),
        ("flatcar", false),
        ("micro", false),
    ] {
        let content = prepare(image, None).unwrap_or_else(|e| panic!("{image}: {e:#}")).content;
        assert_eq!(content.wants_discovery(), discovery, "{image}");
        let text = &content.nodes[2].config;
        // Nothing in `micro` listens for ssh.
        assert_eq!(text.contains(KEY), image != "micro", "{image}: {text}");
    }
}

#[test]
fn where_addresses_are_not_known_the_members_find_each_other() {
    let templates = Templates::new(vec![]);
    for image in ["debian", "fedora-coreos", "flatcar", "micro"] {
        let spec = Catalogue::new(&[]).unwrap().find(image).unwrap();
        let config = ConfigTemplate::read(&templates, None, &spec).unwrap();
        let mut lab = lab(2);
        lab.spec.network = crate::lab::Network::Bridge("br0".to_owned());
        lab.spec.config = config.reference;
        let input = ConfigInput { template: config.text, ssh_keys: Vec::new() };
        let prepared = prepared(&templates, lab, &spec, &input).unwrap();
        assert!(prepared.content.wants_discovery(), "{image}");
        let text = &prepared.content.nodes[0].config;
        assert!(text.contains("$private_ipv4") && !text.contains("none"), "{image}: {text}");
    }
}

#[test]
fn a_config_that_is_not_valid_is_refused_with_the_node_and_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.ign");
    let file = file.to_str().unwrap();
    for (text, expected) in [
        ("{", "it is not JSON: EOF while parsing an object at line 1 column 1"),
        (
            "{{ '{' if node.index < 3 else 'x' }}\"ignition\":{\"version\":\"3.0.0\"}}",
            "it is not JSON: expected value at line 1 column 1",
        ),
    ] {
        fs::write(file, text).unwrap();
        let error = format!("{:#}", prepare("micro", Some(file)).unwrap_err());
        assert!(
            error.starts_with(&format!("checking the config that `{file}` makes for demo-")),
            "{error}"
        );
        assert!(error.ends_with(expected), "{error}");
    }
}

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFbLAhP24tq0B5xU44I6KAHQqRLy6Ow8m8Td3+XtCbwS";
/// Word for word.
const ARTICLE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/coreos-cloud-config.yaml.template");
