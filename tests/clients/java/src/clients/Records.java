package clients;

import static clients.Broker.get;
import static clients.Broker.read;
import static clients.Check.check;
import static clients.Check.equal;
import static clients.Check.fails;
import static clients.Check.same;

import clients.Main.Case;
import clients.Main.Run;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.record.TimestampType;

/** What is produced is read back: bytes, order, offsets, timestamps, sizes. */
final class Records {
    static final List<Case> CASES = List.of(
            new Case("everyCodecAndAcksLevelIsReadBackAsSent", Records::codecs),
            new Case("anIdempotentProducerKeepsOrderAndCount", Records::idempotence),
            new Case("recordsUpToTheLimitPassAndLargerOnesDoNot", Records::sizes),
            new Case("theTimeOfARecordIsTheProducersOrTheLogs", Records::timestamps),
            new Case("aTopicOfManyPartitionsServesThemAll", Records::manyPartitions));

    private Records() {}

    private static void codecs(Run run) throws Exception {
        var broker = new Broker(run);
        int count = run.scale(200, 10_000);
        List<Sample> samples = Sample.samples(count);
        var partitions = new ArrayList<TopicPartition>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            for (String acks : List.of("0", "1", "all")) {
                String topic = broker.create("codec-" + codec + "-" + acks, 2);
                var futures = new ArrayList<Future<RecordMetadata>>();
                try (var producer = broker.producer("acks", acks, "compression.type", codec, "linger.ms", 5,
                        "enable.idempotence", false)) {
                    for (int i = 0; i < count; i++) {
                        futures.add(producer.send(samples.get(i).record(topic, i % 2)));
                    }
                    producer.flush();
                }
                List<Long> offsets = Broker.offsets(futures);
                List<Long> wanted = LongStream.range(0, count).map(i -> i / 2).boxed().toList();
                check(acks.equals("0") || offsets.equals(wanted), topic + ": offsets " + offsets);
                partitions.add(new TopicPartition(topic, 0));
                partitions.add(new TopicPartition(topic, 1));
            }
        }
        // One consumer for them all: each waits for its last fetch when it is closed.
        var found = new HashMap<TopicPartition, List<ConsumerRecord<byte[], byte[]>>>();
        try (var consumer = broker.consumer(partitions)) {
            for (var record : read(consumer, (long) count * partitions.size() / 2)) {
                var partition = new TopicPartition(record.topic(), record.partition());
                found.computeIfAbsent(partition, p -> new ArrayList<>()).add(record);
            }
        }
        for (TopicPartition partition : partitions) {
            var records = found.get(partition);
            List<Sample> sent = IntStream.range(0, count).filter(i -> i % 2 == partition.partition())
                    .mapToObj(samples::get).toList();
            same(Sample.of(records), sent, "" + partition);
            same(records.stream().map(ConsumerRecord::offset).toList(),
                    LongStream.range(0, sent.size()).boxed().toList(), partition + ", offsets");
        }
    }

    private static void idempotence(Run run) throws Exception {
        var broker = new Broker(run);
        int count = run.scale(20_000, 500_000);
        String topic = broker.create("idempotent", 1);
        List<Sample> samples = IntStream.range(0, count).mapToObj(i -> Sample.of("" + i)).toList();
        // Batches of some twenty records, five of them in flight.
        List<Long> offsets = broker.fill(topic, 0, samples, "enable.idempotence", true, "batch.size", 400,
                "linger.ms", 0, "max.in.flight.requests.per.connection", 5);
        same(offsets, LongStream.range(0, count).boxed().toList(), "offsets");
        var found = Sample.of(broker.readAll(topic, 0, count));
        same(found.stream().map(Sample::value).toList(), samples.stream().map(Sample::value).toList(), "values");
        var partition = new TopicPartition(topic, 0);
        try (var consumer = broker.consumer(List.of(partition))) {
            equal(consumer.endOffsets(List.of(partition)), Map.of(partition, (long) count), "end");
        }
    }

    private static void sizes(Run run) throws Exception {
        var broker = new Broker(run);
        var random = new Random(1);
        byte[] large = Sample.randomBytes(random, 1_048_400);
        byte[] tooLarge = Sample.randomBytes(random, 1_048_700);
        byte[] larger = Sample.randomBytes(random, 5_900_000);
        String topic = broker.create("large", 1);
        String wide = broker.create("larger", 1, Map.of("max.message.bytes", "6000000"));
        try (var producer = broker.producer("max.request.size", 8_000_000)) {
            equal(get(producer.send(new ProducerRecord<>(topic, 0, null, large))).offset(), 0L, "near the limit");
            fails(RecordTooLargeException.class, () -> get(producer.send(new ProducerRecord<>(topic, 0, null, tooLarge))),
                    "a record over the limit");
            equal(get(producer.send(new ProducerRecord<>(wide, 0, null, larger))).offset(), 0L, "a higher limit");
            equal(get(producer.send(new ProducerRecord<>(wide, 0, null, new byte[] {1}))).offset(), 1L, "after it");
        }
        // Larger than what the consumer asks for: the first batch comes all the same.
        var found = broker.readAll(topic, 0, 1, "max.partition.fetch.bytes", 10_000);
        check(Arrays.equals(found.get(0).value(), large), "the large record came back with other bytes");
        found = broker.readAll(wide, 0, 2, "max.partition.fetch.bytes", 10_000, "fetch.max.bytes", 10_000);
        check(Arrays.equals(found.get(0).value(), larger), "the larger record came back with other bytes");
        check(Arrays.equals(found.get(1).value(), new byte[] {1}), "the record after it came back with other bytes");
    }

    private static void timestamps(Run run) throws Exception {
        var broker = new Broker(run);
        Sample old = Sample.of(null, new byte[] {1}, List.of(), 1_000_000_000_000L);
        String own = broker.create("create-time", 1);
        broker.fill(own, 0, List.of(old));
        var record = broker.readAll(own, 0, 1).get(0);
        equal(record.timestampType(), TimestampType.CREATE_TIME, "type");
        equal(record.timestamp(), old.timestamp(), "time");
        String appended = broker.create("append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        for (String codec : List.of("none", "gzip")) {
            long before = System.currentTimeMillis();
            broker.fill(appended, 0, List.of(old, old, old), "linger.ms", 20, "compression.type", codec);
            long after = System.currentTimeMillis();
            var found = broker.readAll(appended, 0, codec.equals("none") ? 3 : 6);
            for (var each : found.subList(found.size() - 3, found.size())) {
                equal(each.timestampType(), TimestampType.LOG_APPEND_TIME, "type");
                check(before <= each.timestamp() && each.timestamp() <= after,
                        "append time " + each.timestamp() + " not in " + before + ".." + after);
            }
        }
        Sample ahead = Sample.of(null, new byte[] {1}, List.of(), System.currentTimeMillis() + 2 * 3_600_000);
        fails(InvalidTimestampException.class, () -> broker.fill(own, 0, List.of(ahead)), "two hours ahead");
    }

    private static void manyPartitions(Run run) throws Exception {
        var broker = new Broker(run);
        int count = run.scale(200, 1000);
        String topic = broker.create("wide", count);
        List<TopicPartition> partitions = IntStream.range(0, count).mapToObj(p -> new TopicPartition(topic, p)).toList();
        try (var producer = broker.producer("linger.ms", 20); var consumer = broker.consumer(partitions)) {
            var futures = new ArrayList<Future<RecordMetadata>>();
            for (int p = 0; p < 2 * count; p++) {
                futures.add(producer.send(Sample.of("" + p / 2).record(topic, p / 2)));
            }
            equal(Broker.offsets(futures), LongStream.range(0, 2L * count).map(i -> i % 2).boxed().toList(), "offsets");
            var found = read(consumer, 2L * count);
            List<String> where = found.stream().map(r -> r.partition() + " " + r.offset() + " " + new String(r.value()))
                    .sorted().toList();
            List<String> wanted = IntStream.range(0, 2 * count).mapToObj(i -> i / 2 + " " + i % 2 + " " + i / 2)
                    .sorted().toList();
            same(where, wanted, "records of all partitions");
            // All idle but one: an incremental session must still bring that one.
            get(producer.send(Sample.of("late").record(topic, count - 1)));
            var late = read(consumer, 1).get(0);
            equal(late.partition() + " " + late.offset(), count - 1 + " 2", "the late record");
        }
    }
}
