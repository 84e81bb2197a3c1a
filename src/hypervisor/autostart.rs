//! What libvirt starts with the host.

use anyhow::{Result, bail};
use virt::connect::Connect;
use virt::error::ErrorNumber;

use super::Hypervisor;
use super::domains::own_domain;
use super::error::{Already, Doing};
use crate::lab::Lab;

impl Hypervisor {
    /// Makes libvirt start the lab's pool and, if it has one of its own, its network with the host.
    ///
    /// # Errors
    /// If libvirt cannot.
    pub fn autostart(&self, lab: &Lab) -> Result<()> {
        let doing = || format!("letting lab `{}` start with the host", lab.name);
        if let Some(network) = self.own_network(lab)? {
            network.set_autostart(true).already(&[ErrorNumber::NoSupport]).doing(doing)?;
        }
        if let Some(pool) = self.own_pool(lab)? {
            pool.set_autostart(true).already(&[ErrorNumber::NoSupport]).doing(doing)?;
        }
        Ok(())
    }

    /// Makes libvirt start the domain of a node with the host, or no more.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn autostart_domain(
        connection: &Connect,
        lab: &Lab,
        index: u32,
        autostart: bool,
    ) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("changing whether domain `{name}` starts with the host");
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("{}: it is not there any more", doing());
        };
        domain.set_autostart(autostart).already(&[ErrorNumber::NoSupport]).doing(doing)?;
        Ok(())
    }
}
