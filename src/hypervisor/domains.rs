//! The nodes' domains. These take a connection, since they are called for many nodes at a time.

use std::fmt::Display;

use anyhow::{Result, bail};
use virt::connect::Connect;
use virt::domain::{Domain, DomainState};
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::Hypervisor;
use super::error::{Already, Doing, Unless, is_any};
use crate::lab::Lab;
use crate::lab::metadata::Mark;

impl Hypervisor {
    /// Defines the domain of a node after checking its XML against libvirt's schema. One that is there
    /// keeps its UUID: virtlab 0.1 left it to libvirt to choose.
    ///
    /// # Errors
    /// If libvirt refuses the XML or the name is somebody else's.
    pub fn define_domain(connection: &Connect, lab: &Lab, index: u32, xml: &str) -> Result<()> {
        let node = lab.node(index);
        let doing = || format!("defining domain `{}`", node.name);
        let define =
            |xml: &str| connection.define_domain_xml_flags(xml, sys::VIR_DOMAIN_DEFINE_VALIDATE);
        let defined = define(xml);
        // The name is taken by a domain with another UUID.
        if matches!(&defined, Err(error) if is_any(error, &[ErrorNumber::OperationFailed]))
            && let Ok(Some(domain)) = own_domain(connection, lab, index)
        {
            let uuid = domain.uuid().doing(doing)?;
            let element = |uuid: &dyn Display| format!("<uuid>{uuid}</uuid>");
            define(&xml.replace(&element(&node.uuid), &element(&uuid))).doing(doing)?;
            return Ok(());
        }
        defined.doing(doing)?;
        Ok(())
    }

    /// Starts a domain with its processors stopped, so that it takes no time from those that are
    /// still being made.
    ///
    /// # Errors
    /// If libvirt cannot start it.
    pub fn start_domain_paused(connection: &Connect, lab: &Lab, index: u32) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("starting domain `{name}`");
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("starting domain `{name}`: it is not there any more");
        };
        // Not every driver says by a code of its own that it was started already.
        if domain.is_active().doing(doing)? {
            return Ok(());
        }
        let started = match domain.create_with_flags(sys::VIR_DOMAIN_START_PAUSED) {
            // Drivers that cannot start paused.
            Err(error) if is_any(&error, &[ErrorNumber::InvalidArg, ErrorNumber::NoSupport]) => {
                domain.create()
            }
            other => other,
        };
        started.unless(|| domain.is_active()).doing(doing)
    }

    /// Lets a domain run. One that is off is started: a libvirtd that was killed while it started the domain calls it active when it is
    /// back, and ends it a moment later.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn resume_domain(connection: &Connect, lab: &Lab, index: u32) -> Result<()> {
        let name = lab.name.node(index);
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("resuming domain `{name}`: it is not there any more");
        };
        // Not every driver says by a code of its own that there is nothing to resume.
        let runs = || Ok(domain.state()?.0.is(DomainState::Running));
        if runs().doing(|| format!("looking at domain `{name}`"))? {
            return Ok(());
        }
        let run = || match domain.resume() {
            Err(_) if !domain.is_active()? => domain.create().map(drop),
            other => other.map(drop),
        };
        run().unless(runs).doing(|| format!("resuming domain `{name}`"))
    }

    /// Stops a domain's processors. One that is off stays off.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn suspend_domain(connection: &Connect, lab: &Lab, index: u32) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("suspending domain `{name}`");
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("{}: it is not there any more", doing());
        };
        let runs = || Ok(domain.state()?.0.is(DomainState::Running));
        if !runs().doing(doing)? {
            return Ok(());
        }
        domain.suspend().unless(|| runs().map(|runs| !runs)).doing(doing)
    }

    /// Presses the reset button of a domain: it boots anew, and what its memory held is lost.
    ///
    /// # Errors
    /// If libvirt cannot, as for a domain that is off, or the domain is not there any more.
    pub fn reset_domain(connection: &Connect, lab: &Lab, index: u32) -> Result<()> {
        let doing = || format!("resetting domain `{}`", lab.name.node(index));
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("{}: it is not there any more", doing());
        };
        domain.reset().doing(doing)
    }

    /// Asks the system of a domain to shut down, and tells whether the domain is off. One that is paused is let run, since
    /// it could not hear that.
    ///
    /// # Errors
    /// If libvirt cannot ask.
    pub fn ask_to_shut_down(connection: &Connect, lab: &Lab, index: u32) -> Result<bool> {
        let doing = || format!("shutting down domain `{}`", lab.name.node(index));
        let gone = [ErrorNumber::NoDomain];
        let Some(domain) = own_domain(connection, lab, index)? else { return Ok(true) };
        let is_off = || Ok(domain.is_active().already(&gone)? != Some(true));
        // Not every driver says by a code of its own that it is off already.
        if is_off().doing(doing)? {
            return Ok(true);
        }
        let ask = || {
            if domain.state()?.0.is(DomainState::Paused) {
                domain.resume()?;
            }
            domain.shutdown()
        };
        ask().already(&gone).unless(is_off).doing(doing)?;
        is_off().doing(doing)
    }

    /// Whether a domain is off, or not there at all.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub fn is_off(connection: &Connect, lab: &Lab, index: u32) -> Result<bool> {
        let doing = || format!("looking at domain `{}`", lab.name.node(index));
        let Some(domain) = own_domain(connection, lab, index)? else { return Ok(true) };
        let active = domain.is_active().already(&[ErrorNumber::NoDomain]).doing(doing)?;
        Ok(active != Some(true))
    }

    /// Takes a domain's power away.
    pub fn stop_domain(connection: &Connect, lab: &Lab, index: u32) -> Result<()> {
        let Some(domain) = own_domain(connection, lab, index)? else { return Ok(()) };
        let stopped = domain.destroy().unless(|| Ok(!domain.is_active()?));
        let stopped = stopped.already(&[ErrorNumber::NoDomain]);
        stopped.doing(|| format!("destroying domain `{}`", lab.name.node(index)))?;
        Ok(())
    }

    /// Removes a domain that is off with its NVRAM, saved state, and snapshots' and checkpoints' metadata.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain runs: it would run on without a definition.
    pub fn undefine_domain(connection: &Connect, lab: &Lab, index: u32) -> Result<()> {
        let doing = || format!("undefining domain `{}`", lab.name.node(index));
        let gone = [ErrorNumber::NoDomain];
        let Some(domain) = own_domain(connection, lab, index)? else { return Ok(()) };
        if domain.is_active().already(&gone).doing(doing)? == Some(true) {
            bail!("{}: it still runs", doing());
        }
        undefine_with_all(&domain).already(&gone).doing(doing)?;
        Ok(())
    }

    /// The domain with this name, whosever it is, and its XML.
    pub(super) fn domain_named(&self, name: &str) -> Result<Option<(Domain, String)>> {
        let doing = || format!("looking up domain `{name}`");
        let gone = [ErrorNumber::NoDomain];
        let domain = self.connection()?.lookup_domain_by_name(name).already(&gone).doing(doing)?;
        let Some(domain) = domain else { return Ok(None) };
        let xml = domain.xml_desc(0).already(&gone).doing(doing)?;
        Ok(xml.map(|xml| (domain, xml)))
    }
}

