//! Does the steps of a plan, in order, what is per node all at once. Applying is boring: every
//! decision was made before.

use std::thread;

use anyhow::{Context, Result};
use fs_err as fs;

use super::drift::Drift;
use super::prepare::{BootFile, NetworkXml, Prepared};
use super::shutdown::Shutdown;
use super::snapshot::shot::Shot;
use super::{flaws, leaving, merging};
use crate::boot_server::client::Client;
use crate::boot_server::process;
use crate::error::{all_errors, hinted};
use crate::host::systemd::BootUnit;
use crate::host::{self, bridge, dnsmasq};
use crate::hypervisor::{Connection, Found, Hypervisor, is_connection_lost, is_ipv6_refused};
use crate::ksm::Settings;
use crate::ksm::claims::Claims;
use crate::lab::plan::{LabStep, NodeStep, Observed, ServerUnit, Step};
use crate::lab::{Lab, address};
use crate::output::Printer;
use crate::render::xml;
use crate::session::Session;
use crate::state::{Origin, StateDir};

/// Prints the steps that would be done, one a line: `--dry-run`.
pub(crate) fn print_steps(printer: &Printer, lab: &Lab, steps: &[Step]) {
    for step in steps {
        printer.data(step.describe(lab));
    }
}

/// What applying steps needs.
pub(crate) struct Applier<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) hypervisor: &'a Hypervisor,
    pub(crate) lab: &'a Lab,
    /// What is made; not needed for taking a lab down.
    pub(crate) prepared: Option<&'a Prepared>,
    pub(crate) state: StateDir,
    /// What is done with a node that is to shut down.
    pub(crate) shutdown: Shutdown,
    /// The snapshot that is made or brought back.
    pub(crate) snapshot: Option<&'a Shot>,
}

impl<'a> Applier<'a> {
    pub(crate) fn new(
        session: &'a Session<'a>,
        hypervisor: &'a Hypervisor,
        lab: &'a Lab,
        prepared: Option<&'a Prepared>,
    ) -> Result<Self> {
        let state = StateDir::of(lab)?;
        let shutdown = Shutdown::default();
        Ok(Self { session, hypervisor, lab, prepared, state, shutdown, snapshot: None })
    }

    /// What there is of the lab.
    pub(crate) fn observed(&self, found: Option<&Found>) -> Result<Observed> {
        let lost = |error: &anyhow::Error| self.session.warn_of_lost_connection(error);
        let files = self.hypervisor.persistently(lost, || self.hypervisor.pool_files(self.lab))?;
        let mark = self.prepared.map(Prepared::upload_mark);
        let drift = match (found, self.prepared) {
            (Some(found), Some(prepared)) => {
                let look = || Drift::of(self.hypervisor, found, &prepared.wanted());
                self.hypervisor.persistently(lost, look)?
            }
            _ => Drift::default(),
        };
        let look = |found| flaws::in_force(self.hypervisor, found);
        let in_force = found.map(look).transpose()?;
        Ok(Observed {
            network: found.and_then(|found| found.network),
            dhcp: dnsmasq::serves(self.lab) != Some(false),
            pool: found.and_then(|found| found.pool),
            boot_files: mark.is_some_and(|mark| files.contains(&mark)),
            boot_server: process::is_running(self.state.path())
                || Client::new(self.lab)?.status().is_some(),
            domains: found.map(|found| found.domains.clone()).unwrap_or_default(),
            marks: found.map(|found| found.marks.clone()).unwrap_or_default(),
            in_force: in_force.unwrap_or_default(),
            changed: drift.changed(),
            reserved: found.and_then(|found| found.reserved),
            configs: self.state.keeps(self.lab),
            autostart: found.map(|found| found.autostart.clone()).unwrap_or_default(),
            server_unit: self.server_unit(),
            state: self.state.exists(),
            ksm: Claims::host().labs().is_ok_and(|labs| labs.contains(&self.lab.uuid)),
        })
    }

    /// Whether systemd starts the lab's boot server with the host. Nobody is asked for a lab that is not to come
    /// back.
    pub(crate) fn server_unit(&self) -> ServerUnit {
        let unit = BootUnit::of(self.lab);
        if unit.is_enabled() {
            ServerUnit::Enabled
        } else if self.lab.spec.autostart && unit.lack().is_none() {
            ServerUnit::Disabled
        } else {
            ServerUnit::Unavailable
        }
    }

