//! What a node does before the boot server hears of it: a lease, and what comes by TFTP. Told from
//! libvirt's leases and the node's console, so that the stage that is missing can be named.

use crate::host::firewall::{self, Access, Needs, Verdict};
use crate::hypervisor::Hypervisor;
use crate::lab::boot::{Loader, Transport};
use crate::lab::{Lab, Network, Node};

/// How far a node is that has asked the boot server for nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FirstStep {
    /// It has not got an address, as far as anybody knows.
    PoweredOn,
    /// It has an address.
    Lease,
    /// It has got `boot.ipxe` by TFTP, which asks the boot server.
    Asking,
}

/// Looks how far a node is. What cannot be told is taken for not reached.
pub(crate) fn of(hypervisor: &Hypervisor, lab: &Lab, node: &Node) -> FirstStep {
    let console = hypervisor.console_tail(lab, node, CONSOLE_TAIL).unwrap_or_default();
    let has_lease = || hypervisor.leases(lab).is_ok_and(|macs| macs.contains(&node.mac));
    judge(lab, &console, has_lease)
}

fn judge(lab: &Lab, console: &str, has_lease: impl Fn() -> bool) -> FirstStep {
    let asks_http = lab.spec.boot.loader == Loader::Ipxe
        && lab.spec.boot.transport == Transport::Http
        && console.contains(&format!("{ASKING}{}", lab.boot_url()));
    if asks_http {
        FirstStep::Asking
    } else if has_lease() {
        FirstStep::Lease
    } else {
        FirstStep::PoweredOn
    }
}

impl FirstStep {
    /// What was done, and what is missing.
    pub(crate) fn describe(self, lab: &Lab) -> String {
        match self {
            // Its DHCP server is not libvirt's, or not one for this lab alone.
            Self::PoweredOn if lab.spec.network.managed().is_none() => {
                "no boot script was asked for yet".to_owned()
            }
            Self::PoweredOn => "no DHCP lease yet".to_owned(),
            Self::Lease if lab.spec.boot.transport == Transport::Tftp => {
                "has a DHCP lease, no config was asked for yet; what goes by TFTP before it is not seen"
                    .to_owned()
            }
            Self::Lease => "has a DHCP lease, but did not get boot.ipxe by TFTP yet".to_owned(),
            Self::Asking => format!(
                "has a DHCP lease and boot.ipxe, but cannot reach the boot server at {}",
                lab.boot_url()
            ),
        }
    }
}

/// What the host's firewall may have to do with nodes that are at `step`; `None` if nothing.
pub(crate) fn suspect(hypervisor: &Hypervisor, lab: &Lab, step: FirstStep) -> Option<Verdict> {
    let dnsmasq = hypervisor.version().is_ok_and(firewall::libvirt_uses_nftables);
    let bridge = match &lab.spec.network {
        Network::Managed(_) => None,
        Network::Bridge(bridge) => Some(bridge.clone()),
        Network::Existing(name) => hypervisor.network(name).ok().flatten()?.bridge,
    };
    let needs = Needs::of(lab, bridge.as_deref(), dnsmasq)?;
    let verdict = firewall::look(&needs);
    let is_in_the_way = match step {
        FirstStep::Asking => true,
        // The address and boot.ipxe come from dnsmasq.
        FirstStep::PoweredOn | FirstStep::Lease => needs.dnsmasq,
    };
    let may_refuse = matches!(verdict.access, Access::Closed | Access::Unknown);
    (is_in_the_way && may_refuse).then_some(verdict)
}

/// What boot.ipxe says before it asks for what the node boots.
const ASKING: &str = "virtlab: asking ";
const CONSOLE_TAIL: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;
    use crate::render::boot;
    use crate::template::Templates;

    #[test]
    fn the_console_tells_that_boot_ipxe_asks_in_vain() {
        let lab = lab(1);
        let console = format!(
            "iPXE 1.21.1\r\nnet0: 192.168.1.2/24\r\ntftp://192.168.1.1/boot.ipxe... ok\r\n\
             virtlab: asking {}/ipxe?mac=52-54-00-01-02-03\r\n",
            lab.boot_url()
        );
        assert_eq!(judge(&lab, &console, || true), FirstStep::Asking);
        assert_eq!(judge(&lab, "iPXE 1.21.1\r\n", || true), FirstStep::Lease);
        assert_eq!(judge(&lab, "iPXE 1.21.1\r\n", || false), FirstStep::PoweredOn);
    }

    #[test]
    fn boot_ipxe_says_what_is_looked_for() {
        let lab = lab(1);
        let next = boot::ipxe_script_url(&lab);
        let script = boot::ipxe_start(&Templates::new(vec![]), &lab, &next).unwrap();
        assert!(script.contains(&format!("echo {ASKING}{}", lab.boot_url())), "{script}");
    }

    #[test]
    fn the_stage_that_is_missing_is_named() {
        let lab = lab(1);
        let says = |step: FirstStep| step.describe(&lab);
        assert_eq!(says(FirstStep::PoweredOn), "no DHCP lease yet");
        assert_eq!(
            says(FirstStep::Lease),
            "has a DHCP lease, but did not get boot.ipxe by TFTP yet"
        );
        assert_eq!(
            says(FirstStep::Asking),
            format!(
                "has a DHCP lease and boot.ipxe, but cannot reach the boot server at {}",
                lab.boot_url()
            )
        );
    }
}
