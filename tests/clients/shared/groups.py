"""Consumer groups: who gets which partition, from where it goes on, and the administration of groups."""

import random
import threading
import time

import harness
from harness import Run, Sample, case_that_waits, check, equal, long_case, topic_name, until

from . import client as words
from .client import Cases, Client, Member, Options, Partition, numbers, plain
from .members import Child

# kafka-python 3.0.12 forgets a rebalance that it began because of new metadata when a poll ends in the middle of it.
REJOIN_SECONDS = 5.0

_cases = Cases(case_that_waits)
needing = _cases.needing
add = _cases.add


class Polled:
    """A member that is polled on a thread of its own, as in a program of its own, so that two can wait for each other. Until
    it is stopped nobody else may call it."""

    def __init__(self, member: Member):
        self.member = member
        self.records: list = []
        self.owned: frozenset = frozenset()
        self.error = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._poll, daemon=True)
        self.thread.start()

    def _poll(self):
        try:
            while not self.ended.is_set():
                self.records.extend(self.member.poll(0.3))
                self.owned = self.member.assignment()
        except Exception as error:  # told by `assignment` or `stop`, in the case's own thread
            self.error = error

    def assignment(self) -> frozenset:
        if self.error:
            raise self.error
        return self.owned

    def stop(self) -> Member:
        self.ended.set()
        self.thread.join()
        if self.error:
            raise self.error
        return self.member


def are_apart(wanted: list, *members) -> bool:
    """Whether the partitions are all assigned, each to one member, and none has more than one more than another."""
    owned = [member.assignment() for member in members]
    sizes = [len(of) for of in owned]
    return sorted(partition for of in owned for partition in of) == sorted(wanted) and max(sizes) - min(sizes) <= 1


@needing()
def members_share_the_partitions_of_all_their_topics(client: Client, run: Run):
    partitions = client.create(run, "left", 4) + client.create(run, "right", 2)
    topics = sorted({partition.topic for partition in partitions})
    group = topic_name("shared")
    one = Polled(client.member(run, group, topics))
    until("an assignment for one", lambda: are_apart(partitions, one))
    two = Polled(client.member(run, group, topics))
    until("an assignment for two", lambda: are_apart(partitions, one, two))
    for index, partition in enumerate(partitions):
        client.fill(run, partition, plain(20, index * 20))
    until("all records", lambda: len(one.records) + len(two.records) >= 20 * len(partitions))
    for polled in (one, two):
        owned = polled.assignment()
        strange = [record.partition for record in polled.records if record.partition not in owned]
        equal(strange, [], "partitions of records that the member does not own")
    found = numbers(one.records + two.records)
    equal(sorted(found), list(range(20 * len(partitions))), "records of both members")
    two.stop().commit()
    leaver = one.stop()
    leaver.commit()
    leaver.close()
    stays = two.stop()
    stays.settle(partitions)
    client.fill(run, partitions[0], plain(1, 1000))
    equal(numbers(stays.read(1)), [1000], "the next record after one member left")
    stays.close()


@needing()
def every_record_is_processed_while_members_come_go_and_crash(client: Client, run: Run):
    partitions = client.create(run, "churn", 4) + client.create(run, "churn-other", 2)
    topics = sorted({partition.topic for partition in partitions})
    options = Options(group=topic_name("churning"), session_ms=6000)
    load = Load(client, run, partitions)
    watch = CommitWatch(client, run, options.group)
    members = [Child(run, topics, options)]
    until("a first record", lambda: members[0].records)
    members += [Child(run, topics, options) for _ in range(run.scale(2, 3))]
    until("partitions for every member", lambda: all(member.owns for member in members))
    gone = []
    source = random.Random(11)
    for step in range(run.scale(2, 20)):
        time.sleep(source.uniform(0.3, 1.0))
        if step % 2 == 1 and len(members) < 5:
            members.append(Child(run, topics, options))
            continue
        leaver = members.pop(source.randrange(len(members)))
        gone.append(leaver)
        if step % 4 == 2:
            leaver.leave()
        else:
            leaver.crash()
    leaver = members.pop()
    gone.append(leaver)
    leaver.leave()
    written = load.stop()

    def is_quiet():
        owned = [partition for member in members for partition in member.owns]
        description = client.admin(run).describe(options.group)
        return (
            sorted(owned) == sorted(partitions)
            and watch.latest == {partition: written[partition] for partition in partitions}
            and (description.state, len(description.clients)) == ("Stable", len(members))
        )

    until("a complete and disjoint assignment, and everything committed", is_quiet, 60)
    watch.stop()
    for member in members:
        member.leave()
    processed = {(partition, offset) for member in members + gone for partition, offset, _ in member.records}
    for partition, count in written.items():
        lost = [offset for offset in range(count) if (partition, offset) not in processed]
        check(not lost, f"never processed of {partition}: {lost[:20]}")
    for member in members + gone:
        for partition, offset, value in member.records:
            equal(value, f"{partition.index}:{offset}", f"the record at {partition}, {offset}")