    /// Does `steps` until one fails or somebody presses Ctrl-C.
    pub(crate) fn apply(&self, steps: &[Step]) -> Result<()> {
        for group in groups(steps) {
            self.session.refuse_interrupt()?;
            self.apply_group(&group)?;
        }
        Ok(())
    }

    /// Does all of `steps` but those that wait for one that failed, and then says what went wrong.
    pub(crate) fn apply_all(&self, steps: &[Step]) -> Result<()> {
        let mut results = Vec::new();
        let mut failed: Vec<Step> = Vec::new();
        let mut left = Vec::new();
        for group in groups(steps) {
            if failed.iter().any(|failed| group.steps()[0].waits_for(*failed)) {
                left.extend(group.steps());
                continue;
            }
            let result = self.apply_group(&group);
            failed.extend(result.is_err().then(|| group.steps()[0]));
            results.push(result);
        }
        for step in left {
            self.session.printer.note(format!("left undone: {}", step.describe(self.lab)));
        }
        all_errors(results)
    }

    fn apply_group(&self, group: &Group) -> Result<()> {
        for step in group.steps() {
            tracing::info!("{}", step.describe(self.lab));
        }
        let lost = |error: &anyhow::Error| self.session.warn_of_lost_connection(error);
        self.hypervisor.persistently(lost, || self.try_group(group))
    }

    fn try_group(&self, group: &Group) -> Result<()> {
        match group {
            Group::Lab(step) => self.apply_to_lab(*step),
            Group::Nodes(step, nodes) => {
                if *step == NodeStep::Resume && self.lab.spec.stagger_ms > 0 {
                    return self.resume_staggered(nodes);
                }
                match step {
                    NodeStep::Shutdown => {
                        self.shutdown.apply(self.session, self.hypervisor, self.lab, nodes)
                    }
                    NodeStep::LeaveCluster => {
                        leaving::leave(self.session, self.hypervisor, self.lab, nodes)
                    }
                    // A pool cannot be looked through twice at the same time.
                    NodeStep::DeleteVolumes => {
                        nodes.iter().try_for_each(|index| self.apply_to_nodes(*step, &[*index]))
                    }
                    _ => self.apply_to_nodes(*step, nodes),
                }
            }
        }
    }

    fn apply_to_lab(&self, step: LabStep) -> Result<()> {
        let (hypervisor, lab) = (self.hypervisor, self.lab);
        match step {
            LabStep::ClaimKsm => {
                merging::claim(self.session.printer, hypervisor, lab, Settings::on())
            }
            LabStep::DefineNetwork => hypervisor.define_network(lab, &self.network()?.with_ipv6),
            LabStep::RedefineNetwork => self.redefine_network(),
            LabStep::MakePool => hypervisor.make_pool(lab),
            LabStep::UploadBootFiles => self.upload(),
            LabStep::MarkNetwork => hypervisor.mark_network(lab),
            LabStep::ReserveAddresses => hypervisor.reserve_addresses(lab),
            LabStep::Autostart => hypervisor.autostart(lab),
            LabStep::StartNetwork => self.start_network(),
            LabStep::RestoreDhcp => hypervisor.restore_dhcp(lab),
            LabStep::WriteConfigs => self.write_configs(),
            LabStep::StartBootServer => self.start_boot_server(),
            LabStep::StopBootServer => self.stop_boot_server(),
            LabStep::MarkConfigs => self.state.mark(lab),
            LabStep::EnableBootServer => BootUnit::of(lab).enable(),
            LabStep::DisableBootServer => BootUnit::of(lab).disable(),
            LabStep::DeletePool => hypervisor.delete_pool(lab),
            LabStep::RemoveNetwork => hypervisor.remove_network(lab),
            LabStep::RemoveState => self.state.remove(),
            LabStep::ReleaseKsm => {
                merging::report(self.session.printer, Claims::host().release(lab.uuid));
                Ok(())
            }
            LabStep::WriteManifest => self.snapshot()?.write_manifest(hypervisor, lab),
        }
    }

    fn apply_to_nodes(&self, step: NodeStep, nodes: &[u32]) -> Result<()> {
        let each = |connection: &Connection, index: &u32| self.apply_node(connection, step, *index);
        self.hypervisor.for_each(nodes, each)
    }

