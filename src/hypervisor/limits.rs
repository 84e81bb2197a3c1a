//! What a domain has no more of than a fault leaves to it. Both what runs and what libvirt keeps have it, by one call of
//! libvirt's, so that the fault outlives a restart of the node. A clock is only kept: QEMU sets it when it starts.

use anyhow::{Result, bail};
use virt::connect::Connect;
use virt::domain::{Domain, SchedBandwidth, SchedulerInfo};
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::domains::own_domain;
use super::error::{Already, Doing, is_any};
use super::kept::kept_domain;
use super::{Hypervisor, raw};
use crate::lab::Lab;
use crate::lab::fault::{Level, Limit, LimitName};
use crate::render::element::Element;
use crate::render::limits;

impl Hypervisor {
    /// Holds a domain to a limit. It is in force when this returns.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn limit(connection: &Connect, lab: &Lab, index: u32, limit: Limit) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("limiting the {} of domain `{name}`", limit.name().what());
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("{}: it is not there any more", doing());
        };
        let set = || match limit {
            Limit::Cpu(share) => set_cpu_quota(&domain, limits::cpu_quota(share), both(&domain)?),
            Limit::Disk(pace) => set_disk_pace(&domain, pace.iops(), pace.bytes()),
            Limit::Clock(_) => keep(connection, &domain, |kept| limits::with(kept, limit)),
            Limit::Memory(memory) => domain.set_memory_flags(memory.bytes() >> 10, both(&domain)?),
        };
        set().doing(doing)
    }

    /// Gives a domain all that it has again.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn unlimit(connection: &Connect, lab: &Lab, index: u32, limit: LimitName) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("giving domain `{name}` all of its {} again", limit.what());
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("{}: it is not there any more", doing());
        };
        let unset = || match limit {
            LimitName::Cpu => {
                // What runs takes no zero, and what is kept has no other way to have none.
                if domain.is_active()? {
                    set_cpu_quota(&domain, -1, sys::VIR_DOMAIN_AFFECT_LIVE)?;
                }
                set_cpu_quota(&domain, 0, sys::VIR_DOMAIN_AFFECT_CONFIG)
            }
            LimitName::Disk => set_disk_pace(&domain, 0, 0),
            LimitName::Clock => keep(connection, &domain, |kept| limits::without(kept, limit)),
            LimitName::Memory => domain.set_memory_flags(domain.max_memory()?, both(&domain)?),
        };
        unset().doing(doing)
    }

    /// Why libvirt cannot limit the time of a node's processors, if it cannot. It can be seen best of a node that runs.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub fn lacks_cpu_limits(&self, lab: &Lab, index: u32) -> Result<Option<String>> {
        let doing = || format!("asking for the scheduler of domain `{}`", lab.name.node(index));
        let Some(domain) = own_domain(&self.connection()?, lab, index)? else { return Ok(None) };
        match domain.scheduler_type() {
            Ok((_, parameters)) if parameters >= WITH_BANDWIDTH => Ok(None),
            Ok(_) => Ok(Some("its scheduler knows no quota".to_owned())),
            Err(error)
                if is_any(&error, &[ErrorNumber::OperationInvalid, ErrorNumber::NoSupport]) =>
            {
                // Before the reason stands what sort of error it is.
                let reason = error.message();
                Ok(Some(reason.rsplit(": ").next().unwrap_or(reason).to_owned()))
            }
            other => other.doing(doing).map(|_| None),
        }
    }
}

/// A limit of a domain, given what runs of it (what is kept if it is off). Of the memory that is what libvirt keeps: what runs says
/// how far the guest has got with giving it up. Of the clock as well: what runs has it since its power-on.
pub(super) fn level_of(domain: &Domain, xml: &str, limit: LimitName) -> Result<Level> {
    let doing = || "reading a domain".to_owned();
    let kept = kept_domain(domain).already(&[ErrorNumber::NoDomain]).doing(doing)?;
    let found = limits::of(&Element::parse(xml)?, limit);
    let Some(kept) = kept else { return Ok(Level::Absent) };
    Ok(match (found, limits::of(&Element::parse(&kept)?, limit)) {
        (_, Some(kept @ (Limit::Memory(_) | Limit::Clock(_)))) => Level::InForce(kept),
        (None, None) => Level::Absent,
        (Some(running), Some(kept)) if running == kept => Level::InForce(kept),
        _ => Level::Between,
    })
}

/// Defines a domain anew with this change. What runs goes on as it was started.
fn keep(
    connection: &Connect,
    domain: &Domain,
    change: impl FnOnce(Element) -> Element,
) -> Result<(), Error> {
    // Without this flag it would lose the passwords of its screen.
    let all = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
    let Ok(kept) = Element::parse(&domain.xml_desc(all)?) else { return Ok(()) };
    connection.define_domain_xml(&change(kept).to_string()).map(drop)
}

fn set_cpu_quota(domain: &Domain, quota: i64, flags: u32) -> Result<(), Error> {
    let vcpu_bw = SchedBandwidth { quota: Some(quota), ..SchedBandwidth::default() };
    domain.set_scheduler_parameters_flags(&SchedulerInfo { vcpu_bw, ..Default::default() }, flags)
}

/// Zero is as much as there is.
fn set_disk_pace(domain: &Domain, iops: u64, bytes: u64) -> Result<(), Error> {
    let Ok(kept) = Element::parse(&kept_domain(domain)?) else { return Ok(()) };
    let Some(disk) = limits::disk_target(&kept) else { return Ok(()) };
    let both_of = [
        (sys::VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_IOPS_SEC, iops),
        (sys::VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_BYTES_SEC, bytes),
    ];
    raw::set_block_io_tune(domain, disk, &both_of, both(domain)?)
}

/// What runs, if it does, and what is kept.
fn both(domain: &Domain) -> Result<u32, Error> {
    let live = if domain.is_active()? { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 };
    Ok(live | sys::VIR_DOMAIN_AFFECT_CONFIG)
}

/// So many parameters has a scheduler of which the quotas can be set.
const WITH_BANDWIDTH: i32 = 3;
