//! A case file: steps, each one request sent at several versions, with the reference's answers.
//!
//! Answers are grouped: one answer stands for all versions to which it can be cut down by leaving out the fields that they
//! lack. So a file shows what a version changes in behaviour, not that it has fewer fields.

use crate::codec::project;
use crate::mask::Masks;
use crate::schema::{Api, Versions};
use crate::wire::Wire;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Serialize, Deserialize)]
pub struct Scenario {
    pub about: String,
    /// Topics that are there before the first step, with their partition counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, i32>,
    /// Paths of lists whose order means nothing: they are sorted in what is recorded and in what is compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unordered: Vec<String>,
    pub steps: Vec<Step>,
}

#[derive(Serialize, Deserialize)]
pub struct Step {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    pub api: String,
    pub versions: String,
    /// `{v}` in its texts becomes the version; `<id:NAME>`, `<node>`, `<epoch>` what earlier answers told.
    pub request: Value,
    /// Where Headwater means to differ: path to reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_compared: BTreeMap<String, String>,
    #[serde(default)]
    pub answers: Vec<Answer>,
}

#[derive(Serialize, Deserialize)]
pub struct Answer {
    pub versions: String,
    pub answer: Value,
}

/// Sends one step at `version`; the masked answer.
pub fn exchange(
    wire: &mut Wire,
    masks: &mut Masks,
    api: &Api,
    (step, unordered): (&Step, &[String]),
    version: i16,
) -> Result<Value> {
    let request = masks.fill(&step.request, version)?;
    let request = project(&api.request.fields, version, &request);
    let answer = wire.exchange(api, version, &request)?;
    let answer = masks.cover(&api.response.fields, &answer);
    let mut answer = Masks::restore(&step.request, version, &answer);
    for path in unordered {
        sort(&mut answer, &path.split('.').collect::<Vec<_>>());
    }
    Ok(answer)
}

fn sort(value: &mut Value, path: &[&str]) {
    match (value, path) {
        (Value::Array(items), []) => items.sort_by_cached_key(|item| {
            // By name where there is one; what else is in it (an error's code) must not decide.
            let name = ["Name", "TopicName", "ResourceName"].iter().find_map(|n| item.get(*n)?.as_str());
            (name.unwrap_or_default().to_owned(), item.to_string())
        }),
        (Value::Array(items), path) => items.iter_mut().for_each(|item| sort(item, path)),
        (Value::Object(object), [first, rest @ ..]) => {
            if let Some(inner) = object.get_mut(*first) {
                sort(inner, rest);
            }
        }
        _ => {}
    }
}

/// Groups answers by version, latest first, into as few as possible: one answer stands for several versions when each of
/// theirs is what remains of it without the fields that the version lacks.
pub fn group(api: &Api, answers: &BTreeMap<i16, Value>) -> Vec<Answer> {
    let mut groups: Vec<(Versions, Value)> = Vec::new();
    for (&version, answer) in answers.iter().rev() {
        if let Some((versions, kept)) = groups.last_mut() {
            let both = union(kept, answer);
            let stands_for = |(v, a): (&i16, &Value)| project(&api.response.fields, *v, &both) == *a;
            if answers.range(version..=versions.last).all(stands_for) {
                versions.first = version;
                *kept = both;
                continue;
            }
        }
        groups.push((Versions { first: version, last: version }, answer.clone()));
    }
    groups.into_iter().map(|(versions, answer)| Answer { versions: versions.to_string(), answer }).collect()
}

/// `later` with what only `earlier` has.
fn union(later: &Value, earlier: &Value) -> Value {
    match (later, earlier) {
        (Value::Array(l), Value::Array(e)) if l.len() == e.len() => l.iter().zip(e).map(|(l, e)| union(l, e)).collect(),
        (Value::Object(l), Value::Object(e)) => {
            let mut both = l.clone();
            for (name, value) in e {
                let merged = l.get(name).map_or_else(|| value.clone(), |l| union(l, value));
                both.insert(name.clone(), merged);
            }
            Value::Object(both)
        }
        _ => later.clone(),
    }
}

/// What the reference answered at `version`.
pub fn expected(api: &Api, step: &Step, version: i16) -> Result<Value> {
    for answer in &step.answers {
        if Versions::parse(&answer.versions)?.contains(version) {
            return Ok(project(&api.response.fields, version, &answer.answer));
        }
    }
    Err(anyhow::anyhow!("{} has no recorded answer for version {version}", step.api))
}

