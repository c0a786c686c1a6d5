package clients;

import static clients.Broker.get;
import static clients.Broker.read;
import static clients.Broker.topicName;
import static clients.Check.check;
import static clients.Check.equal;
import static clients.Check.fails;
import static clients.Check.until;

import clients.Main.Case;
import clients.Main.Run;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Consumer groups by the classic protocol: assignment, commits, static members, and what an administrator does. */
final class Groups {
    static final List<Case> CASES = List.of(
            new Case("membersShareThePartitionsUnderEveryAssignor", Groups::assignors),
            new Case("aCooperativeRebalanceMovesOnlyWhatItMust", Groups::cooperative),
            new Case("aGroupGoesOnWhereItHasCommitted", Groups::commits),
            new Case("aMemberOfAGroupSeeksPausesAndResumes", Groups::positions),
            new Case("aStaticMemberComesBackWithoutARebalance", Groups::statics),
            new Case("aMemberThatDoesNotPollIsReplacedAndCannotCommit", Groups::slow),
            new Case("aPatternFindsTopicsThatComeLater", Groups::pattern),
            new Case("offsetsOfAGroupAreListedAlteredAndDeleted", Groups::offsets));

    static final Map<String, Class<?>> ASSIGNORS = Map.of("range", RangeAssignor.class, "roundrobin", RoundRobinAssignor.class,
            "sticky", StickyAssignor.class, "cooperative-sticky", CooperativeStickyAssignor.class);

    private Groups() {}

    static ConsumerGroupDescription described(Admin admin, String group) throws Exception {
        return get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
    }

    /** The partitions of each member, as the broker knows them. */
    static List<List<Integer>> assigned(ConsumerGroupDescription group, String topic) {
        return group.members().stream().map(member -> member.assignment().topicPartitions().stream()
                .filter(partition -> partition.topic().equals(topic)).map(TopicPartition::partition).sorted().toList()).toList();
    }

    /** Whether each partition has exactly one owner. */
    static boolean complete(List<List<Integer>> assigned, int partitions) {
        return assigned.stream().flatMap(List::stream).sorted().toList()
                .equals(IntStream.range(0, partitions).boxed().toList());
    }

