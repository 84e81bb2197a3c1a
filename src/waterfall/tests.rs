use super::*;
use crate::boot_server::recorder::event::{Event, Happening, NodeIdentity, StageReached};
use crate::boot_server::recorder::timeline::Timeline;
use crate::svg::tests::{elements, texts};

/// Nodes that reached these stages so many milliseconds after an hour that is the same for all, by `power-on 0 script 2800`.
fn nodes(boots: &[&str]) -> Vec<NodeTimeline> {
    let identity = |index: u32| NodeIdentity {
        index,
        name: format!("demo-{index}"),
        mac: "52:54:00:12:34:01".parse().unwrap(),
        ip: None,
    };
    let count = u32::try_from(boots.len()).unwrap();
    let mut timeline = Timeline::new(&(1..=count).map(identity).collect::<Vec<_>>());
    for (node, boot) in (1..).zip(boots) {
        let words: Vec<&str> = boot.split_whitespace().collect();
        for pair in words.chunks(2) {
            let stage = Stage::ALL.into_iter().find(|stage| stage.name() == pair[0]).unwrap();
            let what = Happening::Stage(StageReached::unasked(node, stage));
            let at_ms = START_MS + pair[1].parse::<u64>().unwrap();
            timeline.apply(&Event { id: 1, at_ms, what });
        }
    }
    timeline.nodes
}

/// The same with domains in the states of `running off paused`, looked at so many milliseconds after the hour.
fn waterfall(boots: &[&str], domains: &str, now_ms: u64) -> Waterfall {
    let state = |word: &str| match word {
        "running" => DomainState::Running,
        "paused" => DomainState::Paused,
        _ => DomainState::Off,
    };
    let domains = (1..).zip(domains.split_whitespace().map(state)).collect();
    Waterfall::new("demo", &nodes(boots), &domains, START_MS + now_ms)
}

/// One of each kind: ready, the same a little later, one that waits, one that is off, one of which nothing is known.
fn mixed() -> Waterfall {
    let boots = [
        "power-on 0 script 2800 kernel 3800 initrd 5300 config 13100 ready 18600",
        "power-on 400 script 3300 kernel 4600 initrd 5800 rootfs 9000 config 14400 ready 19400",
        "power-on 800 script 3600 kernel 4900 initrd 6500",
        "power-on 0 script 2900 kernel 3000",
        "",
    ];
    waterfall(&boots, "running running running off running", 15_000)
}

