//! Where what libvirt has of a lab is not what the lab's specification makes, as after `virsh edit`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::prepare::{NetworkXml, OwnTemplates, Wanted};
use crate::host;
use crate::hypervisor::{Definition, Found, Hypervisor};
use crate::lab::fault::Faults;
use crate::lab::plan::Changed;
use crate::lab::{Lab, MacAddr};
use crate::render::comparison::{self, View};
use crate::render::element::Element;
use crate::render::{filters, limits, links, xml};
use crate::session::Session;
use crate::state::StateDir;

/// The differences of a lab's objects, each as a unified diff.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drift {
    pub(crate) network: Differences,
    pub(crate) pool: Differences,
    /// By node index, of those only that differ.
    pub(crate) nodes: BTreeMap<u32, Differences>,
    /// The nodes that run and are on no wire: their network was stopped under them. libvirt plugs nobody in again.
    pub(crate) cut_off: BTreeSet<u32>,
}

/// How an object differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// In what libvirt keeps of it.
    pub(crate) kept: Option<String>,
    /// In what runs.
    pub(crate) running: Option<String>,
}

impl Drift {
    /// Looks at a lab with today's templates, and with those that it was made with where they are the user's own.
    pub(crate) fn look(session: &Session, hypervisor: &Hypervisor, found: &Found) -> Result<Self> {
        let lab = &found.lab;
        let own = OwnTemplates::of_lab(lab, &StateDir::of(lab)?)?;
        let templates = own.put_into(session.templates()?, lab)?;
        let libvirt = hypervisor.version()?;
        let network = lab.spec.network.managed();
        let network = network.map(|network| NetworkXml::new(&templates, lab, network, libvirt));
        let network = network.transpose()?;
        let nodes = lab.nodes();
        let domains = nodes.iter().map(|node| xml::domain(&templates, lab, node));
        let domains = domains.collect::<Result<Vec<String>>>()?;
        Self::of(hypervisor, found, &Wanted { network: network.as_ref(), domains: &domains })
    }

    /// Compares.
    pub(crate) fn of(hypervisor: &Hypervisor, found: &Found, wanted: &Wanted) -> Result<Self> {
        let there = hypervisor.definitions(found)?;
        let network = match (wanted.network, &there.network) {
            // Virtlab 0.1 made its networks by another template, and they do.
            (Some(_), Some(_)) if found.lab.generation == 0 => Differences::default(),
            (Some(wanted), Some(there)) => {
                let mut wanted = without_future_nodes(&found.lab, wanted.like(there), &there.kept)?;
                if !hypervisor.keeps_dnsmasq_options()? {
                    wanted.children.retain(|child| child.name != "dnsmasq:options");
                }
                Differences::of(&wanted.to_string(), there)?
            }
            _ => Differences::default(),
        };
        let pool = match &there.pool {
            Some(there) => Differences::of(&xml::pool(&found.lab), there)?,
            None => Differences::default(),
        };
        let mut nodes = BTreeMap::new();
        let mut cut_off = BTreeSet::new();
        for (index, there) in &there.domains {
            if there.running.as_ref().is_some_and(|xml| is_cut_off(&found.lab, xml)) {
                cut_off.insert(*index);
            }
            let Some(wanted) = wanted.domains.get(*index as usize - 1) else { continue };
            let differences = if found.faulty().any(|faulty| faulty == *index) {
                let filter = found.lab.filter_name(*index);
                Differences::beside_faults(wanted, there, &filter, found.faults(*index))?
            } else {
                Differences::of(wanted, there)?
            };
            if differences != Differences::default() {
                nodes.insert(*index, differences);
            }
        }
        Ok(Self { network, pool, nodes, cut_off })
    }

