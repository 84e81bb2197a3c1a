//! Where a lab that is there is not what was asked for.

use std::path::Path;

use super::{LabOptions, NetworkChoice, VirtTypeChoice};
use crate::lab::hardware::{DiskSize, Nic};
use crate::lab::{Lab, Network};

impl LabOptions {
    /// Where these options ask for something else than `lab` is, one line for each difference.
    pub fn differences(&self, lab: &Lab) -> Vec<String> {
        let spec = &lab.spec;
        let mut differences = Vec::new();
        let mut compare = |flag: &str, wanted: Option<String>, there: String| {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != there) {
                differences.push(format!("{flag} {wanted} (it has {there})"));
            }
        };
        compare("--nodes", self.nodes.map(|n| n.to_string()), spec.nodes.to_string());
        compare("--memory", self.memory.map(|m| m.to_string()), spec.memory.to_string());
        compare("--vcpus", self.vcpus.map(|n| n.to_string()), spec.vcpus.to_string());
        compare("--image", self.image.clone(), spec.image.name.clone());
        let config = self.config.as_ref().map(|path| path.display().to_string());
        compare("--config", config, spec.config.source.clone());
        compare("--ready", self.ready.map(|r| r.to_string()), spec.ready.to_string());
        let kind = match &spec.network {
            Network::Managed(network) => network.mode.to_string(),
            Network::Bridge(_) => NetworkChoice::Bridge.to_string(),
            Network::Existing(name) => name.clone(),
        };
        compare("--network", self.network.as_ref().map(ToString::to_string), kind);
        if let Network::Bridge(bridge) = &spec.network {
            compare("--bridge", self.bridge.clone(), bridge.clone());
        }
        if let Some(network) = spec.network.managed() {
            compare(
                "--subnet",
                self.subnet.map(|s| s.trunc().to_string()),
                network.subnet.to_string(),
            );
        }
        let prefix = self.mac_prefix.as_ref().map(ToString::to_string);
        compare("--mac-prefix", prefix, spec.mac_prefix.to_string());
        let virt_type = self.virt_type.filter(|choice| *choice != VirtTypeChoice::Auto);
        compare(
            "--virt-type",
            virt_type.map(|choice| choice.to_string()),
            spec.virt_type.to_string(),
        );
        compare("--boot-port", self.boot_port.map(|n| n.to_string()), spec.boot_port.to_string());
        let address = self.boot_address.map(|ip| ip.to_string());
        compare("--boot-address", address, spec.boot_address.to_string());
        let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
        compare("--ksm", self.ksm.map(switch), switch(spec.ksm));
        let (boot, wanted) = (spec.boot, self.boot_choice());
        let text = |value: Option<bool>| value.map(|value| value.to_string());
        compare("--loader", wanted.loader.map(|l| l.to_string()), boot.loader.to_string());
        compare("--firmware", wanted.firmware.map(|f| f.to_string()), boot.firmware.to_string());
        compare("--transport", wanted.transport.map(|t| t.to_string()), boot.transport.to_string());
        compare("--secure-boot", text(wanted.secure_boot), boot.secure_boot.to_string());
        let there = &spec.hardware;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        compare("--graphics", self.graphics.map(|g| g.to_string()), there.graphics.to_string());
        let disk = |size: Option<DiskSize>| size.map(|size| size.to_string());
        compare("--disk", disk(self.disk), or_none(disk(there.disk)));
        let nics = |nics: &[Nic]| {
            let names: Vec<String> = nics.iter().map(ToString::to_string).collect();
            (!names.is_empty()).then(|| names.join(" "))
        };
        compare("--nic", nics(&self.nics), or_none(nics(&there.nics)));
        compare("--machine", self.machine.clone(), or_none(there.machine.clone()));
        compare("--cpu", self.cpu.clone(), or_none(there.cpu.clone()));
        compare("--hugepages", text(self.hugepages), there.hugepages.to_string());
        compare("--no-share-pages", text(self.no_share_pages), there.no_share_pages.to_string());
        for (flag, wanted, there) in [
            ("--domain-template", &self.domain_template, &spec.domain_template),
            ("--network-template", &self.network_template, &spec.network_template),
        ] {
            let wanted = wanted.as_ref().map(|path| absolute(path));
            compare(flag, wanted, or_none(there.as_ref().map(|there| there.source.clone())));
        }
        let description = spec.description.clone().unwrap_or_default();
        compare("--description", self.description.clone(), description);
        differences
    }
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
    fn differences_from_an_existing_lab_are_told_by_flag() {
        let options = LabOptions {
            nodes: Some(5),
            memory: Some(1024.try_into().unwrap()),
            network: Some(NetworkChoice::Managed(NetworkMode::Isolated)),
            ksm: Some(true),
            ..LabOptions::default()
        };
        assert_eq!(
            options.differences(&lab(3)),
            ["--nodes 5 (it has 3)", "--network isolated (it has nat)", "--ksm on (it has off)"]
        );
        assert_eq!(LabOptions::default().differences(&lab(3)), Vec::<String>::new());
    }
}