/// Two labs, of which the second is faster.
fn compared() -> Waterfall {
    let boots = ["power-on 0 script 20100 kernel 21200 initrd 22900 config 30000 ready 38400"];
    let stock = waterfall(&boots, "running", 40_000);
    let boots = ["power-on 0 script 1100 kernel 2000 initrd 3500 config 10700 ready 19200"];
    let mut beside = Waterfall { lab: "fast".to_owned(), ..waterfall(&boots, "running", 40_000) };
    beside.bars[0].name = "fast-1".to_owned();
    Waterfall { lab: "stock".to_owned(), beside: vec![beside], ..stock }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn bars_are_stages_one_after_the_other_and_the_slowest_is_in_brackets() {
    insta::assert_snapshot!("mixed", plain(&mixed().to_text(80, Letters::Unicode)));
    insta::assert_snapshot!("mixed-ascii", plain(&mixed().to_text(80, Letters::Ascii)));
    insta::assert_snapshot!("mixed-narrow", plain(&mixed().to_text(44, Letters::Unicode)));
    insta::assert_snapshot!("mixed-colours", mixed().to_text(60, Letters::Unicode).escape_debug());
}

#[test]
fn labs_are_one_below_the_other_in_the_same_seconds() {
    insta::assert_snapshot!(plain(&compared().to_text(80, Letters::Unicode)), @"
    NODE    SECONDS FROM POWER-ON                          STATE        SLOWEST
    demo-1  [░░░░░░░░░░░░░░░░░░░░░░]▒▓▓████████▄▄▄▄▄▄▄▄▄▄  ready 38.4s  script 20.1s
    fast-1  ░▒▓▓█████████[▄▄▄▄▄▄▄▄]                        ready 19.2s  ready 8.5s
            ┬─────┬─────┬─────┬────┬─────┬─────┬─────┬───
            0     5     10    15   20    25    30    35
    ░ script  ▒ kernel  ▓ initrd  █ config  ▄ ready  [ ] slowest
    ");
    assert_eq!(compared().summary(), "stock: 1 ready after 38.4s; fast: 1 ready after 19.2s");
    let svg = compared().to_svg().unwrap();
    for expected in [">Last boots of stock and fast<", ">ready 38.4s<", ">ready 19.2s<"] {
        assert!(svg.contains(expected), "{expected} in {svg}");
    }
    assert_eq!(svg.matches("class=\"config\" x=").count(), 3, "two bars and the legend: {svg}");
}

#[test]
fn the_summary_counts_the_nodes_and_names_the_slowest_stage() {
    let expected = "2 ready after 18.6s to 19.0s, 2 booting, 1 off; slowest: config, 5.4s to 7.8s";
    assert_eq!(mixed().summary(), expected);
    let one = waterfall(&["script 0 config 900"], "paused", 0);
    assert_eq!(one.summary(), "1 paused; slowest: config, 0.9s");
    assert_eq!(waterfall(&[""], "", 0).summary(), "1 missing");
}

#[test]
fn a_node_that_is_stuck_for_hours_leaves_the_axis_and_the_others_stay_visible() {
    let boots = ["power-on 0 script 2800 config 13100 ready 18600", "power-on 0 script 2800"];
    let stuck = waterfall(&boots, "running running", 3_600_000 * 17);
    insta::assert_snapshot!("stuck", plain(&stuck.to_text(80, Letters::Unicode)));
}

#[test]
fn a_boot_ends_when_the_node_is_ready_and_begins_with_what_was_seen_first() {
    let node = &waterfall(&["script 100 ready 900 config 5000"], "running", 9000).bars[0];
    let ready = Span { stage: Stage::Ready, from_ms: 0, to_ms: 800 };
    assert_eq!((node.started_at_ms, node.open_ms), (Some(START_MS + 100), None));
    assert_eq!(node.spans, [ready]);
    // A clock that was put back.
    let node = &waterfall(&["power-on 5000 script 6000"], "running", 0).bars[0];
    assert_eq!(node.open_ms, Some(1000));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in 0..140 {
        for letters in [Letters::Unicode, Letters::Ascii] {
            for line in plain(&mixed().to_text(width, letters)).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn times_are_short_to_read() {
    let minute = 60_000;
    let times = [400, 99_000, 187_000, 999 * minute, 1023 * minute, 7200 * minute];
    assert_eq!(times.map(short), ["0.4s", "99.0s", "3m07s", "999m00s", "17h03m", "5d"]);
}

#[test]
fn seconds_are_round_and_have_room() {
    for (ready_ms, expected) in [
        (450, "0 0.1 0.2 0.3 0.4"),
        (19_000, "0 2 4 6 8 10 12 14 16 18"),
        (64_000, "0 5 10 15 20 25 30 35 40 45 50 55 60"),
        (3_700_000, "0 500 1000 1500 2000 2500 3000 3500"),
        (0, "0"),
    ] {
        let boot = format!("power-on 0 ready {ready_ms}");
        let axis = axis::Axis::new(&waterfall(&[&boot], "running", 0), 600.0);
        let ticks = axis.ticks(|label| f64::from(u8::try_from(label.len()).unwrap()) * 8.5 + 24.0);
        let labels: Vec<&str> = ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels.join(" "), expected);
    }
}

#[test]
fn the_picture_of_one_of_each_kind() {
    insta::assert_snapshot!("mixed-svg", mixed().to_svg().unwrap());
    assert_eq!(mixed().to_svg().unwrap(), mixed().to_svg().unwrap());
}

#[test]
fn everything_is_inside_the_picture_and_no_texts_overlap() {
    let slow = "power-on 0 script 2800 kernel 59000000 initrd 59900000 rootfs 59980000";
    let fast = "power-on 0 script 1 kernel 2 initrd 3 rootfs 4 config 5 ready 6";
    let stuck = "power-on 0 script 500";
    for count in [0, 1, 3, 8, 9, 20, 100] {
        for boots in [[slow, fast, stuck], ["", stuck, ""], [fast, fast, fast]] {
            let boots: Vec<&str> = boots.into_iter().cycle().take(count).collect();
            let domains = "running ".repeat(count);
            let mut waterfall = waterfall(&boots, &domains, 59_990_000);
            if let Some(bar) = waterfall.bars.first_mut() {
                bar.name = format!("{}-100", "n".repeat(40));
            }
            let svg = waterfall.to_svg().unwrap();
            let elements = elements(&svg);
            let height = elements.iter().find(|it| it.name == "svg").unwrap();
            let height = height.number("height").unwrap();
            let mut boxes: Vec<(&str, [f64; 4])> = Vec::new();
            for text in texts(&elements) {
                let [left, top, right, bottom] = text.text_box();
                let is_inside = left >= 0.0 && top >= 0.0 && right <= 960.0 && bottom <= height;
                assert!(is_inside, "{text:?}");
                for (other, [l, t, r, b]) in &boxes {
                    let overlaps = left < *r && *l < right && top < *b && *t < bottom;
                    assert!(!overlaps, "`{}` overlaps `{other}` in\n{svg}", text.text);
                }
                boxes.push((&text.text, [left, top, right, bottom]));
            }
            for bar in elements.iter().filter(|it| it.name == "rect") {
                let (x, width) = (bar.number("x").unwrap_or(0.0), bar.number("width").unwrap());
                assert!(x >= 0.0 && width >= 0.0 && x + width <= 960.0, "{bar:?}");
            }
        }
    }
}

#[test]
fn the_bars_are_where_the_times_are() {
    let all = elements(&waterfall(&[BOOT], "running", 0).to_svg().unwrap());
    let of = |class: &str| {
        let is = |it: &&crate::svg::tests::Element| {
            it.name == "rect" && it.attribute("class") == Some(class)
        };
        let rect = all.iter().find(is).unwrap();
        (rect.number("x").unwrap(), rect.number("width").unwrap())
    };
    // From 100 to 690 are 20 s.
    assert_eq!(of("script"), (100.0, 59.0));
    assert_eq!(of("config"), (159.0, 383.5));
    assert_eq!(of("slowest"), (159.0, 383.5));
    assert_eq!(of("ready"), (542.5, 147.5));
}

#[test]
fn a_name_cannot_break_out() {
    let mut waterfall = mixed();
    waterfall.lab = "<script>&\"'\u{1b}".to_owned();
    waterfall.bars[0].name = "<script>\u{1b}[2J".to_owned();
    let svg = waterfall.to_svg().unwrap();
    assert!(
        svg.contains("<title id=\"title\">Last boot of &lt;script&gt;&amp;&quot;&apos;</title>")
    );
    assert!(elements(&svg).iter().all(|element| element.name != "script"));
    assert!(!plain(&waterfall.to_text(80, Letters::Unicode)).contains('\u{1b}'));
}

/// 2 s, 13 s and 5 s.
const BOOT: &str = "power-on 0 script 2000 config 15000 ready 20000";
const START_MS: u64 = 1_764_000_000_000;
