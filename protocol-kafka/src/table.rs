//! THE list of operations. Routing, ApiVersions, metric labels, access checks and `docs/operations.md` all come from it: to
//! add an operation, write `op/<name>.rs` and add its row.

use crate::call::{Handler, typed};
use crate::op;
use headwater_protocol::metrics::Metrics;
use kafka_protocol::messages::ApiKey;
use std::fmt::Write;

/// One operation.
pub struct Row {
    /// Its number on the wire.
    pub key: ApiKey,
    /// Its name, as Kafka writes it; also the metric label.
    pub name: &'static str,
    /// The lowest version that ApiVersions advertises.
    pub min: i16,
    /// The highest one.
    pub max: i16,
    /// The first version with compact encoding and tagged fields.
    pub flexible: i16,
    /// The reference's highest version, where it is above ours.
    pub reference_max: i16,
    /// What an authorizer is asked.
    pub access: Access,
    /// Who needs it: 1 every common client, 2 the full feature, 3 completeness.
    pub tier: u8,
    /// What it does.
    pub handler: Handler,
    /// Whether the next request may start before this one is answered: for what queues its records in order, so that only the
    /// wait for the medium overlaps.
    pub pipelined: bool,
    /// Whether it may wait for as long as the client says: for records, or for other members of a group.
    pub parks: bool,
    /// What is not there yet, for `docs/operations.md`; empty when nothing is missing.
    pub missing: &'static str,
}

/// What an operation does to which resource, in Kafka's own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Anyone may, before authentication too.
    Open,
    /// On each topic named in the request.
    Topic(Action),
    /// On each group named in the request.
    Group(Action),
    /// On the cluster.
    Cluster(Action),
}

/// An access action, in Kafka's own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Fetch records.
    Read,
    /// Produce records.
    Write,
    /// Make a resource.
    Create,
    /// Remove a resource or records.
    Delete,
    /// Change a resource.
    Alter,
    /// Look at a resource.
    Describe,
    /// Look at its settings.
    DescribeConfigs,
    /// Change its settings.
    AlterConfigs,
    /// Produce with an idempotent producer.
    IdempotentWrite,
}

use Access::{Cluster, Group, Open, Topic};

const ROW: Row = Row {
    key: ApiKey::ApiVersions,
    name: "",
    min: 0,
    max: 0,
    flexible: 0,
    reference_max: 0,
    access: Open,
    tier: 1,
    handler: op::api_versions::handle,
    pipelined: false,
    parks: false,
    missing: "",
};

