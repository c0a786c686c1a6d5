package main

import (
	"slices"

	"github.com/IBM/sarama"

	. "headwater/clients/harness"
)

var adminCases = []Case{
	{Name: "topics_are_created_grown_listed_and_deleted", Body: topics},
	{Name: "settings_of_a_topic_are_described_and_altered", Body: configs},
	{Name: "deleted_records_are_gone_and_offsets_stay", Body: deleteRecords},
	{Name: "one_node_answers_for_the_cluster", Body: cluster},
}

func topics(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic, hour := Name("life"), "3600000"
	detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &hour}}
	Ok(admin.CreateTopic(topic, detail, true), "validate")
	_, there := Must(admin.ListTopics())[topic]
	Check(!there, "validating made a topic")
	Ok(admin.CreateTopic(topic, detail, false), "create")
	Until(run, "the topic is visible", func() bool { return visible(admin, topic) == 3 })
	listed := Must(admin.ListTopics())[topic]
	Equal(listed.NumPartitions, int32(3), "partitions in the list")
	Equal(*listed.ConfigEntries["retention.ms"], hour, "setting in the list")
	Fails(admin.CreateTopic(topic, detail, false), sarama.ErrTopicAlreadyExists, "the same again")
	Fails(admin.CreateTopic("no spaces!", detail, false), sarama.ErrInvalidTopic, "a bad name")
	Fails(admin.CreateTopic(Name("replicas"), &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 3}, false), sarama.ErrInvalidReplicationFactor, "three replicas")
	Ok(admin.CreatePartitions(topic, 5, nil, false), "five partitions")
	Until(run, "five partitions", func() bool { return visible(admin, topic) == 5 })
	Fails(admin.CreatePartitions(topic, 2, nil, false), sarama.ErrInvalidPartitions, "fewer partitions")
	fill(run, topic, 4, numbered(3))
	Ok(admin.DeleteTopic(topic), "delete")
	Until(run, "the topic is gone", func() bool { return visible(admin, topic) == 0 })
	Fails(admin.DeleteTopic(topic), sarama.ErrUnknownTopicOrPartition, "deleting it twice")
}

func configs(run *Run) {
	topic := create(run, "settings", 1, "retention.ms", "3600000")
	admin := admin(run)
	defer admin.Close()
	described := func() map[string]sarama.ConfigEntry {
		found := Must(admin.DescribeConfigs([]*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic}},
			sarama.DescribeConfigsOptions{IncludeSynonyms: true, IncludeDocumentation: true}))
		Equal(found[0].ErrorCode, sarama.ErrNoError, "describe")
		entries := map[string]sarama.ConfigEntry{}
		for _, entry := range found[0].Configs {
			entries[entry.Name] = entry
		}
		return entries
	}
	value := func(name string) string { return described()[name].Value }
	retention := described()["retention.ms"]
	Equal(retention.Source, sarama.SourceTopic, "source of a set value")
	Check(retention.Documentation != nil && *retention.Documentation != "", "no documentation")
	Check(slices.ContainsFunc(retention.Synonyms, func(synonym *sarama.ConfigSynonym) bool { return synonym.ConfigValue == "3600000" }), "no synonym with the value")
	Equal(described()["segment.bytes"].Source, sarama.SourceDefault, "source of a default")
	entry := func(operation sarama.IncrementalAlterConfigsOperation, text string) sarama.IncrementalAlterConfigsEntry {
		if operation == sarama.IncrementalAlterConfigsOperationDelete {
			return sarama.IncrementalAlterConfigsEntry{Operation: operation}
		}
		return sarama.IncrementalAlterConfigsEntry{Operation: operation, Value: &text}
	}
	alter := func(name string, entry sarama.IncrementalAlterConfigsEntry) error {
		return admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{name: entry}, false)
	}
	set, remove := sarama.IncrementalAlterConfigsOperationSet, sarama.IncrementalAlterConfigsOperationDelete
	Ok(alter("retention.ms", entry(set, "7200000")), "set")
	Until(run, "the value is set", func() bool { return value("retention.ms") == "7200000" })
	Ok(alter("retention.ms", entry(remove, "")), "delete")
	Until(run, "the default is back", func() bool { return value("retention.ms") == "604800000" })
	Ok(alter("cleanup.policy", entry(sarama.IncrementalAlterConfigsOperationAppend, "compact")), "append")
	Until(run, "the list is longer", func() bool { return value("cleanup.policy") == "delete,compact" })
	Ok(alter("cleanup.policy", entry(sarama.IncrementalAlterConfigsOperationSubtract, "delete")), "subtract")
	Until(run, "the list is shorter", func() bool { return value("cleanup.policy") == "compact" })
	Fails(alter("retention.ms", entry(set, "soon")), sarama.ErrInvalidConfig, "a bad value")
	Fails(alter("no.such.setting", entry(set, "1")), sarama.ErrInvalidConfig, "an unknown setting")
	// The older call states all settings: what it leaves out goes back to the default.
	larger := "2000000"
	Ok(admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"max.message.bytes": &larger}, false), "state")
	Until(run, "the state is as stated", func() bool {
		return value("max.message.bytes") == larger && value("cleanup.policy") == "delete"
	})
}

