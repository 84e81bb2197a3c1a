//! Where nodes are logged in to, and as whom.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};

use super::addresses;
use super::targets::Target;
use crate::error::hinted;
use crate::hypervisor::Hypervisor;
use crate::images::Catalogue;
use crate::lab::plan::DomainState;
use crate::lab::{Lab, LabName, Node};

/// How a node is logged in to, as far as that is known.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// Its lab.
    pub(crate) lab: LabName,
    /// The node.
    pub(crate) node: Node,
    /// Whether its domain runs; `None` if there is none.
    pub(crate) state: Option<DomainState>,
    /// Its address, if anybody knows it.
    pub(crate) address: Option<IpAddr>,
    /// Whom the image, or the user, names.
    pub(crate) user: Option<String>,
    image: String,
}

impl Login {
    /// The logins of all nodes that are meant, as `user` or as whom the image names.
    pub(crate) fn of(
        hypervisor: &Hypervisor,
        catalogue: &Catalogue,
        targets: &[Target],
        user: Option<&str>,
    ) -> Result<Vec<Self>> {
        let mut logins = Vec::new();
        for target in targets {
            let lab = target.lab();
            let addresses = addresses::find(hypervisor, lab, true)?;
            let user = match user {
                Some(user) => Some(user.to_owned()),
                // An entry that is gone names nobody.
                None => catalogue.find(&lab.spec.image.name).ok().and_then(|spec| spec.ssh_user),
            };
            let login = |node: &Node| Self::new(target, node, &addresses, user.clone());
            logins.extend(target.nodes.iter().map(login));
        }
        Ok(logins)
    }

    fn new(
        target: &Target,
        node: &Node,
        addresses: &BTreeMap<u32, IpAddr>,
        user: Option<String>,
    ) -> Self {
        let Lab { name, spec, .. } = target.lab();
        Self {
            lab: name.clone(),
            node: node.clone(),
            state: target.found.domains.get(&node.index).copied(),
            address: addresses.get(&node.index).copied(),
            user,
            image: spec.image.name.clone(),
        }
    }

    /// The user and the address.
    ///
    /// # Errors
    /// If one of them is not known.
    pub(crate) fn destination(&self) -> Result<(&str, IpAddr)> {
        let user = self.user.as_deref().ok_or_else(|| {
            hinted(
                format!("image `{}` names nobody to log in as", self.image),
                "name a user by --user; `virtlab console NODE` needs no sshd",
            )
        })?;
        let address = self
            .address
            .with_context(|| format!("nobody knows the address of node `{}`", self.node.name))?;
        Ok((user, address))
    }
}
