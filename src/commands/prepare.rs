//! From a lab to every text and file that making it needs: all that can be wrong with templates,
//! configs and images is found here, before anything is made.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use fs_err as fs;

use crate::boot_server::Content;
use crate::boot_server::ServedFile;
use crate::boot_server::ServedNode;
use crate::boot_server::timeline::Stage;
use crate::config::check;
use crate::config::is_butane;
use crate::config::to_ignition;
use crate::images::BootVariables;
use crate::images::ConfigFormat;
use crate::images::Image;
use crate::images::ImageSpec;
use crate::images::LabVariables;
use crate::images::NodeVariables;
use crate::images::Role;
use crate::images::Sha256;
use crate::images::digest::Hasher;
use crate::lab::Lab;
use crate::lab::Node;
use crate::lab::boot::Boot;
use crate::lab::boot::Firmware;
use crate::lab::boot::Loader;
use crate::lab::boot::Transport;
use crate::lab::spec::ConfigRef;
use crate::loaders::Program;
use crate::render::Templates;
use crate::render::boot;
use crate::render::boot::BootFiles;
use crate::render::boot::Entry;
use crate::render::boot::Urls;
use crate::render::config;
use crate::render::config::ConfigInput;
use crate::render::xml;
use crate::state::StateDir;

/// Everything that making a lab needs.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The lab.
    pub(super) lab: Lab,
    /// The XML of its own network, and the same without IPv6 where libvirt refuses that.
    pub(super) network: Option<NetworkXml>,
    /// The XML of each domain in the order of the nodes.
    pub(super) domains: Vec<String>,
    /// What goes into the TFTP root, by name.
    pub(super) boot_files: BTreeMap<String, BootFile>,
    /// What the boot server gives out.
    pub(super) content: Content,
    /// The user's own templates, to be kept with the lab.
    pub(super) own_templates: Vec<(String, String)>,
}

/// What a file of the TFTP root holds.
#[derive(Debug)]
pub(super) enum BootFile {
    /// A text of ours.
    Text(String),
    /// A file of this computer's: too large for memory, or a program of the distribution's.
    File { path: PathBuf, size: u64, sha256: Sha256 },
}

/// The network's XML in both forms.
#[derive(Debug)]
pub(super) struct NetworkXml {
    pub(super) with_ipv6: String,
    pub(super) without_ipv6: String,
}

impl Prepared {
    /// Renders everything.
    pub(super) fn new(
        templates: &Templates,
        lab: Lab,
        spec: &ImageSpec,
        image: Option<&Image>,
        input: &ConfigInput,
    ) -> Result<Self> {
        let network = lab.spec.network.managed().map(|network| {
            Ok::<_, anyhow::Error>(NetworkXml {
                with_ipv6: xml::network(templates, &lab, network, true)?,
                without_ipv6: xml::network(templates, &lab, network, false)?,
            })
        });
        let nodes = lab.nodes();
        let domains =
            nodes.iter().map(|node| xml::domain(templates, &lab, node)).collect::<Result<_>>()?;
        let boot_files = tftp_root(templates, &lab, spec, image)?;
        let content = Content {
            lab: lab.name.clone(),
            uuid: lab.uuid,
            address: lab.spec.boot_address,
            port: lab.spec.boot_port,
            nodes: nodes
                .iter()
                .map(|node| served_node(templates, &lab, node, spec, input))
                .collect::<Result<_>>()?,
            files: image.map(served_files).unwrap_or_default(),
            config_type: media_type(spec.config).to_owned(),
            ssh_keys: input.ssh_keys.clone(),
            discovery_url: None,
        };
        check_configs(&content, spec.config, &lab.spec.config.source)?;
        Ok(Self {
            network: network.transpose()?,
            domains,
            boot_files,
            content,
            own_templates: Vec::new(),
            lab,
        })
    }

    /// The name of an empty file that is put into the TFTP root last: if it is there, so is
    /// everything else, whole and the same.
    pub(super) fn upload_mark(&self) -> String {
        let mut digests = Hasher::default();
        for (name, content) in &self.boot_files {
            digests.update(format!("{name} {}\n", content.sha256()).as_bytes());
        }
        format!("complete-{}", digests.finish().short())
    }
}

