//! What every plot keeps to: well-formed whatever it is given, its names and units there.

use super::*;

/// What of a plot is text, without marks and attributes.
fn texts(svg: &str) -> Vec<String> {
    let parts = svg.split("<text ").skip(1);
    parts.map(|part| part[part.find('>').unwrap() + 1..part.find("</text>").unwrap()].to_owned()).collect()
}

/// That every element which is opened is closed, and no `<` or `&` stands where XML has none.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        assert!(!tag.contains('<'), "{tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap().to_owned());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?} stay open");
    for (at, _) in svg.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        assert!(known.iter().any(|entity| svg[at..].starts_with(entity)), "{}", &svg[at..at + 8]);
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "a place is no number");
}

fn curve(name: &str, points: &[(f64, f64)]) -> Curve {
    Curve { name: name.into(), points: points.to_vec() }
}

fn bar(group: &str, name: &str, value: f64, least: f64, greatest: f64) -> Bar {
    Bar { group: group.into(), name: name.into(), value, least, greatest }
}

#[test]
fn a_curve_has_its_nines_its_names_and_its_units() {
    let curves = [
        curve("Headwater", &[(0.0, 0.1), (50.0, 0.3), (99.0, 0.9), (99.9, 2.0), (99.99, 9.0), (100.0, 12.0)]),
        curve("Kafka", &[(50.0, 3.0), (99.9, 400.0)]),
    ];
    let svg = percentiles("acks", &curves);
    assert_well_formed(&svg);
    let texts = texts(&svg);
    for wanted in
        ["acks", "Headwater", "Kafka", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "latency, ms (logarithmic)"]
    {
        assert!(texts.iter().any(|text| text == wanted), "{wanted} in {texts:?}");
    }
    assert!(!texts.iter().any(|text| text == "99.999 %"), "the axis ends where the data does");
}

#[test]
fn equal_nines_have_equal_room() {
    let svg = percentiles("", &[curve("a", &[(90.0, 1.0), (99.0, 1.0), (99.9, 1.0)])]);
    let line = svg.lines().rfind(|line| line.contains("class=\"line")).unwrap();
    let path = &line[line.find(" d=\"M").unwrap() + 5..];
    let x: Vec<f64> = path.split('L').map(|point| point.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(((x[1] - x[0]) - (x[2] - x[1])).abs() < 0.3, "{x:?}");
}

#[test]
fn a_series_starts_at_zero_and_ends_where_it_ends() {
    let points = (0..600).map(|second| (f64::from(second), 200.0 + f64::from(second % 7))).collect();
    let svg = over_time("throughput", "MB/s", &[Series { name: "Headwater".into(), points }]);
    assert_well_formed(&svg);
    let texts = texts(&svg);
    for wanted in ["MB/s", "seconds since the start", "0", "60", "540", "250"] {
        assert!(texts.iter().any(|text| text == wanted), "{wanted} in {texts:?}");
    }
}

#[test]
fn bars_stand_in_groups_with_their_values() {
    let all = [
        bar("64 KiB batches", "Kafka", 2.31, 2.2, 2.5),
        bar("64 KiB batches", "Headwater", 0.42, 0.4, 0.47),
        bar("lz4", "Kafka", 3.4, 3.4, 3.4),
    ];
    let svg = bars("server CPU", "CPU s/GB", &all);
    assert_well_formed(&svg);
    let texts = texts(&svg);
    for wanted in ["Kafka", "Headwater", "64 KiB batches", "lz4", "2.31", "0.42", "3.40", "CPU s/GB"] {
        assert!(texts.iter().any(|text| text == wanted), "{wanted} in {texts:?}");
    }
    assert_eq!(svg.matches("class=\"whisker\"").count(), 2, "a bar of one value has no range");
    assert!(svg.contains("<title>64 KiB batches, Headwater: 0.420 CPU s/GB (0.400 to 0.470)</title>"));
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let nothing = [f64::NAN, f64::INFINITY];
    let unusable: Vec<(f64, f64)> = nothing.map(|value| (50.0, value)).to_vec();
    let series = Series { name: "b".into(), points: vec![(f64::NAN, 1.0)] };
    for svg in [
        percentiles("a", &[]),
        percentiles("a", &[curve("b", &[])]),
        percentiles("a", &[curve("b", &unusable), curve("c", &[(101.0, 1.0), (-1.0, 1.0)])]),
        over_time("a", "MB/s", &[]),
        over_time("a", "MB/s", &[series]),
        bars("a", "s", &[]),
        bars("a", "s", &[bar("b", "c", f64::NAN, 0.0, 0.0)]),
    ] {
        assert_well_formed(&svg);
        assert!(texts(&svg).iter().any(|text| text == "no data"), "{svg}");
    }
}

#[test]
fn any_text_and_any_number_is_a_sound_file() {
    let rude = "<script>&\"'\u{0}\u{7}\n</title></svg> \u{fffe} ünï";
    let values = [0.0, -0.0, 1e-300, 1e-9, 1.0, 1e300, f64::MAX, f64::MIN_POSITIVE, f64::NAN, f64::NEG_INFINITY, -5.0];
    for value in values {
        let points = vec![(0.0, value), (50.0, 1.0), (value, value)];
        assert_well_formed(&percentiles(rude, &[curve(rude, &points)]));
        assert_well_formed(&over_time(rude, rude, &[Series { name: rude.into(), points }]));
        assert_well_formed(&bars(rude, rude, &[bar(rude, rude, value, value, 1.0), bar(rude, "", 1.0, value, value)]));
    }
    let svg = bars(rude, rude, &[bar(rude, rude, 1.0, 1.0, 1.0)]);
    assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;"));
}

#[test]
fn one_point_is_seen() {
    let svg = over_time("one", "MB/s", &[Series { name: "a".into(), points: vec![(3.0, 7.0)] }]);
    assert!(svg.contains("<circle"));
}
