package clients;

import static clients.Check.check;
import static clients.Check.until;

import clients.Main.Run;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Clients of one broker, and what every case does with them. Settings come in pairs: name, value. */
record Broker(Run run) {
    Admin admin() {
        return Admin.create(properties());
    }

    KafkaProducer<byte[], byte[]> producer(Object... settings) {
        return new KafkaProducer<>(properties(settings), new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** A consumer of these partitions, without a group, from their beginning unless a setting says otherwise. */
    KafkaConsumer<byte[], byte[]> consumer(List<TopicPartition> partitions, Object... settings) {
        Properties all = properties("auto.offset.reset", "earliest", "allow.auto.create.topics", false);
        all.putAll(properties(settings));
        var consumer = new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.assign(partitions);
        return consumer;
    }

    private Properties properties(Object... settings) {
        var properties = new Properties();
        properties.put("bootstrap.servers", run.bootstrap());
        for (int i = 0; i < settings.length; i += 2) {
            properties.put(settings[i], settings[i + 1]);
        }
        return properties;
    }

    static String topicName(String what) {
        return what + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    /** A new topic, visible in metadata. */
    String create(String what, int partitions, Map<String, String> configs) throws Exception {
        String name = topicName(what);
        try (Admin admin = admin()) {
            get(admin.createTopics(List.of(new NewTopic(name, Optional.of(partitions), Optional.empty())
                    .configs(configs))).all());
            until("the topic is visible", () -> partitions(admin, name) == partitions);
        }
        return name;
    }

    String create(String what, int partitions) throws Exception {
        return create(what, partitions, Map.of());
    }

    /** How many partitions of a topic have a leader; none when it is not there. */
    static int partitions(Admin admin, String name) throws Exception {
        try {
            var topic = get(admin.describeTopics(List.of(name)).allTopicNames()).get(name);
            return (int) topic.partitions().stream().filter(partition -> partition.leader() != null).count();
        } catch (org.apache.kafka.common.errors.UnknownTopicOrPartitionException missing) {
            return 0;
        }
    }

    /** A future's result; throws what the client says went wrong, not the wrapper around it. */
    static <T> T get(Future<T> future) throws Exception {
        try {
            return future.get(60, TimeUnit.SECONDS);
        } catch (java.util.concurrent.ExecutionException failure) {
            throw failure.getCause() instanceof Exception cause ? cause : failure;
        }
    }

    /** Sends the samples in order to one partition; returns their offsets. */
    List<Long> fill(String topic, int partition, List<Sample> samples, Object... settings) throws Exception {
        try (var producer = producer(settings)) {
            var futures = new ArrayList<Future<RecordMetadata>>();
            for (Sample sample : samples) {
                futures.add(producer.send(sample.record(topic, partition)));
            }
            return offsets(futures);
        }
    }

    static List<Long> offsets(List<Future<RecordMetadata>> futures) throws Exception {
        var offsets = new ArrayList<Long>();
        for (var future : futures) {
            offsets.add(get(future).offset());
        }
        return offsets;
    }

    /** The next {@code count} records; an error when they do not come. */
    static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, long count) {
        var found = new ArrayList<ConsumerRecord<byte[], byte[]>>();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (found.size() < count) {
            check(System.nanoTime() < deadline, found.size() + " of " + count + " records within 30 s");
            consumer.poll(Duration.ofMillis(500)).forEach(found::add);
        }
        return found;
    }

    /** The first {@code count} records of a partition. */
    List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int partition, long count, Object... settings) {
        try (var consumer = consumer(List.of(new TopicPartition(topic, partition)), settings)) {
            return read(consumer, count);
        }
    }
}