/// Undefines with as many of the flags as the driver knows.
fn undefine_with_all(domain: &Domain) -> Result<(), Error> {
    let unknown_flag = [ErrorNumber::InvalidArg, ErrorNumber::NoSupport];
    let mut outcome = Ok(());
    for flags in UNDEFINE_FLAGS {
        outcome = domain.undefine_flags(flags);
        match &outcome {
            Err(error) if is_any(error, &unknown_flag) => {}
            _ => break,
        }
    }
    outcome
}

/// The domain of a node, if it carries the lab's mark.
pub(super) fn own_domain(connection: &Connect, lab: &Lab, index: u32) -> Result<Option<Domain>> {
    let name = lab.name.node(index);
    let doing = || format!("looking up domain `{name}`");
    let gone = [ErrorNumber::NoDomain];
    let named = connection.lookup_domain_by_name(&name).already(&gone).doing(doing)?;
    // Somebody may have given it another name.
    let domain = if named.is_some() {
        named
    } else {
        let uuid = lab.node(index).uuid;
        connection.lookup_domain_by_uuid(uuid).already(&gone).doing(doing)?
    };
    let Some(domain) = domain else { return Ok(None) };
    let Some(xml) = domain.xml_desc(0).already(&[ErrorNumber::NoDomain]).doing(doing)? else {
        return Ok(None);
    };
    if Mark::from_object_xml(&xml)?.is_none_or(|mark| mark.lab.uuid != lab.uuid) {
        bail!("domain `{name}` does not carry the lab's metadata any more; it is left alone");
    }
    Ok(Some(domain))
}

const UNDEFINE_FLAGS: [sys::virDomainUndefineFlagsValues; 3] = [
    sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_NVRAM,
    sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA,
    0,
];