/// The operations, by key.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    Row { key: ApiKey::Produce, name: "Produce", min: 0, max: 13, flexible: 9, reference_max: 13, access: Topic(Action::Write),
        handler: op::produce::handle, pipelined: true, missing: "transactional batches", ..ROW },
    Row { key: ApiKey::Fetch, name: "Fetch", min: 4, max: 18, flexible: 12, reference_max: 18, access: Topic(Action::Read),
        handler: op::fetch::handle, parks: true, ..ROW },
    Row { key: ApiKey::ListOffsets, name: "ListOffsets", min: 1, max: 11, flexible: 6, reference_max: 11,
        access: Topic(Action::Describe), handler: typed!(op::list_offsets::handle),
        missing: "records in remote storage", ..ROW },
    Row { key: ApiKey::Metadata, name: "Metadata", min: 0, max: 13, flexible: 9, reference_max: 13,
        access: Topic(Action::Describe), handler: typed!(op::metadata::handle), ..ROW },
    Row { key: ApiKey::OffsetCommit, name: "OffsetCommit", min: 2, max: 10, flexible: 8, reference_max: 10,
        access: Group(Action::Read), handler: op::offset_commit::handle, pipelined: true, ..ROW },
    Row { key: ApiKey::OffsetFetch, name: "OffsetFetch", min: 1, max: 10, flexible: 6, reference_max: 10,
        access: Group(Action::Describe), handler: typed!(op::offset_fetch::handle), ..ROW },
    Row { key: ApiKey::FindCoordinator, name: "FindCoordinator", min: 0, max: 6, flexible: 3, reference_max: 6,
        access: Group(Action::Describe), handler: typed!(op::find_coordinator::handle),
        missing: "coordinators of transactions and share groups", ..ROW },
    Row { key: ApiKey::JoinGroup, name: "JoinGroup", min: 0, max: 9, flexible: 6, reference_max: 9,
        access: Group(Action::Read), handler: op::join_group::handle, parks: true, ..ROW },
    Row { key: ApiKey::Heartbeat, name: "Heartbeat", min: 0, max: 4, flexible: 4, reference_max: 4,
        access: Group(Action::Read), handler: typed!(op::heartbeat::handle), ..ROW },
    Row { key: ApiKey::LeaveGroup, name: "LeaveGroup", min: 0, max: 5, flexible: 4, reference_max: 5,
        access: Group(Action::Read), handler: typed!(op::leave_group::handle), ..ROW },
    Row { key: ApiKey::SyncGroup, name: "SyncGroup", min: 0, max: 5, flexible: 4, reference_max: 5,
        access: Group(Action::Read), handler: op::sync_group::handle, parks: true, ..ROW },
    Row { key: ApiKey::DescribeGroups, name: "DescribeGroups", min: 0, max: 6, flexible: 5, reference_max: 6,
        access: Group(Action::Describe), handler: typed!(op::describe_groups::handle), ..ROW },
    Row { key: ApiKey::ListGroups, name: "ListGroups", min: 0, max: 5, flexible: 3, reference_max: 5,
        access: Cluster(Action::Describe), handler: typed!(op::list_groups::handle), ..ROW },
    Row { key: ApiKey::ApiVersions, name: "ApiVersions", min: 0, max: 5, flexible: 3, reference_max: 5, access: Open,
        handler: op::api_versions::handle, ..ROW },
    Row { key: ApiKey::CreateTopics, name: "CreateTopics", min: 2, max: 7, flexible: 5, reference_max: 7,
        access: Cluster(Action::Create), handler: typed!(op::create_topics::handle), ..ROW },
    Row { key: ApiKey::DeleteTopics, name: "DeleteTopics", min: 1, max: 6, flexible: 4, reference_max: 6,
        access: Topic(Action::Delete), handler: typed!(op::delete_topics::handle), ..ROW },
    Row { key: ApiKey::DeleteRecords, name: "DeleteRecords", min: 0, max: 2, flexible: 2, reference_max: 2,
        access: Topic(Action::Delete), handler: typed!(op::delete_records::handle), tier: 2, ..ROW },
    Row { key: ApiKey::InitProducerId, name: "InitProducerId", min: 0, max: 5, flexible: 2, reference_max: 5,
        access: Cluster(Action::IdempotentWrite), handler: typed!(op::init_producer_id::handle),
        missing: "transactional ids", ..ROW },
    Row { key: ApiKey::OffsetForLeaderEpoch, name: "OffsetForLeaderEpoch", min: 2, max: 4, flexible: 4, reference_max: 4,
        access: Topic(Action::Describe), handler: typed!(op::offset_for_leader_epoch::handle), tier: 2, ..ROW },
    Row { key: ApiKey::DescribeConfigs, name: "DescribeConfigs", min: 1, max: 4, flexible: 4, reference_max: 4,
        access: Topic(Action::DescribeConfigs), handler: typed!(op::describe_configs::handle),
        missing: "settings of groups and client metrics: defaults only", ..ROW },
    Row { key: ApiKey::AlterConfigs, name: "AlterConfigs", min: 0, max: 2, flexible: 2, reference_max: 2,
        access: Topic(Action::AlterConfigs), handler: typed!(op::alter_configs::handle), tier: 2,
        missing: "settings of brokers, groups and client metrics", ..ROW },
    Row { key: ApiKey::AlterReplicaLogDirs, name: "AlterReplicaLogDirs", min: 1, max: 2, flexible: 2, reference_max: 2, access: Cluster(Action::Alter),
        handler: typed!(op::alter_replica_log_dirs::handle), tier: 3, ..ROW },
    Row { key: ApiKey::DescribeLogDirs, name: "DescribeLogDirs", min: 1, max: 5, flexible: 2, reference_max: 5, access: Cluster(Action::Describe),
        handler: typed!(op::describe_log_dirs::handle), tier: 3, ..ROW },
    Row { key: ApiKey::CreatePartitions, name: "CreatePartitions", min: 0, max: 3, flexible: 2, reference_max: 3,
        access: Topic(Action::Alter), handler: typed!(op::create_partitions::handle), ..ROW },
    Row { key: ApiKey::DeleteGroups, name: "DeleteGroups", min: 0, max: 3, flexible: 2, reference_max: 3,
        access: Group(Action::Delete), handler: typed!(op::delete_groups::handle), ..ROW },
    Row { key: ApiKey::ElectLeaders, name: "ElectLeaders", min: 0, max: 2, flexible: 2, reference_max: 2, access: Cluster(Action::Alter),
        handler: typed!(op::elect_leaders::handle), tier: 3, ..ROW },
    Row { key: ApiKey::IncrementalAlterConfigs, name: "IncrementalAlterConfigs", min: 0, max: 1, flexible: 1,
        reference_max: 1, access: Topic(Action::AlterConfigs), handler: typed!(op::incremental_alter_configs::handle),
        missing: "settings of brokers, groups and client metrics", ..ROW },
    Row { key: ApiKey::AlterPartitionReassignments, name: "AlterPartitionReassignments", min: 0, max: 1, flexible: 0, reference_max: 1, access: Cluster(Action::Alter),
        handler: typed!(op::alter_partition_reassignments::handle), tier: 3, ..ROW },
    Row { key: ApiKey::ListPartitionReassignments, name: "ListPartitionReassignments", min: 0, max: 0, flexible: 0, reference_max: 0, access: Cluster(Action::Describe),
        handler: typed!(op::list_partition_reassignments::handle), tier: 3, ..ROW },
    Row { key: ApiKey::OffsetDelete, name: "OffsetDelete", min: 0, max: 0, flexible: i16::MAX, reference_max: 0,
        access: Group(Action::Delete), handler: typed!(op::offset_delete::handle), tier: 2, ..ROW },
    Row { key: ApiKey::DescribeClientQuotas, name: "DescribeClientQuotas", min: 0, max: 1, flexible: 1, reference_max: 1, access: Cluster(Action::DescribeConfigs),
        handler: typed!(op::describe_client_quotas::handle), tier: 3, ..ROW },
    Row { key: ApiKey::AlterClientQuotas, name: "AlterClientQuotas", min: 0, max: 1, flexible: 1, reference_max: 1, access: Cluster(Action::AlterConfigs),
        handler: typed!(op::alter_client_quotas::handle), tier: 3,
        missing: "quotas: to set one is refused", ..ROW },
    Row { key: ApiKey::DescribeQuorum, name: "DescribeQuorum", min: 0, max: 2, flexible: 0, reference_max: 2, access: Cluster(Action::Describe),
        handler: typed!(op::describe_quorum::handle), tier: 3, ..ROW },
    Row { key: ApiKey::UpdateFeatures, name: "UpdateFeatures", min: 0, max: 2, flexible: 0, reference_max: 2, access: Cluster(Action::Alter),
        handler: typed!(op::update_features::handle), tier: 3,
        missing: "features with levels: every update is refused", ..ROW },
    Row { key: ApiKey::DescribeCluster, name: "DescribeCluster", min: 0, max: 2, flexible: 0, reference_max: 2,
        access: Cluster(Action::Describe), handler: typed!(op::describe_cluster::handle), tier: 2, ..ROW },
    Row { key: ApiKey::DescribeProducers, name: "DescribeProducers", min: 0, max: 0, flexible: 0, reference_max: 0, access: Topic(Action::Read),
        handler: typed!(op::describe_producers::handle), tier: 2, ..ROW },
    Row { key: ApiKey::UnregisterBroker, name: "UnregisterBroker", min: 0, max: 0, flexible: 0, reference_max: 0, access: Cluster(Action::Alter),
        handler: typed!(op::unregister_broker::handle), tier: 3, ..ROW },
    Row { key: ApiKey::ListConfigResources, name: "ListConfigResources", min: 0, max: 1, flexible: 0, reference_max: 1, access: Cluster(Action::DescribeConfigs),
        handler: typed!(op::list_config_resources::handle), tier: 2, ..ROW },
    Row { key: ApiKey::DescribeTopicPartitions, name: "DescribeTopicPartitions", min: 0, max: 0, flexible: 0,
        reference_max: 0, access: Topic(Action::Describe), handler: typed!(op::describe_topic_partitions::handle), tier: 2,
        ..ROW },
    Row { key: ApiKey::AddRaftVoter, name: "AddRaftVoter", min: 0, max: 1, flexible: 0, reference_max: 1, access: Cluster(Action::Alter),
        handler: typed!(op::add_raft_voter::handle), tier: 3,
        missing: "other voters: refused", ..ROW },
    Row { key: ApiKey::RemoveRaftVoter, name: "RemoveRaftVoter", min: 0, max: 0, flexible: 0, reference_max: 0, access: Cluster(Action::Alter),
        handler: typed!(op::remove_raft_voter::handle), tier: 3,
        missing: "other voters: refused", ..ROW },
];