/// The names of what an image boots.
pub(super) fn boot_files(spec: &ImageSpec) -> Result<BootFiles> {
    let names = |role: Role| {
        spec.files.iter().filter(move |file| file.role == role).map(|file| file.name.clone())
    };
    let kernel = names(Role::Kernel).next();
    Ok(BootFiles {
        kernel: kernel.with_context(|| format!("image `{}` has no kernel", spec.name))?,
        initrds: names(Role::Initrd).collect(),
    })
}

/// The kernel arguments of a node.
pub(super) fn kernel_args(lab: &Lab, node: &Node, spec: &ImageSpec, urls: &Urls) -> Result<String> {
    let variables = BootVariables {
        config_url: urls.config.clone(),
        nocloud_url: urls.nocloud.clone(),
        files_url: urls.files.clone(),
        node: NodeVariables {
            name: node.name.clone(),
            ip: node.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            mac: node.mac.to_string(),
        },
        lab: LabVariables { name: lab.name.to_string() },
    };
    spec.kernel_arguments(&variables)
}

/// Everything that the nodes of a lab get by TFTP. Without an image, just the texts.
fn tftp_root(
    templates: &Templates,
    lab: &Lab,
    spec: &ImageSpec,
    image: Option<&Image>,
) -> Result<BTreeMap<String, BootFile>> {
    let Boot { loader, firmware, transport, .. } = lab.spec.boot;
    let over_tftp = transport == Transport::Tftp;
    let mut root = BTreeMap::new();
    let mut add = |name: String, file: BootFile| match root.insert(name.clone(), file) {
        Some(_) => bail!("two files would be `{name}` for the nodes; rename the image's"),
        None => Ok(()),
    };
    let files = boot_files(spec)?;
    for node in lab.nodes().iter().filter(|_| over_tftp) {
        let kernel_args = kernel_args(lab, node, spec, &Urls::of_boot_server(lab))?;
        let entry =
            Entry { lab, node: Some(node), files: &files, base: "", kernel_args: &kernel_args };
        let (name, text) = match loader {
            Loader::Ipxe => {
                (boot::ipxe_script_name(node.mac), boot::ipxe_script(templates, &entry)?)
            }
            Loader::Pxelinux => {
                (boot::pxelinux_cfg_name(node.mac), boot::pxelinux_cfg(templates, &entry)?)
            }
        };
        add(name, BootFile::Text(text))?;
    }
    if loader == Loader::Ipxe {
        let url = boot::ipxe_script_url(lab);
        let next = if over_tftp { boot::IPXE_OWN_SCRIPT } else { &url };
        add("boot.ipxe".to_owned(), BootFile::Text(boot::ipxe_start(templates, lab, next)?))?;
    }
    let Some(image) = image else { return Ok(root) };
    let programs: &[Program] = match (loader, firmware) {
        (Loader::Pxelinux, _) => &[Program::Pxelinux, Program::Ldlinux],
        (Loader::Ipxe, Firmware::Uefi) => &[Program::IpxeEfi],
        (Loader::Ipxe, Firmware::Bios) => &[],
    };
    for program in programs {
        add(program.name().to_owned(), BootFile::program(*program)?)?;
    }
    for file in image.files.iter().filter(|file| over_tftp && file.role != Role::Extra) {
        let (path, sha256) = (file.path.clone(), file.sha256);
        add(file.name.clone(), BootFile::File { path, size: file.size, sha256 })?;
    }
    Ok(root)
}

impl BootFile {
    fn program(program: Program) -> Result<Self> {
        let path = program.find()?;
        let content = fs::read(&path)?;
        Ok(Self::File { path, size: content.len() as u64, sha256: Sha256::of(&content) })
    }

    fn sha256(&self) -> Sha256 {
        match self {
            Self::Text(text) => Sha256::of(text.as_bytes()),
            Self::File { sha256, .. } => *sha256,
        }
    }
}

