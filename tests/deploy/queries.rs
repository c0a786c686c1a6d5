//! Every query of the alerts and of the dashboard is answered by the metrics of a real server.

use crate::metrics_page::{Page, busy_server, get};
use crate::promql::{self, Query};
use crate::{deploy, yaml};
use anyhow::{Context, Result, ensure};
use kafka_protocol::error::ResponseError;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What Prometheus itself adds to each series of a target.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];
/// Metrics that Prometheus makes about a target.
const OF_PROMETHEUS: [&str; 1] = ["up"];
/// Labels whose values come with what happens, so that a value that is named need not have been seen.
const OPEN_LABELS: [&str; 1] = ["error"];

/// The queries of the alert rules, with their alerts' names.
pub fn alerts() -> Result<Vec<(String, Value)>> {
    let rules = yaml::parse(&deploy("prometheus/alerts.yml")?)?;
    let groups = rules["groups"].as_array().context("no groups")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
    rules.map(|rule| Ok((text(rule, "alert")?, rule.clone()))).collect()
}

/// The queries of the dashboard, with their panels' titles.
pub fn panels() -> Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(&deploy("grafana/dashboards/headwater.json")?)?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((text(panel, "title")?, text(target, "expr")?));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().context("no variables")? {
        if variable["type"] == "query" {
            queries.push((text(variable, "name")?, text(&variable["query"], "query")?));
        }
    }
    Ok(queries)
}

fn text(value: &Value, key: &str) -> Result<String> {
    Ok(value[key].as_str().with_context(|| format!("no {key} in {value}"))?.to_owned())
}

/// What of a query the page does not answer.
fn unanswered(query: &Query, page: &Page) -> Vec<String> {
    let mut missing = Vec::new();
    let mut known: BTreeSet<&str> = TARGET_LABELS.into();
    for (metric, matchers) in &query.selectors {
        // `label_values(metric, label)` names a label as if it were a metric.
        if OF_PROMETHEUS.contains(&metric.as_str()) || TARGET_LABELS.contains(&metric.as_str()) {
            continue;
        }
        let Some(labels) = page.labels(metric) else {
            missing.push(format!("there is no metric {metric}"));
            continue;
        };
        known.extend(labels.keys().map(String::as_str));
        for (label, operator, value) in matchers.iter().filter(|(label, ..)| !TARGET_LABELS.contains(&label.as_str())) {
            match labels.get(label) {
                None => missing.push(format!("{metric} has no label {label}")),
                Some(values)
                    if operator == "=" && !OPEN_LABELS.contains(&label.as_str()) && !values.contains(value) =>
                {
                    missing.push(format!("{metric} has no {label}=\"{value}\", only {values:?}"));
                }
                Some(_) => {}
            }
        }
    }
    for (metric, matchers) in &query.selectors {
        // Which errors there are is the protocol's, whether or not they happened.
        for (_, _, value) in matchers.iter().filter(|(label, ..)| label == "error") {
            let unknown = value.split('|').filter(|name| !errors().any(|error| error == *name));
            missing.extend(unknown.map(|name| format!("{metric}: the protocol has no error {name}")));
        }
    }
    let unknown = query.grouped.iter().filter(|label| !known.contains(label.as_str()));
    missing.extend(unknown.map(|label| format!("no metric of it has the label {label}")));
    missing
}

/// The names of Kafka's errors, as the metrics show them.
fn errors() -> impl Iterator<Item = String> {
    (1..200).filter_map(ResponseError::try_from_code).map(|error| error.to_string())
}

#[test]
fn every_query_is_answered_by_a_server_that_has_seen_traffic() {
    let (setup, server) = busy_server().unwrap();
    let mut queries = panels().unwrap();
    assert!(queries.len() > 50, "the dashboard has lost its panels");
    for (name, rule) in alerts().unwrap() {
        queries.push((name, rule["expr"].as_str().unwrap_or_default().to_owned()));
    }
    let queries: Vec<(String, String, Query)> = queries
        .into_iter()
        .map(|(name, text)| {
            let query = promql::parse(&text).unwrap_or_else(|error| panic!("{name}: {error:#} in {text}"));
            assert!(!query.selectors.is_empty(), "{name}: names no metric: {text}");
            (name, text, query)
        })
        .collect();
    // What happens in the background is counted a moment later.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let page = Page::parse(&get(server.admin, "/metrics").unwrap()).unwrap();
        let missing = queries.iter().flat_map(|(name, text, query)| {
            unanswered(query, &page).into_iter().map(move |what| format!("{name}: {what}\n    in {text}"))
        });
        let missing: Vec<String> = missing.collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{}\nmetrics: {:?}", missing.join("\n"), page.names().collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(50));
    }
    server.terminate().unwrap();
    setup.check_log().unwrap();
}

