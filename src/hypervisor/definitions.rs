//! What libvirt has of a lab's objects, as text: what it keeps of them, and what of them runs.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::domains::own_domain;
use super::error::{Already, Doing};
use super::kept::{kept_domain, kept_or_only};
use super::{Found, Hypervisor};
use crate::lab::Lab;
use crate::render::element::Element;

/// The XML of a lab's objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Definitions {
    pub(crate) network: Option<Definition>,
    pub(crate) pool: Option<Definition>,
    /// By node index.
    pub(crate) domains: BTreeMap<u32, Definition>,
}

/// The XML of an object.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    /// What libvirt uses when it is started.
    pub(crate) kept: String,
    /// What runs.
    pub(crate) running: Option<String>,
}

impl Hypervisor {
    /// Of which of these nodes this is so in what libvirt keeps of their domains.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub(crate) fn nodes_with(
        &self,
        lab: &Lab,
        nodes: &[u32],
        is_so: impl Fn(u32, &Element) -> bool + Sync,
    ) -> Result<Vec<u32>> {
        let look = |connection: &Connect, index: &u32| {
            let doing = || format!("reading domain `{}`", lab.name.node(*index));
            let Some(domain) = own_domain(connection, lab, *index)? else { return Ok(None) };
            let domain = Element::parse(&kept_domain(&domain).doing(doing)?)?;
            Ok(is_so(*index, &domain).then_some(*index))
        };
        let found: Result<Vec<Option<u32>>> = self.in_parallel(nodes, look).into_iter().collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// The XML of all objects of a lab.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub(crate) fn definitions(&self, found: &Found) -> Result<Definitions> {
        let lab = &found.lab;
        let network = match found.network {
            Some(_) => self.network_definition(lab)?,
            None => None,
        };
        let doing = || format!("reading storage pool `{}`", lab.pool_name());
        let pool = match found.pool {
            Some(_) => self.own_pool(lab)?,
            None => None,
        };
        let pool = pool.map(|pool| {
            let kept = kept_or_only(|flags| pool.xml_desc(flags), sys::VIR_STORAGE_XML_INACTIVE)?;
            let running = pool.is_active()?.then(|| pool.xml_desc(0)).transpose()?;
            Ok::<_, Error>(Definition { kept, running })
        });
        let pool = pool.transpose().already(&[ErrorNumber::NoStoragePool]).doing(doing)?;

        let indices: Vec<u32> = found.domains.keys().copied().collect();
        let read = |connection: &Connect, index: &u32| domain_definition(connection, lab, *index);
        let read = self.in_parallel(&indices, read);
        let mut domains = BTreeMap::new();
        for (index, definition) in indices.into_iter().zip(read) {
            if let Some(definition) = definition? {
                domains.insert(index, definition);
            }
        }
        Ok(Definitions { network, pool: pool.flatten(), domains })
    }

    /// The XML of the lab's network; `None` if it is not there.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub(crate) fn network_definition(&self, lab: &Lab) -> Result<Option<Definition>> {
        let doing = || format!("reading network `{}`", lab.name);
        let Some(network) = self.own_network(lab)? else { return Ok(None) };
        let read = || {
            let kept = Self::kept_xml(&network)?;
            let running = network.is_active()?.then(|| network.xml_desc(0)).transpose()?;
            Ok(Definition { kept, running })
        };
        read().already(&[ErrorNumber::NoNetwork]).doing(doing)
    }

    /// Defines the domain of a node anew as `xml` says, with the name and the UUID that it has, and with what others
    /// keep in its metadata. One that runs goes on as it was started.
    ///
    /// # Errors
    /// If libvirt refuses the XML, or the domain is not there any more.
    pub fn redefine_domain(connection: &Connect, lab: &Lab, index: u32, xml: &str) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("defining domain `{name}`");
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("defining domain `{name}`: it is not there any more");
        };
        let kept = kept_domain(&domain).doing(doing)?;
        let mut element = with_metadata_of(xml, &kept).with_context(doing)?;
        element.child_mut("name").text = domain.name().doing(doing)?;
        element.child_mut("uuid").text = domain.uuid().doing(doing)?.to_string();
        let flags = sys::VIR_DOMAIN_DEFINE_VALIDATE;
        connection.define_domain_xml_flags(&element.to_string(), flags).doing(doing)?;
        Ok(())
    }

    /// Defines the lab's network anew as `xml` says, with what others keep in its metadata. One that is active goes
    /// on as it was started.
    ///
    /// # Errors
    /// If libvirt refuses the XML, or the network is not there any more.
    pub fn redefine_network(&self, lab: &Lab, xml: &str) -> Result<()> {
        let doing = || format!("defining network `{}`", lab.name);
        let Some(network) = self.own_network(lab)? else {
            bail!("defining network `{}`: it is not there any more", lab.name);
        };
        let element = with_metadata_of(xml, &Self::kept_xml(&network).doing(doing)?);
        self.define_network(lab, &element.with_context(doing)?.to_string())
    }
}

fn domain_definition(connection: &Connect, lab: &Lab, index: u32) -> Result<Option<Definition>> {
    let doing = || format!("reading domain `{}`", lab.name.node(index));
    let Some(domain) = own_domain(connection, lab, index)? else { return Ok(None) };
    let read = || {
        let kept = kept_domain(&domain)?;
        let running = domain.is_active()?.then(|| domain.xml_desc(0)).transpose()?;
        Ok(Definition { kept, running })
    };
    read().already(&[ErrorNumber::NoDomain]).doing(doing)
}

/// `xml` with what others keep in the metadata of `there`.
fn with_metadata_of(xml: &str, there: &str) -> Result<Element> {
    let mut element = Element::parse(xml)?;
    let there = Element::parse(there)?;
    let metadata = element.child_mut("metadata");
    let others = there.child("metadata").into_iter().flat_map(|metadata| &metadata.children);
    let others = others.filter(|other| metadata.child(&other.name).is_none()).cloned();
    let others: Vec<Element> = others.collect();
    metadata.children.extend(others);
    Ok(element)
}
