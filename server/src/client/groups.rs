//! Consumer groups: who is in them, and which offsets they committed.
//!
//! What concerns one group is asked of its coordinator, and asked again while the coordinator moves or loads.

use super::cluster::Retry;
use super::{ClientError, Cluster};
use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup as NewGroup, Member as NewMember,
};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest, GroupId, ListGroupsRequest,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::BTreeMap;

/// The newest version that asks for one group at a time.
const FIND_COORDINATOR_VERSION_MAX: i16 = 3;
/// The newest version that asks for one group at a time.
const OFFSET_FETCH_VERSION_MAX: i16 = 7;
/// The newest version that names topics by name.
const OFFSET_COMMIT_VERSION_MAX: i16 = 9;
/// What a broker answers that is not the coordinator, or not yet.
const COORDINATOR_MOVES: [i16; 3] = [
    ResponseError::CoordinatorLoadInProgress.code(),
    ResponseError::CoordinatorNotAvailable.code(),
    ResponseError::NotCoordinator.code(),
];
/// The protocol type of groups whose members are consumers.
pub const CONSUMER: &str = "consumer";

/// A partition by the name of its topic and its number.
pub type TopicPartition = (String, i32);

/// A group as ListGroups shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ListedGroup {
    pub group: String,
    /// What it is for: `consumer`, `connect`, or nothing when its offsets were only committed.
    pub protocol_type: String,
    /// None from brokers before 2.6.
    pub state: Option<String>,
    /// Who divides the partitions: members (`classic`) or the broker (`consumer`). None from brokers before 3.8.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub coordinator: i32,
}

/// A group with its members.
#[derive(Debug, Clone)]
pub struct GroupState {
    pub state: String,
    /// `classic` or `consumer`.
    pub kind: &'static str,
    pub protocol_type: String,
    /// How partitions are divided.
    pub assignor: String,
    pub coordinator: i32,
    pub members: Vec<Member>,
}

impl GroupState {
    /// Whether members use the group, so that its offsets are theirs to change.
    pub fn is_active(&self) -> bool {
        !self.members.is_empty() || !matches!(self.state.as_str(), "Empty" | "Dead")
    }
}

/// A member of a group.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Member {
    pub member_id: String,
    /// The name that a static member gave itself.
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    /// What it owns, by topic.
    pub partitions: BTreeMap<String, Vec<i32>>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    /// What the member said about it.
    pub metadata: String,
}

impl Cluster {
    /// Every group of every broker, sorted by name.
    pub async fn groups(&mut self) -> Result<Vec<ListedGroup>, ClientError> {
        let mut groups = Vec::new();
        for id in self.broker_ids().await? {
            let mut retry = Retry::new(self.wait());
            loop {
                match self.groups_of(id).await {
                    Err(error) => retry.pause_or(error).await?,
                    Ok(found) => break groups.extend(found),
                }
            }
        }
        groups.sort_by(|one, other| one.group.cmp(&other.group));
        Ok(groups)
    }

    async fn groups_of(&mut self, broker: i32) -> Result<Vec<ListedGroup>, ClientError> {
        let connection = self.broker(broker).await?;
        let version = connection.version::<ListGroupsRequest>(i16::MAX)?;
        let answer = connection.call(&ListGroupsRequest::default(), version).await?;
        ClientError::check(answer.error_code, None, || "cannot list groups".to_owned())?;
        let groups = answer.groups.into_iter().map(|row| ListedGroup {
            group: row.group_id.to_string(),
            protocol_type: row.protocol_type.to_string(),
            state: (version >= 4).then(|| row.group_state.to_string()),
            kind: (version >= 5).then(|| row.group_type.to_string()),
            coordinator: broker,
        });
        Ok(groups.collect())
    }

    /// A group, or `None` when there is none with that name.
    pub async fn group(&mut self, group: &str) -> Result<Option<GroupState>, ClientError> {
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
        let (coordinator, answer) = self.ask_coordinator(group, i16::MAX, &request).await?;
        let row = only(answer.groups, "DescribeGroups")?;
        // Up to version 5, a group that is not there is a dead one.
        let is_missing = row.error_code == ResponseError::GroupIdNotFound.code()
            || (row.error_code == 0 && row.group_state.as_str() == "Dead");
        if is_missing {
            return self.new_group(group, coordinator).await;
        }
        ClientError::check(row.error_code, row.error_message.as_deref(), || format!("cannot describe group {group}"))?;
        Ok(Some(classic(row, coordinator)))
    }