    fn apply_node(&self, connection: &Connection, step: NodeStep, index: u32) -> Result<()> {
        let lab = self.lab;
        match step {
            NodeStep::Define => {
                let xml = self.prepared()?.domains.get(index as usize - 1);
                let xml = xml.context("the lab has no such node")?;
                Hypervisor::define_domain(connection, lab, index, xml)
            }
            NodeStep::Redefine(desired) => {
                let xml = self.prepared()?.domains.get(index as usize - 1);
                let xml = xml.context("the lab has no such node")?;
                let xml = xml::with_desired(xml, lab, index, desired)?;
                Hypervisor::redefine_domain(connection, lab, index, &xml)
            }
            NodeStep::Autostart(autostart) => {
                Hypervisor::autostart_domain(connection, lab, index, autostart)
            }
            NodeStep::Start => {
                if let Some(size) = lab.spec.hardware.disk {
                    Hypervisor::make_disk(connection, lab, &lab.node(index), size)?;
                }
                Hypervisor::start_domain_paused(connection, lab, index)
            }
            NodeStep::Resume => Hypervisor::resume_domain(connection, lab, index),
            NodeStep::Suspend => Hypervisor::suspend_domain(connection, lab, index),
            NodeStep::Shutdown => {
                Hypervisor::ask_to_shut_down(connection, lab, index).map(|_is_off| ())
            }
            NodeStep::Reset => Hypervisor::reset_domain(connection, lab, index),
            NodeStep::Stop => Hypervisor::stop_domain(connection, lab, index),
            NodeStep::Undefine => Hypervisor::undefine_domain(connection, lab, index),
            NodeStep::DeleteVolumes => {
                Hypervisor::delete_volumes(connection, lab, &lab.node(index))
            }
            NodeStep::LeaveCluster => leaving::leave(self.session, self.hypervisor, lab, &[index]),
            NodeStep::CutLink => Hypervisor::set_link(connection, lab, index, false),
            NodeStep::RestoreLink => Hypervisor::set_link(connection, lab, index, true),
            NodeStep::Part(from) => Hypervisor::part(connection, lab, index, from),
            NodeStep::Join => Hypervisor::join(connection, lab, index),
            NodeStep::Limit(limit) => Hypervisor::limit(connection, lab, index, limit),
            NodeStep::Unlimit(limit) => Hypervisor::unlimit(connection, lab, index, limit),
            NodeStep::SetFlaws { from, to } => flaws::set(connection, lab, index, from, to),
            NodeStep::SaveMemory => self.snapshot()?.save(connection, lab, index),
            NodeStep::RestoreMemory(power) => {
                self.snapshot()?.restore(connection, lab, index, power)
            }
            NodeStep::Mark(desired) => {
                // First, since the mark says that all of it is done.
                if let Some(xml) = self.prepared.and_then(|it| it.domains.get(index as usize - 1)) {
                    Hypervisor::title_domain(connection, lab, index, xml)?;
                }
                Hypervisor::mark_domain(connection, lab, index, desired)
            }
        }
    }

    /// The article's way: one node after the other, with a pause between.
    fn resume_staggered(&self, nodes: &[u32]) -> Result<()> {
        for (position, index) in nodes.iter().enumerate() {
            if position > 0 {
                thread::sleep(self.lab.spec.stagger());
            }
            self.session.refuse_interrupt()?;
            self.apply_to_nodes(NodeStep::Resume, &[*index])?;
        }
        Ok(())
    }

    /// Where there can be no IPv6, the lab boots slower, which is better than not at all: where libvirt refuses
    /// it, since the host's own route comes from router advertisements, and where the kernel has none. Any other
    /// error has nothing to do with it.
    fn start_network(&self) -> Result<()> {
        let Err(error) = self.start_network_or_again() else { return Ok(()) };
        if !is_ipv6_refused(&error) && host::has_ipv6() {
            return Err(error);
        }
        self.hypervisor.define_network(self.lab, &self.network()?.without_ipv6)?;
        self.hypervisor.start_network(self.lab)?;
        self.session.printer.warn(format!(
            "the network has no IPv6, so each boot takes some 16 s longer: {}",
            error.root_cause()
        ));
        Ok(())
    }

