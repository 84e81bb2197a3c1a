use super::super::history::{Sighting, Span};
use super::super::judge::{Breakage, judge};
use super::*;
use crate::cluster::etcd::ledger::Leader;
use crate::svg::tests::{elements, texts};

/// Ten seconds in which one write of 100 ms each is sent; those from 2 s to 5 s do not come back.
fn history() -> History {
    let mut history = History { end_ms: 10_000, ..History::default() };
    history.nodes = vec!["demo-1".to_owned()];
    history.members = [("1a", "demo-1"), ("1b", "demo-2")]
        .map(|(id, name)| (id.to_owned(), name.to_owned()))
        .into();
    for start_ms in (0..8000).step_by(100) {
        let is_lost = (2000..5000).contains(&start_ms);
        let revision = start_ms / 100 + 2;
        let acknowledged = Outcome::Acknowledged { revision };
        let node = "demo-1".to_owned();
        let write = Operation {
            kind: Kind::Write,
            node: node.clone(),
            start_ms,
            end_ms: start_ms + if is_lost { 2000 } else { 20 },
            number: Some(revision),
            outcome: if is_lost { Outcome::Unknown } else { acknowledged },
        };
        let (start_ms, end_ms) = (start_ms + 50, start_ms + 60);
        let kind = Kind::Read;
        let read = Operation { kind, node, start_ms, end_ms, number: None, outcome: acknowledged };
        history.operations.extend([write, read]);
    }
    for (at_ms, member, term) in [(0, "1a", 2), (4900, "1b", 3), (5300, "1a", 4)] {
        let leader = Some(Leader { member: member.to_owned(), term });
        history.sightings.push(Sighting { at_ms, node: "demo-1".to_owned(), leader });
    }
    history
}

fn drawn() -> String {
    let history = history();
    draw(&history, vec![broken("cut demo-1", 2000, None)])
}

fn broken(what: &str, from_ms: u64, until_ms: Option<u64>) -> Breakage {
    let made = Span { from_ms, to_ms: from_ms + 100 };
    Breakage { what: what.to_owned(), made, until_ms }
}

fn draw(history: &History, faults: Vec<Breakage>) -> String {
    let moments = Moments { faults, heal: Some(Span { from_ms: 6000, to_ms: 6100 }) };
    let verdict = judge(history, &moments, 5000);
    to_svg("cut demo-1", history, &moments, &verdict).unwrap()
}

#[test]
fn each_write_is_a_dot_or_a_cross_and_all_that_happened_has_a_name() {
    let svg = drawn();
    assert_eq!(drawn(), svg);
    let all = elements(&svg);
    let count = |name: &str, class: &str| {
        let is_one = |it: &&crate::svg::tests::Element| {
            it.name == name && it.attribute("class") == Some(class)
        };
        all.iter().filter(is_one).count()
    };
    // One of each is in the legend.
    assert_eq!((count("circle", "done"), count("path", "undone")), (50 + 1, 30 + 1));
    assert_eq!(count("rect", "done"), 10);
    let texts = texts(&all);
    for text in ["cut demo-1", "broken", "demo-2 leads", "demo-1 leads", "healthy again"] {
        assert!(texts.iter().any(|it| it.text == text), "{text}");
    }
    let seconds = ["-2", "-1", "0", "1", "2", "3", "4", "5", "6", "7", "8"];
    assert!(seconds.iter().all(|second| texts.iter().any(|it| it.text == *second)));
}

#[test]
fn each_of_several_faults_has_a_band_with_its_name() {
    let faults = vec![
        broken("cut demo-1", 2000, Some(3000)),
        broken("pause demo-2", 2200, Some(5000)),
        broken("kill demo-3", 4000, None),
    ];
    let svg = draw(&history(), faults);
    let all = elements(&svg);
    let width = |from: f64, to: f64| px(f64::from(RIGHT - LEFT) * (to - from) / 10.0);
    let bands = all.iter().filter(|it| it.attribute("class") == Some("band"));
    let widths: Vec<_> = bands.map(|it| it.attribute("width").unwrap().to_owned()).collect();
    assert_eq!(widths, [width(2.0, 3.0), width(2.2, 5.0), width(4.0, 6.1)]);
    let texts = texts(&all);
    for text in ["cut demo-1", "pause demo-2", "kill demo-3"] {
        assert!(texts.iter().any(|it| it.text == text), "{text}");
    }
    assert_apart(&svg);
}

#[test]
fn no_text_covers_another_or_leaves_the_paper() {
    assert_apart(&drawn());
}

#[track_caller]
fn assert_apart(svg: &str) {
    let all = elements(svg);
    let boxes: Vec<_> = texts(&all).iter().map(|it| (it.text.clone(), it.text_box())).collect();
    for (index, (text, [left, top, right, bottom])) in boxes.iter().enumerate() {
        assert!(*left >= 0.0 && *right <= f64::from(WIDTH), "{text}: {left} {right}");
        for (other, [l, t, r, b]) in &boxes[index + 1..] {
            let is_apart = right <= l || r <= left || bottom <= t || b <= top;
            assert!(is_apart, "`{text}` and `{other}`");
        }
    }
}