    /// What the plan is to put right.
    pub(crate) fn changed(&self) -> Changed {
        let is_changed = |(index, differences): (&u32, &Differences)| {
            differences.kept.is_some().then_some(*index)
        };
        Changed {
            network: self.network.kept.is_some(),
            pool: self.pool != Differences::default(),
            nodes: self.nodes.iter().filter_map(is_changed).collect(),
        }
    }

    /// How what goes on otherwise than it is defined becomes what it is defined to be.
    pub(crate) fn outdated(&self, lab: &Lab) -> Vec<String> {
        let name = &lab.name;
        let network = self.network.running.as_ref().map(|_| {
            format!(
                "network `{name}` runs otherwise than it is defined: `virtlab stop {name}`, `virsh net-destroy {name}` and \
                 `virtlab start {name}` start it anew"
            )
        });
        let running = |(_, it): &(&u32, &Differences)| it.running.is_some();
        let nodes = self.nodes.iter().filter(running).map(|(index, _)| {
            let node = name.node(*index);
            format!(
                "domain `{node}` runs otherwise than it is defined: `virtlab restart {node}` starts it anew"
            )
        });
        let cut_off = self.cut_off.iter().map(|index| {
            let node = name.node(*index);
            format!(
                "domain `{node}` is cut off from network `{name}`, which was stopped while it ran: \
                 `virtlab restart {node}` starts it anew"
            )
        });
        network.into_iter().chain(nodes).chain(cut_off).collect()
    }
}

impl Differences {
    /// The plan looks at links, filters and limits where they are faults.
    fn beside_faults(
        wanted: &str,
        there: &Definition,
        filter: &str,
        faults: Faults,
    ) -> Result<Self> {
        let limits = || faults.iter().filter_map(|fault| fault.kind.limit());
        let healed = |xml: &str| {
            let linked = links::with_links(Element::parse(xml)?, true);
            let joined = filters::with_filters(linked, filter, false);
            let free = limits().fold(joined, |domain, it| limits::without(domain, it.name()));
            Ok::<_, anyhow::Error>(free.to_string())
        };
        let running = there.running.as_deref().map(healed).transpose()?;
        let there = Definition { kept: healed(&there.kept)?, running };
        Self::of(&healed(wanted)?, &there)
    }

    fn of(wanted: &str, there: &Definition) -> Result<Self> {
        let running = there.running.as_ref();
        let running = running.map(|xml| comparison::difference(wanted, xml, View::Running));
        Ok(Self {
            kept: comparison::difference(wanted, &there.kept, View::Kept)?,
            running: running.transpose()?.flatten(),
        })
    }
}

/// Whether a card of a domain that runs is not plugged into the lab's network.
fn is_cut_off(lab: &Lab, running: &str) -> bool {
    let Ok(domain) = Element::parse(running) else { return false };
    let devices = domain.child("devices").into_iter().flat_map(|devices| &devices.children);
    let is_ours = |card: &&Element| {
        let source = card.child("source").and_then(|source| source.attribute("network"));
        card.name == "interface" && source == Some(lab.name.as_str())
    };
    let taps = devices.filter(is_ours).filter_map(|card| card.child("target")?.attribute("dev"));
    taps.into_iter().any(|tap| !host::is_on_a_bridge(tap))
}

/// Addresses of nodes that the lab may get later need not be there: those that it has are the plan's.
fn without_future_nodes(lab: &Lab, wanted: &str, there: &str) -> Result<Element> {
    let macs: Vec<MacAddr> = lab.nodes().iter().map(|node| node.mac).collect();
    let mut network = Element::parse(wanted)?;
    for ip in network.children.iter_mut().filter(|child| child.name == "ip") {
        let Some(dhcp) = ip.children.iter_mut().find(|child| child.name == "dhcp") else {
            continue;
        };
        dhcp.children.retain(|host| {
            let mac = host.attribute("mac").filter(|_| host.name == "host");
            mac.is_none_or(|mac| {
                there.contains(mac) || macs.iter().any(|own| own.to_string() == mac)
            })
        });
    }
    Ok(network)
}