/// The versions of a step.
pub fn versions(step: &Step) -> Result<Vec<i16>> {
    let versions = Versions::parse(&step.versions)?;
    Ok((versions.first..=versions.last).collect())
}

/// The difference between what came and what was expected, one line per place; empty when they agree.
pub fn check(step: &Step, answer: &Value, expected: &Value) -> Vec<String> {
    let (mut answer, mut expected) = (answer.clone(), expected.clone());
    for path in step.not_compared.keys() {
        let path = segments(path);
        remove(&mut answer, &path);
        remove(&mut expected, &path);
    }
    let mut found = Vec::new();
    differences("", &answer, &expected, &mut found);
    found
}

/// The parts of a path; dots within brackets do not part it.
fn segments(path: &str) -> Vec<&str> {
    let mut depth = 0;
    path.split(|c| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        c == '.' && depth == 0
    })
    .collect()
}

/// Takes away what a path leads to. `Configs[name]` leads to those entries of a list whose name it is.
fn remove(value: &mut Value, path: &[&str]) {
    match (value, path) {
        (Value::Array(items), path) => items.iter_mut().for_each(|item| remove(item, path)),
        (Value::Object(object), [first, rest @ ..]) => match first.split_once('[') {
            Some((list, entry)) => {
                let is_meant = |item: &Value| item["Name"].as_str() == entry.strip_suffix(']');
                let Some(Value::Array(items)) = object.get_mut(list) else { return };
                if rest.is_empty() {
                    items.retain(|item| !is_meant(item));
                } else {
                    items.iter_mut().filter(|item| is_meant(item)).for_each(|item| remove(item, rest));
                }
            }
            None if rest.is_empty() => {
                object.remove(*first);
            }
            None => {
                if let Some(inner) = object.get_mut(*first) {
                    remove(inner, rest);
                }
            }
        },
        _ => {}
    }
}

fn differences(path: &str, answer: &Value, expected: &Value, found: &mut Vec<String>) {
    match (answer, expected) {
        (Value::Object(a), Value::Object(e)) => {
            for name in e.keys().chain(a.keys().filter(|k| !e.contains_key(*k))) {
                let side = |o: &serde_json::Map<String, Value>| o.get(name).cloned().unwrap_or("(absent)".into());
                differences(&format!("{path}.{name}"), &side(a), &side(e), found);
            }
        }
        (Value::Array(a), Value::Array(e)) if a.len() == e.len() => {
            for (index, (a, e)) in a.iter().zip(e).enumerate() {
                differences(&format!("{path}[{index}]"), a, e, found);
            }
        }
        _ if answer == expected => {}
        _ => found.push(format!("{path}: {answer}, expected {expected}")),
    }
}

/// JSON with one value per line where it is long, on one line where it is short.
pub fn pretty(value: &Value) -> Result<String> {
    let mut out = String::new();
    write_pretty(&mut out, value, 0, 0)?;
    out.push('\n');
    Ok(out)
}

fn write_pretty(out: &mut String, value: &Value, indent: usize, used: usize) -> Result<()> {
    let flat = serde_json::to_string(value)?;
    let is_leaf = |v: &Value| !v.is_array() && !v.is_object();
    let open = match value {
        Value::Array(items) if !items.is_empty() => "[]",
        Value::Object(object) if !object.is_empty() => "{}",
        _ => "",
    };
    let is_row = value.as_object().is_some_and(|o| o.values().all(is_leaf));
    let width = if is_row { 200 } else { 118 };
    if open.is_empty() || indent + used + flat.len() <= width {
        out.push_str(&flat);
        return Ok(());
    }
    let inner = indent + 2;
    let (first, last) = open.split_at_checked(1).context("brackets come in pairs")?;
    out.push_str(first);
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                write!(out, "{}\n{:inner$}", if index == 0 { "" } else { "," }, "")?;
                write_pretty(out, item, inner, 1)?;
            }
        }
        Value::Object(object) => {
            for (index, (name, item)) in object.iter().enumerate() {
                let name = serde_json::to_string(name)?;
                write!(out, "{}\n{:inner$}{name}: ", if index == 0 { "" } else { "," }, "")?;
                write_pretty(out, item, inner, name.len() + 3)?;
            }
        }
        _ => {}
    }
    write!(out, "\n{:indent$}{last}", "")?;
    Ok(())
}
