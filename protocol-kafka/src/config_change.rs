//! Changes of settings, as AlterConfigs and IncrementalAlterConfigs ask for them: what is refused, in which order and in which
//! words is the reference's.
//!
//! Settings of topics change. A broker's are given when it starts, and groups and client metrics have none of their own yet:
//! to set those is refused, and to take back what cannot have been set is not.

use crate::call::Call;
use crate::context::Context;
use crate::limits::{RESOURCES_ALTERED_MAX, TOPIC_SETTINGS_BYTES_MAX};
use crate::map::Failure;
use crate::resource_config::{self, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, ResourceSetting, TOPIC};
use crate::topic_config;
use crate::{topic_name, topics};
use headwater_engine::Settings;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What to do with one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
    /// A number that means nothing.
    Unknown,
}

impl Operation {
    /// The operation of a number on the wire.
    pub(crate) fn of(number: i8) -> Operation {
        match number {
            0 => Operation::Set,
            1 => Operation::Delete,
            2 => Operation::Append,
            3 => Operation::Subtract,
            _ => Operation::Unknown,
        }
    }

    /// The reference's name of the operations that lists alone have.
    fn on_lists(self) -> Option<&'static str> {
        match self {
            Operation::Append => Some("APPEND"),
            Operation::Subtract => Some("SUBTRACT"),
            Operation::Set | Operation::Delete | Operation::Unknown => None,
        }
    }
}

/// One setting and what to do with it.
pub(crate) struct Change {
    pub(crate) name: StrBytes,
    pub(crate) operation: Operation,
    pub(crate) value: Option<StrBytes>,
}

impl Change {
    fn value(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

/// A resource whose settings change.
pub(crate) struct Resource {
    pub(crate) kind: i8,
    pub(crate) name: StrBytes,
    pub(crate) changes: Vec<Change>,
}

/// What becomes of the settings that a request does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    Stay,
    Go,
}

/// Changes the settings of all resources that can be changed. Gives what became of each, in order.
pub(crate) async fn alter(
    ctx: &Context,
    call: &Call,
    resources: &[Resource],
    others: Others,
    only_check: bool,
) -> Vec<Result<(), Failure>> {
    let mut count: HashMap<(i8, &str), usize> = HashMap::new();
    for resource in resources {
        *count.entry((resource.kind, &resource.name)).or_default() += 1;
    }
    let mut outcomes: Vec<Result<(), Failure>> = resources
        .iter()
        .enumerate()
        .map(|(number, resource)| {
            if number >= RESOURCES_ALTERED_MAX {
                let message = format!("One request may alter {RESOURCES_ALTERED_MAX} resources.");
                return Err(Failure::because(ResponseError::ThrottlingQuotaExceeded, message));
            }
            if count.get(&(resource.kind, &resource.name)) != Some(&1) {
                return invalid("Each resource must appear at most once.");
            }
            check_form(resource)
        })
        .collect();
    // The reference stumbles over an operation that it does not know, and with it over all that it looks at together.
    let has_unknown = |(resource, outcome): (&Resource, &Result<(), Failure>)| {
        outcome.is_ok() && resource.changes.iter().any(|change| change.operation == Operation::Unknown)
    };
    let stumbles = resources.iter().zip(&outcomes).any(has_unknown);
    let mut pending = Vec::new();
    for (place, (resource, outcome)) in resources.iter().zip(&mut outcomes).enumerate() {
        if outcome.is_err() {
            continue;
        }
        *outcome = match resource.kind {
            _ if stumbles => Err(ResponseError::UnknownServerError.into()),
            TOPIC => match alter_topic(ctx, resource, others, only_check) {
                Ok(change) => {
                    pending.push((place, change));
                    Ok(())
                }
                Err(failure) => Err(failure),
            },
            BROKER => check_broker(ctx, resource, others),
            BROKER_LOGGER if others == Others::Stay => check_logger(ctx, resource),
            GROUP => check_group(resource),
            CLIENT_METRICS => check_client_metrics(resource),
            other => invalid(&format!("Unknown resource type {other}")),
        };
    }
    for (place, change) in pending {
        let done = change.await;
        if let Some(outcome) = outcomes.get_mut(place) {
            *outcome = done;
        }
    }
    for outcome in &outcomes {
        ctx.count_error(call, outcome.as_ref().map_or_else(Failure::code, |()| 0));
    }
    outcomes
}

fn invalid<T>(message: &str) -> Result<T, Failure> {
    Err(Failure::because(ResponseError::InvalidRequest, message))
}

fn invalid_config<T>(message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::because(ResponseError::InvalidConfig, message))
}

