//! The mark that our libvirt objects carry. It is the only state there is: a lab is the set of
//! objects with its element, and the element holds all that is needed to make the lab again.
//!
//! <https://libvirt.org/formatdomain.html#general-metadata>

use anyhow::{Context, Error, Result, anyhow, bail};
use quick_xml::se::Serializer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Lab;
use super::fault::{FaultName, Faults};

/// The XML namespace of our metadata element.
pub const NAMESPACE: &str = "https://virtlab.dev/xmlns/lab/1";

/// The newest format of the marks that this virtlab writes, that of nodes with faults. It grows when a mark could be
/// misunderstood by the virtlab before; marks of virtlab 0.1, which have no format, count as 1.
pub const FORMAT: u32 = 3;

/// That of marks without faults, which the virtlab before reads as well.
const WITHOUT_FAULTS: u32 = 2;

/// What an object of ours says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The lab that the object belongs to, as it was when the mark was written.
    pub lab: Lab,
    /// For domains: which node it is.
    pub node: Option<NodeMark>,
}

/// What the domain of a node says about itself beside the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMark {
    /// The node's index.
    pub index: u32,
    /// What is wanted of it: who stops a node wants it stopped.
    pub desired: Desired,
}

/// What is wanted of a node beside the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Its power.
    pub power: Power,
    /// What is to be wrong with it.
    pub faults: Faults,
}

impl Desired {
    /// The power that the node is to have by all of this: a fault takes it from a node that is wanted to have it.
    pub fn effective_power(self) -> Power {
        let has = |name| self.faults.has(name);
        match self.power {
            Power::Off => Power::Off,
            _ if has(FaultName::Kill) => Power::Off,
            _ if has(FaultName::Pause) => Power::Paused,
            power => power,
        }
    }

    /// Whether nothing but a fault keeps the node off.
    pub fn is_killed(self) -> bool {
        self.power != Power::Off && self.faults.has(FaultName::Kill)
    }
}

impl From<Power> for Desired {
    fn from(power: Power) -> Self {
        Self { power, faults: Faults::default() }
    }
}

/// Whether a node is wanted to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// It runs.
    #[default]
    On,
    /// It is shut off.
    Off,
    /// It is there, with its processors stopped.
    Paused,
}

impl Power {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Paused => "paused",
        }
    }
}

impl Mark {
    /// The mark of the lab's network.
    pub fn of_lab(lab: &Lab) -> Self {
        Self { lab: lab.clone(), node: None }
    }

    /// The mark of a node's domain.
    pub fn of_node(lab: &Lab, index: u32, desired: impl Into<Desired>) -> Self {
        Self { lab: lab.clone(), node: Some(NodeMark { index, desired: desired.into() }) }
    }

    /// The `<virtlab:lab>` element, as it stands in an object's XML.
    ///
    /// # Errors
    /// If the specification cannot be serialised, which is a bug.
    pub fn to_xml(&self) -> Result<String> {
        self.element("virtlab:lab", Some(NAMESPACE))
    }

    /// The element without its namespace, which libvirt adds when it changes an object's metadata.
    ///
    /// # Errors
    /// If the specification cannot be serialised, which is a bug.
    pub fn to_plain_xml(&self) -> Result<String> {
        self.element("lab", None)
    }

    fn element(&self, root: &str, xmlns: Option<&str>) -> Result<String> {
        let Self { lab, node } = self;
        let Desired { power, faults } = node.map(|node| node.desired).unwrap_or_default();
        let element = ElementOut {
            xmlns,
            name: lab.name.as_str(),
            uuid: lab.uuid,
            format: if faults.is_empty() { WITHOUT_FAULTS } else { FORMAT },
            generation: lab.generation,
            node: node.map(|node| node.index),
            power: Some(power).filter(|power| *power != Power::On),
            faults: Some(faults).filter(|faults| !faults.is_empty()).map(|it| it.to_string()),
            image: lab.spec.image.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            spec: serde_json::to_string(&lab.spec).context("writing the lab's specification")?,
        };
        let mut xml = String::new();
        let serializer = Serializer::with_root(&mut xml, Some(root))?;
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
        if element.format > FORMAT {
            bail!(
                "the metadata of lab `{}` has format {}, written by virtlab {}; this one reads formats up to {FORMAT}",
                element.name,
                element.format,
                element.version
            );
        }
        let context = format!(
            "reading the metadata of lab `{}`, written by virtlab {}",
            element.name, element.version
        );
        element.read().context(context).map(Some)
    }
}

#[derive(Serialize)]
struct ElementOut<'a> {
    #[serde(rename = "@xmlns:virtlab", skip_serializing_if = "Option::is_none")]
    xmlns: Option<&'a str>,
    #[serde(rename = "@name")]
    name: &'a str,
    #[serde(rename = "@uuid")]
    uuid: Uuid,
    #[serde(rename = "@format")]
    format: u32,
    #[serde(rename = "@generation")]
    generation: u32,
    #[serde(rename = "@node", skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    #[serde(rename = "@power", skip_serializing_if = "Option::is_none")]
    power: Option<Power>,
    #[serde(rename = "@faults", skip_serializing_if = "Option::is_none")]
    faults: Option<String>,
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