func deleteRecords(run *Run) {
	topic := create(run, "cut", 1)
	fill(run, topic, 0, numbered(100))
	client := client(run)
	defer client.Close()
	admin := Must(sarama.NewClusterAdminFromClient(client))
	Ok(admin.DeleteRecords(topic, map[int32]int64{0: 40}), "delete")
	Equal(Must(client.GetOffset(topic, 0, sarama.OffsetOldest)), int64(40), "start")
	Equal(read(run, topic, 0, sarama.OffsetOldest, 60)[0].Offset, int64(40), "first offset")
	Check(admin.DeleteRecords(topic, map[int32]int64{0: 101}) != nil, "records beyond the end were deleted")
	Ok(admin.DeleteRecords(topic, map[int32]int64{0: -1}), "delete all")
	Equal(Must(client.GetOffset(topic, 0, sarama.OffsetOldest)), int64(100), "start at the end")
	Same(fill(run, topic, 0, numbered(1)), []int64{100}, "the next offset")
}

func cluster(run *Run) {
	admin := admin(run)
	defer admin.Close()
	topic := create(run, "cluster", 2)
	fill(run, topic, 0, numbered(10))
	brokers, controller, err := admin.DescribeCluster()
	Ok(err, "describe the cluster")
	Equal([]int32{int32(len(brokers)), brokers[0].ID()}, []int32{1, controller}, "nodes and the controller")
	var sizes []int64
	for _, folder := range Must(admin.DescribeLogDirs([]int32{controller}))[controller] {
		Equal(folder.ErrorCode, sarama.ErrNoError, "log directory")
		for _, found := range folder.Topics {
			for _, partition := range found.Partitions {
				if found.Topic == topic && partition.PartitionID == 0 {
					sizes = append(sizes, partition.Size)
				}
			}
		}
	}
	Check(len(sizes) == 1 && sizes[0] > 0, "sizes of partition 0: %v", sizes)
	for partition, elected := range Must(admin.ElectLeaders(sarama.PreferredElection, map[string][]int32{topic: {0, 1}}))[topic] {
		Check(elected.ErrorCode == sarama.ErrElectionNotNeeded, "partition %d: %v", partition, elected.ErrorCode)
	}
	for _, partitions := range Must(admin.ListPartitionReassignments(topic, []int32{0, 1})) {
		Equal(len(partitions), 0, "reassignments")
	}
	Ok(admin.AlterPartitionReassignments(topic, [][]int32{{controller}, {controller}}), "assign to the node that they are on")
	Check(admin.AlterPartitionReassignments(topic, [][]int32{{controller + 77}, {controller}}) != nil, "assigned to a node that is not there")
	entries := Must(admin.DescribeConfig(sarama.ConfigResource{Type: sarama.BrokerResource, Name: "1"}))
	Check(len(entries) > 0, "no settings of the broker")
}
