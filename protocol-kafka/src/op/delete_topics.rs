//! DeleteTopics, by name or by id.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::group::Coordinator;
use crate::map::{self, Failure};
use crate::topics;
use headwater_engine::{Engine, Topic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use uuid::Uuid;

/// The first version that can name a topic by its id.
const BY_ID: i16 = 6;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DeleteTopicsRequest,
) -> Result<DeleteTopicsResponse, Close> {
    let invalid = |why| Failure::because(ResponseError::InvalidRequest, why);
    let none = Uuid::nil();
    let mut answers = Vec::new();
    let mut names = Vec::new();
    let mut ids = Vec::new();
    if call.version < BY_ID {
        names = request.topic_names;
    } else {
        for topic in request.topics {
            match (topic.name, topic.topic_id) {
                (Some(name), id) if id == none => names.push(name),
                (None, id) if id != none => ids.push(id),
                (None, _) => answers.push(refusal(None, none, invalid("Neither topic name nor id were specified."))),
                (Some(name), id) => {
                    let why = "You may not specify both topic name and topic id.";
                    answers.push(refusal(Some(name), id, invalid(why)));
                }
            }
        }
    }
    let (names, repeated) = once(names);
    answers.extend(repeated.into_iter().map(|name| refusal(Some(name), none, invalid("Duplicate topic name."))));
    let (ids, repeated) = once(ids);
    answers.extend(repeated.iter().map(|id| refusal(None, *id, invalid("Duplicate topic id."))));

    let given: HashSet<Uuid> = ids.iter().chain(&repeated).copied().collect();
    let mut taken_back = HashSet::new();
    let mut found = Vec::new();
    for name in names {
        let Some(topic) = topics::by_name(ctx, &name) else {
            let why = "This server does not host this topic-partition.";
            answers.push(refusal(Some(name), none, Failure::because(ResponseError::UnknownTopicOrPartition, why)));
            continue;
        };
        let id = map::topic_id(topic.id());
        if given.contains(&id) {
            taken_back.insert(id);
            let why = "The provided topic name maps to an ID that was already supplied.";
            answers.push(refusal(Some(name), id, invalid(why)));
            continue;
        }
        found.push(topic);
    }
    for id in ids.into_iter().filter(|id| !taken_back.contains(id)) {
        match topics::by_id(ctx, id) {
            Some(topic) => found.push(topic),
            None => {
                let why = "This server does not host this topic ID.";
                answers.push(refusal(None, id, Failure::because(ResponseError::UnknownTopicId, why)));
            }
        }
    }
    let (kept, found): (Vec<_>, Vec<_>) = found.into_iter().partition(|topic| topic.is_internal());
    for topic in kept {
        // The reference lets it go, and loses every group with it.
        let why = "An internal topic cannot be deleted.";
        let (name, id) = (Some(map::topic_name(topic.name())), map::topic_id(topic.id()));
        answers.push(refusal(name, id, Failure::because(ResponseError::PolicyViolation, why)));
    }
    // In a task of its own: what groups committed goes with its topic, whether or not the client waits for the answer.
    let deleting = tokio::spawn(delete(ctx.engine.clone(), ctx.groups.clone(), found));
    answers.extend(deleting.await.map_err(|_| Close::Stopped)?);
    answers.iter().for_each(|answer| ctx.count_error(call, answer.error_code));
    Ok(DeleteTopicsResponse::default().with_responses(answers))
}

/// Deletes topics, and what groups committed for them.
async fn delete(engine: Engine, groups: Coordinator, topics: Vec<Arc<Topic>>) -> Vec<DeletableTopicResult> {
    let mut answers = Vec::with_capacity(topics.len());
    let mut gone = HashMap::new();
    let pending: Vec<_> = topics.into_iter().map(|topic| (engine.delete_topic(topic.id()), topic)).collect();
    for (deleted, topic) in pending {
        let (name, id) = (Some(map::topic_name(topic.name())), map::topic_id(topic.id()));
        answers.push(match deleted.await {
            Ok(()) => {
                gone.insert(crate::group::text(topic.name()), id);
                DeletableTopicResult::default().with_name(name).with_topic_id(id)
            }
            Err(error) => refusal(name, id, error.into()),
        });
    }
    if !gone.is_empty() {
        groups.topics_deleted(&gone).await;
    }
    answers
}

/// The items that are there once, and those that are there more often.
fn once<T: Hash + Eq + Clone>(items: Vec<T>) -> (Vec<T>, Vec<T>) {
    let mut count: HashMap<T, usize> = HashMap::new();
    let mut order = Vec::new();
    for item in items {
        let seen = count.entry(item.clone()).or_default();
        *seen += 1;
        if *seen == 1 {
            order.push(item);
        }
    }
    order.into_iter().partition(|item| count.get(item) == Some(&1))
}

fn refusal(name: Option<TopicName>, id: Uuid, failure: Failure) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(name)
        .with_topic_id(id)
        .with_error_code(failure.code())
        .with_error_message(failure.message())
}
