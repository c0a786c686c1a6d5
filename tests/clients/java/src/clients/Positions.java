package clients;

import static clients.Broker.get;
import static clients.Broker.read;
import static clients.Check.check;
import static clients.Check.equal;
import static clients.Check.fails;
import static clients.Check.same;

import clients.Main.Case;
import clients.Main.Run;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.common.TopicPartition;

/** Reading from a position, by offset and by time, and waiting for what is to come. */
final class Positions {
    static final List<Case> CASES = List.of(
            new Case("aConsumerReplaysFromAnyPosition", Positions::replay),
            new Case("offsetsAreFoundByTime", Positions::times),
            new Case("aWaitingConsumerWakesAtOnce", Positions::waking),
            new Case("aCompactedTopicKeepsTheLatestOfEachKey", Positions::compaction));

    private Positions() {}

    private static void replay(Run run) throws Exception {
        var broker = new Broker(run);
        int count = run.scale(3000, 100_000);
        String topic = broker.create("seek", 1);
        var partition = new TopicPartition(topic, 0);
        List<Sample> samples = Sample.samples(count);
        broker.fill(topic, 0, samples, "compression.type", "zstd", "linger.ms", 2);
        // Both consumers of the Java client: the older one, and the one that the new group protocol brought.
        for (String protocol : List.of("classic", "consumer")) {
            Object[] settings = {"group.protocol", protocol};
            try (var consumer = broker.consumer(List.of(partition), settings)) {
                for (int start : List.of(count / 2, 1, count - 1, 0)) {
                    consumer.seek(partition, start);
                    var found = read(consumer, count - start);
                    equal(found.get(0).offset(), (long) start, "first offset after seek");
                    same(Sample.of(found), samples.subList(start, count), protocol + ", replay from " + start);
                }
                consumer.seekToBeginning(List.of(partition));
                equal(consumer.position(partition), 0L, "position at the beginning");
                consumer.seekToEnd(List.of(partition));
                equal(consumer.position(partition), (long) count, "position at the end");
                check(consumer.poll(Duration.ofMillis(200)).isEmpty(), "there is something after the end");
                equal(consumer.beginningOffsets(List.of(partition)), Map.of(partition, 0L), "beginning");
                equal(consumer.endOffsets(List.of(partition)), Map.of(partition, (long) count), "end");
            }
            try (var consumer = broker.consumer(List.of(partition), "group.protocol", protocol,
                    "auto.offset.reset", "none")) {
                consumer.seek(partition, count + 1000);
                fails(OffsetOutOfRangeException.class, () -> read(consumer, 1), "a position past the end");
            }
        }
        equal(broker.readAll(topic, 0, count, "isolation.level", "read_committed").size(), count, "read_committed");
    }

    private static void times(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("times", 1);
        var partition = new TopicPartition(topic, 0);
        long first = System.currentTimeMillis() - 100_000;
        // Three batches, so that the answer lies in the middle of one as well as between two.
        List<String> codecs = List.of("none", "gzip", "lz4");
        for (int batch = 0; batch < 3; batch++) {
            var samples = new ArrayList<Sample>();
            for (int i = 0; i < 10; i++) {
                samples.add(Sample.of(null, new byte[] {1}, List.of(), first + (batch * 10 + i) * 1000L));
            }
            broker.fill(topic, 0, samples, "linger.ms", 100, "compression.type", codecs.get(batch));
        }
        var asks = new TreeMap<>(Map.of(first - 5000, 0L, first, 0L, first + 1, 1L, first + 14_500, 15L, first + 29_000, 29L));
        try (var consumer = broker.consumer(List.of(partition)); Admin admin = broker.admin()) {
            for (var ask : asks.entrySet()) {
                var found = consumer.offsetsForTimes(Map.of(partition, ask.getKey())).get(partition);
                equal(found.offset(), ask.getValue(), "offset at " + (ask.getKey() - first) + " ms");
                equal(found.timestamp(), first + ask.getValue() * 1000, "time at " + (ask.getKey() - first) + " ms");
            }
            check(consumer.offsetsForTimes(Map.of(partition, first + 29_001)).get(partition) == null, "after the last");
            var specs = List.of(Map.entry(OffsetSpec.earliest(), 0L), Map.entry(OffsetSpec.latest(), 30L),
                    Map.entry(OffsetSpec.maxTimestamp(), 29L), Map.entry(OffsetSpec.earliestLocal(), 0L),
                    Map.entry(OffsetSpec.forTimestamp(first + 14_500), 15L));
            for (var spec : specs) {
                var found = get(admin.listOffsets(Map.of(partition, spec.getKey())).partitionResult(partition));
                equal(found.offset(), spec.getValue(), spec.getKey().getClass().getSimpleName());
            }
        }
    }