class Load:
    """Records for the partitions in turn, until it is stopped. Each says in which place it must be found."""

    def __init__(self, client: Client, run: Run, partitions: list):
        self.written = dict.fromkeys(partitions, 0)
        self.writer = client.writer(run)
        self.ended = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self._write, daemon=True)
        self.thread.start()

    def _write(self):
        try:
            while not self.ended.is_set():
                for partition, count in self.written.items():
                    samples = [
                        Sample(None, f"{partition.index}:{offset}".encode(), (), harness.now_ms())
                        for offset in range(count, count + 5)
                    ]
                    equal(self.writer.write(partition, samples), list(range(count, count + 5)), "offsets")
                    self.written[partition] = count + 5
                self.ended.wait(0.05)
        except Exception as error:  # told by `stop`, in the case's own thread
            self.error = error

    def stop(self) -> dict:
        """Ends it; the number of records of each partition."""
        self.ended.set()
        self.thread.join()
        self.writer.close()
        if self.error:
            raise self.error
        return self.written


class CommitWatch:
    """Looks at a group's committed offsets all the time, and sees to it that none goes back."""

    def __init__(self, client: Client, run: Run, group: str):
        self.admin = lambda: client.admin(run)
        self.group = group
        self.latest: dict = {}
        self.error = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        try:
            while not self.ended.wait(0.1):
                found = {partition: offset for partition, (offset, _) in self.admin().offsets(self.group).items()}
                for partition, offset in self.latest.items():
                    now = found.get(partition, -1)
                    check(now >= offset, f"the committed offset of {partition} went from {offset} to {now}")
                self.latest = found
        except Exception as error:  # told by `stop`, in the case's own thread
            self.error = error

    def stop(self):
        self.ended.set()
        self.thread.join()
        if self.error:
            raise self.error


@needing()
def a_consumer_goes_on_from_the_committed_offset(client: Client, run: Run):
    partitions = client.create(run, "resume", 2)
    first, second = partitions
    group = topic_name("resuming")
    for partition in partitions:
        client.fill(run, partition, plain(50))
    reader = client.member(run, group, [first.topic])
    reader.read(100)
    equal(reader.committed(first), None, "committed before the first commit")
    reader.commit({first: (17, "seventeen – ü"), second: (31, "")})
    equal((reader.committed(first), reader.committed(second)), (17, 31), "committed")
    reader.close()
    admin = client.admin(run)
    equal(admin.offsets(group), {first: (17, "seventeen – ü"), second: (31, "")}, "offsets with their metadata")
    reader = client.member(run, group, [first.topic])
    found = reader.read(33 + 19)
    for partition, start in ((first, 17), (second, 31)):
        mine = [record.offset for record in found if record.partition == partition]
        equal(mine, list(range(start, 50)), f"offsets of {partition} after the restart")
    equal(reader.position(first), 50, "position after all was read")
    reader.commit()
    # Back is allowed: a commit says where to go on, whatever was said before.
    reader.commit({first: (5, "")})
    reader.close()
    reader = client.member(run, group, [first.topic])
    equal([record.offset for record in reader.read(45)], list(range(5, 50)), "offsets after a commit that goes back")
    equal(reader.poll(0.3), [], "more than what is not committed")
    reader.close()


@needing()
def positions_are_committed_automatically(client: Client, run: Run):
    (partition,) = client.create(run, "automatic")
    group = topic_name("automatic")
    client.fill(run, partition, plain(40))
    reader = client.member(run, group, [partition.topic], auto_commit_ms=200)
    equal(numbers(reader.read(40)), list(range(40)), "values")
    until("an automatic commit", lambda: reader.poll(0.1) or reader.committed(partition) == 40)
    client.fill(run, partition, plain(10, 40))
    equal(numbers(reader.read(10)), list(range(40, 50)), "the next values")
    reader.close()  # commits what was read since the last time
    client.fill(run, partition, plain(1, 50))
    reader = client.member(run, group, [partition.topic], auto_commit_ms=200)
    equal(numbers(reader.read(1)), [50], "values after the restart")
    reader.close()


