//! One request of each type about groups and administration, every array with an element.

use crate::counts::Samples;
use bytes::Bytes;
use headwater_tests::calls;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AddRaftVoterRequest, AlterClientQuotasRequest, AlterConfigsRequest, AlterPartitionReassignmentsRequest,
    AlterReplicaLogDirsRequest, DeleteGroupsRequest, DescribeClientQuotasRequest, DescribeGroupsRequest,
    DescribeLogDirsRequest, DescribeProducersRequest, DescribeQuorumRequest, ElectLeadersRequest,
    FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, JoinGroupRequest, LeaveGroupRequest,
    ListConfigResourcesRequest, ListGroupsRequest, ListPartitionReassignmentsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, RemoveRaftVoterRequest, SyncGroupRequest, UnregisterBrokerRequest,
    UpdateFeaturesRequest, add_raft_voter_request, describe_producers_request, describe_quorum_request,
    incremental_alter_configs_request, list_partition_reassignments_request,
};
use kafka_protocol::protocol::StrBytes;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Adds those about groups.
pub fn groups(all: &mut Samples) {
    let name = calls::name("absurd");
    all.add(&FindCoordinatorRequest::default().with_key(text("g")));
    all.add(&FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
    let join = JoinGroupRequest::default().with_group_id(text("g").into()).with_session_timeout_ms(6_000);
    all.add(&join.with_protocol_type(text("consumer")).with_protocols(vec![protocol]));
    let assignment = SyncGroupRequestAssignment::default().with_member_id(text("m"));
    let sync = SyncGroupRequest::default().with_group_id(text("g").into()).with_member_id(text("m"));
    all.add(&sync.with_assignments(vec![assignment]));
    all.add(&HeartbeatRequest::default().with_group_id(text("g").into()).with_member_id(text("m")));
    all.add(&LeaveGroupRequest::default().with_group_id(text("g").into()).with_member_id(text("m")));
    let member = MemberIdentity::default().with_member_id(text("m"));
    all.add(&LeaveGroupRequest::default().with_group_id(text("g").into()).with_members(vec![member]));
    all.add(&DescribeGroupsRequest::default().with_groups(vec![text("g").into()]));
    all.add(&ListGroupsRequest::default());
    all.add(&ListGroupsRequest::default().with_states_filter(vec![text("Stable")]));
    all.add(&DeleteGroupsRequest::default().with_groups_names(vec![text("g").into()]));
    let partition = OffsetCommitRequestPartition::default().with_committed_metadata(Some(text("said")));
    let topic = OffsetCommitRequestTopic::default().with_name(name.clone()).with_partitions(vec![partition]);
    all.add(&OffsetCommitRequest::default().with_group_id(text("g").into()).with_topics(vec![topic]));
    let topic = OffsetFetchRequestTopic::default().with_name(name.clone()).with_partition_indexes(vec![0]);
    all.add(&OffsetFetchRequest::default().with_group_id(text("g").into()).with_topics(Some(vec![topic])));
    let topic = OffsetFetchRequestTopics::default().with_name(name.clone()).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(text("g").into()).with_topics(Some(vec![topic]));
    all.add(&OffsetFetchRequest::default().with_groups(vec![group]));
    let topic = OffsetDeleteRequestTopic::default().with_name(name);
    let topic = topic.with_partitions(vec![OffsetDeleteRequestPartition::default()]);
    all.add(&OffsetDeleteRequest::default().with_group_id(text("g").into()).with_topics(vec![topic]));
}

/// Adds those about administration.
pub fn administration(all: &mut Samples) {
    let name = calls::name("absurd");
    let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("9")));
    let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("absurd"));
    all.add(&AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]));
    let config = incremental_alter_configs_request::AlterableConfig::default().with_name(text("retention.ms"));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
    let resource = resource.with_resource_name(text("absurd")).with_configs(vec![config]);
    all.add(&IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    let topic = AlterReplicaLogDirTopic::default().with_name(name.clone()).with_partitions(vec![0]);
    let dir = AlterReplicaLogDir::default().with_path(text("/d")).with_topics(vec![topic]);
    all.add(&AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]));
    let topic = DescribableLogDirTopic::default().with_topic(name.clone()).with_partitions(vec![0]);
    all.add(&DescribeLogDirsRequest::default().with_topics(Some(vec![topic])));
    let topic = TopicPartitions::default().with_topic(name.clone()).with_partitions(vec![0]);
    all.add(&ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic])));
    let partition = ReassignablePartition::default().with_replicas(Some(vec![1.into()]));
    let topic = ReassignableTopic::default().with_name(name.clone()).with_partitions(vec![partition]);
    all.add(&AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]));
    let topic = list_partition_reassignments_request::ListPartitionReassignmentsTopics::default();
    let topic = topic.with_name(name.clone()).with_partition_indexes(vec![0]);
    all.add(&ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic])));
    let component = ComponentData::default().with_entity_type(text("user")).with_match_type(2);
    all.add(&DescribeClientQuotasRequest::default().with_components(vec![component]));
    let entity = EntityData::default().with_entity_type(text("user")).with_entity_name(Some(text("u")));
    let entry = EntryData::default().with_entity(vec![entity]);
    let entry = entry.with_ops(vec![OpData::default().with_key(text("producer_byte_rate"))]);
    all.add(&AlterClientQuotasRequest::default().with_entries(vec![entry]));
    let partition = describe_quorum_request::PartitionData::default();
    let topic = describe_quorum_request::TopicData::default().with_topic_name(name.clone());
    all.add(&DescribeQuorumRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]));
    let update = FeatureUpdateKey::default().with_feature(text("f")).with_max_version_level(1);
    all.add(&UpdateFeaturesRequest::default().with_feature_updates(vec![update]));
    let topic = describe_producers_request::TopicRequest::default().with_name(name).with_partition_indexes(vec![0]);
    all.add(&DescribeProducersRequest::default().with_topics(vec![topic]));
    all.add(&UnregisterBrokerRequest::default());
    all.add(&ListConfigResourcesRequest::default());
    all.add(&ListConfigResourcesRequest::default().with_resource_types(vec![2]));
    let listener = add_raft_voter_request::Listener::default().with_name(text("L")).with_host(text("h"));
    all.add(&AddRaftVoterRequest::default().with_listeners(vec![listener]));
    all.add(&RemoveRaftVoterRequest::default().with_cluster_id(Some(text("c"))));
}