    /// A libvirtd that is killed while it starts a network leaves its bridge, and cannot start the network as long as that
    /// is there. Newer ones (11.3, not 9.0) remove a bridge that they fail on, so the next time goes well.
    fn start_network_or_again(&self) -> Result<()> {
        let bridge = address::bridge_name(self.lab.uuid);
        let is_left = bridge::exists(&bridge);
        let again = |error: &anyhow::Error| {
            is_left && !is_connection_lost(error) && !is_ipv6_refused(error)
        };
        let start = || self.hypervisor.start_network(self.lab);
        match start() {
            Err(error) if again(&error) => start().map_err(|error| {
                let hint = format!(
                    "a libvirtd that was killed may have left the bridge: `sudo ip link delete {bridge}` removes it"
                );
                if again(&error) { hinted(format!("{error:#}"), hint) } else { error }
            }),
            other => other,
        }
    }

    fn redefine_network(&self) -> Result<()> {
        let there = self.hypervisor.network_definition(self.lab)?;
        let there = there.context("the network is not there any more")?;
        self.hypervisor.redefine_network(self.lab, self.network()?.like(&there))
    }

    /// Keeps what the boot server gives out.
    pub(crate) fn write_configs(&self) -> Result<()> {
        let prepared = self.prepared()?;
        let origin = Origin::of(self.hypervisor)?;
        self.state.claim(self.lab, &origin)?;
        for (name, text) in &prepared.own_templates {
            self.state.keep_template(name, text)?;
        }
        self.state.save(self.lab, &origin, &prepared.content)
    }

    /// By systemd, if it is to start it with the host as well: then systemd also looks after it.
    fn start_boot_server(&self) -> Result<()> {
        let unit = BootUnit::of(self.lab);
        if unit.is_enabled() && unit.lack().is_none() {
            unit.start()?;
            return process::wait_for_answer(
                self.lab,
                &format!("the journal of unit `{}`", unit.name()),
            );
        }
        process::start_detached(self.lab, self.state.path(), self.session.uri.as_deref())
    }

    fn stop_boot_server(&self) -> Result<()> {
        let unit = BootUnit::of(self.lab);
        if unit.is_enabled() {
            unit.stop()?;
        }
        process::stop(self.state.path())
    }

    fn upload(&self) -> Result<()> {
        let prepared = self.prepared()?;
        for (name, content) in &prepared.boot_files {
            match content {
                BootFile::Text(text) => {
                    self.hypervisor.upload(self.lab, name, text.len() as u64, text.as_bytes())?;
                }
                BootFile::File { path, size, .. } => {
                    self.hypervisor.upload(self.lab, name, *size, fs::File::open(path)?)?;
                }
            }
        }
        self.hypervisor.upload(self.lab, &prepared.upload_mark(), 0, std::io::empty())
    }

    fn network(&self) -> Result<&NetworkXml> {
        self.prepared()?.network.as_ref().context("the lab has no network of its own")
    }

    fn snapshot(&self) -> Result<&'a Shot> {
        self.snapshot.context("there is no snapshot")
    }

    fn prepared(&self) -> Result<&'a Prepared> {
        self.prepared.context("the lab was not prepared")
    }
}

/// What is done in one go.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a plan has few of them")]
enum Group {
    Lab(LabStep),
    /// For all of these nodes at the same time.
    Nodes(NodeStep, Vec<u32>),
}

impl Group {
    fn steps(&self) -> Vec<Step> {
        match self {
            Self::Lab(step) => vec![Step::Lab(*step)],
            Self::Nodes(step, nodes) => nodes.iter().map(|index| step.of(*index)).collect(),
        }
    }
}

/// The same step for nodes that follow one another is done for all of them at once.
fn groups(steps: &[Step]) -> Vec<Group> {
    let mut groups = Vec::new();
    for step in steps {
        match (step, groups.last_mut()) {
            (Step::Node(index, step), Some(Group::Nodes(last, nodes))) if step == last => {
                nodes.push(*index);
            }
            (Step::Node(index, step), _) => groups.push(Group::Nodes(*step, vec![*index])),
            (Step::Lab(step), _) => groups.push(Group::Lab(*step)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_per_node_is_done_at_once_and_the_rest_in_turn() {
        let steps = [
            LabStep::DefineNetwork.into(),
            LabStep::MakePool.into(),
            NodeStep::Define.of(1),
            NodeStep::Define.of(2),
            NodeStep::Start.of(1),
            NodeStep::Start.of(2),
        ];
        assert_eq!(
            groups(&steps),
            [
                Group::Lab(LabStep::DefineNetwork),
                Group::Lab(LabStep::MakePool),
                Group::Nodes(NodeStep::Define, vec![1, 2]),
                Group::Nodes(NodeStep::Start, vec![1, 2]),
            ]
        );
    }
}
