package clients;

import static clients.Broker.get;
import static clients.Broker.partitions;
import static clients.Broker.topicName;
import static clients.Check.check;
import static clients.Check.equal;
import static clients.Check.fails;
import static clients.Check.same;
import static clients.Check.until;

import clients.Main.Case;
import clients.Main.Run;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Topics, partitions, settings, the cluster, and the answers to mistakes. */
final class Administration {
    static final List<Case> CASES = List.of(
            new Case("topicsAreCreatedDescribedListedAndDeleted", Administration::topics),
            new Case("theClusterAndItsSettingsAreDescribed", Administration::descriptions),
            new Case("partitionsAreAddedAndTakeRecords", Administration::morePartitions),
            new Case("deletedRecordsAreGoneAndOffsetsStay", Administration::deleteRecords),
            new Case("mistakesAreAnsweredWithTheirError", Administration::mistakes),
            new Case("aProducerCreatesItsTopic", Administration::autoCreate));

    private Administration() {}

    private static NewTopic topic(String name, int partitions) {
        return new NewTopic(name, Optional.of(partitions), Optional.empty());
    }

    private static void topics(Run run) throws Exception {
        try (Admin admin = new Broker(run).admin()) {
            String name = topicName("life");
            NewTopic wanted = topic(name, 3).configs(Map.of("retention.ms", "3600000"));
            get(admin.createTopics(List.of(wanted), new CreateTopicsOptions().validateOnly(true)).all());
            check(!get(admin.listTopics().names()).contains(name), "validateOnly made a topic");
            var created = admin.createTopics(List.of(wanted));
            get(created.all());
            equal(get(created.numPartitions(name)), 3, "partitions created");
            equal(get(created.replicationFactor(name)), 1, "replication factor");
            equal(get(created.config(name)).get("retention.ms").value(), "3600000", "a setting in the answer");
            until("the topic is visible", () -> partitions(admin, name) == 3);
            check(get(admin.listTopics().names()).contains(name), "the topic is not listed");
            var described = get(admin.describeTopics(List.of(name)).allTopicNames()).get(name);
            equal(described.partitions().stream().map(p -> p.partition()).toList(), List.of(0, 1, 2), "partitions");
            equal(described.topicId(), get(created.topicId(name)), "topic id");
            var ids = TopicCollection.ofTopicIds(List.of(described.topicId()));
            equal(get(admin.describeTopics(ids).allTopicIds()).get(described.topicId()).name(), name, "name by id");
            fails(TopicExistsException.class, () -> get(admin.createTopics(List.of(wanted)).all()), "the same again");
            get(admin.deleteTopics(List.of(name)).all());
            until("the topic is gone", () -> partitions(admin, name) == 0);
            fails(UnknownTopicOrPartitionException.class, () -> get(admin.deleteTopics(List.of(name)).all()), "twice");
            get(admin.createTopics(List.of(topic(name, 1))).all());
            until("the topic is visible again", () -> partitions(admin, name) == 1);
            var again = get(admin.describeTopics(List.of(name)).allTopicNames()).get(name);
            check(!again.topicId().equals(described.topicId()), "the new topic has the old one's id");
            get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(again.topicId()))).all());
            until("the topic deleted by id is gone", () -> partitions(admin, name) == 0);
        }
    }

    private static void descriptions(Run run) throws Exception {
        var broker = new Broker(run);
        try (Admin admin = broker.admin()) {
            var cluster = admin.describeCluster();
            check(!get(cluster.clusterId()).isEmpty(), "no cluster id");
            var nodes = get(cluster.nodes());
            equal(nodes.stream().map(node -> node.host() + ":" + node.port()).toList(), List.of(run.bootstrap()), "nodes");
            check(nodes.contains(get(cluster.controller())), "the controller is no node");
            String name = broker.create("settings", 1, Map.of("retention.ms", "123456", "compression.type", "zstd"));
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
            var settings = get(admin.describeConfigs(List.of(resource)).all()).get(resource);
            equal(settings.get("retention.ms").value(), "123456", "retention.ms");
            equal(settings.get("retention.ms").source(), ConfigSource.DYNAMIC_TOPIC_CONFIG, "source of a set value");
            equal(settings.get("max.message.bytes").value(), "1048588", "max.message.bytes");
            equal(settings.get("max.message.bytes").source(), ConfigSource.DEFAULT_CONFIG, "source of a default");
            for (String setting : List.of("cleanup.policy", "segment.bytes", "min.insync.replicas", "retention.bytes")) {
                check(settings.get(setting) != null, setting + " is missing");
            }
            var node = new ConfigResource(ConfigResource.Type.BROKER, nodes.iterator().next().idString());
            var ofNode = get(admin.describeConfigs(List.of(node)).all()).get(node);
            check(!ofNode.entries().isEmpty(), "no settings of the broker");
        }
    }

    private static void morePartitions(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("grow", 1);
        try (Admin admin = broker.admin()) {
            get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all());
            until("four partitions", () -> partitions(admin, topic) == 4);
            for (int partition = 0; partition < 4; partition++) {
                equal(broker.fill(topic, partition, Sample.samples(5)), List.of(0L, 1L, 2L, 3L, 4L), "offsets");
            }
            fails(InvalidPartitionsException.class,
                    () -> get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all()), "fewer");
        }
    }

    private static void deleteRecords(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("cut", 1);
        var partition = new TopicPartition(topic, 0);
        List<Sample> samples = Sample.samples(100);
        broker.fill(topic, 0, samples);
        try (Admin admin = broker.admin(); var consumer = broker.consumer(List.of(partition))) {
            equal(deleteBefore(admin, partition, 40), 40L, "low watermark");
            equal(consumer.beginningOffsets(List.of(partition)), Map.of(partition, 40L), "beginning");
            consumer.seek(partition, 10); // now below the start: the reset policy applies
            same(Sample.of(Broker.read(consumer, 60)), samples.subList(40, 100), "what is left");
            fails(OffsetOutOfRangeException.class, () -> deleteBefore(admin, partition, 101), "beyond the end");
            equal(deleteBefore(admin, partition, -1), 100L, "low watermark at the end");
            equal(broker.fill(topic, 0, Sample.samples(1)), List.of(100L), "the next offset");
        }
    }

    private static long deleteBefore(Admin admin, TopicPartition partition, long offset) throws Exception {
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(offset)));
        return get(deleted.lowWatermarks().get(partition)).lowWatermark();
    }

    private static void mistakes(Run run) throws Exception {
        var broker = new Broker(run);
        try (Admin admin = broker.admin()) {
            String name = topicName("bad");
            fails(InvalidTopicException.class, () -> get(admin.createTopics(List.of(topic("no spaces!", 1))).all()), "name");
            String tooLong = "x".repeat(250);
            fails(InvalidTopicException.class, () -> get(admin.createTopics(List.of(topic(tooLong, 1))).all()), "long name");
            NewTopic badValue = topic(name, 1).configs(Map.of("retention.ms", "soon"));
            fails(InvalidConfigurationException.class, () -> get(admin.createTopics(List.of(badValue)).all()), "value");
            NewTopic unknown = topic(name, 1).configs(Map.of("no.such.setting", "1"));
            fails(InvalidConfigurationException.class, () -> get(admin.createTopics(List.of(unknown)).all()), "setting");
            NewTopic replicas = new NewTopic(name, 1, (short) 3);
            fails(InvalidReplicationFactorException.class, () -> get(admin.createTopics(List.of(replicas)).all()), "replicas");
            fails(InvalidPartitionsException.class, () -> get(admin.createTopics(List.of(topic(name, 0))).all()), "none");
            String missing = topicName("missing");
            fails(UnknownTopicOrPartitionException.class,
                    () -> get(admin.createPartitions(Map.of(missing, NewPartitions.increaseTo(3))).all()), "growing it");
            try (var consumer = broker.consumer(List.of(new TopicPartition(missing, 0)), "default.api.timeout.ms", 1000)) {
                fails(TimeoutException.class, () -> consumer.position(new TopicPartition(missing, 0)), "reading it");
            }
            check(!get(admin.listTopics().names()).contains(missing), "a consumer that must not create topics made one");
            String there = broker.create("there", 2);
            try (var producer = broker.producer("max.block.ms", 1000)) {
                fails(TimeoutException.class, () -> get(producer.send(Sample.of("v").record(there, 2))), "no partition 2");
            }
        }
    }

    private static void autoCreate(Run run) throws Exception {
        var broker = new Broker(run);
        String name = topicName("auto");
        List<Sample> samples = IntStream.range(0, 3).mapToObj(i -> Sample.of("" + i)).toList();
        equal(broker.fill(name, 0, samples), List.of(0L, 1L, 2L), "offsets in the topic that was created");
    }
}