    /** Waits until the members share all partitions, and the broker says the same. */
    static ConsumerGroupDescription settled(Admin admin, String group, String topic, int partitions, List<Member> members)
            throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(40);
        while (true) {
            ConsumerGroupDescription found = null;
            try {
                found = described(admin, group);
            } catch (GroupIdNotFoundException nobodyYet) {
                // Before its first member, the group is not there.
            }
            var own = members.stream().map(member -> member.owned(topic)).toList();
            if (found != null && found.groupState() == GroupState.STABLE && found.members().size() == members.size()
                    && complete(own, partitions) && Set.copyOf(assigned(found, topic)).equals(Set.copyOf(own))) {
                return found;
            }
            check(System.nanoTime() < deadline, "the members do not settle: " + found + ", seen " + own);
            Thread.sleep(20);
        }
    }

    private static void empty(Admin admin, String group) throws Exception {
        until("the group is empty", () -> described(admin, group).groupState() == GroupState.EMPTY);
    }

    static Map<TopicPartition, Long> committed(Admin admin, String group, String topic) throws Exception {
        var offsets = new HashMap<TopicPartition, Long>();
        get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).forEach((partition, offset) -> {
            if (offset != null && partition.topic().equals(topic)) {
                offsets.put(partition, offset.offset());
            }
        });
        return offsets;
    }

    private static void assignors(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("assign", 6);
        try (Admin admin = broker.admin()) {
            for (var assignor : ASSIGNORS.entrySet()) {
                String group = topicName(assignor.getKey());
                var members = new ArrayList<Member>();
                for (int count = 1; count <= run.scale(2, 4); count++) {
                    members.add(Member.join(run, group, topic, "client.id", "client-" + count,
                            "partition.assignment.strategy", assignor.getValue().getName()));
                    var found = settled(admin, group, topic, 6, members);
                    equal(found.partitionAssignor(), assignor.getKey(), "assignor");
                    equal(found.type(), GroupType.CLASSIC, "type");
                    String client = "client-" + count;
                    check(found.members().stream().anyMatch(member -> member.clientId().equals(client)
                            && member.host().equals("/127.0.0.1") && member.consumerId().startsWith(client)), "" + found);
                    for (var partitions : assigned(found, topic)) {
                        check(partitions.size() >= 6 / count && partitions.size() <= (5 + count) / count, "not fair: " + found);
                    }
                }
                members.remove(0).leave();
                settled(admin, group, topic, 6, members);
                for (Member member : members) {
                    member.leave();
                }
                empty(admin, group);
            }
        }
    }

    private static void cooperative(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("cooperative", 6);
        String group = topicName("cooperative");
        Object[] settings = {"partition.assignment.strategy", CooperativeStickyAssignor.class.getName()};
        try (Admin admin = broker.admin()) {
            Member first = Member.join(run, group, topic, settings);
            settled(admin, group, topic, 6, List.of(first));
            Member second = Member.join(run, group, topic, settings);
            settled(admin, group, topic, 6, List.of(first, second));
            equal(first.gone(), List.of(3, 0), "partitions that the first member gave away and lost");
            var kept = first.owned(topic);
            second.leave();
            settled(admin, group, topic, 6, List.of(first));
            equal(first.gone(), List.of(3, 0), "partitions that it gave away and lost since");
            check(first.owned(topic).containsAll(kept), "it lost some of " + kept);
            first.leave();
        }
    }

    private static void commits(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("commits", 1);
        var partition = new TopicPartition(topic, 0);
        broker.fill(topic, 0, Sample.samples(100));
        try (Admin admin = broker.admin()) {
            String group = topicName("manual");
            try (var consumer = Member.consumer(run, group, false)) {
                consumer.subscribe(List.of(topic));
                read(consumer, 100);
                equal(consumer.committed(Set.of(partition)).get(partition), null, "before the first commit");
                consumer.commitSync(Map.of(partition, new OffsetAndMetadata(40, "forty")));
                var found = consumer.committed(Set.of(partition)).get(partition);
                equal(found.offset() + " " + found.metadata(), "40 forty", "committed with metadata");
            }
            try (var consumer = Member.consumer(run, group, false)) {
                consumer.subscribe(List.of(topic));
                equal(read(consumer, 60).get(0).offset(), 40L, "where the group goes on");
                var answer = new CompletableFuture<Map<TopicPartition, OffsetAndMetadata>>();
                consumer.commitAsync((offsets, error) -> {
                    if (error == null) {
                        answer.complete(offsets);
                    } else {
                        answer.completeExceptionally(error);
                    }
                });
                until("the answer comes", () -> !consumer.poll(Duration.ofMillis(10)).isEmpty() || answer.isDone());
                equal(get(answer).get(partition).offset(), 100L, "committed beside the polls");
            }
            equal(committed(admin, group, topic), Map.of(partition, 100L), "the group's offsets");

            // By the client itself: at intervals while it runs, and when it ends.
            String automatic = topicName("automatic");
            Member member = Member.join(run, automatic, topic);
            until("all are polled", () -> member.records().size() == 100);
            until("they are committed", () -> committed(admin, automatic, topic).equals(Map.of(partition, 100L)));
            member.leave();
            broker.fill(topic, 0, Sample.samples(10));
            Member next = Member.join(run, automatic, topic, "auto.commit.interval.ms", 3_600_000);
            until("the rest is polled", () -> next.records().size() == 10);
            next.leave();
            equal(committed(admin, automatic, topic), Map.of(partition, 110L), "committed when it ended");

            // A consumer that assigns itself its partitions commits as well.
            String simple = topicName("simple");
            for (long start : List.of(0L, 55L)) {
                try (var consumer = Member.consumer(run, simple, false)) {
                    consumer.assign(List.of(partition));
                    equal(consumer.position(partition), start, "position by the commit");
                    consumer.commitSync(Map.of(partition, new OffsetAndMetadata(55)));
                }
            }
        }
    }

    private static void positions(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("positions", 2);
        var zero = new TopicPartition(topic, 0);
        var one = new TopicPartition(topic, 1);
        var samples = Sample.samples(50);
        broker.fill(topic, 0, samples);
        try (var consumer = Member.consumer(run, topicName("positions"), false)) {
            consumer.subscribe(List.of(topic));
            read(consumer, 50);
            consumer.seek(zero, new OffsetAndMetadata(20, "here"));
            equal(read(consumer, 30).get(0).offset(), 20L, "after a seek");
            consumer.seekToBeginning(List.of(zero));
            equal(read(consumer, 50).get(0).offset(), 0L, "from the beginning");
            consumer.seekToEnd(List.of());
            equal(consumer.position(zero), 50L, "at the end");
            long middle = samples.get(25).timestamp();
            var found = consumer.offsetsForTimes(Map.of(zero, middle)).get(zero);
            equal(found.offset(), 25L, "by time");
            consumer.seek(zero, found.offset());
            equal(read(consumer, 25).get(0).timestamp(), middle, "time of the first record");
            consumer.pause(List.of(zero));
            broker.fill(topic, 0, Sample.samples(1));
            broker.fill(topic, 1, Sample.samples(1));
            equal(read(consumer, 1).get(0).partition(), 1, "partition of what comes while one is paused");
            check(consumer.poll(Duration.ofMillis(300)).isEmpty(), "the paused partition is read");
            consumer.resume(consumer.paused());
            equal(read(consumer, 1).get(0).offset(), 50L, "after it is resumed");
            consumer.commitSync();
            equal(consumer.committed(Set.of(zero, one)), Map.of(zero, new OffsetAndMetadata(51, java.util.Optional.of(0), ""),
                    one, new OffsetAndMetadata(1, java.util.Optional.of(0), "")), "committed, with the leader's epoch");
            equal(consumer.currentLag(zero).getAsLong(), 0L, "lag");
            consumer.enforceRebalance("test");
            String before = consumer.groupMetadata().memberId();
            int generation = consumer.groupMetadata().generationId();
            until("a rebalance was made", () -> {
                consumer.poll(Duration.ofMillis(50));
                return consumer.groupMetadata().generationId() > generation;
            });
            equal(consumer.groupMetadata().memberId(), before, "its member id");
        }
    }

    private static void statics(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("static", 4);
        String group = topicName("static");
        try (Admin admin = broker.admin()) {
            Member first = Member.join(run, group, topic, "group.instance.id", "one");
            Member second = Member.join(run, group, topic, "group.instance.id", "two");
            settled(admin, group, topic, 4, List.of(first, second));
            var owned = first.owned(topic);
            int assignments = second.assignments();
            first.leave(); // a static member stays in the group
            equal(described(admin, group).members().size(), 2, "members while one is away");
            first = Member.join(run, group, topic, "group.instance.id", "one");
            var found = settled(admin, group, topic, 4, List.of(first, second));
            equal(first.owned(topic), owned, "its partitions");
            equal(second.assignments(), assignments, "assignments of the other one");
            equal(found.members().stream().map(member -> member.groupInstanceId().orElse("none")).sorted().toList(),
                    List.of("one", "two"), "instances");
            // Another one with its name takes its place, and the old one is fenced.
            Member taker = Member.join(run, group, topic, "group.instance.id", "one");
            settled(admin, group, topic, 4, List.of(taker, second));
            Member old = first;
            until("the old one ends", () -> old.failed() != null);
            check(old.failed() instanceof FencedInstanceIdException, "it failed with " + old.failed());
            taker.leave();
            var one = new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("one")));
            get(admin.removeMembersFromConsumerGroup(group, one).all());
            settled(admin, group, topic, 4, List.of(second));
            var nobody = new MemberToRemove("nobody");
            fails(UnknownMemberIdException.class, () -> get(admin.removeMembersFromConsumerGroup(group,
                    new RemoveMembersFromConsumerGroupOptions(Set.of(nobody))).memberResult(nobody)), "an instance that is not there");
            second.leave();
            get(admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all());
            empty(admin, group);
        }
    }

    private static void slow(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("slow", 2);
        String group = topicName("slow");
        broker.fill(topic, 0, Sample.samples(10));
        try (Admin admin = broker.admin(); var consumer = Member.consumer(run, group, false, "max.poll.interval.ms", 1000)) {
            consumer.subscribe(List.of(topic));
            read(consumer, 10);
            until("it is out of the group", () -> described(admin, group).members().isEmpty());
            Member other = Member.join(run, group, topic);
            settled(admin, group, topic, 2, List.of(other));
            fails(CommitFailedException.class, () -> {
                consumer.commitSync();
                return null;
            }, "a commit of one that is no member any more");
            other.leave();
        }
    }

    private static void pattern(Run run) throws Exception {
        var broker = new Broker(run);
        String prefix = topicName("pattern");
        String first = broker.create(prefix, 1);
        broker.fill(first, 0, Sample.samples(3));
        Member member = Member.join(run, topicName("pattern"), Pattern.compile(prefix + "-.*"), "metadata.max.age.ms", 300);
        until("the first topic's records", () -> member.records().size() == 3);
        String second = broker.create(prefix, 2);
        broker.fill(second, 1, Sample.samples(4));
        until("the second topic's records", () -> member.records().size() == 7);
        equal(member.owned(second), List.of(0, 1), "partitions of the topic that came later");
        member.leave();
    }

    private static void offsets(Run run) throws Exception {
        var broker = new Broker(run);
        String topic = broker.create("offsets", 3);
        String other = broker.create("other", 1);
        String group = topicName("offsets");
        broker.fill(topic, 0, Sample.samples(20));
        var zero = new TopicPartition(topic, 0);
        var two = new TopicPartition(topic, 2);
        var elsewhere = new TopicPartition(other, 0);
        try (Admin admin = broker.admin()) {
            get(admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(5, "five"),
                    two, new OffsetAndMetadata(0), elsewhere, new OffsetAndMetadata(7))).all());
            equal(committed(admin, group, topic), Map.of(zero, 5L, two, 0L), "committed");
            var found = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
            equal(found.get(zero).metadata(), "five", "metadata");
            String missing = topicName("missing");
            var many = admin.listConsumerGroupOffsets(Map.of(group,
                    new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(zero, new TopicPartition(topic, 1))),
                    missing, new ListConsumerGroupOffsetsSpec()));
            var asked = get(many.partitionsToOffsetAndMetadata(group));
            equal(asked.keySet(), Set.of(zero, new TopicPartition(topic, 1)), "partitions that were asked for");
            equal(asked.get(new TopicPartition(topic, 1)), null, "one without an offset");
            equal(get(many.partitionsToOffsetAndMetadata(missing)), Map.of(), "offsets of a group that is not there");
            var lost = new TopicPartition(missing, 0);
            fails(UnknownTopicOrPartitionException.class, () -> get(admin.alterConsumerGroupOffsets(group,
                    Map.of(lost, new OffsetAndMetadata(1))).partitionResult(lost)), "an offset of a missing topic");

            var listed = listed(admin, new ListGroupsOptions());
            check(listed.contains(group), "the group is not listed");
            check(listed(admin, ListGroupsOptions.forConsumerGroups().inGroupStates(Set.of(GroupState.EMPTY))).contains(group), "empty ones");
            check(!listed(admin, new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE))).contains(group), "stable ones");
            check(listed(admin, new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))).contains(group), "classic ones");
            var empty = described(admin, group);
            equal(List.of(empty.groupState(), empty.type(), empty.members().size()),
                    List.of(GroupState.EMPTY, GroupType.CLASSIC, 0), "the empty group");
            fails(GroupIdNotFoundException.class, () -> described(admin, missing), "a group that is not there");

            // While it is subscribed to, the offsets of a topic stay.
            Member member = Member.join(run, group, topic, "auto.commit.interval.ms", 3_600_000);
            settled(admin, group, topic, 3, List.of(member));
            until("records from the committed offset on", () -> member.records().size() == 15);
            equal(get(admin.describeClassicGroups(List.of(group)).all()).get(group).state().toString(), "Stable", "classic");
            var deleted = admin.deleteConsumerGroupOffsets(group, Set.of(zero, elsewhere));
            fails(GroupSubscribedToTopicException.class, () -> get(deleted.partitionResult(zero)), "an offset in use");
            get(deleted.partitionResult(elsewhere));
            equal(committed(admin, group, other), Map.of(), "offsets of the other topic");
            fails(GroupNotEmptyException.class, () -> get(admin.deleteConsumerGroups(List.of(group)).all()), "a group in use");
            fails(UnknownMemberIdException.class, () -> get(admin.alterConsumerGroupOffsets(group,
                    Map.of(zero, new OffsetAndMetadata(1))).all()), "altering offsets in use");
            member.leave();
            empty(admin, group);
            get(admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(1))).all());
            Member again = Member.join(run, group, topic);
            until("they come again", () -> again.records().size() == 19);
            again.leave();
            empty(admin, group);
            get(admin.deleteConsumerGroups(List.of(group)).all());
            check(!listed(admin, new ListGroupsOptions()).contains(group), "it is still listed");
            fails(GroupIdNotFoundException.class, () -> get(admin.deleteConsumerGroups(List.of(group)).all()), "again");
            equal(committed(admin, group, topic), Map.of(), "its offsets");
        }
    }

    private static Set<String> listed(Admin admin, ListGroupsOptions options) throws Exception {
        var names = new HashSet<String>();
        get(admin.listGroups(options).all()).forEach(listing -> names.add(listing.groupId()));
        return names;
    }
}
