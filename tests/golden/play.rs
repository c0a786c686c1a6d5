//! Plays case files against an address: to record what a reference answers, or to compare with what it answered.

use crate::mask::Masks;
use crate::scenario::{self, Scenario};
use crate::schema::Api;
use crate::wire::Wire;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

type Apis = BTreeMap<String, Api>;

/// Changes reach the reference's metadata a moment after their answer.
const SETTLE: Duration = Duration::from_millis(300);
const CHANGES: [&str; 7] = [
    "CreateTopics",
    "DeleteTopics",
    "CreatePartitions",
    "InitProducerId",
    "IncrementalAlterConfigs",
    "AlterConfigs",
    "Metadata",
];

#[allow(clippy::disallowed_methods, reason = "a test's own files")]
pub fn load(path: &Path) -> Result<Scenario> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
}

#[allow(clippy::disallowed_methods, reason = "a test's own files")]
pub fn save(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Plays the case and keeps the answers.
pub fn record(apis: &Apis, address: SocketAddr, scenario: &mut Scenario) -> Result<()> {
    let mut wire = Wire::new(address);
    let mut masks = set_up(apis, &mut wire, scenario, SETTLE)?;
    for step in &mut scenario.steps {
        let api = apis.get(&step.api).with_context(|| format!("unknown API {}", step.api))?;
        let mut answers = BTreeMap::new();
        for version in scenario::versions(step)? {
            let answer = scenario::exchange(&mut wire, &mut masks, api, (step, &scenario.unordered), version)
                .with_context(|| format!("{} at version {version}: {}", step.api, step.request))?;
            answers.insert(version, answer);
            if CHANGES.contains(&step.api.as_str()) {
                std::thread::sleep(SETTLE);
            }
        }
        step.answers = scenario::group(api, &answers);
    }
    Ok(())
}

/// Plays the case and tells where the answers differ from the recorded ones.
pub fn compare(apis: &Apis, address: SocketAddr, scenario: &Scenario) -> Result<Vec<String>> {
    let mut wire = Wire::new(address);
    // Headwater must need no pause: what it has answered holds.
    let mut masks = set_up(apis, &mut wire, scenario, Duration::ZERO)?;
    let mut found = Vec::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        let api = apis.get(&step.api).with_context(|| format!("unknown API {}", step.api))?;
        for version in scenario::versions(step)? {
            let place = format!(
                "step {index} ({} {version}{}{})",
                step.api,
                if step.about.is_empty() { "" } else { ": " },
                step.about
            );
            let expected = scenario::expected(api, step, version)?;
            match scenario::exchange(&mut wire, &mut masks, api, (step, &scenario.unordered), version) {
                Ok(answer) => {
                    let lines = scenario::check(step, &answer, &expected);
                    found.extend(lines.into_iter().map(|line| format!("{place} {line}")));
                }
                Err(error) => found.push(format!("{place}: {error:#}")),
            }
        }
    }
    Ok(found)
}

/// Deletes every topic.
pub fn wipe(apis: &Apis, address: SocketAddr) -> Result<()> {
    let mut wire = Wire::new(address);
    let names: Vec<String> = wire.topics(apis)?.into_keys().collect();
    if !names.is_empty() {
        let api = apis.get("DeleteTopics").context("no DeleteTopics")?;
        wire.exchange(api, 3, &json!({ "TopicNames": names, "TimeoutMs": 10000 }))?;
        std::thread::sleep(SETTLE);
    }
    Ok(())
}

/// Creates the case's topics and learns this run's ids.
fn set_up(apis: &Apis, wire: &mut Wire, scenario: &Scenario, settle: Duration) -> Result<Masks> {
    let api = apis.get("Metadata").context("no Metadata")?;
    let answer = wire.exchange(api, 9, &json!({ "Topics": [] }))?;
    let mut masks = Masks::new(answer["Brokers"][0]["NodeId"].as_i64().context("no broker in Metadata")?)
        .in_cluster(answer["ClusterId"].as_str());
    if !scenario.topics.is_empty() {
        let topic = |(name, count)| json!({ "Name": name, "NumPartitions": count, "ReplicationFactor": 1 });
        let topics: Vec<_> = scenario.topics.iter().map(topic).collect();
        let api = apis.get("CreateTopics").context("no CreateTopics")?;
        let answer = wire.exchange(api, 4, &json!({ "Topics": topics }))?;
        if answer["Topics"].as_array().is_none_or(|topics| topics.iter().any(|t| t["ErrorCode"] != 0)) {
            bail!("the case's topics were refused: {answer}");
        }
        for _ in 0..100 {
            let known = wire.topics(apis)?;
            if scenario.topics.keys().all(|name| known.contains_key(name)) {
                masks.learn(known);
                std::thread::sleep(settle);
                return Ok(masks);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the case's topics do not appear in Metadata");
    }
    Ok(masks)
}