@needing("static")
def a_static_member_that_comes_back_in_time_disturbs_nobody(client: Client, run: Run):
    partitions = client.create(run, "static", 4)
    topic = partitions[0].topic
    group = topic_name("static")
    stays = Polled(client.member(run, group, [topic], instance="stays"))
    goes = Polled(client.member(run, group, [topic], instance="goes"))
    until("two partitions each", lambda: are_apart(partitions, stays, goes))
    owned, events = goes.assignment(), list(stays.member.events)
    goes.stop().close()
    time.sleep(0.5)
    again = client.member(run, group, [topic], instance="goes")
    again.settle(owned)
    time.sleep(0.5)
    equal(stays.member.events, events, "what the other member was told of the restart")
    client.fill(run, sorted(owned)[0], plain(3))
    equal(numbers(again.read(3)), [0, 1, 2], "records for the member that came back")
    again.close()
    stays.stop().close()
    admin = client.admin(run)
    equal(len(admin.describe(group).clients), 2, "static members that are away, and still members")


@needing("static", "fenced")
def a_second_member_of_the_same_name_fences_the_first(client: Client, run: Run):
    (partition,) = client.create(run, "fenced")
    group = topic_name("fenced")
    first = client.member(run, group, [partition.topic], instance="only")
    first.settle([partition])
    second = client.member(run, group, [partition.topic], instance="only")
    second.settle([partition])

    def use_first():
        while True:
            first.poll(0.1)
            first.commit({partition: (0, "")})

    client.refused({words.FENCED_INSTANCE_ID}, use_first, "a member whose name another one took")
    client.fill(run, partition, plain(2))
    equal(numbers(second.read(2)), [0, 1], "records for the second")
    second.close()


@needing("cooperative")
def partitions_that_stay_are_not_revoked(client: Client, run: Run):
    partitions = client.create(run, "cooperative", 6)
    topic = partitions[0].topic
    group = topic_name("cooperative")
    one = Polled(client.member(run, group, [topic], assignor="cooperative"))
    until("an assignment for one", lambda: are_apart(partitions, one))
    two = Polled(client.member(run, group, [topic], assignor="cooperative"))
    for partition in partitions:
        client.fill(run, partition, plain(5))
    until("an assignment for two", lambda: are_apart(partitions, one, two))
    kept = one.assignment()
    equal(one.member.revoked(), two.assignment(), "what was revoked of the first member")
    equal(two.member.revoked(), set(), "what was revoked of the second member")
    two.stop().close()
    until("an assignment for one", lambda: are_apart(partitions, one))
    equal(one.member.revoked() & kept, set(), "of what stayed, revoked")
    until("all records", lambda: {record.partition for record in one.records} == set(partitions))
    one.stop().close()


@needing()
def topics_of_a_pattern_are_found_when_they_appear(client: Client, run: Run):
    prefix = topic_name("pattern")
    first = client.create(run, f"{prefix}-a", 2)
    client.create(run, "other")
    reader = client.consumer(run, Options(group=topic_name("pattern")))
    reader.subscribe_pattern(f"^{prefix}-.*")
    reader.settle(first)
    second = client.create(run, f"{prefix}-b", 1)
    client.fill(run, second[0], plain(2))
    found = reader.settle(first + second, REJOIN_SECONDS)
    found += reader.read(2 - len(found))
    equal(numbers(found), [0, 1], "records of the topic that appeared")
    reader.close()


@needing()
def partitions_that_are_added_are_assigned(client: Client, run: Run):
    partitions = client.create(run, "growing", 1)
    topic = partitions[0].topic
    reader = client.member(run, topic_name("growing"), [topic])
    reader.settle(partitions)
    admin = client.admin(run)
    admin.grow(topic, 3)
    until("three partitions", lambda: admin.partitions(topic) == 3)
    added = [Partition(topic, index) for index in (1, 2)]
    for partition in added:
        client.fill(run, partition, plain(2, partition.index * 2))
    found = reader.settle(partitions + added, REJOIN_SECONDS)
    found += reader.read(4 - len(found))
    equal(sorted(numbers(found)), [2, 3, 4, 5], "records of the new partitions")
    reader.close()