/// Reads the config template: the user's file, or the image's own one.
pub(super) fn config_template(
    templates: &Templates,
    file: Option<&Path>,
    spec: &ImageSpec,
) -> Result<(ConfigRef, String)> {
    let (source, text) = match (file, &spec.config_template) {
        (Some(path), _) => {
            let path = std::path::absolute(path)?;
            let text =
                fs::read_to_string(&path).context("reading the config template (--config)")?;
            (path.display().to_string(), text)
        }
        (None, Some(name)) => {
            let name = format!("config-templates/{name}");
            let text = templates.source(&name)?;
            (name, text)
        }
        (None, None) if spec.config == ConfigFormat::None => ("none".to_owned(), String::new()),
        (None, None) => {
            bail!("image `{}` has no config template of its own; name one by --config", spec.name)
        }
    };
    let digest = digest_of(&text);
    Ok((ConfigRef { source, digest }, text))
}

/// A template of libvirt's XML that a flag named in the place of ours.
pub(super) struct OwnTemplate {
    pub(super) reference: ConfigRef,
    pub(super) text: String,
}

impl OwnTemplate {
    /// Reads the file that the flag `--{flag}` names.
    pub(super) fn read(flag: &str, path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)?;
        let text = fs::read_to_string(&path).with_context(|| format!("reading --{flag}"))?;
        let reference = ConfigRef { source: path.display().to_string(), digest: digest_of(&text) };
        Ok(Self { reference, text })
    }

    /// The one that a lab was made with: as it was kept, or the user's file if that is the same.
    fn of_lab(flag: &str, reference: &ConfigRef, state: &StateDir) -> Result<Self> {
        let kept =
            state.template(&kept_name(flag)).filter(|text| digest_of(text) == reference.digest);
        if let Some(text) = kept {
            return Ok(Self { reference: reference.clone(), text });
        }
        let own = Self::read(flag, Path::new(&reference.source))?;
        if own.reference.digest != reference.digest {
            bail!("`{}` is not the --{flag} any more that the lab was made with", reference.source);
        }
        Ok(own)
    }
}

/// Puts the lab's own templates in the place of ours.
pub(super) fn own_templates(
    mut templates: Templates,
    lab: &Lab,
    state: &StateDir,
) -> Result<(Templates, Vec<(String, String)>)> {
    let mut kept = Vec::new();
    let network = lab.spec.network.managed().map(xml::network_template_name).unwrap_or_default();
    for (flag, name, reference) in [
        (DOMAIN_TEMPLATE, xml::DOMAIN_TEMPLATE_NAME, &lab.spec.domain_template),
        (NETWORK_TEMPLATE, network.as_str(), &lab.spec.network_template),
    ] {
        let Some(reference) = reference else { continue };
        let own = OwnTemplate::of_lab(flag, reference, state)?;
        templates = templates.instead(name, flag, &reference.source, own.text.clone())?;
        kept.push((kept_name(flag), own.text));
    }
    Ok((templates, kept))
}

fn kept_name(flag: &str) -> String {
    format!("{flag}.xml.j2")
}

fn digest_of(text: &str) -> String {
    format!("sha256:{}", Sha256::of(text.as_bytes()))
}

fn served_node(
    templates: &Templates,
    lab: &Lab,
    node: &Node,
    spec: &ImageSpec,
    input: &ConfigInput,
) -> Result<ServedNode> {
    let (files, kernel_args) =
        (boot_files(spec)?, kernel_args(lab, node, spec, &Urls::of_boot_server(lab))?);
    let base = format!("{}/", boot::files_url(lab));
    let entry =
        Entry { lab, node: Some(node), files: &files, base: &base, kernel_args: &kernel_args };
    Ok(ServedNode {
        index: node.index,
        name: node.name.clone(),
        mac: node.mac,
        ip: node.ip.map(Into::into),
        script: boot::ipxe_script(templates, &entry)?,
        config: node_config(templates, lab, node, input)?,
    })
}

