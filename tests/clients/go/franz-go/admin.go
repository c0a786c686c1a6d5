package main

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	. "headwater/clients/harness"
)

var adminCases = []Case{
	{Name: "topics_are_created_grown_listed_and_deleted", Body: topics},
	{Name: "settings_of_a_topic_are_described_and_altered", Body: settings},
	{Name: "deleted_records_are_gone_and_offsets_stay", Body: deleteRecords},
	{Name: "one_node_answers_for_the_cluster", Body: cluster},
}

func topics(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic := Name("life")
	_, err := admin.ValidateCreateTopics(run, 3, 1, nil, topic)
	Ok(err, "validate")
	Check(!Must(admin.ListTopics(run)).Has(topic), "validating made a topic")
	created := Must(admin.CreateTopic(run, 3, 1, map[string]*string{"retention.ms": kadm.StringPtr("3600000")}, topic))
	Equal(*created.Configs["retention.ms"].Value, "3600000", "a setting in the answer")
	Until(run, "the topic is visible", func() bool { return visible(run, admin, topic) == 3 })
	Equal(Must(admin.ListTopics(run))[topic].ID, created.ID, "id")
	_, err = admin.CreateTopic(run, 3, 1, nil, topic)
	Fails(err, kerr.TopicAlreadyExists, "the same again")
	_, err = admin.CreateTopic(run, 1, 1, nil, "no spaces!")
	Fails(err, kerr.InvalidTopicException, "a bad name")
	_, err = admin.CreateTopic(run, 1, 3, nil, Name("replicas"))
	Fails(err, kerr.InvalidReplicationFactor, "three replicas")
	Ok(Must(admin.UpdatePartitions(run, 5, topic))[topic].Err, "five partitions")
	Until(run, "five partitions", func() bool { return visible(run, admin, topic) == 5 })
	Ok(Must(admin.CreatePartitions(run, 1, topic))[topic].Err, "one more")
	Until(run, "six partitions", func() bool { return visible(run, admin, topic) == 6 })
	Fails(Must(admin.UpdatePartitions(run, 2, topic))[topic].Err, kerr.InvalidPartitions, "fewer partitions")
	fill(run, topic, 5, numbered(3))
	Equal(Must(admin.DeleteTopic(run, topic)).Topic, topic, "deleted topic")
	Until(run, "the topic is gone", func() bool { return visible(run, admin, topic) == 0 })
	_, err = admin.DeleteTopic(run, topic)
	Fails(err, kerr.UnknownTopicOrPartition, "deleting it twice")
}

func settings(run *Run) {
	topic := create(run, "settings", 1, "retention.ms", "3600000")
	admin := admin(run)
	defer admin.Close()
	described := func() map[string]kadm.Config {
		resources := Must(admin.DescribeTopicConfigs(run, topic))
		Equal(len(resources), 1, "resources")
		Ok(resources[0].Err, "describe")
		found := map[string]kadm.Config{}
		for _, config := range resources[0].Configs {
			found[config.Key] = config
		}
		return found
	}
	value := func(name string) string {
		found, is := described()[name]
		Check(is, "%s is not described", name)
		return found.MaybeValue()
	}
	Equal(described()["retention.ms"].Source, kmsg.ConfigSourceDynamicTopicConfig, "source of a set value")
	Equal(described()["segment.bytes"].Source, kmsg.ConfigSourceDefaultConfig, "source of a default")
	Check(len(described()) >= 30, "%d settings only", len(described()))

	alter := func(changes ...kadm.AlterConfig) error {
		return Must(admin.AlterTopicConfigs(run, changes, topic))[0].Err
	}
	text := kadm.StringPtr
	Ok(Must(admin.ValidateAlterTopicConfigs(run, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: text("1")}}, topic))[0].Err, "validate")
	Equal(value("retention.ms"), "3600000", "after a validation")
	Ok(alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: text("7200000")},
		kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: text("compact")}), "set and append")
	Until(run, "the values are altered", func() bool { return value("retention.ms") == "7200000" })
	Until(run, "the list is altered", func() bool { return value("cleanup.policy") == "delete,compact" })
	Ok(alter(kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: text("delete")},
		kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"}), "subtract and delete")
	Until(run, "the default is back", func() bool { return value("retention.ms") == "604800000" })
	Until(run, "the list is shorter", func() bool { return value("cleanup.policy") == "compact" })
	Fails(alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: text("soon")}), kerr.InvalidConfig, "a bad value")
	Fails(alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "no.such.setting", Value: text("1")}), kerr.InvalidConfig, "an unknown setting")
	missing := Must(admin.AlterTopicConfigs(run, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: text("1000")}}, Name("missing")))
	Fails(missing[0].Err, kerr.UnknownTopicOrPartition, "a missing topic")
	// The older call states all settings: what it leaves out goes back to the default.
	Ok(Must(admin.AlterTopicConfigsState(run, []kadm.AlterConfig{{Name: "max.message.bytes", Value: text("2000000")}}, topic))[0].Err, "state")
	Until(run, "the state is as stated", func() bool {
		return value("max.message.bytes") == "2000000" && value("cleanup.policy") == "delete"
	})
	brokers := Must(admin.ListBrokers(run))
	node := Must(admin.DescribeBrokerConfigs(run, brokers[0].NodeID))
	Ok(node[0].Err, "settings of the broker")
	Check(len(node[0].Configs) > 0, "no settings of the broker")
}