@needing()
def a_member_seeks_by_offset_and_by_time(client: Client, run: Run):
    (partition,) = client.create(run, "replay")
    group = topic_name("replay")
    start = harness.now_ms() - 100_000
    client.fill(run, partition, [Sample(None, b"%d" % i, (), start + i * 1000) for i in range(60)])
    reader = client.member(run, group, [partition.topic])
    equal(numbers(reader.read(60)), list(range(60)), "values")
    reader.commit()
    for position in (30, 0, 59):
        reader.seek(partition, position)
        equal(numbers(reader.read(60 - position)), list(range(position, 60)), f"replay from {position}")
    at = reader.offset_at(partition, start + 41_500)
    equal(at, 42, "the offset by time")
    equal(reader.offset_at(partition, start + 60_000), None, "the offset after the last record")
    reader.seek(partition, at)
    equal(numbers(reader.read(18)), list(range(42, 60)), "replay from a time")
    equal(reader.committed(partition), 60, "what is committed, after all the replays")
    reader.close()


@needing()
def without_a_committed_offset_the_reset_policy_decides(client: Client, run: Run):
    (partition,) = client.create(run, "reset")
    client.fill(run, partition, plain(10))
    early = client.member(run, topic_name("earliest"), [partition.topic], reset="earliest")
    equal(numbers(early.read(10)), list(range(10)), "values from the earliest")
    late = client.member(run, topic_name("latest"), [partition.topic], reset="latest")
    late.settle([partition])
    # A client looks the end up in its own time, so some of what is sent meanwhile may lie before it.
    found: list = []
    count = 10
    while not found:
        client.fill(run, partition, plain(1, count))
        count += 1
        check(count < 100, "nothing came from the latest")
        found = late.poll(0.3)
    check(found[0].offset >= 10, f"offset {found[0].offset} from the latest")
    equal(numbers(early.read(count - 10)), list(range(10, count)), "values that came later, from the earliest")
    early.close()
    late.close()
    # A committed offset that the log no longer has is like none.
    group = topic_name("beyond")
    reader = client.member(run, group, [partition.topic])
    reader.read(count)
    reader.commit({partition: (1000, "")})
    reader.close()
    reader = client.member(run, group, [partition.topic])
    equal(numbers(reader.read(count)), list(range(count)), "values where the committed offset is past the end")
    reader.close()


@needing()
def paused_partitions_wait_and_others_go_on(client: Client, run: Run):
    first, second = client.create(run, "pause", 2)
    reader = client.member(run, topic_name("pause"), [first.topic])
    reader.settle([first, second])
    for partition in (first, second):
        client.fill(run, partition, plain(5))
    reader.read(10)
    reader.pause([first])
    for partition in (first, second):
        client.fill(run, partition, plain(5, 5))
    found = reader.read(5)
    for _ in range(5):
        found += reader.poll(0.1)
    equal([record.partition for record in found], [second] * 5, "records while the first is paused")
    reader.resume([first])
    found = reader.read(5)
    equal([record.partition for record in found], [first] * 5, "records after that")
    equal(numbers(found), list(range(5, 10)), "values after that")
    reader.close()


@needing()
def the_lag_is_what_is_not_committed_yet(client: Client, run: Run):
    (partition,) = client.create(run, "lag")
    group = topic_name("lag")
    client.fill(run, partition, plain(25))
    reader = client.member(run, group, [partition.topic])
    reader.read(25)
    reader.commit({partition: (10, "")})
    client.fill(run, partition, plain(5, 25))
    observer = client.consumer(run, Options(group=group))
    observer.assign([partition])
    equal(observer.bounds(partition)[1] - observer.committed(partition), 20, "lag")
    observer.close()
    reader.close()


@needing()
def long_metadata_is_refused(client: Client, run: Run):
    (partition,) = client.create(run, "metadata")
    group = topic_name("metadata")
    reader = client.member(run, group, [partition.topic])
    reader.settle([partition])
    longest = "m" * 4095  # confluent-kafka ends it with a NUL
    reader.commit({partition: (1, longest)})
    long = lambda: reader.commit({partition: (2, "m" * 4097)})
    client.refused({words.OFFSET_METADATA_TOO_LARGE}, long, "metadata of 4,097 bytes")
    admin = client.admin(run)
    equal(admin.offsets(group), {partition: (1, longest)}, "what is committed")
    reader.close()


