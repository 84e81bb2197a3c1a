//! XML as a tree, for what is compared or changed in libvirt's XML whatever it holds.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};
use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesStart, Event};

/// An element with all that is in it. Text beside other elements is put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// With its prefix, as it is written.
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) children: Vec<Element>,
    /// Without the white space around it.
    pub(crate) text: String,
}

impl Element {
    /// Reads a document.
    ///
    /// # Errors
    /// If it is not well-formed.
    pub(crate) fn parse(xml: &str) -> Result<Self> {
        let mut reader = Reader::from_str(xml);
        // The first one holds the document.
        let mut open = vec![Self::default()];
        loop {
            let event = reader.read_event().context("reading XML")?;
            let Some(element) = open.last_mut() else { bail!("an element ends twice") };
            match event {
                Event::Start(start) => open.push(Self::of_start(&start)?),
                Event::Empty(start) => element.children.push(Self::of_start(&start)?),
                Event::Text(text) => element.text.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => {
                    let reference = format!("&{};", reference.xml10_content());
                    element.text.push_str(&reference);
                }
                Event::CData(data) => element.text.push_str(&escape(data.xml10_content())),
                Event::End(_) => {
                    let Some(mut done) = open.pop() else { bail!("an element ends twice") };
                    done.text = unescape(done.text.trim())?.into_owned();
                    let Some(parent) = open.last_mut() else { bail!("an element ends twice") };
                    parent.children.push(done);
                }
                Event::Eof => break,
                _ => {}
            }
        }
        match (open.pop().and_then(|mut document| document.children.pop()), open.len()) {
            (Some(root), 0) => Ok(root),
            _ => bail!("an element has no end"),
        }
    }

    fn of_start(start: &BytesStart) -> Result<Self> {
        let mut element = Self { name: start.name().into_inner().to_owned(), ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute?;
            let value = unescape(attribute.value.as_ref())?.into_owned();
            element.attributes.insert(attribute.key.into_inner().to_owned(), value);
        }
        Ok(element)
    }

    /// The value of an attribute.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// The first child of this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The same, to be changed; made if there is none.
    pub(crate) fn child_mut(&mut self, name: &str) -> &mut Self {
        let place = self.children.iter().position(|child| child.name == name);
        let place = place.unwrap_or_else(|| {
            self.children.push(Self { name: name.to_owned(), ..Self::default() });
            self.children.len() - 1
        });
        &mut self.children[place]
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let Self { name, attributes, children, text } = self;
        write!(f, "{:1$}<{name}", "", 2 * depth)?;
        for (name, value) in attributes {
            write!(f, " {name}='{}'", escape(value.as_str()))?;
        }
        let text = escape(text.as_str());
        match (children.is_empty(), text.is_empty()) {
            (true, true) => return writeln!(f, "/>"),
            (true, false) => return writeln!(f, ">{text}</{name}>"),
            (false, _) => writeln!(f, ">{text}")?,
        }
        children.iter().try_for_each(|child| child.write(f, depth + 1))?;
        writeln!(f, "{:1$}</{name}>", "", 2 * depth)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        let xml = "<a b='1' c='&lt;&apos;'>\n  <d/>\n  <e:f>x &amp; y</e:f>\n  <g>\n    <h/>\n  </g>\n</a>\n";
        let element = Element::parse(xml).unwrap();
        assert_eq!(element.attribute("c"), Some("<'"));
        assert_eq!(element.child("e:f").unwrap().text, "x & y");
        assert_eq!(element.to_string(), xml);
        let written = "<?xml version='1.0'?><!-- hm --><a c=\"&lt;&#39;\" b='1' ><d></d>\n<e:f> \
                       <![CDATA[x & y]]></e:f><g><h/></g></a>";
        assert_eq!(Element::parse(written).unwrap(), element);
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for xml in ["", "<a>", "<a></b>", "</a>", "<a b=1/>", "<a>&none;</a>"] {
            assert!(Element::parse(xml).is_err(), "{xml}");
        }
    }
}
