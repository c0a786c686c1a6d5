//! CreateTopics. What is refused, in which order, and the words are the reference's.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::limits::{self, TOPICS_CREATED_MAX};
use crate::map::{self, Failure};
use crate::topics::Collisions;
use crate::{topic_config, topic_name, topics};
use headwater_engine::{NewTopic, Topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The reference's metadata log, which looks like a topic to it.
const METADATA_LOG: &str = "__cluster_metadata";

/// About the memory that the settings of one new topic take in the answer.
const ECHO_BYTES: usize = 8 << 10;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, Close> {
    let mut count: HashMap<&TopicName, usize> = HashMap::new();
    for topic in &request.topics {
        *count.entry(&topic.name).or_default() += 1;
    }
    let mut collisions = Collisions::default();
    let mut room = TOPICS_CREATED_MAX;
    let mut results = Vec::new();
    let mut pending = Vec::new();
    let mut refused = HashSet::new();
    for topic in &request.topics {
        if count.get(&topic.name) != Some(&1) {
            if refused.insert(&topic.name) {
                let repeated = Failure::because(ResponseError::InvalidRequest, "Duplicate topic name.");
                results.push(refusal(&topic.name, &repeated));
            }
            continue;
        }
        if room == 0 {
            let message = format!("One request may make {TOPICS_CREATED_MAX} topics.");
            let failure = Failure::because(ResponseError::ThrottlingQuotaExceeded, message);
            results.push(refusal(&topic.name, &failure));
            continue;
        }
        room -= 1;
        match check(ctx, &mut collisions, topic) {
            Err(failure) => results.push(refusal(&topic.name, &failure)),
            Ok(new) => {
                let partitions = new.partitions;
                let settings = new.settings.clone();
                let made = if request.validate_only {
                    Made::Checked(ctx.engine.check_new_topic(&new))
                } else {
                    Made::Created(ctx.engine.create_topic(new))
                };
                pending.push((topic, partitions, settings, made));
            }
        }
    }
    let _charge = limits::account(ctx, pending.len() * if call.version >= 5 { ECHO_BYTES } else { 0 }).await;
    for (topic, partitions, settings, made) in pending {
        let outcome = match made {
            Made::Checked(checked) => checked.await.map(|()| None),
            Made::Created(created) => created.await.map(Some),
        };
        results.push(match outcome {
            Ok(made) => success(ctx, call.version, topic, partitions, settings, made.as_deref()),
            Err(error) => refusal(&topic.name, &named(error.into(), topic)),
        });
    }
    results.iter().for_each(|result| ctx.count_error(call, result.error_code));
    Ok(CreateTopicsResponse::default().with_topics(results))
}

/// A topic that is being made, or only checked.
enum Made<Checked, Created> {
    Checked(Checked),
    Created(Created),
}

fn refusal(name: &TopicName, failure: &Failure) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name.clone())
        .with_error_code(failure.code())
        .with_error_message(failure.message())
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

/// The engine's word for a topic that exists, with its name.
fn named(failure: Failure, topic: &CreatableTopic) -> Failure {
    match failure.error {
        ResponseError::TopicAlreadyExists => exists(&topic.name),
        _ => failure,
    }
}

fn exists(name: &str) -> Failure {
    Failure::because(ResponseError::TopicAlreadyExists, format!("Topic '{name}' already exists."))
}

fn success(
    ctx: &Context,
    version: i16,
    asked: &CreatableTopic,
    partitions: u32,
    settings: BTreeMap<String, String>,
    made: Option<&Topic>,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default().with_name(asked.name.clone()).with_error_message(None);
    if version >= 5 {
        result.num_partitions = map::partition_index(partitions);
        result.replication_factor = 1;
        result.configs = Some(echo(ctx, asked, &settings));
    }
    if let Some(made) = made {
        result.topic_id = map::topic_id(made.id());
    }
    result
}

