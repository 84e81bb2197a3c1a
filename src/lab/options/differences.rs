//! Where a lab that is there is not what was asked for.

use std::fmt::Display;
use std::path::Path;

use super::{LabOptions, NetworkChoice, Span, VirtTypeChoice};
use crate::lab::hardware::Nic;
use crate::lab::{Lab, Network};

impl LabOptions {
    /// Where these options ask for something else than `lab` is, one line for each difference.
    pub fn differences(&self, lab: &Lab) -> Vec<String> {
        // Every option has a name here, so that a new one is not forgotten.
        let Self {
            // The lab file's form; what the lab was found by; what only a new lab has.
            version: _,
            name: _,
            ssh_key: _,
            discovery: _,
            nodes,
            memory,
            vcpus,
            image,
            config,
            ready,
            voters,
            network,
            bridge,
            subnet,
            mac_prefix,
            virt_type,
            stagger,
            boot_port,
            boot_address,
            ksm,
            autostart,
            loader,
            firmware,
            transport,
            secure_boot,
            no_knock,
            graphics,
            disk,
            nics,
            machine,
            cpu,
            hugepages,
            no_share_pages,
            domain_template,
            network_template,
            description,
            trust_claimed_mac,
        } = self;
        let spec = &lab.spec;
        let mut found = Differences::default();
        found.compare("--nodes", nodes.as_ref(), spec.nodes);
        found.compare("--memory", memory.as_ref(), spec.memory);
        found.compare("--vcpus", vcpus.as_ref(), spec.vcpus);
        found.compare("--image", image.as_ref(), &spec.image.name);
        let config = config.as_ref().map(|path| path.display());
        found.compare("--config", config, &spec.config);
        found.compare("--ready", ready.as_ref(), &spec.ready);
        let all = || "as many as nodes".to_owned();
        let there = spec.voters.map_or_else(all, |voters| voters.to_string());
        found.compare("--voters", voters.as_ref(), there);
        let (kind, there_bridge) = match &spec.network {
            Network::Managed(network) => (network.mode.to_string(), None),
            Network::Bridge(name) => (NetworkChoice::Bridge.to_string(), Some(name)),
            Network::Existing(name) => (name.clone(), None),
        };
        found.compare("--network", network.as_ref(), kind);
        if let Some(there) = there_bridge {
            found.compare("--bridge", bridge.as_ref(), there);
        }
        if let Some(there) = spec.network.managed() {
            found.compare("--subnet", subnet.map(|subnet| subnet.trunc()), there.subnet);
        }
        found.compare("--mac-prefix", mac_prefix.as_ref(), spec.mac_prefix);
        let virt_type = virt_type.filter(|choice| *choice != VirtTypeChoice::Auto);
        found.compare("--virt-type", virt_type, spec.virt_type);
        found.compare("--stagger", stagger.as_ref(), Span(spec.stagger_ms));
        found.compare("--boot-port", boot_port.as_ref(), spec.boot_port);
        found.compare("--boot-address", boot_address.as_ref(), spec.boot_address);
        let switch = |on: bool| if on { "on" } else { "off" };
        found.compare("--ksm", ksm.map(switch), switch(spec.ksm));
        let how = format!("`virtlab autostart {} {}`", lab.name, switch(!spec.autostart));
        let there = format!("{}, which {how} changes", switch(spec.autostart));
        let wanted = autostart.filter(|wanted| *wanted != spec.autostart);
        found.compare("--autostart", wanted.map(switch), there);
        let trust = trust_claimed_mac.as_ref();
        found.compare("--trust-claimed-mac", trust, spec.trust_claimed_mac);
        found.compare("--loader", loader.as_ref(), spec.boot.loader);
        found.compare("--firmware", firmware.as_ref(), spec.boot.firmware);
        found.compare("--transport", transport.as_ref(), spec.boot.transport);
        found.compare("--secure-boot", secure_boot.as_ref(), spec.boot.secure_boot);
        found.compare("--no-knock", no_knock.as_ref(), spec.boot.no_knock);
        let there = &spec.hardware;
        found.compare("--graphics", graphics.as_ref(), there.graphics);
        found.compare("--disk", disk.as_ref(), or_none(there.disk.as_ref()));
        found.compare("--nic", listed(nics), or_none(listed(&there.nics)));
        found.compare("--machine", machine.as_ref(), or_none(there.machine.as_ref()));
        found.compare("--cpu", cpu.as_ref(), or_none(there.cpu.as_ref()));
        found.compare("--hugepages", hugepages.as_ref(), there.hugepages);
        found.compare("--no-share-pages", no_share_pages.as_ref(), there.no_share_pages);
        for (flag, wanted, there) in [
            ("--domain-template", domain_template, &spec.domain_template),
            ("--network-template", network_template, &spec.network_template),
        ] {
            let there = there.as_ref().map(|there| &there.source);
            found.compare(flag, wanted.as_deref().map(absolute), or_none(there));
        }
        let there = spec.description.as_deref().unwrap_or_default();
        found.compare("--description", description.as_ref(), there);
        found.lines
    }
}

#[derive(Default)]
struct Differences {
    lines: Vec<String>,
}

impl Differences {
    fn compare(&mut self, flag: &str, wanted: Option<impl Display>, there: impl Display) {
        let there = there.to_string();
        if let Some(wanted) = wanted.map(|it| it.to_string()).filter(|wanted| *wanted != there) {
            self.lines.push(format!("{flag} {wanted} (it has {there})"));
        }
    }
}

fn or_none(there: Option<impl Display>) -> String {
    there.map_or_else(|| "none".to_owned(), |there| there.to_string())
}

fn listed(nics: &[Nic]) -> Option<String> {
    let names: Vec<String> = nics.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

/// As the lab keeps the path of a template.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::spec::NetworkMode;
    use crate::lab::tests::lab;

    #[test]
    fn another_pause_between_the_nodes_is_a_difference() {
        let options = |text: &str| {
            let text = format!("version = 1\nstagger = '{text}'");
            LabOptions::from_toml(&text, Path::new("lab.toml")).unwrap()
        };
        assert_eq!(options("1.5s").differences(&lab(3)), ["--stagger 1500ms (it has 0s)"]);
        assert_eq!(options("0s").differences(&lab(3)), Vec::<String>::new());
    }

    #[test]
    fn differences_from_an_existing_lab_are_told_by_flag() {
        let options = LabOptions {
            nodes: Some(5),
            memory: Some(1024.try_into().unwrap()),
            network: Some(NetworkChoice::Managed(NetworkMode::Isolated)),
            ksm: Some(true),
            autostart: Some(true),
            ..LabOptions::default()
        };
        assert_eq!(
            options.differences(&lab(3)),
            [
                "--nodes 5 (it has 3)",
                "--network isolated (it has nat)",
                "--ksm on (it has off)",
                "--autostart on (it has off, which `virtlab autostart demo on` changes)",
            ]
        );
        assert_eq!(LabOptions::default().differences(&lab(3)), Vec::<String>::new());
    }
}