    /// The same, for groups of the protocol of KIP-848, which DescribeGroups does not know.
    async fn new_group(&mut self, group: &str, coordinator: i32) -> Result<Option<GroupState>, ClientError> {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
        let (coordinator, answer) = match self.ask_coordinator(group, i16::MAX, &request).await {
            Ok(answered) => answered,
            Err(ClientError::Unsupported { .. }) => return self.foreign_group(group, coordinator).await,
            Err(error) => return Err(error),
        };
        let row = only(answer.groups, "ConsumerGroupDescribe")?;
        if row.error_code == ResponseError::GroupIdNotFound.code() {
            return self.foreign_group(group, coordinator).await;
        }
        ClientError::check(row.error_code, row.error_message.as_deref(), || format!("cannot describe group {group}"))?;
        Ok(Some(of_the_broker(row, coordinator)))
    }

    /// Whether the group that has no description is not there, or is of a kind that neither API describes.
    async fn foreign_group(&mut self, group: &str, coordinator: i32) -> Result<Option<GroupState>, ClientError> {
        let listed = self.groups_of(coordinator).await?.into_iter().find(|row| row.group == group);
        match listed.and_then(|row| row.kind) {
            Some(kind) if !["", "classic", CONSUMER].contains(&kind.to_ascii_lowercase().as_str()) => {
                let message = format!("group {group} is of type {kind}, which this program can list but not handle");
                Err(ClientError::Invalid(message))
            }
            _ => Ok(None),
        }
    }

    /// The offsets that a group committed. A group that is not there has none.
    pub async fn committed(&mut self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>, ClientError> {
        let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(None);
        let (_, answer) = self.ask_coordinator(group, OFFSET_FETCH_VERSION_MAX, &request).await?;
        ClientError::check(answer.error_code, None, || format!("offsets of group {group}"))?;
        let mut found = BTreeMap::new();
        for topic in answer.topics {
            for row in topic.partitions {
                let what = || format!("offsets of group {group} in {}/{}", topic.name.as_str(), row.partition_index);
                ClientError::check(row.error_code, None, what)?;
                if row.committed_offset >= 0 {
                    let metadata = row.metadata.map(|text| text.to_string()).unwrap_or_default();
                    let committed = Committed { offset: row.committed_offset, metadata };
                    found.insert((topic.name.to_string(), row.partition_index), committed);
                }
            }
        }
        Ok(found)
    }

    /// Commits offsets for a group without members. Answers what was refused; the others are committed.
    pub async fn commit(
        &mut self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, ClientError>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let row = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::default()));
            topics.entry(topic).or_default().push(row);
        }
        let topics = topics
            .into_iter()
            .map(|(name, rows)| OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(rows));
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        let (_, answer) = self.ask_coordinator(group, OFFSET_COMMIT_VERSION_MAX, &request).await?;
        let unsaid = |(topic, partition): &TopicPartition| {
            ClientError::Invalid(format!("the broker said nothing about the offset of {topic}/{partition}"))
        };
        let mut refused: BTreeMap<_, _> = offsets.keys().map(|place| (place.clone(), unsaid(place))).collect();
        for topic in answer.topics {
            for row in topic.partitions {
                let what =
                    || format!("cannot commit {}/{} for group {group}", topic.name.as_str(), row.partition_index);
                let place = (topic.name.to_string(), row.partition_index);
                match ClientError::check(row.error_code, None, what) {
                    Ok(()) => drop(refused.remove(&place)),
                    Err(error) => drop(refused.insert(place, error)),
                }
            }
        }
        Ok(refused)
    }

    /// Deletes a group without members, with its offsets.
    pub async fn delete_group(&mut self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
        let (_, answer) = self.ask_coordinator(group, i16::MAX, &request).await?;
        let row = only(answer.results, "DeleteGroups")?;
        ClientError::check(row.error_code, None, || format!("cannot delete group {group}"))
    }

    /// Asks a group's coordinator, again while the answer is that it is not ready or another one is. Answers its id too.
    async fn ask_coordinator<R: Request>(
        &mut self,
        group: &str,
        cap: i16,
        request: &R,
    ) -> Result<(i32, R::Response), ClientError>
    where
        R::Response: GroupAnswer,
    {
        let mut retry = Retry::new(self.wait());
        loop {
            match self.ask_coordinator_once(group, cap, request).await {
                Err(error) => retry.pause_or(error).await?,
                done => return done,
            }
        }
    }

    async fn ask_coordinator_once<R: Request>(
        &mut self,
        group: &str,
        cap: i16,
        request: &R,
    ) -> Result<(i32, R::Response), ClientError>
    where
        R::Response: GroupAnswer,
    {
        let find = FindCoordinatorRequest::default().with_key(text(group));
        let found = self.ask(|_| find.clone(), FIND_COORDINATOR_VERSION_MAX).await?;
        ClientError::check(found.error_code, found.error_message.as_deref(), || {
            format!("cannot find the coordinator of group {group}")
        })?;
        let id = found.node_id.0;
        self.learn(id, &found.host, found.port);
        let connection = self.broker(id).await?;
        let version = connection.version::<R>(cap)?;
        let answer = connection.call(request, version).await?;
        if let Some(code) = answer.codes().into_iter().find(|code| COORDINATOR_MOVES.contains(code)) {
            ClientError::check(code, None, || format!("the coordinator of group {group} does not answer"))?;
        }
        Ok((id, answer))
    }
}

