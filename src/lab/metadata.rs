//! The mark that our libvirt objects carry. It is the only state there is: a lab is the set of
//! objects with its element, and the element holds all that is needed to make the lab again.
//!
//! <https://libvirt.org/formatdomain.html#general-metadata>

use anyhow::{Context, Result, anyhow};
use quick_xml::se::Serializer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Lab, LabName};

/// The XML namespace of our metadata element.
pub const NAMESPACE: &str = "https://virtlab.dev/xmlns/lab/1";

/// What an object of ours says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The lab that the object belongs to.
    pub lab: Lab,
    /// The node's index, for domains.
    pub node: Option<u32>,
}

impl Mark {
    /// The `<virtlab:lab>` element.
    ///
    /// # Errors
    /// If the specification cannot be serialised, which is a bug.
    pub fn to_xml(&self) -> Result<String> {
        let element = ElementOut {
            xmlns: NAMESPACE,
            name: self.lab.name.as_str(),
            uuid: self.lab.uuid,
            node: self.node,
            image: self.lab.spec.image.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            spec: serde_json::to_string(&self.lab.spec)
                .context("writing the lab's specification")?,
        };
        let mut xml = String::new();
        let serializer = Serializer::with_root(&mut xml, Some("virtlab:lab"))?;
        element.serialize(serializer).context("writing the metadata element")?;
        Ok(xml)
    }

    /// Reads the mark out of a domain's or network's XML. `None`: the object is not ours.
    ///
    /// # Errors
    /// If the object carries our element but it cannot be understood, for example one that a
    /// later virtlab wrote.
    pub fn from_object_xml(xml: &str) -> Result<Option<Self>> {
        if !xml.contains(NAMESPACE) {
            return Ok(None);
        }
        // Its text has that of its causes in it.
        let object: Object = quick_xml::de::from_str(xml)
            .map_err(|error| anyhow!("reading libvirt's XML: {error}"))?;
        let Some(element) = object.metadata.and_then(|metadata| metadata.lab) else {
            return Ok(None);
        };
        let spec = serde_json::from_str(&element.spec).with_context(|| {
            format!(
                "reading the metadata of lab `{}`, written by virtlab {}",
                element.name, element.version
            )
        })?;
        Ok(Some(Self {
            lab: Lab { name: element.name, uuid: element.uuid, spec },
            node: element.node,
        }))
    }
}

#[derive(Serialize)]
struct ElementOut<'a> {
    #[serde(rename = "@xmlns:virtlab")]
    xmlns: &'a str,
    #[serde(rename = "@name")]
    name: &'a str,
    #[serde(rename = "@uuid")]
    uuid: Uuid,
    #[serde(rename = "@node", skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    #[serde(rename = "@image")]
    image: String,
    #[serde(rename = "@version")]
    version: &'a str,
    #[serde(rename = "$text")]
    spec: String,
}

/// The part of a domain's or network's XML that is ours.
#[derive(Deserialize)]
struct Object {
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    lab: Option<ElementIn>,
}

#[derive(Deserialize)]
struct ElementIn {
    #[serde(rename = "@name")]
    name: LabName,
    #[serde(rename = "@uuid")]
    uuid: Uuid,
    #[serde(rename = "@node")]
    node: Option<u32>,
    #[serde(rename = "@version")]
    version: String,
    #[serde(rename = "$text")]
    spec: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    fn object(metadata: &str) -> String {
        format!(
            "<domain type='qemu' id='3'><name>demo-2</name><metadata>\
             <libosinfo:libosinfo xmlns:libosinfo=\"http://libosinfo.org/xmlns/libvirt/domain/1.0\"/>\
             {metadata}</metadata><devices><disk/><disk/></devices></domain>"
        )
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut lab = lab(3);
        lab.spec.description = Some("<&'\"> ümläut".to_owned());
        for node in [None, Some(2)] {
            let mark = Mark { lab: lab.clone(), node };
            let xml = object(&mark.to_xml().unwrap());
            assert_eq!(Mark::from_object_xml(&xml).unwrap(), Some(mark));
        }
    }

    #[test]
    fn a_foreign_object_has_no_mark() {
        let foreign = "<lab xmlns='https://example.org' name='demo'/>";
        assert_eq!(Mark::from_object_xml(&object(foreign)).unwrap(), None);
        assert_eq!(Mark::from_object_xml("<network><name>default</name></network>").unwrap(), None);
    }

    #[test]
    fn a_mark_of_a_later_virtlab_is_an_error_that_names_it() {
        let mark = format!(
            "<virtlab:lab xmlns:virtlab='{NAMESPACE}' name='demo' uuid='{}' version='9.0.0'>{{}}</virtlab:lab>",
            Uuid::nil()
        );
        let error = Mark::from_object_xml(&object(&mark)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "reading the metadata of lab `demo`, written by virtlab 9.0.0"
        );
    }
}
