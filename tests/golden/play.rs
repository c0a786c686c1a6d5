//! Plays case files against an address: to record what a reference answers, or to compare with what it answered.

use crate::mask::Masks;
use crate::player::{Apis, Played, Player};
use crate::scenario::{self, Scenario, Step};
use crate::wire::{CLOSED, Wire};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Changes reach the reference's metadata a moment after their answer.
pub const SETTLE: Duration = Duration::from_millis(300);
pub const CHANGES: [&str; 7] = [
    "CreateTopics",
    "DeleteTopics",
    "CreatePartitions",
    "InitProducerId",
    "IncrementalAlterConfigs",
    "AlterConfigs",
    "Metadata",
];

/// What needs a coordinator.
pub const GROUPS: [&str; 11] = [
    "FindCoordinator",
    "JoinGroup",
    "SyncGroup",
    "Heartbeat",
    "LeaveGroup",
    "DescribeGroups",
    "ListGroups",
    "DeleteGroups",
    "OffsetCommit",
    "OffsetFetch",
    "OffsetDelete",
];

/// Topics that a server makes for itself and keeps from case to case.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

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
    let mut recorded = Vec::new();
    {
        let masks = set_up(apis, address, scenario, SETTLE)?;
        let mut player = Player::new(apis, address, scenario, masks);
        for step in &scenario.steps {
            let mut answers = BTreeMap::new();
            player.step(step, |version, played| {
                answers.extend(played?.answer.map(|answer| (version, answer)));
                if CHANGES.contains(&step.api.as_str()) {
                    std::thread::sleep(SETTLE);
                }
                Ok(())
            })?;
            recorded.push(scenario::group(&apis[&step.api], &answers));
        }
    }
    for (step, answers) in scenario.steps.iter_mut().zip(recorded) {
        step.answers = answers;
    }
    Ok(())
}

/// Plays the case and tells where the answers differ from the recorded ones, with a pause behind changes: `SETTLE` for the
/// reference, none for Headwater, because what it has answered holds.
pub fn compare(apis: &Apis, address: SocketAddr, scenario: &Scenario, settle: Duration) -> Result<Vec<String>> {
    let masks = set_up(apis, address, scenario, settle)?;
    let mut player = Player::new(apis, address, scenario, masks);
    let mut found = Vec::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        player.step(step, |version, played| {
            let place = place(index, step, version);
            match played {
                Ok(Played { answer: Some(answer), .. }) => {
                    let expected = scenario::expected(&apis[&step.api], step, version)?;
                    let lines = scenario::check(step, &answer, &expected);
                    found.extend(lines.into_iter().map(|line| format!("{place} {line}")));
                }
                Ok(_) => {}
                Err(error) => found.push(format!("{place}: {error:#}")),
            }
            if CHANGES.contains(&step.api.as_str()) {
                std::thread::sleep(settle);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

pub fn place(index: usize, step: &Step, version: i16) -> String {
    let colon = if step.about.is_empty() { "" } else { ": " };
    format!("step {index} ({} {version}{colon}{})", step.api, step.about)
}

/// Deletes every group and every topic that a case may have left behind.
pub fn wipe(apis: &Apis, address: SocketAddr) -> Result<()> {
    let mut wire = Wire::new(address);
    wipe_groups(apis, &mut wire)?;
    let names: Vec<String> = wire.topics(apis)?.into_keys().filter(|name| !INTERNAL.contains(&name.as_str())).collect();
    if !names.is_empty() {
        let api = apis.get("DeleteTopics").context("no DeleteTopics")?;
        wire.exchange(api, 3, &json!({ "TopicNames": names, "TimeoutMs": 10000 }))?;
        std::thread::sleep(SETTLE);
    }
    Ok(())
}

fn wipe_groups(apis: &Apis, wire: &mut Wire) -> Result<()> {
    let listed = wire.exchange(&apis["ListGroups"], 2, &json!({}))?;
    if listed == CLOSED {
        return Ok(()); // A server that has no groups.
    }
    let ids: Vec<&Value> = listed["Groups"].as_array().into_iter().flatten().map(|group| &group["GroupId"]).collect();
    let described = wire.exchange(&apis["DescribeGroups"], 0, &json!({ "Groups": ids }))?;
    for group in described["Groups"].as_array().into_iter().flatten() {
        for member in group["Members"].as_array().into_iter().flatten() {
            let leave = json!({ "GroupId": group["GroupId"], "MemberId": member["MemberId"] });
            wire.exchange(&apis["LeaveGroup"], 0, &leave)?;
        }
    }
    if !ids.is_empty() {
        wire.exchange(&apis["DeleteGroups"], 0, &json!({ "GroupsNames": ids }))?;
    }
    Ok(())
}

/// Waits until the server coordinates groups, if it has any: the reference makes the topic of their offsets when it is
/// first asked for a coordinator, and loads each partition of it apart.
pub fn await_coordinator(apis: &Apis, wire: &mut Wire) -> Result<()> {
    let names: Vec<String> = (0..64).map(|n| format!("no group {n}")).collect();
    for _ in 0..300 {
        let found = wire.exchange(&apis["FindCoordinator"], 0, &json!({ "Key": "no group" }))?;
        let described = wire.exchange(&apis["DescribeGroups"], 0, &json!({ "Groups": names }))?;
        let groups = described["Groups"].as_array().map(Vec::as_slice).unwrap_or_default();
        if found == CLOSED || (found["ErrorCode"] == 0 && groups.iter().all(|group| group["ErrorCode"] == 0)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the server does not begin to coordinate groups")
}

/// Whether a step of the case needs a coordinator of groups.
pub fn needs_coordinator(scenario: &Scenario) -> bool {
    scenario.steps.iter().any(|step| GROUPS.contains(&step.api.as_str()))
}

/// Creates the case's topics and learns this run's ids.
pub fn set_up(apis: &Apis, address: SocketAddr, scenario: &Scenario, settle: Duration) -> Result<Masks> {
    let wire = &mut Wire::new(address);
    let api = apis.get("Metadata").context("no Metadata")?;
    let answer = wire.exchange(api, 9, &json!({ "Topics": [] }))?;
    if needs_coordinator(scenario) {
        await_coordinator(apis, wire)?;
    }
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