/// The row of a key and its place in the table.
pub(crate) fn find(key: ApiKey) -> Option<(usize, &'static Row)> {
    TABLE.iter().enumerate().find(|(_, row)| row.key == key)
}

/// Whether the operation may wait for as long as the client says.
pub(crate) fn parks(operation: usize) -> bool {
    TABLE.get(operation).is_some_and(|row| row.parks)
}

/// Counters for the operations of the table.
pub fn metrics() -> Metrics {
    Metrics::new("kafka", TABLE.iter().map(|row| (row.name, row.min, row.max)))
}

/// `docs/operations.md`, the part about Kafka: a table in Markdown.
pub fn operations_page() -> String {
    let mut page = String::from(
        "| Key | API | Versions | Reference | Access | Tier | Not there yet |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in TABLE {
        let access = match row.access {
            Open => "open".to_owned(),
            Topic(action) => format!("topic: {action:?}"),
            Group(action) => format!("group: {action:?}"),
            Cluster(action) => format!("cluster: {action:?}"),
        };
        let Row { name, min, max, reference_max, tier, missing, .. } = row;
        let key = row.key as i16;
        // Writing to a string cannot fail.
        let _ =
            writeln!(page, "| {key} | {name} | {min}-{max} | {min}-{reference_max} | {access} | {tier} | {missing} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NEWER;

    #[test]
    fn rows_are_in_order_and_agree_with_the_codec() {
        assert!(TABLE.is_sorted_by_key(|row| row.key as i16));
        for row in TABLE {
            assert_eq!(row.name, format!("{:?}", row.key), "the name is Kafka's own");
            assert!(row.min <= row.max && row.max <= row.reference_max, "{}", row.name);
            for version in row.min.max(row.key.valid_versions().min)..=row.max {
                let flexible = row.key.request_header_version(version) >= 2;
                assert_eq!(flexible, version >= row.flexible, "{} v{version}", row.name);
            }
            let codec = row.key.valid_versions();
            let newer = NEWER.iter().find(|(key, _)| *key == row.key).map(|(_, max)| *max);
            // Produce is advertised from 0, which old clients look for, and closes the connection below 3.
            assert!(row.min >= codec.min || row.key == ApiKey::Produce, "{}", row.name);
            assert!(row.max <= newer.unwrap_or(codec.max), "{}", row.name);
            assert!(newer.is_none_or(|newer| codec.max < newer), "{}: the codec knows it by now", row.name);
        }
    }

    #[test]
    fn the_page_has_a_line_for_each_operation() {
        let page = operations_page();
        assert_eq!(page.lines().count(), TABLE.len() + 2);
        assert!(page.contains("| 0 | Produce | 0-13 | 0-13 | topic: Write | 1 |"));
    }
}