/// What is wrong with the request whatever the resource is.
fn check_form(resource: &Resource) -> Result<(), Failure> {
    let mut names = HashSet::new();
    if !resource.changes.iter().all(|change| names.insert(&change.name)) {
        return invalid("Error due to duplicate config keys");
    }
    let lacks_value = |change: &&Change| change.value.is_none() && change.operation != Operation::Delete;
    let null: Vec<&str> = resource.changes.iter().filter(lacks_value).map(|change| &*change.name).collect();
    if !null.is_empty() {
        return invalid(&format!("Null value not supported for : {}", null.join(", ")));
    }
    Ok(())
}

fn alter_topic(
    ctx: &Context,
    resource: &Resource,
    others: Others,
    only_check: bool,
) -> Result<headwater_engine::Pending<Result<(), Failure>>, Failure> {
    let name: &str = &resource.name;
    let defaults = ctx.engine.topic_defaults();
    let changed = |settings: &BTreeMap<String, String>| {
        let wanted = changed(settings, &resource.changes, others, defaults)?;
        check_topic_name(name)?;
        let given = wanted.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
        topic_config::check(given).or_else(invalid_config)
    };
    let Some(topic) = topics::by_name(ctx, name) else {
        // What is wrong with the settings goes before it.
        changed(&BTreeMap::new())?;
        return Err(missing(name));
    };
    Ok(if only_check {
        ctx.engine.check_altered_topic(topic.id(), changed)
    } else {
        ctx.engine.alter_topic(topic.id(), changed)
    })
}

fn missing(name: &str) -> Failure {
    Failure::because(ResponseError::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."))
}

fn check_topic_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return invalid("Default topic resources are not allowed.");
    }
    match topic_name::fault(name) {
        Some(fault) => {
            Err(Failure::because(ResponseError::InvalidTopicException, format!("Topic name is invalid: {fault}")))
        }
        None => Ok(()),
    }
}

/// The settings that `changes` make of those that a topic has.
fn changed(
    settings: &BTreeMap<String, String>,
    changes: &[Change],
    others: Others,
    defaults: &Settings,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut wanted = if others == Others::Stay { settings.clone() } else { BTreeMap::new() };
    for change in changes {
        let name: &str = &change.name;
        let value = match change.operation {
            Operation::Delete => {
                wanted.remove(name);
                continue;
            }
            Operation::Append | Operation::Subtract => {
                let verb = change.operation.on_lists().unwrap_or_default();
                let setting = topic_config::find(name)
                    .filter(|setting| setting.kind.is_list())
                    .ok_or_else(|| not_a_list(verb, name))?;
                let value = wanted.get(name).cloned();
                let value = value.unwrap_or_else(|| topic_config::server_value(setting, defaults).text);
                // No list may become longer than all settings of a topic, and each item is looked for among the others.
                if change.value().len() > TOPIC_SETTINGS_BYTES_MAX {
                    let message = format!("The settings of one topic may take {TOPIC_SETTINGS_BYTES_MAX} bytes");
                    return Err(Failure::because(ResponseError::InvalidConfig, message));
                }
                let mut items: Vec<&str> = value.split(',').filter(|item| !item.is_empty()).collect();
                for item in items_of(change.value()) {
                    match (change.operation, items.iter().position(|known| *known == item)) {
                        (Operation::Append, None) => items.push(item),
                        (Operation::Subtract, Some(place)) => drop(items.remove(place)),
                        _ => {}
                    }
                }
                items.join(",")
            }
            Operation::Set | Operation::Unknown => change.value().to_owned(),
        };
        wanted.insert(name.to_owned(), value);
    }
    Ok(wanted)
}

fn not_a_list(verb: &str, name: &str) -> Failure {
    let message = format!("Can't {verb} to key {name} because its type is not LIST.");
    Failure::because(ResponseError::InvalidConfig, message)
}

/// The items of a list as Java splits it: empty ones at the end do not count, unless there is nothing else.
fn items_of(text: &str) -> Vec<&str> {
    let text = if text.is_empty() { text } else { text.trim_end_matches(',') };
    text.split(',').map(str::trim).collect()
}

/// A broker's settings are read when it starts.
fn check_broker(ctx: &Context, resource: &Resource, others: Others) -> Result<(), Failure> {
    if !resource.name.is_empty() {
        check_node(ctx, &resource.name, "Unexpected broker id, expected {}, but received")?;
    }
    for change in resource.changes.iter().filter(|_| others == Others::Stay) {
        if let Some(verb) = change.operation.on_lists() {
            let verb = verb.to_lowercase();
            return invalid_config(format!("Config value {verb} is not allowed for config key: {}", change.name));
        }
    }
    let set = names_of(resource, |change| change.operation == Operation::Set);
    if set.is_empty() { Ok(()) } else { invalid(&format!("Cannot update these configs dynamically: [{set}]")) }
}

fn names_of(resource: &Resource, wanted: impl Fn(&Change) -> bool) -> String {
    let names: Vec<&str> =
        resource.changes.iter().filter(|change| wanted(change)).map(|change| &*change.name).collect();
    names.join(", ")
}

