//! The plots of a comparison: CPU and rate as bars, and the latencies of each case.

use super::case::Kind;
use super::report::{Comparison, Rounds};
use crate::plot::{Bar, Curve, bars, percentiles};
use crate::report::plots::Plot;

/// What a gigabyte costs and how fast it goes, those cases apart that wait for a schedule: their figures are of another order. Then the
/// latencies of each case, in its last round.
#[must_use]
pub fn plots(compared: &Comparison) -> Vec<Plot> {
    let (waiting, going): (Vec<&Rounds>, Vec<&Rounds>) =
        compared.cases.iter().partition(|rounds| matches!(rounds.case.kind, Kind::EndToEnd(_)));
    let mut plots = Vec::new();
    if !going.is_empty() {
        plots.extend(drawn(compared, &going, "cpu", "Server CPU for a gigabyte", "server CPU s/GB"));
        plots.extend(drawn(compared, &going, "rate", "Rate", "MB/s"));
    }
    if !waiting.is_empty() {
        plots.extend(drawn(compared, &waiting, "e2e-cpu", "Server CPU for a gigabyte, end to end", "server CPU s/GB"));
        plots.extend(drawn(compared, &waiting, "e2e-rate", "Rate, end to end", "records/s"));
        plots.extend(drawn(compared, &waiting, "e2e-p99", "99th percentile of latency, end to end", "p99 ms"));
    }
    for rounds in &compared.cases {
        let curves: Vec<Curve> = compared
            .contenders
            .iter()
            .zip(&rounds.last)
            .filter_map(|(contender, last)| {
                let flow = rounds.case.flow(last.as_ref()?).ok()?;
                // Real clients tell no latencies.
                (flow.latencies > 0).then_some(())?;
                Some(Curve { name: contender.name.clone(), points: flow.curve.clone() })
            })
            .collect();
        if !curves.is_empty() {
            let title = format!("{}: latency in the last round", rounds.case.name);
            plots.push(Plot::new(&format!("{}-latency", rounds.case.name), title, |title| percentiles(title, &curves)));
        }
    }
    plots
}

/// One figure of some cases; nothing when no server has it.
fn drawn(compared: &Comparison, cases: &[&Rounds], name: &str, title: &str, figure: &str) -> Option<Plot> {
    let mut all = Vec::new();
    for rounds in cases {
        for (contender, summary) in compared.contenders.iter().zip(&rounds.summary) {
            if let Some((_, spread)) = summary.iter().find(|(of, _)| *of == figure) {
                all.push(Bar {
                    group: rounds.case.name.into(),
                    name: contender.name.clone(),
                    value: spread.median,
                    least: spread.min,
                    greatest: spread.max,
                });
            }
        }
    }
    (!all.is_empty()).then(|| Plot::new(name, title.into(), |title| bars(title, figure, &all)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::case::{Case, Size};
    use crate::compare::run::{Plan, run};
    use crate::compare::server::{Kind, Site};
    use crate::compare::sink::tests::started;
    use std::{env, process};

    #[test]
    fn comparison_has_bars_and_the_latencies_of_each_case() {
        let (address, pid) = (started(), Some(process::id()));
        let server = |name: &str| Kind::Running { name: name.into(), address, pid };
        let plan = Plan {
            servers: vec![server("one"), server("other")],
            cases: ["produce-64k", "produce-lz4"].map(|name| Case::named(name).unwrap()).to_vec(),
            rounds: 2,
            size: Size {
                round_bytes: 2_000_000,
                passes: 1,
                cold_fetch: false,
                seconds: 1.0,
                producers: 1,
                in_flight: 1,
                consumers: 1,
                settle_ms: 0,
                deletes: false,
            },
            warm_bytes: 0,
            generator_cpu: None,
            site: Site {
                dir: env::temp_dir(),
                server_cpu: None,
                headwater: "headwater".into(),
                kafka_config: Vec::new(),
                kafka_topic_config: Vec::new(),
                headwater_options: Vec::new(),
            },
        };
        let plots = plots(&run(plan).unwrap());
        let names: Vec<&str> = plots.iter().map(|plot| plot.name.as_str()).collect();
        assert_eq!(names, ["cpu", "rate", "produce-64k-latency", "produce-lz4-latency"]);
        for plot in &plots {
            assert!(plot.svg.contains(">one<") && plot.svg.contains(">other<"), "{}", plot.svg);
        }
    }
}