    private static void waking(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("wake", 1);
        var partition = new TopicPartition(topic, 0);
        try (var producer = broker.producer("linger.ms", 0);
                var consumer = broker.consumer(List.of(partition), "fetch.max.wait.ms", 2000)) {
            get(producer.send(Sample.of("first").record(topic, 0)));
            read(consumer, 1);
            var waits = new ArrayList<Long>();
            for (int round = 0; round < run.scale(5, 20); round++) {
                var sentAt = CompletableFuture.supplyAsync(() -> {
                    long now = System.nanoTime();
                    producer.send(Sample.of("now").record(topic, 0));
                    return now;
                }, CompletableFuture.delayedExecutor(300, java.util.concurrent.TimeUnit.MILLISECONDS));
                check(!consumer.poll(Duration.ofSeconds(10)).isEmpty(), "the poll came back empty");
                waits.add((System.nanoTime() - sentAt.get()) / 1_000_000);
            }
            waits.sort(null);
            check(waits.get(waits.size() / 2) < 200, "milliseconds to a waiting consumer: " + waits);
        }
    }

    /** In the long form the log is waited for until records are gone from it; what is left must be the latest of each key, at
     * its old offset and in order. */
    private static void compaction(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("compacted", 1, Map.of("cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.01",
                "segment.ms", "1000", "max.compaction.lag.ms", "1000", "delete.retention.ms", "0"));
        int count = run.scale(500, 20_000);
        var samples = new ArrayList<Sample>();
        var latest = new TreeMap<String, String>();
        for (int i = 0; i < count; i++) {
            Sample sample = Sample.of(("key " + i * 7 % 50).getBytes(), ("" + i).getBytes(), List.of(), System.currentTimeMillis());
            samples.add(sample);
            latest.put(sample.key(), sample.value());
        }
        broker.fill(topic, 0, samples);
        equal(state(broker, topic, count, latest), count, "records before compaction");
        if (run.full()) {
            long deadline = System.nanoTime() + 100_000_000_000L;
            while (state(broker, topic, count, latest) >= count / 2) {
                check(System.nanoTime() < deadline, "the log is not compacted within 100 s");
                Thread.sleep(2000);
                broker.fill(topic, 0, List.of(Sample.of("end".getBytes(), "x".getBytes(), List.of(), System.currentTimeMillis())));
            }
        }
    }

    /** Reads the topic, checks that it says the latest of each key, and returns how many records it took. */
    private static int state(Broker broker, String topic, int count, Map<String, String> latest) throws Exception {
        var partition = new TopicPartition(topic, 0);
        var found = new TreeMap<String, String>();
        int records = 0;
        try (var consumer = broker.consumer(List.of(partition))) {
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            long next = 0;
            while (consumer.position(partition) < end) {
                for (var record : consumer.poll(Duration.ofMillis(500))) {
                    check(record.offset() >= next, "offset " + record.offset() + " after " + (next - 1));
                    next = record.offset() + 1;
                    if (record.offset() < count) {
                        records++;
                        equal(new String(record.value()), "" + record.offset(), "value at its old offset");
                        Sample sample = Sample.of(record);
                        found.put(sample.key(), sample.value());
                    }
                }
            }
        }
        equal(found, latest, "state");
        return records;
    }
}