/// Text where a later format may have something else, so that its number can be read.
#[derive(Deserialize)]
struct ElementIn {
    #[serde(rename = "@name", default)]
    name: String,
    #[serde(rename = "@uuid", default)]
    uuid: String,
    #[serde(rename = "@format", default = "first_format")]
    format: u32,
    #[serde(rename = "@generation", default)]
    generation: u32,
    #[serde(rename = "@node")]
    node: Option<u32>,
    #[serde(rename = "@power", default)]
    power: String,
    #[serde(rename = "@faults", default)]
    faults: String,
    #[serde(rename = "@version", default)]
    version: String,
    #[serde(rename = "$text", default)]
    spec: String,
}

impl ElementIn {
    fn read(&self) -> Result<Mark> {
        let lab = Lab {
            name: self.name.parse().map_err(Error::msg)?,
            uuid: self.uuid.parse()?,
            generation: self.generation,
            spec: serde_json::from_str(&self.spec)?,
        };
        lab.check_room(lab.spec.nodes)?;
        // One of a lab that has become smaller may still be there.
        if let Some(node) = self.node.filter(|node| lab.check_room(*node).is_err()) {
            bail!("lab `{}` has no node {node}", lab.name);
        }
        let power = match self.power.as_str() {
            "" | "on" => Power::On,
            "off" => Power::Off,
            "paused" => Power::Paused,
            other => bail!("`{other}` is no power that a node can have"),
        };
        let desired = Desired { power, faults: self.faults.parse()? };
        Ok(Mark { lab, node: self.node.map(|index| NodeMark { index, desired }) })
    }
}

fn first_format() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::fault::{FaultKind, Term};
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
        lab.generation = 7;
        for mark in [
            Mark::of_lab(&lab),
            Mark::of_node(&lab, 2, Power::On),
            Mark::of_node(&lab, 2, Power::Off),
            Mark::of_node(&lab, 2, Power::Paused),
            Mark::of_node(&lab, 2, Desired { power: Power::Off, faults: cut() }),
        ] {
            let xml = object(&mark.to_xml().unwrap());
            assert_eq!(Mark::from_object_xml(&xml).unwrap(), Some(mark));
        }
    }

    fn cut() -> Faults {
        Faults::default().with(FaultKind::Cut, Term::since(1_764_541_234_567))
    }

    #[test]
    fn only_a_mark_with_faults_has_a_format_that_the_virtlab_before_does_not_read() {
        let mark = |faults| Mark::of_node(&lab(3), 2, Desired { power: Power::On, faults });
        let whole = mark(Faults::default()).to_xml().unwrap();
        assert!(whole.contains("format=\"2\"") && !whole.contains("faults"), "{whole}");
        let cut = mark(cut()).to_xml().unwrap();
        assert!(cut.contains("format=\"3\""), "{cut}");
        assert!(cut.contains("node=\"2\" faults=\"cut=1764541234567\""), "{cut}");
        let error = Mark::from_object_xml(&object(&cut.replace("cut=", "burnt="))).unwrap_err();
        assert_eq!(
            error.root_cause().to_string(),
            "`burnt=1764541234567` is no fault that a node can have"
        );
    }

    #[test]
    fn a_foreign_object_has_no_mark() {
        let foreign = "<lab xmlns='https://example.org' name='demo'/>";
        assert_eq!(Mark::from_object_xml(&object(foreign)).unwrap(), None);
        assert_eq!(Mark::from_object_xml("<network><name>default</name></network>").unwrap(), None);
    }

    #[test]
    fn a_mark_of_virtlab_0_1_is_read_and_is_older_than_every_other() {
        let xml = include_str!("../../tests/fixtures/v0.1/domain-2.xml");
        let Mark { lab, node } = Mark::from_object_xml(xml).unwrap().unwrap();
        assert_eq!(node, Some(NodeMark { index: 2, desired: Power::On.into() }));
        assert_eq!((lab.name.as_str(), lab.generation, lab.spec.nodes), ("old", 0, 2));
        assert_eq!(lab.node(2).mac.to_string(), "52:54:00:cb:00:02");
        assert_eq!(lab.spec.config.name(), "config-templates/etcd-micro.ign.j2");
        let network = include_str!("../../tests/fixtures/v0.1/network.xml");
        assert_eq!(Mark::from_object_xml(network).unwrap(), Some(Mark { lab, node: None }));
    }

    #[test]
    fn a_mark_of_a_later_format_is_an_error_that_names_it() {
        let mark = format!(
            "<virtlab:lab xmlns:virtlab='{NAMESPACE}' name='demo' format='9' version='9.0.0' power='half'/>"
        );
        let error = Mark::from_object_xml(&object(&mark)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the metadata of lab `demo` has format 9, written by virtlab 9.0.0; this one reads formats up to 3"
        );
    }

    #[test]
    fn a_mark_of_nodes_that_cannot_be_is_an_error() {
        let mark = Mark::of_node(&lab(3), 2, Power::On).to_xml().unwrap();
        for (from, to, cause) in [
            ("node=\"2\"", "node=\"4294967295\"", "lab `demo` has no node 4294967295"),
            ("node=\"2\"", "node=\"0\"", "lab `demo` has no node 0"),
            (
                "\"nodes\":3",
                "\"nodes\":254",
                "subnet 192.168.150.0/24 of lab `demo` has room for 253 nodes, not for 254",
            ),
            ("\"nodes\":3", "\"nodes\":4294967295", "a lab has 1 to 1000 nodes"),
            ("\"nodes\":3", "\"nodes\":0", "a lab has 1 to 1000 nodes"),
        ] {
            let error = Mark::from_object_xml(&object(&mark.replace(from, to))).unwrap_err();
            assert_eq!(error.root_cause().to_string(), cause);
        }
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