@needing()
def offsets_are_committed_without_a_membership(client: Client, run: Run):
    first, second = client.create(run, "alone", 2)
    group = topic_name("alone")
    for partition in (first, second):
        client.fill(run, partition, plain(10))
    reader = client.consumer(run, Options(group=group))
    reader.assign([first, second])
    reader.read(20)
    reader.commit({first: (4, "x"), second: (7, "")})
    reader.close()
    admin = client.admin(run)
    equal(admin.offsets(group), {first: (4, "x"), second: (7, "")}, "offsets")
    equal(admin.describe(group).state, "Empty", "state of the group")
    reader = client.consumer(run, Options(group=group))
    reader.assign([first, second])
    equal(len(reader.read(9)), 9, "records after what is committed")
    reader.close()


@needing()
def groups_are_listed_and_described(client: Client, run: Run):
    partitions = client.create(run, "listed", 2)
    group = topic_name("listed")
    admin = client.admin(run)
    equal(admin.describe(group).state, "Dead", "state of a group that is not there")
    check(group not in admin.groups(), "a group that is not there is listed")
    reader = client.member(run, group, [partitions[0].topic])
    reader.settle(partitions)
    check(group in admin.groups(), "the group is not listed")
    described = until("a stable group", lambda: (d := admin.describe(group)).state == "Stable" and d)
    equal(described.protocol, "range", "the assignor")
    equal(len(described.clients), 1, "members")
    check(described.clients[0], "a member without a client id")
    reader.commit({partitions[0]: (0, "")})
    reader.close()
    until("an empty group", lambda: admin.describe(group).state == "Empty")
    equal(admin.describe(group).clients, [], "members of an empty group")
    equal(admin.offsets(topic_name("nobody")), {}, "offsets of a group that is not there")


@needing("delete-group")
def an_empty_group_is_deleted_and_another_is_not(client: Client, run: Run):
    (partition,) = client.create(run, "deleted")
    group = topic_name("deleted")
    admin = client.admin(run)
    missing = lambda: admin.delete_group(topic_name("nobody"))
    client.refused({words.GROUP_ID_NOT_FOUND}, missing, "deleting a group that is not there")
    reader = client.member(run, group, [partition.topic])
    reader.settle([partition])
    reader.commit({partition: (3, "")})
    client.refused({words.NON_EMPTY_GROUP}, lambda: admin.delete_group(group), "deleting a group with a member")
    equal(admin.offsets(group), {partition: (3, "")}, "offsets after the refusal")
    reader.close()
    until("an empty group", lambda: admin.describe(group).state == "Empty")
    admin.delete_group(group)
    check(group not in admin.groups(), "the group is still listed")
    equal(admin.offsets(group), {}, "offsets of the deleted group")
    client.refused({words.GROUP_ID_NOT_FOUND}, lambda: admin.delete_group(group), "deleting it twice")
    client.fill(run, partition, plain(5))
    reader = client.member(run, group, [partition.topic])
    equal(numbers(reader.read(5)), list(range(5)), "values for a new group of the same name")
    reader.close()


@needing("set-offsets")
def the_offsets_of_a_group_are_set_from_outside(client: Client, run: Run):
    first, second = client.create(run, "set", 2)
    group = topic_name("set")
    for partition in (first, second):
        client.fill(run, partition, plain(10))
    admin = client.admin(run)
    admin.set_offsets(group, {first: 2, second: 8})
    equal({p: offset for p, (offset, _) in admin.offsets(group).items()}, {first: 2, second: 8}, "offsets")
    reader = client.member(run, group, [first.topic])
    equal(len(reader.read(10)), 10, "records from the offsets that were set")
    active = lambda: admin.set_offsets(group, {first: 0})
    client.refused({words.UNKNOWN_MEMBER_ID}, active, "setting offsets of a group with a member")
    reader.close()
    until("an empty group", lambda: admin.describe(group).state == "Empty")
    admin.set_offsets(group, {first: 9, second: 9})
    reader = client.member(run, group, [first.topic])
    equal(numbers(reader.read(2)), [9, 9], "values after the reset")
    reader.close()


@needing("delete-offsets")
def offsets_are_deleted_unless_a_member_reads_the_topic(client: Client, run: Run):
    (read,) = client.create(run, "read")
    (unread,) = client.create(run, "unread")
    group = topic_name("cut")
    admin = client.admin(run)
    reader = client.member(run, group, [read.topic, unread.topic])
    reader.settle([read, unread])
    reader.commit({read: (1, ""), unread: (2, "")})
    reader.close()
    reader = client.member(run, group, [read.topic])
    reader.settle([read])
    cut = lambda: admin.delete_offsets(group, [read])
    client.refused({words.GROUP_SUBSCRIBED_TO_TOPIC}, cut, "deleting offsets of a topic that is read")
    admin.delete_offsets(group, [unread])
    equal(admin.offsets(group), {read: (1, "")}, "offsets that are left")
    reader.close()
    until("an empty group", lambda: admin.describe(group).state == "Empty")
    admin.delete_offsets(group, [read])
    equal(admin.offsets(group), {}, "offsets after all were deleted")
    nobody = lambda: admin.delete_offsets(topic_name("nobody"), [read])
    client.refused({words.GROUP_ID_NOT_FOUND}, nobody, "deleting offsets of a group that is not there")


