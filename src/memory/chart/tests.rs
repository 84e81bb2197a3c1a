use super::*;
use crate::svg::tests::{elements, texts};

fn article() -> Curve {
    Curve::from_csv(include_str!("../../../tests/fixtures/article-memory.csv")).unwrap()
}

/// Nodes of `each` bytes of which a third is the node's own.
fn curve(nodes: u32, each: u64) -> Curve {
    Curve::new((1..=nodes).map(|nodes| Sample {
        nodes,
        without_ksm_bytes: each * u64::from(nodes),
        with_ksm_bytes: each + each / 3 * u64::from(nodes - 1),
        ..Sample::default()
    }))
}

#[test]
fn the_articles_chart_comes_out_of_its_numbers() {
    let svg = Chart::of(&article())
        .titled("Memory Usage of QEMU VMs With and Without KSM")
        .to_svg()
        .unwrap();
    insta::assert_snapshot!("article", svg);
}

#[test]
fn everything_is_inside_and_no_texts_overlap_whatever_the_numbers() {
    let mut curves: Vec<Curve> = Vec::new();
    for nodes in [1, 2, 3, 7, 8, 20, 33, 64, 100] {
        for power in 0..=20 {
            curves.push(curve(nodes, 1 << (20 + power)));
            curves.push(curve(nodes, (1 << (20 + power)) - 7777));
        }
    }
    // Nothing saved, all saved, nothing at all, and a curve that bends.
    let sample = |nodes, without_ksm_bytes, with_ksm_bytes| Sample {
        nodes,
        without_ksm_bytes,
        with_ksm_bytes,
        ..Sample::default()
    };
    curves.push(Curve::new([sample(1, 1 << 30, 1 << 30), sample(9, 9 << 30, 9 << 30)]));
    curves.push(Curve::new([sample(1, 1 << 30, 0), sample(9, 9 << 30, 0)]));
    curves.push(Curve::new([sample(1, 0, 0)]));
    curves.push(Curve::new([sample(1, 5 << 20, 1), sample(2, 9 << 20, 8 << 20), sample(5, 7, 6)]));
    for curve in &curves {
        let long = "A title that is so long that no chart in the world has the room to show it all";
        let svg = Chart::of(curve).titled(long).to_svg().unwrap();
        let elements = elements(&svg);
        let mut boxes: Vec<(&str, [f64; 4])> = Vec::new();
        for text in texts(&elements) {
            let [left, top, right, bottom] = text.text_box();
            let is_inside = left >= 0.0 && top >= 0.0 && right <= 960.0 && bottom <= 560.0;
            assert!(is_inside, "{text:?}");
            for (other, [l, t, r, b]) in &boxes {
                let overlaps = left < *r && *l < right && top < *b && *t < bottom;
                assert!(!overlaps, "`{}` overlaps `{other}` in\n{svg}", text.text);
            }
            boxes.push((&text.text, [left, top, right, bottom]));
        }
        for element in &elements {
            let (xs, ys) = (["x1", "x2", "cx", "x"], ["y1", "y2", "cy", "y"]);
            for x in xs.iter().filter_map(|name| element.number(name)) {
                assert!((0.0..=960.0).contains(&x), "{element:?}");
            }
            for y in ys.iter().filter_map(|name| element.number(name)) {
                assert!((0.0..=560.0).contains(&y), "{element:?}");
            }
            for point in element.attribute("points").unwrap_or("").split_whitespace() {
                let (x, y) = point.split_once(',').unwrap();
                assert!((96.0..=800.0).contains(&x.parse::<f64>().unwrap()), "{point}");
                assert!((90.0..=462.0).contains(&y.parse::<f64>().unwrap()), "{point}");
            }
        }
    }
}

#[test]
fn the_curves_are_where_the_numbers_are() {
    let all = elements(&Chart::of(&article()).to_svg().unwrap());
    let lines: Vec<&str> = all
        .iter()
        .filter_map(|element| match element.name.as_str() {
            "polyline" => element.attribute("points"),
            _ => None,
        })
        .collect();
    // 8 GiB are 372 high: 384 MiB are 17.4 above the bottom at 462, 7680 MiB 348.8, 3519 MiB 159.8.
    assert!(lines[0].starts_with("114,444.6 ") && lines[0].ends_with(" 782,113.2"), "{}", lines[0]);
    assert!(lines[1].starts_with("114,444.6 ") && lines[1].ends_with(" 782,302.2"), "{}", lines[1]);
    assert_eq!(lines[0].split(' ').count(), 20);
    assert_eq!(all.iter().filter(|element| element.name == "circle").count(), 2 * 20 + 2);
}

#[test]
fn the_same_numbers_give_the_same_bytes() {
    let again = Curve::from_csv(&article().to_csv()).unwrap();
    assert_eq!(Chart::of(&article()).to_svg().unwrap(), Chart::of(&again).to_svg().unwrap());
}

#[test]
fn a_title_cannot_break_out() {
    let title = "<script>&\"'\u{1b}";
    let svg = Chart::of(&article()).titled(title).to_svg().unwrap();
    assert!(svg.contains("<title id=\"title\">&lt;script&gt;&amp;&quot;&apos;</title>"), "{svg}");
    assert!(elements(&svg).iter().all(|element| element.name != "script"));
}

#[test]
fn without_samples_there_is_no_chart() {
    let error = Chart::of(&Curve::default()).to_svg().unwrap_err();
    assert_eq!(error.to_string(), "drawing a chart: there are no samples");
}
