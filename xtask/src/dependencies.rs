//! Rules for what the workspace builds on: licences, one version of each crate, and the one direction in which the
//! workspace's own crates may depend on each other.

mod licence;

use crate::workspace::Workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Crates that are there in more than one version, each with the reason. One that is no longer doubled must go.
const DOUBLED: &[(&str, &str)] =
    &[("syn", "only in macros at build time: half of the ecosystem's derives have moved to version 3, half have not")];

/// Which of the workspace's crates each may name: data flows straight down, and heads do not know each other.
const EDGES: &[(&str, &[&str])] = &[
    ("headwater-engine", &[]),
    ("headwater-protocol", &["headwater-engine"]),
    ("headwater-protocol-kafka", &["headwater-protocol", "headwater-engine"]),
    ("headwater", &["headwater-protocol-kafka", "headwater-protocol", "headwater-engine", "headwater-benches"]),
];

/// Members that serve nothing, and may name any crate of the product. The binary carries the benchmarks as a command.
const TOOLS: &[&str] = &["headwater-benches", "headwater-micro", "headwater-tests", "xtask"];

/// What breaks a rule.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let built = built(workspace)?;
    let mut findings = licences(&built);
    findings.extend(versions(&built));
    findings.extend(edges(workspace));
    Ok(findings)
}

/// The packages that this platform really builds; the lock file has those of every platform.
fn built(workspace: &Workspace) -> Result<Vec<&Value>> {
    let nodes = workspace.metadata["resolve"]["nodes"].as_array().context("cargo metadata without a graph")?;
    let ids: BTreeSet<&str> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
    Ok(workspace.packages().filter(|package| package["id"].as_str().is_some_and(|id| ids.contains(id))).collect())
}

fn licences(built: &[&Value]) -> Vec<String> {
    let refused = built.iter().filter_map(|package| {
        let name = package["name"].as_str().unwrap_or("?");
        match package["license"].as_str() {
            Some(expression) if licence::allowed(expression) => None,
            Some(expression) => Some(format!("{name}: licence `{expression}` is not on the list")),
            None => Some(format!("{name} names no licence")),
        }
    });
    refused.collect()
}

fn versions(built: &[&Value]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in built {
        if let (Some(name), Some(version)) = (package["name"].as_str(), package["version"].as_str()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    let is_doubled = |name: &str| versions.get(name).is_some_and(|all| all.len() > 1);
    let excepted = |name: &str| DOUBLED.iter().any(|(doubled, _)| *doubled == name);
    let mut findings = Vec::new();
    for (name, all) in &versions {
        if all.len() > 1 && !excepted(name) {
            findings.push(format!("{name} is built in {} versions: {all:?}; `cargo tree -d` says why", all.len()));
        }
    }
    for (name, _) in DOUBLED.iter().filter(|(name, _)| !is_doubled(name)) {
        findings.push(format!("{name} is no longer doubled: take it off the list in xtask/src/dependencies.rs"));
    }
    findings
}

fn edges(workspace: &Workspace) -> Vec<String> {
    let members = workspace.members();
    let mut findings = Vec::new();
    for package in workspace.packages() {
        let Some(name) = package["name"].as_str().filter(|name| members.contains(name)) else { continue };
        let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == name) else {
            if !TOOLS.contains(&name) {
                findings.push(format!("{name} is new: say in xtask/src/dependencies.rs what it may depend on"));
            }
            continue;
        };
        // A dev-dependency is a test's business.
        let normal = package["dependencies"].as_array().into_iter().flatten().filter(|edge| edge["kind"] != "dev");
        for edge in normal.filter_map(|edge| edge["name"].as_str()) {
            if members.contains(&edge) && !allowed.contains(&edge) {
                findings.push(format!("{name} must not depend on {edge}"));
            }
        }
    }
    findings
}