@needing()
def offsets_of_a_deleted_topic_are_gone(client: Client, run: Run):
    (kept,) = client.create(run, "kept")
    (gone,) = client.create(run, "gone")
    group = topic_name("partly")
    reader = client.consumer(run, Options(group=group))
    reader.assign([kept, gone])
    reader.commit({kept: (1, ""), gone: (2, "")})
    reader.close()
    admin = client.admin(run)
    equal(set(admin.offsets(group)), {kept, gone}, "partitions with offsets")
    admin.delete(gone.topic)
    until("offsets of the deleted topic to go", lambda: set(admin.offsets(group)) == {kept})


@needing()
def committed_offsets_can_be_read_as_records(client: Client, run: Run):
    (partition,) = client.create(run, "logged")
    group = topic_name("logged")
    reader = client.consumer(run, Options(group=group))
    reader.assign([partition])
    reader.commit({partition: (41, "first")})
    reader.commit({partition: (42, "second")})
    reader.close()
    admin = client.admin(run)
    log = [Partition("__consumer_offsets", index) for index in range(admin.partitions("__consumer_offsets"))]
    reader = client.reader(run, *log)
    wanted = [(41, "first"), (42, "second")]
    found: list = []

    def is_found():
        for record in reader.poll(0.2):
            if record.sample.value is not None and offset_key(record.sample.key) == (group, partition):
                offset, metadata = offset_value(record.sample.value)
                found.append((offset, metadata.rstrip("\0")))  # confluent-kafka ends it with a NUL
        return found == wanted

    until("both commits in the log of offsets", is_found)
    reader.close()


@long_case
@needing()
def a_compacted_topic_keeps_the_latest_of_every_key(client: Client, run: Run):
    (partition,) = client.create(
        run,
        "compacted",
        cleanup_policy="compact",
        segment_ms="500",
        min_cleanable_dirty_ratio="0.01",
        delete_retention_ms="100000",
    )
    latest: dict = {}

    def update(count: int) -> None:
        first = len(written)
        values = [Sample(b"%d" % (i % 10), b"%d" % i, (), harness.now_ms()) for i in range(first, first + count)]
        equal(client.fill(run, partition, values), list(range(first, first + count)), "offsets")
        written.extend(values)
        latest.update({sample.key: sample.value for sample in values})

    written: list = []
    update(1000)
    reader = client.reader(run, partition)

    def is_compacted():
        time.sleep(0.6)
        update(5)  # begins a segment, so that the last one can be compacted
        reader.seek(partition, 0)
        found = reader.read(1)
        while found[-1].offset < len(written) - 1:
            found += reader.poll(0.2)
        offsets = [record.offset for record in found]
        equal(offsets, sorted(set(offsets)), "offsets in order")
        for record in found:
            equal(record.sample, written[record.offset], f"the record at {record.offset}")
        equal({record.sample.key: record.sample.value for record in found}, latest, "the latest of each key")
        return len(found) < 500

    until("a compaction", is_compacted, 100)
    reader.close()


def offset_key(key: bytes):
    """The group and partition of a key in the log of offsets; None for a key of another kind."""
    version, rest = int.from_bytes(key[:2], "big"), key[2:]
    if version not in (0, 1):
        return None
    group, rest = text_of(rest)
    topic, rest = text_of(rest)
    return group, Partition(topic, int.from_bytes(rest, "big"))


def offset_value(value: bytes):
    """The offset and metadata of a value. Version 3 brought the leader's epoch between the two, and 4 short lengths."""
    version, offset = int.from_bytes(value[:2], "big"), int.from_bytes(value[2:10], "big")
    if version < 4:
        return offset, text_of(value[14:] if version == 3 else value[10:])[0]
    check(value[14] < 128, "metadata that these cases did not write")
    return offset, value[15 : 14 + value[14]].decode()


def text_of(data: bytes):
    length = int.from_bytes(data[:2], "big")
    return data[2 : 2 + length].decode(), data[2 + length :]
