package clients;

import static clients.Broker.get;
import static clients.Broker.topicName;
import static clients.Check.check;
import static clients.Check.equal;
import static clients.Check.until;

import clients.Main.Case;
import clients.Main.Run;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;

/** Members of a group join, leave and crash while records are produced. Every record is processed at least once, committed
 * offsets never go back, and at the end the assignment is complete and disjoint. */
final class Churn {
    static final List<Case> CASES = List.of(
            new Case("cooperativeChurnLosesNoRecordAndTakesNoCommitBack", run -> through(run, "cooperative-sticky")),
            new Case("eagerChurnLosesNoRecordAndTakesNoCommitBack", run -> through(run, "range")));

    private Churn() {}

    private static void through(Run run, String assignor) throws Exception {
        var broker = new Broker(run);
        int partitions = run.scale(6, 12);
        String topic = broker.create("churn", partitions);
        String group = topicName("churn");
        var processed = new ConcurrentHashMap<String, Integer>();
        Consumer<ConsumerRecord<byte[], byte[]>> process =
                record -> processed.merge(record.partition() + " " + record.offset(), 1, Integer::sum);
        var stop = new AtomicBoolean();
        var ends = new HashMap<TopicPartition, Long>();
        var members = new ArrayList<Member>();
        Runnable join = () -> members.add(Member.join(run, group, topic, process,
                "partition.assignment.strategy", Groups.ASSIGNORS.get(assignor).getName()));
        ExecutorService threads = Executors.newCachedThreadPool();
        try (Admin admin = broker.admin()) {
            Future<?> producing = threads.submit(() -> produce(broker, topic, partitions, ends, stop));
            Future<?> watching = threads.submit(() -> watch(broker, group, topic, stop));
            join.run();
            join.run();
            for (int round = 0; round < run.scale(2, 4); round++) {
                join.run();
                Groups.settled(admin, group, topic, partitions, members);
                Member first = members.remove(0);
                if (run.full() && round % 2 == 0) {
                    first.crash(); // the group waits for its session to end
                } else {
                    first.leave();
                }
                if (round % 2 == 1) {
                    join.run(); // while the group is at it
                }
                Groups.settled(admin, group, topic, partitions, members);
            }
            stop.set(true);
            get(producing);
            get(watching);
            equal(ends.size(), partitions, "partitions with records");
            long count = ends.values().stream().mapToLong(Long::longValue).sum();
            until("everything is processed", () -> processed.size() == count);
            until("everything is committed", () -> Groups.committed(admin, group, topic).equals(ends));
            Groups.settled(admin, group, topic, partitions, members);
            long again = processed.values().stream().mapToLong(times -> times - 1).sum();
            System.out.println("churn: " + count + " records, " + again + " processed again");
        } finally {
            stop.set(true);
            threads.shutdownNow();
            for (Member member : members) {
                member.leave();
            }
        }
    }

    private static Void produce(Broker broker, String topic, int partitions, Map<TopicPartition, Long> ends,
            AtomicBoolean stop) throws Exception {
        try (var producer = broker.producer("linger.ms", 0)) {
            for (int i = 0; !stop.get(); i++) {
                var partition = new TopicPartition(topic, i % partitions);
                long offset = get(producer.send(Sample.of("" + i).record(topic, partition.partition()))).offset();
                equal(offset, ends.getOrDefault(partition, 0L), "offset in " + partition);
                ends.put(partition, offset + 1);
                Thread.sleep(2);
            }
        }
        return null;
    }

    private static Void watch(Broker broker, String group, String topic, AtomicBoolean stop) throws Exception {
        try (Admin admin = broker.admin()) {
            Map<TopicPartition, Long> last = Map.of();
            while (!stop.get()) {
                var now = Groups.committed(admin, group, topic);
                for (var before : last.entrySet()) {
                    check(now.getOrDefault(before.getKey(), -1L) >= before.getValue(),
                            before + " went back to " + now.get(before.getKey()));
                }
                last = now;
                Thread.sleep(50);
            }
        }
        return null;
    }
}
