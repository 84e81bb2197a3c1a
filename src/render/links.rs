//! The links of the network cards in a domain's XML. A card without the element has one.

use super::element::Element;
use crate::lab::fault::Link;

/// The link of a domain. One without cards has it all.
pub(crate) fn of(xml: &str) -> Link {
    // Of many domains this is all that is read.
    if !xml.contains("<link ") {
        return Link::Up;
    }
    let Ok(domain) = Element::parse(xml) else { return Link::Up };
    let all = cards(&domain).count();
    match cards(&domain).filter(|card| !is_up(card)).count() {
        0 => Link::Up,
        down if down == all => Link::Down,
        _ => Link::Between,
    }
}

/// The network cards of a domain.
pub(crate) fn cards(domain: &Element) -> impl Iterator<Item = &Element> {
    let devices = domain.child("devices").into_iter().flat_map(|devices| &devices.children);
    devices.filter(|device| device.name == "interface")
}

/// Whether a card has its link.
pub(crate) fn is_up(card: &Element) -> bool {
    card.child("link").and_then(|link| link.attribute("state")) != Some("down")
}

/// A card with its link, or without.
pub(crate) fn with_link(card: &Element, is_up: bool) -> Element {
    let mut card = card.clone();
    if is_up {
        card.children.retain(|child| child.name != "link");
    } else {
        let link = card.child_mut("link");
        link.attributes.insert("state".to_owned(), "down".to_owned());
    }
    card
}

/// A domain whose cards all have their link, or all have none.
pub(crate) fn with_links(domain: Element, is_up: bool) -> Element {
    each_card(domain, |card| with_link(card, is_up))
}

/// A domain with this done to all of its cards.
pub(crate) fn each_card(mut domain: Element, change: impl Fn(&Element) -> Element) -> Element {
    for card in &mut domain.child_mut("devices").children {
        if card.name == "interface" {
            *card = change(card);
        }
    }
    domain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(links: &[&str]) -> String {
        let cards =
            links.iter().map(|link| format!("<interface><mac address='m'/>{link}</interface>"));
        format!("<domain><devices><disk/>{}</devices></domain>", cards.collect::<String>())
    }

    #[test]
    fn a_domain_is_off_the_wire_if_none_of_its_cards_has_a_link() {
        let (up, down) = ("<link state='up'/>", "<link state='down'/>");
        for (links, expected) in [
            (&[][..], Link::Up),
            (&["", up], Link::Up),
            (&[down], Link::Down),
            (&[down, down], Link::Down),
            (&[down, up], Link::Between),
            (&["", down], Link::Between),
        ] {
            assert_eq!(of(&domain(links)), expected, "{links:?}");
        }
    }

    #[test]
    fn links_that_are_taken_away_and_given_again_leave_nothing() {
        let before = Element::parse(&domain(&["", ""])).unwrap();
        let cut = with_links(before.clone(), false);
        assert_eq!(of(&cut.to_string()), Link::Down);
        assert_eq!(with_links(cut.clone(), false), cut);
        assert_eq!(with_links(cut, true), before);
    }
}
