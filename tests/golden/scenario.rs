//! A case file: steps, each one request sent at several versions, with the reference's answers.
//!
//! Answers are grouped: one answer stands for all versions to which it can be cut down by leaving out the fields that they
//! lack. So a file shows what a version changes in behaviour, not that it has fewer fields.
//!
//! A step is played at all of its versions before the next one begins. Where one version must not meet what another left
//! behind, names carry `{v}`: a group `group-{v}`, and with steps that do not wait for their answers a connection `a{v}`.
//! `{v+4}` and `{v-4}` are versions that far off, for what another API left behind at its own versions.

use crate::codec::project;
use crate::schema::{Api, Versions};
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
    /// Which connection it goes over; each is made when it is first named.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub connection: String,
    /// How much of the exchange it is.
    #[serde(default, skip_serializing_if = "Part::is_whole")]
    pub part: Part,
    /// How long nothing happens before it, for what the server does by the clock.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pause_ms: u64,
    /// What a member id that the answer gives out is called: `<member:NAME>`. The connection's name when there is none here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// For a Fetch from `__consumer_offsets`: the group whose records are told one by one, keys and values by their layouts,
    /// in the place of the batches.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub records_of: String,
    /// `<id:NAME>`, `<member:NAME>`, `<session:CONNECTION>`, `<node>`, `<epoch>` become what earlier answers told.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub request: Value,
    /// Where Headwater means to differ: path to reason, for `docs/differences.md` too. A reason that begins with `compared`
    /// tells where else the field is compared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_compared: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
}

/// How much of an exchange a step is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The request and its answer.
    #[default]
    Whole,
    /// The request alone; a later step receives the answer.
    Send,
    /// The request alone, and there must be no answer yet when the step is over: the server waits for something.
    Park,
    /// The request alone, which is never answered: Produce with acks=0.
    Unanswered,
    /// The answer to the first request of the connection that was not answered.
    Receive,
}

impl Part {
    fn is_whole(&self) -> bool {
        *self == Part::Whole
    }

    /// Whether a step has an answer to compare.
    pub fn has_answer(self) -> bool {
        matches!(self, Part::Whole | Part::Receive)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
pub struct Answer {
    pub versions: String,
    pub answer: Value,
}

/// Sorts the lists that a path leads to.
pub fn sort(value: &mut Value, path: &[&str]) {
    match (value, path) {
        (Value::Array(items), []) => items.sort_by_cached_key(|item| {
            // By name where there is one; what else is in it (an error's code) must not decide.
            let name = ["Name", "TopicName", "ResourceName", "GroupId", "MemberId"]
                .iter()
                .find_map(|n| item.get(*n)?.as_str());
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
    answer_at(api, &step.answers, version).with_context(|| step.api.clone())
}

/// The answer of a group of them that stands for `version`.
pub fn answer_at(api: &Api, answers: &[Answer], version: i16) -> Result<Value> {
    for answer in answers {
        if Versions::parse(&answer.versions)?.contains(version) {
            return Ok(project(&api.response.fields, version, &answer.answer));
        }
    }
    Err(anyhow::anyhow!("there is no recorded answer for version {version}"))
}

/// A text with versions in the places of `{v}`, `{v+1}` and the like.
pub fn versioned(text: &str, version: i16) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once("{v") {
        out.push_str(before);
        let place = inside.split_once('}').map(|(distance, after)| (distance.parse::<i16>(), after));
        rest = match place {
            Some((Ok(distance), after)) => {
                out.push_str(&(version + distance).to_string());
                after
            }
            Some((Err(_), after)) if inside.starts_with('}') => {
                out.push_str(&version.to_string());
                after
            }
            _ => {
                out.push_str("{v");
                inside
            }
        };
    }
    out + rest
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