/// An answer that may say that it is another coordinator's to give, or that this one is not ready.
trait GroupAnswer {
    /// The error codes in it.
    fn codes(&self) -> Vec<i16>;
}

impl GroupAnswer for DescribeGroupsResponse {
    fn codes(&self) -> Vec<i16> {
        self.groups.iter().map(|row| row.error_code).collect()
    }
}

impl GroupAnswer for ConsumerGroupDescribeResponse {
    fn codes(&self) -> Vec<i16> {
        self.groups.iter().map(|row| row.error_code).collect()
    }
}

impl GroupAnswer for OffsetFetchResponse {
    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}

impl GroupAnswer for OffsetCommitResponse {
    fn codes(&self) -> Vec<i16> {
        self.topics.iter().flat_map(|topic| &topic.partitions).map(|row| row.error_code).collect()
    }
}

impl GroupAnswer for DeleteGroupsResponse {
    fn codes(&self) -> Vec<i16> {
        self.results.iter().map(|row| row.error_code).collect()
    }
}

fn only<T>(rows: Vec<T>, api: &str) -> Result<T, ClientError> {
    rows.into_iter().next().ok_or_else(|| ClientError::Invalid(format!("the broker answered {api} with nothing")))
}

fn classic(row: DescribedGroup, coordinator: i32) -> GroupState {
    let is_consumers = row.protocol_type.as_str() == CONSUMER;
    let member = |member: DescribedGroupMember| Member {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: if is_consumers { assignment(member.member_assignment) } else { BTreeMap::new() },
    };
    GroupState {
        state: row.group_state.to_string(),
        kind: "classic",
        protocol_type: row.protocol_type.to_string(),
        assignor: row.protocol_data.to_string(),
        coordinator,
        members: row.members.into_iter().map(member).collect(),
    }
}

/// What a member of a classic group owns, or nothing when that cannot be read: the bytes are those of the group's leader,
/// whom the broker believes. Every version begins alike: itself, and the topics, each with its partitions.
fn assignment(mut bytes: Bytes) -> BTreeMap<String, Vec<i32>> {
    let mut owned: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let mut read = || -> Option<()> {
        bytes.try_get_i16().ok()?;
        for _ in 0..bytes.try_get_i32().ok()? {
            let size = usize::try_from(bytes.try_get_i16().ok()?).ok().filter(|size| *size <= bytes.len())?;
            let topic = String::from_utf8(bytes.split_to(size).to_vec()).ok()?;
            let partitions = owned.entry(topic).or_default();
            for _ in 0..bytes.try_get_i32().ok()? {
                partitions.push(bytes.try_get_i32().ok()?);
            }
        }
        Some(())
    };
    if read().is_some() { sorted(owned) } else { BTreeMap::new() }
}

fn of_the_broker(row: NewGroup, coordinator: i32) -> GroupState {
    let owned = |assignment: Assignment| {
        let topics = assignment.topic_partitions.into_iter();
        sorted(topics.map(|row| (row.topic_name.to_string(), row.partitions)).collect())
    };
    let member = |member: NewMember| Member {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: owned(member.assignment),
    };
    GroupState {
        state: row.group_state.to_string(),
        kind: "consumer",
        protocol_type: CONSUMER.to_owned(),
        assignor: row.assignor_name.to_string(),
        coordinator,
        members: row.members.into_iter().map(member).collect(),
    }
}

fn sorted(mut owned: BTreeMap<String, Vec<i32>>) -> BTreeMap<String, Vec<i32>> {
    for partitions in owned.values_mut() {
        partitions.sort_unstable();
    }
    owned
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_a_strange_one_is_nothing() {
        // Version 1; one topic `t` with partitions 2 and 0; no user data.
        let bytes = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x02\0\0\0\0\xff\xff\xff\xff";
        let wanted: BTreeMap<String, Vec<i32>> = [("t".to_owned(), vec![0, 2])].into();
        assert_eq!(assignment(Bytes::from_static(bytes)), wanted);
        for end in 0..bytes.len() - 4 {
            assert!(assignment(Bytes::copy_from_slice(&bytes[..end])).is_empty(), "{end} bytes");
        }
        assert!(assignment(Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xff")).is_empty());
    }

    #[test]
    fn a_group_is_active_while_it_has_members_or_settles() {
        let group = |state: &str| GroupState {
            state: state.to_owned(),
            kind: "classic",
            protocol_type: CONSUMER.to_owned(),
            assignor: String::new(),
            coordinator: 1,
            members: Vec::new(),
        };
        assert!(["Stable", "PreparingRebalance", "CompletingRebalance"].iter().all(|state| group(state).is_active()));
        assert!(!group("Empty").is_active());
    }
}