#[test]
fn what_the_page_has_not_is_found() {
    let page = Page::parse("a_total{b=\"c\"} 1\n").unwrap();
    let wrong = [
        "rate(z_total[5m])",
        "a_total{z=\"c\"}",
        "a_total{b=\"z\"}",
        "sum by (z) (a_total)",
        "a_total{error!~\"MemberIdRequired|NoSuchError\"}",
        "sum by (instance, z) (a_total)",
    ];
    for text in wrong {
        assert!(!unanswered(&promql::parse(text).unwrap(), &page).is_empty(), "{text}");
    }
    for text in ["sum by (b, instance) (rate(a_total{b=\"c\",instance=~\"$instance\"}[5m]))", "up{job=\"x\"} == 0"] {
        assert!(unanswered(&promql::parse(text).unwrap(), &page).is_empty(), "{text}");
    }
}

#[test]
fn every_alert_says_how_urgent_it_is_and_what_to_do() -> Result<()> {
    let alerts = alerts()?;
    let names: BTreeSet<&String> = alerts.iter().map(|(name, _)| name).collect();
    ensure!(names.len() == alerts.len(), "two alerts of one name");
    for (name, rule) in &alerts {
        let severity = text(&rule["labels"], "severity")?;
        ensure!(["critical", "warning", "info"].contains(&severity.as_str()), "{name}: {severity}");
        ensure!(text(&rule["annotations"], "summary")?.len() > 20, "{name} has no summary");
        ensure!(text(&rule["annotations"], "description")?.len() > 100, "{name} does not say what to do");
        // A label that a template shows must be left by the query.
        let query = promql::parse(&text(rule, "expr")?)?;
        let shown = text(&rule["annotations"], "summary")? + &text(&rule["annotations"], "description")?;
        for part in shown.split("$labels.").skip(1) {
            let label: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let is_left = query.grouped.is_empty() || query.grouped.contains(&label);
            ensure!(is_left, "{name} shows {label}, which its query does not leave");
        }
        for key in rule.as_object().context("no rule")?.keys() {
            ensure!(["alert", "expr", "for", "labels", "annotations"].contains(&key.as_str()), "{name}: {key}");
        }
    }
    Ok(())
}

#[test]
fn prometheus_and_grafana_find_their_files() -> Result<()> {
    let prometheus = yaml::parse(&deploy("prometheus/prometheus.yml")?)?;
    ensure!(prometheus["rule_files"][0] == "alerts.yml", "the alerts are not loaded");
    let scrape = &prometheus["scrape_configs"][0];
    ensure!(scrape["job_name"] == "headwater", "the alert on `up` asks for the job headwater");
    ensure!(scrape["metrics_path"] == "/metrics", "another path");
    let sources = yaml::parse(&deploy("grafana/provisioning/datasources/prometheus.yml")?)?;
    ensure!(sources["datasources"][0]["url"] == "http://prometheus:9090", "another Prometheus");
    let provider = yaml::parse(&deploy("grafana/provisioning/dashboards/headwater.yml")?)?;
    let path = text(&provider["providers"][0]["options"], "path")?;
    let compose = yaml::parse(&deploy("compose.yaml")?)?;
    let volumes = compose["services"]["grafana"]["volumes"].as_array().context("no volumes")?;
    let mounted = volumes.iter().any(|volume| volume == &format!("./grafana/dashboards:{path}:ro"));
    ensure!(mounted, "the dashboards are not mounted at {path}");
    Ok(())
}

#[test]
fn panels_do_not_overlap_and_have_ids_of_their_own() -> Result<()> {
    let dashboard: Value = serde_json::from_str(&deploy("grafana/dashboards/headwater.json")?)?;
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let title = text(panel, "title")?;
        ensure!(ids.insert(panel["id"].as_u64().context("no id")?), "{title}: an id twice");
        let at = |key: &str| panel["gridPos"][key].as_u64().with_context(|| format!("{title}: no {key}"));
        let (x, y) = (at("x")?, at("y")?);
        ensure!(x + at("w")? <= 24, "{title} reaches beyond the right edge");
        for column in x..x + at("w")? {
            for row in y..y + at("h")? {
                ensure!(cells.insert((column, row)), "{title} overlaps another panel");
            }
        }
    }
    Ok(())
}