fn check_node(ctx: &Context, name: &str, expectation: &str) -> Result<(), Failure> {
    let own = ctx.options.node_id;
    match name.parse::<i32>() {
        Ok(id) if id == own => Ok(()),
        Ok(id) => invalid(&format!("{} {id}", expectation.replace("{}", &own.to_string()))),
        Err(_) => invalid(&format!("Node id must be an integer, but it is: {name}")),
    }
}

/// There are no loggers of the reference's kind.
fn check_logger(ctx: &Context, resource: &Resource) -> Result<(), Failure> {
    check_node(ctx, &resource.name, "Unexpected node id. Expected {}, but received")?;
    match resource.changes.first() {
        None => Ok(()),
        Some(change) => match change.operation.on_lists() {
            Some(verb) => invalid(&format!("{verb} operation is not allowed for the BROKER_LOGGER resource")),
            None => invalid_config(format!("Logger {} does not exist!", change.name)),
        },
    }
}

fn check_group(resource: &Resource) -> Result<(), Failure> {
    check_lists(resource, resource_config::GROUP_SETTINGS)?;
    if resource.name.is_empty() {
        return invalid("Default group resources are not allowed.");
    }
    for change in set_by(resource) {
        let Some(setting) = resource_config::GROUP_SETTINGS.iter().find(|setting| *setting.name == *change.name) else {
            return invalid_config(format!("Unknown group config name: {}", change.name));
        };
        setting.kind.canonical(setting.name, change.value()).or_else(invalid_config)?;
    }
    refuse_kept(resource, "groups")
}

fn check_client_metrics(resource: &Resource) -> Result<(), Failure> {
    check_lists(resource, resource_config::CLIENT_METRICS_SETTINGS)?;
    if resource.name.is_empty() {
        return invalid("Subscription name can't be empty");
    }
    for change in set_by(resource) {
        let Some(setting) =
            resource_config::CLIENT_METRICS_SETTINGS.iter().find(|setting| *setting.name == *change.name)
        else {
            return invalid(&format!("Unknown client metrics configuration: {}", change.name));
        };
        setting.kind.canonical(setting.name, change.value()).or_else(invalid_config)?;
    }
    refuse_kept(resource, "client metrics")
}

fn set_by(resource: &Resource) -> impl Iterator<Item = &Change> {
    resource.changes.iter().filter(|change| change.operation != Operation::Delete)
}

fn check_lists(resource: &Resource, settings: &[ResourceSetting]) -> Result<(), Failure> {
    for change in &resource.changes {
        if let Some(verb) = change.operation.on_lists()
            && !settings.iter().any(|setting| *setting.name == *change.name && setting.kind.is_list())
        {
            return Err(not_a_list(verb, &change.name));
        }
    }
    Ok(())
}

/// What is right and cannot be kept.
fn refuse_kept(resource: &Resource, of: &str) -> Result<(), Failure> {
    let set = names_of(resource, |change| change.operation != Operation::Delete);
    if set.is_empty() {
        Ok(())
    } else {
        invalid(&format!("Settings of {of} cannot be changed on this server: [{set}]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_as_java_splits_them() {
        assert_eq!(items_of(""), [""]);
        assert_eq!(items_of("a, b,,"), ["a", "b"]);
        assert_eq!(items_of(",a"), ["", "a"]);
        assert_eq!(items_of(","), [""]);
    }

    #[test]
    fn operations_work_on_what_is_set_or_on_the_default() {
        let change = |name: &'static str, operation, value: &'static str| Change {
            name: StrBytes::from_static_str(name),
            operation,
            value: Some(StrBytes::from_static_str(value)),
        };
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let defaults = Settings::default();
        let go = |has: &[(&str, &str)], changes: &[Change], others| {
            changed(&of(has), changes, others, &defaults).map_err(|failure| failure.code())
        };
        use Operation::{Append, Delete, Set, Subtract};
        let policy = |operation, value| change("cleanup.policy", operation, value);
        assert_eq!(
            go(&[], &[policy(Append, "compact")], Others::Stay),
            Ok(of(&[("cleanup.policy", "delete,compact")]))
        );
        let both = [("cleanup.policy", "delete,compact"), ("flush.ms", "1")];
        let left = of(&[("cleanup.policy", "compact"), ("flush.ms", "1")]);
        assert_eq!(go(&both, &[policy(Subtract, "delete,delete")], Others::Stay), Ok(left));
        assert_eq!(go(&both, &[policy(Delete, "")], Others::Stay), Ok(of(&[("flush.ms", "1")])));
        assert_eq!(go(&both, &[policy(Set, "x")], Others::Go), Ok(of(&[("cleanup.policy", "x")])));
        assert_eq!(go(&both, &[change("flush.ms", Append, "1")], Others::Stay), Err(40));
    }
}