/// All settings of the new topic. Those that were asked for come back as they were written.
fn echo(ctx: &Context, asked: &CreatableTopic, settings: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let defaults = ctx.engine.topic_defaults();
    let mut all: Vec<CreatableTopicConfigs> = topic_config::SETTINGS
        .iter()
        .map(|setting| {
            let given = asked.configs.iter().rev().find(|config| *config.name == *setting.name);
            let (value, source) = match given.filter(|_| settings.contains_key(setting.name)) {
                Some(config) => (config.value.clone(), topic_config::Source::Topic),
                None => {
                    let value = topic_config::server_value(setting, defaults);
                    (Some(StrBytes::from_string(value.text)), value.source)
                }
            };
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(setting.name))
                .with_value(value)
                .with_config_source(source as i8)
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// What the engine is to make, or the first thing that is wrong.
fn check(ctx: &Context, collisions: &mut Collisions, topic: &CreatableTopic) -> Result<NewTopic, Failure> {
    let name: &str = &topic.name;
    if name == METADATA_LOG {
        let message = format!("Creation of internal topic {METADATA_LOG} is prohibited.");
        return Err(Failure::because(ResponseError::InvalidRequest, message));
    }
    if let Some(fault) = topic_name::fault(name) {
        return Err(Failure::because(ResponseError::InvalidTopicException, format!("Topic name is invalid: {fault}")));
    }
    if ctx.engine.topic(name).is_some() {
        return Err(exists(name));
    }
    if let Some(other) = collisions.find(ctx, name) {
        let message = format!("Topic '{name}' collides with existing topic: {}", other.name());
        return Err(Failure::because(ResponseError::InvalidTopicException, message));
    }
    if topic_name::is_reserved(name) {
        let message = format!("Topic '{name}' has a name that is kept for internal topics and other APIs.");
        return Err(Failure::because(ResponseError::PolicyViolation, message));
    }
    let given = topic.configs.iter().map(|config| (&*config.name, config.value.as_deref()));
    let settings = topic_config::check(given).map_err(|why| Failure::because(ResponseError::InvalidConfig, why))?;
    let partitions = match topic.assignments.as_slice() {
        [] => counted(ctx, topic)?,
        _ => assigned(ctx, topic)?,
    };
    Ok(NewTopic { name: name.to_owned(), partitions, settings })
}

/// The number of partitions, where the server places them.
fn counted(ctx: &Context, topic: &CreatableTopic) -> Result<u32, Failure> {
    let factor = topic.replication_factor;
    if factor < -1 || factor == 0 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(Failure::because(ResponseError::InvalidReplicationFactor, message));
    }
    let partitions = match topic.num_partitions {
        -1 => ctx.options.default_partitions,
        count => u32::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
            let message = "Number of partitions was set to an invalid non-positive value.";
            Failure::because(ResponseError::InvalidPartitions, message)
        })?,
    };
    if factor > 1 {
        let message = format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
             reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
        );
        return Err(Failure::because(ResponseError::InvalidReplicationFactor, message));
    }
    Ok(partitions)
}

/// The number of partitions, where the request places them.
fn assigned(ctx: &Context, topic: &CreatableTopic) -> Result<u32, Failure> {
    let invalid = |message: &str| {
        let message = format!("A manual partition assignment was specified, but {message} was not set to -1.");
        Err(Failure::because(ResponseError::InvalidRequest, message))
    };
    if topic.replication_factor != -1 {
        return invalid("replication factor");
    }
    if topic.num_partitions != -1 {
        return invalid("numPartitions");
    }
    let mut indexes = HashSet::new();
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        if !indexes.insert(index) {
            let message = format!("Found multiple manual partition assignments for partition {index}");
            return Err(Failure::because(ResponseError::InvalidReplicaAssignment, message));
        }
        topics::check_assignment(ctx, &assignment.broker_ids)?;
    }
    let count = u32::try_from(indexes.len()).unwrap_or(u32::MAX);
    if (0..count).any(|index| !indexes.contains(&map::partition_index(index))) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return Err(Failure::because(ResponseError::InvalidReplicaAssignment, message));
    }
    Ok(count)
}
