//! Reads drawings, strictly.

#![expect(clippy::cast_precision_loss, reason = "these are lengths of texts")]

use quick_xml::Reader;
use quick_xml::events::Event;

use super::*;

/// An element with its own attributes, those of the groups around it, and its text.
#[derive(Debug, Default, Clone)]
pub(crate) struct Element {
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
    pub(crate) text: String,
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.attribute(name).map(|value| value.parse().unwrap())
    }

    /// The box of a text that stands upright, with a wide font taken for granted.
    pub(crate) fn text_box(&self) -> [f64; 4] {
        let size = self.number("font-size").unwrap();
        let width = self.text.chars().count() as f64 * size * 0.64;
        let (x, y) = (self.number("x").unwrap(), self.number("y").unwrap());
        let y = y + self.number("dy").unwrap_or(0.0);
        let left = match self.attribute("text-anchor") {
            Some("middle") => x - width / 2.0,
            Some("end") => x - width,
            _ => x,
        };
        [left, y - size * 0.8, left + width, y + size * 0.2]
    }
}

/// Reads SVG strictly: mismatched tags, bad entities and doubled attributes are errors.
pub(crate) fn elements(svg: &str) -> Vec<Element> {
    let mut reader = Reader::from_str(svg);
    reader.config_mut().check_end_names = true;
    let (mut open, mut all): (Vec<Element>, Vec<Element>) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => break,
            event @ (Event::Start(_) | Event::Empty(_)) => {
                let is_start = matches!(event, Event::Start(_));
                let (Event::Start(tag) | Event::Empty(tag)) = event else { unreachable!() };
                let mut element = open.last().cloned().unwrap_or_default();
                element.name = tag.name().as_ref().to_owned();
                for attribute in tag.attributes() {
                    let attribute = attribute.unwrap();
                    let key = attribute.key.as_ref().to_owned();
                    let value = attribute.value.to_string();
                    element.attributes.push((key, value));
                }
                element.text.clear();
                if is_start {
                    open.push(element);
                } else {
                    all.push(element);
                }
            }
            Event::End(_) => all.push(open.pop().unwrap()),
            Event::Text(text) => {
                if let Some(element) = open.last_mut() {
                    element.text += &text;
                }
            }
            Event::GeneralRef(_) => open.last_mut().unwrap().text.push('&'),
            other => panic!("{other:?}"),
        }
    }
    assert!(open.is_empty());
    all
}

pub(crate) fn texts(elements: &[Element]) -> Vec<&Element> {
    let upright = |element: &&Element| element.attribute("transform").is_none();
    elements.iter().filter(|element| element.name == "text").filter(upright).collect()
}

#[test]
fn a_text_that_is_too_long_is_cut_and_what_xml_cannot_hold_is_left_out() {
    assert_eq!(fitting("demo\u{1b}", 8), "demo");
    assert_eq!(fitting("a long title", 7), "a long…");
    assert_eq!(fitting("a longer title", 2), "a…");
}

#[test]
fn text_is_escaped_and_a_misspelt_name_is_an_error() {
    let drawing = serde_json::json!({ "title": "<&\"'>" });
    assert_eq!(render("{{ title }}", &drawing).unwrap(), "&lt;&amp;&quot;&apos;&gt;");
    assert!(render("{{ titel }}", &drawing).is_err());
}
