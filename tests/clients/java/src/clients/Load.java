package clients;

import static clients.Broker.get;
import static clients.Broker.partitions;
import static clients.Check.check;
import static clients.Check.equal;
import static clients.Check.same;
import static clients.Check.until;

import clients.Main.Case;
import clients.Main.Run;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.LongStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;

/** A topic is deleted and made again while producers write to it and to another one. */
final class Load {
    static final List<Case> CASES = List.of(
            new Case("aTopicMadeAgainUnderLoadHasNothingOfTheOldOne", Load::topicMadeAgain));

    /** An acknowledged record, with the times of sending and of the acknowledgement. */
    private record Ack(String value, long offset, long sent, long acked) {}

    private Load() {}

    private static void topicMadeAgain(Run run) throws Exception {
        var broker = new Broker(run);
        String other = broker.create("steady", 1);
        var stop = new AtomicBoolean();
        var steady = new ArrayList<Future<RecordMetadata>>();
        ExecutorService threads = Executors.newCachedThreadPool();
        try (Admin admin = broker.admin()) {
            Future<?> otherLoad = threads.submit(() -> {
                try (var producer = broker.producer()) {
                    while (!stop.get()) {
                        steady.add(producer.send(Sample.of("" + steady.size()).record(other, 0)));
                        Thread.sleep(1);
                    }
                }
                return null;
            });
            for (int round = 0; round < run.scale(2, 10); round++) {
                round(broker, admin, threads);
            }
            stop.set(true);
            get(otherLoad);
        } finally {
            stop.set(true);
            threads.shutdownNow();
        }
        List<Long> wanted = LongStream.range(0, steady.size()).boxed().toList();
        same(Broker.offsets(steady), wanted, "offsets of the other topic");
        List<Long> found = broker.readAll(other, 0, steady.size()).stream()
                .map(record -> Long.valueOf(new String(record.value()))).toList();
        same(found, wanted, "records of the other topic");
    }

    private static void round(Broker broker, Admin admin, ExecutorService threads) throws Exception {
        String name = broker.create("again", 1);
        Queue<Ack> acks = new ConcurrentLinkedQueue<>();
        var ended = new AtomicBoolean();
        Future<?> load = threads.submit(() -> {
            write(broker, name, acks, ended);
            return null;
        });
        try {
            until("load", () -> acks.size() > 100);
            long deletedFrom = System.nanoTime();
            get(admin.deleteTopics(List.of(name)).all());
            until("the topic made again", () -> make(admin, name));
            long createdAt = System.nanoTime();
            until("load on the new topic", () -> acks.stream().filter(ack -> ack.sent() > createdAt).count() > 100);
            ended.set(true);
            get(load);
            var partition = new TopicPartition(name, 0);
            long end;
            try (var consumer = broker.consumer(List.of(partition))) {
                end = consumer.endOffsets(List.of(partition)).get(partition);
            }
            var served = broker.readAll(name, 0, end);
            checkIncarnation(served, acks, deletedFrom, createdAt);
        } finally {
            ended.set(true);
        }
    }

    /** Not idempotent: such a producer keeps its sequence across the new topic, and may wait out its delivery timeout. */
    private static void write(Broker broker, String name, Queue<Ack> acks, AtomicBoolean ended) throws Exception {
        try (var producer = broker.producer("max.block.ms", 2000, "delivery.timeout.ms", 8000, "request.timeout.ms", 4000,
                "linger.ms", 0, "enable.idempotence", false)) {
            for (long number = 1; !ended.get(); number++) {
                String value = "" + number;
                long sent = System.nanoTime();
                try {
                    producer.send(Sample.of(value).record(name, 0), (metadata, error) -> {
                        if (error == null) {
                            acks.add(new Ack(value, metadata.offset(), sent,
                                    System.nanoTime()));
                        }
                    });
                } catch (KafkaException gone) {
                    continue; // the topic is not there for a moment
                }
                Thread.sleep(1);
            }
        }
    }

    /** The Java producer lets the broker create topics, so it may have made the topic: that is a new one as well. (With one
     * partition, which is why there is only one here: the client blocks when it is to send to a missing one.) */
    private static boolean make(Admin admin, String name) throws Exception {
        try {
            get(admin.createTopics(List.of(new NewTopic(name, Optional.of(1), Optional.empty()))).all());
            return true;
        } catch (TopicExistsException there) {
            return partitions(admin, name) > 0;
        }
    }

    /** What was acknowledged before the delete was asked for belongs to the old topic alone; what was sent after the
     * topic was there again is in the new one, where the ack said; between the two either may be. */
    private static void checkIncarnation(List<ConsumerRecord<byte[], byte[]>> records, Queue<Ack> acks, long deletedFrom,
            long createdAt) {
        same(records.stream().map(ConsumerRecord::offset).toList(),
                LongStream.range(0, records.size()).boxed().toList(), "offsets of the new topic");
        List<String> values = records.stream().map(record -> new String(record.value())).toList();
        Set<String> served = Set.copyOf(values);
        int early = 0;
        int late = 0;
        for (Ack ack : acks) {
            if (ack.acked() < deletedFrom) {
                early++;
                check(!served.contains(ack.value()), ack + ", before the delete, is in the new topic");
            } else if (ack.sent() > createdAt) {
                late++;
                check(ack.offset() < values.size(), ack + " is past the end");
                equal(values.get((int) ack.offset()), ack.value(), "what " + ack + " promised");
            }
        }
        check(early > 0 && late > 0, "no load on one side: " + early + " before, " + late + " after");
    }
}