func deleteRecords(run *Run) {
	topic := create(run, "cut", 1)
	fill(run, topic, 0, numbered(100))
	admin := admin(run)
	defer admin.Close()
	deleteBefore := func(offset int64) (int64, error) {
		var offsets kadm.Offsets
		offsets.AddOffset(topic, 0, offset, -1)
		deleted := Must(admin.DeleteRecords(run, offsets))[topic][0]
		return deleted.LowWatermark, deleted.Err
	}
	Equal(Must(deleteBefore(40)), int64(40), "low watermark")
	Equal(one(Must(admin.ListStartOffsets(run, topic)), topic).Offset, int64(40), "start")
	consumer := client(run, from(topic, 0, startOffset))
	defer consumer.Close()
	Equal(read(run, consumer, 60)[0].Offset, int64(40), "first offset")
	_, err := deleteBefore(101)
	Fails(err, kerr.OffsetOutOfRange, "beyond the end")
	Equal(Must(deleteBefore(-1)), int64(100), "low watermark at the end")
	Same(fill(run, topic, 0, numbered(1)), []int64{100}, "the next offset")
}

func cluster(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic := create(run, "cluster", 2)
	fill(run, topic, 0, numbered(10))
	metadata := Must(admin.BrokerMetadata(run))
	Equal(len(metadata.Brokers), 1, "brokers")
	node := metadata.Brokers[0].NodeID
	Equal(metadata.Controller, node, "the controller")
	Check(metadata.Cluster != "", "no cluster id")
	for _, versions := range Must(admin.ApiVersions(run)) {
		Ok(versions.Err, "versions")
		Check(len(versions.Raw().ApiKeys) > 20, "only %d APIs are served", len(versions.Raw().ApiKeys))
	}
	set := kadm.TopicsSet{}
	set.Add(topic, 0, 1)
	var folder string
	directories := Must(admin.DescribeAllLogDirs(run, set))
	for _, found := range directories[node] {
		Ok(found.Err, "log directory")
		if partition, is := found.Topics.Lookup(topic, 0); is {
			folder = found.Dir
			Check(partition.Size > 0 && !partition.IsFuture, "partition 0: %+v", partition)
		}
		Check(found.TotalBytes > 0 && found.UsableBytes > 0, "sizes of the disk: %+v", found)
	}
	Check(folder != "", "no directory has the partition")
	move := kadm.AlterReplicaLogDirsReq{}
	move.Add(folder, set)
	for _, moved := range Must(admin.AlterAllReplicaLogDirs(run, move)).Sorted() {
		Ok(moved.Err, "moving it to where it is")
	}
	for _, elected := range Must(admin.ElectLeaders(run, kadm.ElectPreferredReplica, set))[topic] {
		Fails(elected.Err, kerr.ElectionNotNeeded, "elect the preferred leader")
	}
	Equal(len(Must(admin.ListPartitionReassignments(run, set))), 0, "reassignments")
	reassign := kadm.AlterPartitionAssignmentsReq{}
	reassign.Assign(topic, 0, []int32{node})
	Ok(Must(admin.AlterPartitionAssignments(run, reassign))[topic][0].Err, "assign it to the node that it is on")
	reassign = kadm.AlterPartitionAssignmentsReq{}
	reassign.Assign(topic, 0, []int32{node + 77})
	Fails(Must(admin.AlterPartitionAssignments(run, reassign))[topic][0].Err, kerr.InvalidReplicaAssignment, "to a node that is not there")
	reassign = kadm.AlterPartitionAssignmentsReq{}
	reassign.CancelAssign(topic, 0)
	Fails(Must(admin.AlterPartitionAssignments(run, reassign))[topic][0].Err, kerr.NoReassignmentInProgress, "cancel")
	resources := Must(admin.ListConfigResources(run, kmsg.ConfigResourceTypeTopic))
	Check(slices.ContainsFunc(resources.Sorted(), func(found kadm.ConfigResource) bool { return found.Name == topic }), "the topic has no settings in the list")

	request := kmsg.NewPtrDescribeQuorumRequest()
	log := kmsg.NewDescribeQuorumRequestTopic()
	log.Topic = "__cluster_metadata"
	log.Partitions = append(log.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
	request.Topics = append(request.Topics, log)
	raw := client(run)
	defer raw.Close()
	quorum := Must(request.RequestWith(run, raw))
	Ok(kerr.ErrorForCode(quorum.ErrorCode), "quorum")
	voters := quorum.Topics[0].Partitions[0]
	Ok(kerr.ErrorForCode(voters.ErrorCode), "quorum of the metadata")
	Equal(len(voters.CurrentVoters), 1, "voters")
	Equal(voters.LeaderID, voters.CurrentVoters[0].ReplicaID, "the leader")
	Check(voters.HighWatermark >= 0 && time.Since(time.UnixMilli(voters.CurrentVoters[0].LastFetchTimestamp)) > -time.Hour, "%+v", voters)
}
