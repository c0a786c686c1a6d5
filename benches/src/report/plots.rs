//! The plots of a result: which are drawn of it, and what their files are called.

use crate::load::meter::{Flow, Second};
use crate::load::phase::Phase;
use crate::plot::{Curve, Series, over_time, percentiles};

/// A plot beside a result.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The end of its file's name, after date and name of the result.
    pub name: String,
    /// What it shows, in words.
    pub title: String,
    /// The file.
    pub svg: String,
}

impl Plot {
    /// A plot; `draw` is given its title.
    pub fn new(name: &str, title: String, draw: impl FnOnce(&str) -> String) -> Self {
        let svg = draw(&title);
        Self { name: name.into(), title, svg }
    }
}

/// Letters, digits, `-` and `_` as they are; everything else, which might mean something to a file system, becomes `-`.
#[must_use]
pub fn file_name(name: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    name.chars().map(|letter| if safe(letter) { letter } else { '-' }).collect()
}

/// Latency by percentile, and the rate while each phase lasted.
pub fn of_phases(scenario: &str, phases: &[Phase]) -> [Plot; 2] {
    let flows = || phases.iter().flat_map(|phase| phase.flows.iter().map(move |flow| (title(phase, flow), flow)));
    let curves: Vec<Curve> = flows().map(|(name, flow)| Curve { name, points: flow.curve.clone() }).collect();
    let series: Vec<Series> = flows().map(|(name, flow)| Series { name, points: rates(&flow.over_time) }).collect();
    [
        Plot::new("latency", format!("{scenario}: latency"), |title| percentiles(title, &curves)),
        Plot::new("over-time", format!("{scenario}: rate over time"), |title| over_time(title, "MB/s", &series)),
    ]
}

fn title(phase: &Phase, flow: &Flow) -> String {
    if phase.flows.len() == 1 { phase.name.clone() } else { format!("{}: {}", phase.name, flow.name) }
}

/// MB/s by second. The last piece of a second says nothing when it is short: a single answer in it looks like a high rate.
fn rates(seconds: &[Second]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = seconds.iter().map(|second| (second.at_s, second.mb_per_s)).collect();
    if let [.., (before, _), (last, _)] = points[..]
        && last - before < 0.5
    {
        points.pop();
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sink::tests::started;
    use crate::load::phase::Watch;
    use crate::load::producer::Plan;
    use crate::report::{About, Report};
    use crate::scenario;
    use std::{env, fs, process};

    #[test]
    fn result_is_written_with_its_plots_under_a_safe_name() {
        let plan = Plan { total_bytes: 2_000_000, ..Plan::new(started(), "drawn") };
        let phase = scenario::produce("produce", &plan, &Watch::default()).unwrap();
        let out = env::temp_dir().join(format!("headwater-plots-test-{}", process::id()));
        let report = Report {
            scenario: "produce".into(),
            about: About::here(".".as_ref()),
            durability: "none".into(),
            settings: serde_json::Value::Null,
            phases: vec![phase],
            verdict: None,
        };
        let base = report.write(&out, "../a b/1.5").unwrap();
        let name = format!("{}----a-b-1-5", report.about.date);
        assert_eq!(base, out.join(&name));
        let markdown = fs::read_to_string(out.join(format!("{name}.md"))).unwrap();
        let mut files: Vec<String> =
            fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, ["-latency.svg", "-over-time.svg", ".json", ".md"].map(|end| format!("{name}{end}")));
        for file in &files[..2] {
            assert!(markdown.contains(&format!("]({file})")), "{markdown}");
            let svg = fs::read_to_string(out.join(file)).unwrap();
            assert!(svg.contains(" d=\"M") || svg.contains("<circle"), "something is drawn in {file}: {svg}");
        }
        fs::remove_dir_all(&out).unwrap();
    }

    #[test]
    fn short_last_piece_of_a_second_is_not_drawn() {
        let seconds = |at: &[f64]| -> Vec<Second> {
            at.iter()
                .map(|&at_s| Second { at_s, mb_per_s: 1.0, records_per_s: 1.0, latency: Default::default() })
                .collect()
        };
        assert_eq!(rates(&seconds(&[1.0, 2.0, 2.1])).len(), 2);
        assert_eq!(rates(&seconds(&[1.0, 2.0, 2.9])).len(), 3);
        assert_eq!(rates(&seconds(&[0.1])).len(), 1);
    }
}
