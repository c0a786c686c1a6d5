//! What the cases show of the operations that are served: each of them at each version both succeeds and fails somewhere.

use crate::scenario::{self, Scenario};
use crate::schema::{Api, Versions};
use crate::wire::CLOSED;
use headwater_protocol_kafka::TABLE;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Operations that have no error to answer with at these versions, and why.
const CANNOT_FAIL: &[(&str, &str, &str)] = &[
    ("ApiVersions", "0-2", "there is nothing in the request; what no version can say is in the raw frames"),
    ("DescribeCluster", "0", "there is nothing in the request"),
    ("DescribeGroups", "0-5", "a group that is not there is told as Dead"),
    ("DescribeLogDirs", "1-5", "what is not there is left out"),
    ("FindCoordinator", "0", "every key is a group's, and has its coordinator"),
    ("ListConfigResources", "0", "there is nothing in the request"),
    ("ListGroups", "0-5", "a filter that fits nothing gives nothing"),
    ("ListPartitionReassignments", "0", "nothing moves, whatever is asked for"),
    ("OffsetFetch", "1-9", "what was never committed is told as offset -1"),
];

/// Operations that can only refuse at these versions, and why.
const CANNOT_SUCCEED: &[(&str, &str, &str)] = &[
    ("AddRaftVoter", "0-1", "this server is one node"),
    ("RemoveRaftVoter", "0", "this server is one node"),
    ("UnregisterBroker", "0", "this server is one node"),
];

/// Operations that are advertised and have no layout at these versions, and why.
const NOT_THERE: &[(&str, &str, &str)] = &[("Produce", "0-2", "closes the connection, as the raw frames show")];

/// What is missing, a line each.
pub fn gaps(apis: &BTreeMap<String, Api>, cases: &[(String, Scenario)]) -> Vec<String> {
    let (mut succeeds, mut fails) = (BTreeSet::new(), BTreeSet::new());
    for (_, scenario) in cases {
        for step in scenario.steps.iter().filter(|step| step.part.has_answer()) {
            for version in scenario::versions(step).unwrap_or_default() {
                let Ok(answer) = scenario::expected(&apis[&step.api], step, version) else { continue };
                let (success, failure) = outcomes(&answer);
                if success {
                    succeeds.insert((step.api.as_str(), version));
                }
                if failure {
                    fails.insert((step.api.as_str(), version));
                }
            }
        }
    }
    let mut gaps = Vec::new();
    for row in TABLE {
        for version in row.min..=row.max {
            if is_listed(NOT_THERE, row.name, version) {
                continue;
            }
            let can_succeed = !is_listed(CANNOT_SUCCEED, row.name, version);
            if can_succeed && !succeeds.contains(&(row.name, version)) {
                gaps.push(format!("{} {version} succeeds in no case", row.name));
            }
            let can_fail = !is_listed(CANNOT_FAIL, row.name, version);
            if can_fail && !fails.contains(&(row.name, version)) {
                gaps.push(format!("{} {version} fails in no case", row.name));
            }
            if !can_fail && fails.contains(&(row.name, version)) {
                gaps.push(format!("{} {version} fails in a case, though it is listed as one that cannot", row.name));
            }
        }
    }
    gaps
}

fn is_listed(list: &[(&str, &str, &str)], name: &str, version: i16) -> bool {
    let contains = |versions: &str| Versions::parse(versions).is_ok_and(|versions| versions.contains(version));
    list.iter().any(|(of, versions, _)| *of == name && contains(versions))
}

/// Whether something in an answer succeeded, and whether something failed: as the innermost error codes tell, which are
/// those of what was asked for one by one.
fn outcomes(answer: &Value) -> (bool, bool) {
    let mut codes = Vec::new();
    innermost(answer, &mut codes);
    let closed = answer == CLOSED;
    (codes.contains(&0) || (codes.is_empty() && !closed), closed || codes.iter().any(|code| *code != 0))
}

fn innermost(value: &Value, codes: &mut Vec<i64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| innermost(item, codes)),
        Value::Object(object) => {
            let before = codes.len();
            object.values().for_each(|inner| innermost(inner, codes));
            // An error above what holds none, or above nothing: what is within was not come to.
            if let Some(code) = object.get("ErrorCode").and_then(Value::as_i64)
                && (codes.len() == before || code != 0)
            {
                codes.push(code);
            }
        }
        _ => {}
    }
}