fn node_config(
    templates: &Templates,
    lab: &Lab,
    node: &Node,
    input: &ConfigInput,
) -> Result<String> {
    let text = config::config(templates, lab, node, input)?;
    let source = &lab.spec.config.source;
    if !is_butane(source) {
        return Ok(text);
    }
    to_ignition(&text).with_context(|| format!("translating `{source}` for {}", node.name))
}

/// Refuses configs that the nodes could not read. They are looked at as the nodes will get them, with
/// an address in the place of each placeholder.
fn check_configs(content: &Content, format: ConfigFormat, source: &str) -> Result<()> {
    let last = content.nodes.len().saturating_sub(1);
    for (position, node) in content.nodes.iter().enumerate() {
        let address = node.ip.unwrap_or(content.address);
        let text = config::substitute_addresses(&node.config, address);
        let text = config::put_discovery_url(&text, &content.discovery_base());
        // Templates that treat nodes differently do so with the first or the last.
        let thorough = position == 0 || position == last;
        check(format, &text, thorough).with_context(|| {
            format!("checking the config that `{source}` makes for {}", node.name)
        })?;
    }
    Ok(())
}

fn served_files(image: &Image) -> BTreeMap<String, ServedFile> {
    let stage = |role| match role {
        Role::Kernel => Stage::Kernel,
        Role::Initrd => Stage::Initrd,
        Role::Extra => Stage::Rootfs,
    };
    let serve = |file: &crate::images::ImageFile| {
        (file.name.clone(), ServedFile { path: file.path.clone(), stage: stage(file.role) })
    };
    image.files.iter().map(serve).collect()
}

/// <https://github.com/coreos/ignition/blob/main/docs/rationale.md> names no other type than
/// Ignition's own; the rest is text.
fn media_type(format: ConfigFormat) -> &'static str {
    match format {
        ConfigFormat::Ignition => "application/vnd.coreos.ignition+json",
        ConfigFormat::CloudConfig | ConfigFormat::UserData => "text/cloud-config; charset=utf-8",
        ConfigFormat::Talos => "application/yaml",
        ConfigFormat::None => "text/plain; charset=utf-8",
    }
}

/// The flags that name a template, without their dashes.
pub(super) const DOMAIN_TEMPLATE: &str = "domain-template";
pub(super) const NETWORK_TEMPLATE: &str = "network-template";

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::body::to_bytes;
    use axum::extract::connect_info::MockConnectInfo;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::boot_server::Discovery;
    use crate::boot_server::Server;
    use crate::boot_server::router;
    use crate::images::Catalogue;
    use crate::images::Fetcher;
    use crate::images::Pin;
    use crate::images::Store;
    use crate::images::fetch::Patience;
    use crate::lab::tests::lab;

    /// A lab of three nodes of an image, with a config template.
    fn prepare(image: &str, config: Option<&str>) -> Result<Prepared> {
        let templates = Templates::new(vec![]);
        let spec = Catalogue::new(&[])?.find(image)?;
        let (config, template) = config_template(&templates, config.map(Path::new), &spec)?;
        let mut lab = lab(3);
        lab.spec.image.name = image.to_owned();
        lab.spec.config = config;
        let input = ConfigInput { template, ssh_keys: vec![KEY.to_owned()] };
        Prepared::new(&templates, lab, &spec, None, &input)
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
    fn the_articles_template_gives_what_the_article_says() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["coreos_production_pxe.vmlinuz", "coreos_production_pxe_image.cpio.gz"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let image = format!("coreos:{}", folder.path().display());
        let fetcher = Fetcher::new(Patience::default()).unwrap();
        let store = Store::open(&folder.path().join("store"), fetcher).unwrap();
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

        let server = || Server::new(content.clone(), &folder.path().join("journal")).unwrap();
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
            let (config, template) = config_template(&templates, None, &spec).unwrap();
            let mut lab = lab(2);
            lab.spec.network = crate::lab::Network::Bridge("br0".to_owned());
            lab.spec.config = config;
            let input = ConfigInput { template, ssh_keys: Vec::new() };
            let prepared = Prepared::new(&templates, lab, &spec, None, &input).unwrap();
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
}
