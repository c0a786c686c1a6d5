package clients;

import clients.Main.Run;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.CloseOptions.GroupMembershipOperation;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.WakeupException;

/** A consumer of a group, polled by a thread of its own until it leaves or crashes. */
final class Member implements ConsumerRebalanceListener {
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Consumer<ConsumerRecord<byte[], byte[]>> process;
    private final Thread thread;
    private final Set<TopicPartition> owned = new TreeSet<>((a, b) -> a.toString().compareTo(b.toString()));
    private final List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
    /** Of the thread that polls alone, as the consumer is. */
    private boolean uncommitted;
    private int revoked;
    private int lost;
    private int assignments;
    private Exception failed;
    private volatile CloseOptions close;

    /** Joins. What it polls goes to {@code process} and is then committed; without that, records are kept and committed as
     * the settings say. */
    private Member(KafkaConsumer<byte[], byte[]> consumer, Consumer<ConsumerRecord<byte[], byte[]>> process) {
        this.consumer = consumer;
        this.process = process;
        thread = new Thread(this::poll, "member");
        thread.setDaemon(true);
    }

    static Member join(Run run, String group, String topic, Object... settings) {
        return join(run, group, topic, null, settings);
    }

    static Member join(Run run, String group, String topic, Consumer<ConsumerRecord<byte[], byte[]>> process,
            Object... settings) {
        var member = new Member(consumer(run, group, process == null, settings), process);
        member.consumer.subscribe(List.of(topic), member);
        member.thread.start();
        return member;
    }

    static Member join(Run run, String group, Pattern topics, Object... settings) {
        var member = new Member(consumer(run, group, true, settings), null);
        member.consumer.subscribe(topics, member);
        member.thread.start();
        return member;
    }

    /** A consumer with a group and short times, not yet subscribed. */
    static KafkaConsumer<byte[], byte[]> consumer(Run run, String group, boolean autoCommit, Object... settings) {
        var all = new ArrayList<Object>(List.of("group.id", group, "group.protocol", "classic", "enable.auto.commit", autoCommit,
                "session.timeout.ms", 6000, "heartbeat.interval.ms", 200, "max.poll.interval.ms", 10_000,
                "auto.commit.interval.ms", 200, "fetch.max.wait.ms", 100));
        all.addAll(List.of(settings));
        return new Broker(run).consumer(List.of(), all.toArray());
    }

    private void poll() {
        try {
            while (close == null) {
                var polled = consumer.poll(Duration.ofMillis(100));
                if (process == null) {
                    synchronized (this) {
                        polled.forEach(records::add);
                    }
                } else {
                    polled.forEach(process);
                    uncommitted |= !polled.isEmpty();
                    commit();
                }
            }
        } catch (WakeupException woken) {
            // It is to end.
        } catch (Exception error) {
            synchronized (this) {
                failed = error;
                owned.clear();
            }
        }
        consumer.close(close == null ? CloseOptions.timeout(Duration.ofSeconds(5)) : close);
    }

    /** What cannot be committed now is so after a later poll, or processed again by the next owner. */
    private void commit() {
        if (!uncommitted) {
            return;
        }
        try {
            consumer.commitSync();
            uncommitted = false;
        } catch (RebalanceInProgressException | CommitFailedException late) {
            // The partitions are someone else's now, or will be after the next poll.
        }
    }

    @Override
    public synchronized void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        assignments++;
        owned.addAll(partitions);
    }

    @Override
    public synchronized void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        revoked += partitions.size();
        partitions.forEach(owned::remove);
    }

    @Override
    public synchronized void onPartitionsLost(Collection<TopicPartition> partitions) {
        lost += partitions.size();
        partitions.forEach(owned::remove);
    }

    synchronized List<Integer> owned(String topic) {
        return owned.stream().filter(partition -> partition.topic().equals(topic)).map(TopicPartition::partition)
                .sorted().toList();
    }

    synchronized List<ConsumerRecord<byte[], byte[]>> records() {
        return List.copyOf(records);
    }

    /** How many partitions it gave away, and how many were taken from it. */
    synchronized List<Integer> gone() {
        return List.of(revoked, lost);
    }

    synchronized int assignments() {
        return assignments;
    }

    synchronized Exception failed() {
        return failed;
    }

    /** Ends it as a program does that shuts down. */
    void leave() throws InterruptedException {
        end(GroupMembershipOperation.DEFAULT);
    }

    /** Ends it without a word to the broker, as if its machine had lost power. */
    void crash() throws InterruptedException {
        end(GroupMembershipOperation.REMAIN_IN_GROUP);
    }

    private void end(GroupMembershipOperation operation) throws InterruptedException {
        close = CloseOptions.groupMembershipOperation(operation).withTimeout(Duration.ofSeconds(5));
        consumer.wakeup();
        thread.join(TimeUnit.SECONDS.toMillis(10));
        synchronized (this) {
            owned.clear();
        }
    }
}
