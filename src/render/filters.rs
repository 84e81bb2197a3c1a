//! The filters that keep nodes apart: each drops what comes from the network cards of some other nodes, and what goes to them.
//! <https://libvirt.org/formatnwfilter.html>

use std::fmt::Write;

use anyhow::Result;

use super::element::Element;
use super::links::{cards, each_card};
use crate::lab::Lab;
use crate::lab::fault::Filter;
use crate::lab::node_set::NodeSet;

/// The filter of a node that is kept apart from others. It is before those of libvirt's that let ARP and the like pass.
pub fn xml(lab: &Lab, index: u32, from: NodeSet) -> String {
    let mut rules = String::new();
    for mac in from.iter().flat_map(|other| lab.macs(other)) {
        for (direction, end) in [("out", "dst"), ("in", "src")] {
            let _ = writeln!(
                rules,
                "  <rule action='drop' direction='{direction}' priority='100'>\n    <mac {end}macaddr='{mac}'/>\n  </rule>"
            );
        }
    }
    let (name, uuid) = (lab.filter_name(index), lab.filter_uuid(index));
    format!(
        "<filter name='{name}' chain='root' priority='-800'>\n  <uuid>{uuid}</uuid>\n{rules}</filter>\n"
    )
}

/// The nodes that a filter of the lab's keeps a node apart from; `None` where it does so by half.
pub(crate) fn kept_apart(lab: &Lab, index: u32, filter: &str) -> Result<Option<NodeSet>> {
    let filter = Element::parse(filter)?;
    let rules = filter.children.iter().filter(|child| child.name == "rule");
    let macs: Vec<&str> = rules
        .filter_map(|rule| {
            let mac = rule.child("mac")?;
            mac.attribute("srcmacaddr").or_else(|| mac.attribute("dstmacaddr"))
        })
        .collect();
    let is_named = |other: &u32| {
        lab.macs(*other)
            .iter()
            .any(|mac| macs.iter().any(|it| it.eq_ignore_ascii_case(&mac.to_string())))
    };
    let from: NodeSet =
        (1..=crate::lab::MAX_NODES).take_while(|_| !macs.is_empty()).filter(is_named).collect();
    let wanted = Element::parse(&xml(lab, index, from))?;
    Ok((sorted(wanted) == sorted(filter)).then_some(from))
}

/// libvirt has the rules in an order of its own.
fn sorted(mut filter: Element) -> Element {
    filter.children.sort_by_cached_key(Element::to_string);
    filter
}

/// What a domain's cards say of a filter: all of them name it, none does, or [`Filter::Between`].
pub(crate) fn named(domain: &str, name: &str, from: NodeSet) -> Filter {
    if !domain.contains("<filterref ") {
        return Filter::Absent;
    }
    let Ok(domain) = Element::parse(domain) else { return Filter::Absent };
    let all = cards(&domain).count();
    match cards(&domain).filter(|card| filter_of(card) == Some(name)).count() {
        0 => Filter::Absent,
        naming if naming == all => Filter::InForce(from),
        _ => Filter::Between,
    }
}

/// The filter of a card.
pub(crate) fn filter_of(card: &Element) -> Option<&str> {
    card.child("filterref").and_then(|filter| filter.attribute("filter"))
}

/// A card with this filter, or without.
pub(crate) fn with_filter(card: &Element, name: &str, is_filtered: bool) -> Element {
    let mut card = card.clone();
    card.children
        .retain(|child| child.name != "filterref" || child.attribute("filter") != Some(name));
    if is_filtered {
        let filter = card.child_mut("filterref");
        filter.attributes.insert("filter".to_owned(), name.to_owned());
    }
    card
}

/// A domain whose cards all have this filter, or not.
pub(crate) fn with_filters(domain: Element, name: &str, is_filtered: bool) -> Element {
    each_card(domain, |card| with_filter(card, name, is_filtered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    fn set(text: &str) -> NodeSet {
        text.parse().unwrap()
    }

    #[test]
    fn a_filter_drops_what_goes_to_the_others_and_what_comes_from_them() {
        let lab = lab(3);
        let expected = format!(
            "<filter name='virtlab-demo-1' chain='root' priority='-800'>
  <uuid>{}</uuid>
  <rule action='drop' direction='out' priority='100'>
    <mac dstmacaddr='{1}'/>
  </rule>
  <rule action='drop' direction='in' priority='100'>
    <mac srcmacaddr='{1}'/>
  </rule>
</filter>
",
            lab.filter_uuid(1),
            lab.node(3).mac
        );
        assert_eq!(xml(&lab, 1, set("3")), expected);
        assert_ne!(lab.filter_uuid(1), lab.filter_uuid(2));
        assert_ne!(lab.filter_uuid(1), lab.node(1).uuid);
    }

    #[test]
    fn what_a_filter_does_is_read_from_it() {
        let lab = lab(3);
        let both = xml(&lab, 1, set("2-3"));
        assert_eq!(kept_apart(&lab, 1, &both).unwrap(), Some(set("2-3")));
        let half = both.replacen("direction='in'", "direction='out'", 1);
        assert_eq!(kept_apart(&lab, 1, &half).unwrap(), None);
        let empty = xml(&lab, 1, NodeSet::default());
        assert_eq!(kept_apart(&lab, 1, &empty).unwrap(), Some(NodeSet::default()));
    }

    #[test]
    fn a_filter_that_comes_and_goes_leaves_nothing() {
        let domain = |filters: &[&str]| {
            let cards =
                filters.iter().map(|it| format!("<interface><mac address='m'/>{it}</interface>"));
            format!("<domain><devices>{}</devices></domain>", cards.collect::<String>())
        };
        let ours = "<filterref filter='f'/>";
        for (filters, expected) in [
            (&[][..], Filter::Absent),
            (&["", "<filterref filter='other'/>"], Filter::Absent),
            (&[ours, ours], Filter::InForce(set("2"))),
            (&[ours, ""], Filter::Between),
        ] {
            assert_eq!(named(&domain(filters), "f", set("2")), expected, "{filters:?}");
        }
        let before = Element::parse(&domain(&["", ""])).unwrap();
        let with = with_filters(before.clone(), "f", true);
        assert_eq!(with.to_string(), Element::parse(&domain(&[ours, ours])).unwrap().to_string());
        assert_eq!(with_filters(with, "f", false), before);
    }
}
