//! The lab's own network.

use anyhow::{Result, bail};
use virt::error::{Error, ErrorNumber};
use virt::network::Network;
use virt::sys;

use super::error::{Already, Doing, Unless, is_any};
use super::{Hypervisor, raw};
use crate::lab::metadata::Mark;
use crate::lab::{Lab, MacAddr};

impl Hypervisor {
    /// Defines the lab's network, or defines it anew if it exists.
    ///
    /// # Errors
    /// If libvirt refuses the XML or the name is somebody else's.
    pub fn define_network(&self, lab: &Lab, xml: &str) -> Result<()> {
        let doing = || format!("defining network `{}`", lab.name);
        match raw::define_network_validated(&self.connection()?, xml) {
            // Before 7.7 libvirt did not check.
            Err(error) if is_any(&error, &[ErrorNumber::NoSupport, ErrorNumber::InvalidArg]) => {
                self.connection()?.define_network_xml(xml).doing(doing)?;
            }
            other => {
                other.doing(doing)?;
            }
        }
        Ok(())
    }

    /// Starts the lab's network.
    ///
    /// # Errors
    /// If libvirt cannot, as when another network has the subnet or the bridge name.
    pub fn start_network(&self, lab: &Lab) -> Result<()> {
        let doing = || format!("starting network `{}`", lab.name);
        let Some(network) = self.own_network(lab)? else {
            bail!("starting network `{}`: it is not there any more", lab.name);
        };
        network.create().unless(|| network.is_active()).doing(doing)?;
        // So that the lab can be started after the host was.
        network.set_autostart(true).already(&[ErrorNumber::NoSupport]).doing(doing)?;
        Ok(())
    }

    /// Makes libvirt start the DHCP and TFTP server of the lab's network again, with no node taken off the wire: it does
    /// so, if need be, for each change of what that server tells, and a record is put in and taken out.
    pub fn restore_dhcp(&self, lab: &Lab) -> Result<()> {
        let doing = || format!("bringing back DHCP and TFTP of network `{}`", lab.name);
        let Some(network) = self.own_network(lab)? else {
            bail!("{}: it is not there any more", doing());
        };
        let update = |command| {
            let (section, live) =
                (sys::VIR_NETWORK_SECTION_DNS_TXT, sys::VIR_NETWORK_UPDATE_AFFECT_LIVE);
            network.update(command, section, -1, "<txt name='virtlab' value='again'/>", live)
        };
        // A run that was ended in between left the record.
        let added = update(sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST);
        let removed = update(sys::VIR_NETWORK_UPDATE_COMMAND_DELETE);
        removed.or(added).doing(doing)
    }

    /// Stops and undefines the lab's network.
    pub fn remove_network(&self, lab: &Lab) -> Result<()> {
        let doing = || format!("removing network `{}`", lab.name);
        let Some(network) = self.own_network(lab)? else { return Ok(()) };
        let gone = [ErrorNumber::NoNetwork];
        let stopped = network.destroy().unless(|| Ok(!network.is_active()?));
        stopped.already(&gone).doing(doing)?;
        network.undefine().already(&gone).doing(doing)?;
        Ok(())
    }

    /// Whether there is a network of this name and, if so, whether it is active.
    pub fn network_is_active(&self, name: &str) -> Result<Option<bool>> {
        let doing = || format!("looking up network `{name}`");
        let network = self.connection()?.lookup_network_by_name(name);
        let network = network.already(&[ErrorNumber::NoNetwork]).doing(doing)?;
        network.map(|network| network.is_active().doing(doing)).transpose()
    }

    /// Who has a lease of the DHCP server of the lab's own network.
    pub fn leases(&self, lab: &Lab) -> Result<Vec<MacAddr>> {
        let Some(network) = self.own_network(lab)? else { return Ok(Vec::new()) };
        let leases = raw::leases(&network);
        let leases = leases.doing(|| format!("asking network `{}` for its leases", lab.name))?;
        Ok(leases.iter().filter_map(|mac| mac.parse().ok()).collect())
    }

    /// The XML that libvirt keeps of a network, which of an active one may be newer than what runs.
    pub(super) fn kept_xml(network: &Network) -> Result<String, Error> {
        match network.xml_desc(sys::VIR_NETWORK_XML_INACTIVE) {
            // A driver may have one XML only.
            Err(error) if is_any(&error, &[ErrorNumber::InvalidArg, ErrorNumber::NoSupport]) => {
                network.xml_desc(0)
            }
            other => other,
        }
    }

    /// The network of the lab's UUID, if it carries the lab's mark.
    pub(super) fn own_network(&self, lab: &Lab) -> Result<Option<Network>> {
        let doing = || format!("looking up network `{}`", lab.name);
        let network = self.connection()?.lookup_network_by_uuid(lab.uuid);
        let Some(network) = network.already(&[ErrorNumber::NoNetwork]).doing(doing)? else {
            return Ok(None);
        };
        let mark = Mark::from_object_xml(&network.xml_desc(0).doing(doing)?)?;
        if mark.is_none_or(|mark| mark.lab.uuid != lab.uuid) {
            bail!(
                "network `{}` does not carry the lab's metadata any more; it is left alone",
                lab.name
            );
        }
        Ok(Some(network))
    }
}
