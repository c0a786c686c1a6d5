package clients;

import static clients.Broker.get;
import static clients.Broker.topicName;
import static clients.Check.check;
import static clients.Check.equal;
import static clients.Check.fails;
import static clients.Check.until;

import clients.Main.Case;
import clients.Main.Run;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Settings that are altered, and what one node says of replicas, disks and the quorum. */
final class Cluster {
    static final List<Case> CASES = List.of(
            new Case("settingsOfATopicAreAltered", Cluster::settings),
            new Case("directoriesOfTheLogAreDescribed", Cluster::directories),
            new Case("leadersAndReplicasAreWhereTheyCanBe", Cluster::replicas),
            new Case("theQuorumAndTheFeaturesAreDescribed", Cluster::quorum));

    private Cluster() {}

    private static Map<String, ConfigEntry> described(Admin admin, ConfigResource resource) throws Exception {
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        var config = get(admin.describeConfigs(List.of(resource), options).all()).get(resource);
        return config.entries().stream().collect(java.util.stream.Collectors.toMap(ConfigEntry::name, entry -> entry));
    }

    private static void settings(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("alter", 1, Map.of("retention.ms", "3600000"));
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        try (Admin admin = broker.admin()) {
            var retention = described(admin, resource).get("retention.ms");
            equal(retention.type(), ConfigEntry.ConfigType.LONG, "type");
            check(retention.documentation() != null && !retention.documentation().isEmpty(), "no documentation");
            equal(retention.synonyms().get(0).value(), "3600000", "first synonym");
            check(!retention.isReadOnly() && !retention.isSensitive(), "" + retention);

            List<AlterConfigOp> changes = List.of(op("retention.ms", "7200000", OpType.SET),
                    op("cleanup.policy", "compact", OpType.APPEND), op("max.message.bytes", "2000000", OpType.SET));
            get(admin.incrementalAlterConfigs(Map.of(resource, changes), new AlterConfigsOptions().validateOnly(true)).all());
            equal(described(admin, resource).get("retention.ms").value(), "3600000", "after a validation");
            get(admin.incrementalAlterConfigs(Map.of(resource, changes)).all());
            has(admin, resource, Map.of("retention.ms", "7200000", "cleanup.policy", "delete,compact", "max.message.bytes", "2000000"));
            get(admin.incrementalAlterConfigs(Map.of(resource, List.of(op("cleanup.policy", "delete", OpType.SUBTRACT),
                    op("retention.ms", null, OpType.DELETE)))).all());
            has(admin, resource, Map.of("retention.ms", "604800000", "cleanup.policy", "compact", "max.message.bytes", "2000000"));
            equal(described(admin, resource).get("retention.ms").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "source");
            for (var wrong : List.of(op("retention.ms", "soon", OpType.SET), op("no.such.setting", "1", OpType.SET),
                    op("cleanup.policy", "forget", OpType.SET), op("retention.ms", "1", OpType.APPEND))) {
                fails(InvalidConfigurationException.class,
                        () -> get(admin.incrementalAlterConfigs(Map.of(resource, List.of(wrong))).all()), "" + wrong);
            }
            var missing = new ConfigResource(ConfigResource.Type.TOPIC, topicName("missing"));
            fails(UnknownTopicOrPartitionException.class, () -> get(admin.incrementalAlterConfigs(
                    Map.of(missing, List.of(op("retention.ms", "1", OpType.SET)))).all()), "a missing topic");
            var topics = new ListConfigResourcesOptions();
            check(get(admin.listConfigResources(Set.of(ConfigResource.Type.TOPIC), topics).all()).contains(resource), "not listed");

            // What is altered acts: a record that was too large a moment ago is taken.
            byte[] large = new byte[1_500_000];
            try (var producer = broker.producer("max.request.size", 3_000_000)) {
                get(producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, new byte[] {1}, large)));
            }
        }
    }

    private static AlterConfigOp op(String name, String value, OpType type) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private static void has(Admin admin, ConfigResource resource, Map<String, String> wanted) throws Exception {
        until("the settings are " + wanted, () -> {
            var found = described(admin, resource);
            return wanted.entrySet().stream().allMatch(entry -> found.get(entry.getKey()).value().equals(entry.getValue()));
        });
    }

    private static void directories(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("disk", 2);
        var partition = new TopicPartition(topic, 0);
        broker.fill(topic, 0, Sample.samples(100));
        try (Admin admin = broker.admin()) {
            int node = get(admin.describeCluster().nodes()).iterator().next().id();
            var directories = get(admin.describeLogDirs(List.of(node)).allDescriptions()).get(node);
            var holds = directories.entrySet().stream()
                    .filter(entry -> entry.getValue().replicaInfos().containsKey(partition)).toList();
            equal(holds.size(), 1, "directories with the partition");
            var directory = holds.get(0).getValue();
            check(directory.error() == null, "" + directory.error());
            var replica = directory.replicaInfos().get(partition);
            check(replica.size() > 0 && replica.offsetLag() == 0 && !replica.isFuture(), "" + replica);
            equal(directory.replicaInfos().get(new TopicPartition(topic, 1)).size(), 0L, "size of an empty partition");
            check(directory.totalBytes().orElse(0) >= directory.usableBytes().orElse(Long.MAX_VALUE), "" + directory);
            var where = new TopicPartitionReplica(topic, 0, node);
            var found = get(admin.describeReplicaLogDirs(List.of(where)).all()).get(where);
            equal(found.getCurrentReplicaLogDir(), holds.get(0).getKey(), "directory of the replica");
            get(admin.alterReplicaLogDirs(Map.of(where, found.getCurrentReplicaLogDir())).all());
        }
    }

    private static void replicas(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("replicas", 2);
        var partition = new TopicPartition(topic, 0);
        try (Admin admin = broker.admin()) {
            int node = get(admin.describeCluster().nodes()).iterator().next().id();
            var elected = get(admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions()).get(partition);
            check(elected.orElseThrow() instanceof ElectionNotNeededException, "" + elected);
            get(admin.electLeaders(ElectionType.PREFERRED, null).all());
            equal(get(admin.listPartitionReassignments().reassignments()), Map.of(), "reassignments");
            get(admin.alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(node))))).all());
            fails(InvalidReplicaAssignmentException.class, () -> get(admin.alterPartitionReassignments(
                    Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(node + 77))))).all()), "another node");
            fails(NoReassignmentInProgressException.class,
                    () -> get(admin.alterPartitionReassignments(Map.of(partition, Optional.empty())).all()), "cancel");
        }
    }

    private static void quorum(Run run) throws Exception {
        try (Admin admin = new Broker(run).admin()) {
            int node = get(admin.describeCluster().nodes()).iterator().next().id();
            var quorum = get(admin.describeMetadataQuorum().quorumInfo());
            equal(quorum.leaderId(), node, "leader");
            equal(quorum.voters().stream().map(voter -> voter.replicaId()).toList(), List.of(node), "voters");
            check(quorum.highWatermark() >= 0 && quorum.leaderEpoch() >= 0, "" + quorum);
            var features = get(admin.describeFeatures().featureMetadata());
            for (var level : features.finalizedFeatures().entrySet()) {
                var supported = features.supportedFeatures().get(level.getKey());
                check(supported != null && supported.maxVersion() >= level.getValue().maxVersionLevel(), "" + level);
            }
        }
    }
}
