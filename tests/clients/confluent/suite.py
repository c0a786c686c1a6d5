"""confluent-kafka, the Python binding of librdkafka: produce, fetch by position, administration, and with the shared
cases groups. (A consumer of librdkafka must name a group, but with `assign` it does not join.)"""

import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ConsumerGroupType,
    ElectionType,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

import harness
from harness import (
    Ack,
    Run,
    Sample,
    case,
    case_that_waits,
    check,
    equal,
    raises,
    same_records,
    samples,
    topic_name,
    until,
)
from shared import groups, members
from shared import client as shared
from shared.client import named

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


class Writer:
    """A producer that keeps the delivery reports in the order of sending."""

    def __init__(self, run: Run, **settings):
        named = {key.replace("_", "."): value for key, value in settings.items()}
        self.client = Producer({"bootstrap.servers": run.bootstrap, **named})
        self.reports: list = []

    def send(self, topic: str, sample: Sample, partition: int = 0) -> None:
        number = len(self.reports)
        self.reports.append(None)

        def report(error, message):
            self.reports[number] = (error, message.offset())

        while True:
            try:
                headers = list(sample.headers)
                time_ms = sample.timestamp_ms
                self.client.produce(
                    topic, sample.value, sample.key, partition, report, timestamp=time_ms, headers=headers
                )
                self.client.poll(0)
                return
            except BufferError:  # the client's own queue is full
                self.client.poll(0.1)

    def offsets(self, seconds: float = 60) -> list:
        """Waits for all reports; raises the first error."""
        equal(self.client.flush(seconds), 0, "records without a report")
        for error, _ in self.reports:
            if error is not None:
                raise KafkaException(error)
        return [offset for _, offset in self.reports]


def consumer(run: Run, *positions: TopicPartition, **settings) -> Consumer:
    named = {key.replace("_", "."): value for key, value in settings.items()}
    made = Consumer(
        {
            "bootstrap.servers": run.bootstrap,
            "group.id": "none",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            **named,
        }
    )
    if positions:
        made.assign(list(positions))
    return made


def read(client: Consumer, count: int, seconds: float = 30.0) -> list:
    """The next `count` records; an error when they do not come."""
    found, deadline = [], time.monotonic() + seconds
    while len(found) < count:
        check(time.monotonic() < deadline, f"{len(found)} of {count} records within {seconds} s")
        for message in client.consume(count - len(found), 0.5):
            if message.error():
                raise KafkaException(message.error())
            found.append(message)
    return found


def read_all(run: Run, topic: str, count: int, partition: int = 0, **settings) -> list:
    reader = consumer(run, TopicPartition(topic, partition, OFFSET_BEGINNING), **settings)
    found = read(reader, count)
    reader.close()
    return found


def sample_of(message) -> Sample:
    return Sample(message.key(), message.value(), tuple(message.headers() or ()), message.timestamp()[1])


def admin(run: Run) -> AdminClient:
    return AdminClient({"bootstrap.servers": run.bootstrap})


def done(futures: dict):
    """The results of an administrative call; raises its first error."""
    return [future.result(30) for future in futures.values()]


def create(run: Run, what: str, partitions: int = 1, **configs) -> str:
    """A new topic, visible in metadata."""
    name = topic_name(what)
    named = {key.replace("_", "."): value for key, value in configs.items()}
    client = admin(run)
    done(client.create_topics([NewTopic(name, partitions, config=named)]))
    until("the topic is visible", lambda: count_of_partitions(client, name) == partitions)
    return name


def count_of_partitions(client: AdminClient, name: str) -> int:
    topic = client.list_topics(timeout=10).topics.get(name)
    return len([p for p in topic.partitions.values() if p.leader >= 0]) if topic else 0


def takes_records(client: AdminClient, name: str, partitions: int) -> bool:
    try:
        ends = {TopicPartition(name, partition): OffsetSpec.latest() for partition in range(partitions)}
        return all(end.offset == 0 for end in done(client.list_offsets(ends)))
    except KafkaException as error:
        check(error.args[0].code() == KafkaError.NOT_LEADER_FOR_PARTITION, str(error))
        return False


def fails_with(codes, action, what: str) -> None:
    error = raises(KafkaException, action, what).args[0]
    check(error.code() in codes, f"{what}: {error}")


def plain(value: bytes) -> Sample:
    return Sample(None, value, (), 0)


@case
def every_codec_and_acks_level_is_read_back_as_sent(run: Run):
    count = run.scale(200, 10_000)
    wanted = samples(count)
    client = admin(run)
    topics = {}
    for codec in CODECS:
        for acks in (0, 1, -1):
            topic = create(run, f"codec-{codec}-{acks}", partitions=2)
            topics[topic] = f"{codec}, acks={acks}"
            if acks == 0:  # nothing would say that a partition does not take records yet
                until("partitions that take records", lambda topic=topic: takes_records(client, topic, 2))
            writer = Writer(run, acks=acks, compression_type=codec, linger_ms=5)
            for index, sample in enumerate(wanted):
                writer.send(topic, sample, index % 2)
            offsets = writer.offsets()
            check(acks == 0 or offsets == [index // 2 for index in range(count)], f"offsets with {topics[topic]}")
    # One consumer for them all: this client takes half a second to start.
    reader = consumer(run, *[TopicPartition(topic, p, OFFSET_BEGINNING) for topic in topics for p in (0, 1)])
    found: dict = {(topic, p): [] for topic in topics for p in (0, 1)}
    for message in read(reader, count * len(topics)):
        found[message.topic(), message.partition()].append(message)
    reader.close()
    for (topic, partition), messages in found.items():
        what = f"{topics[topic]}, partition {partition}"
        same_records([sample_of(m) for m in messages], wanted[partition::2], what)
        equal([m.offset() for m in messages], list(range(len(messages))), f"{what}, offsets")


@case
def null_headers_and_null_records_come_back(run: Run):
    topic = create(run, "nulls")
    wanted = [
        Sample(None, None, (("null", None), ("empty", b"")), harness.now_ms()),
        Sample(b"", None, (("null", None),), harness.now_ms()),
        Sample(None, b"", (), harness.now_ms()),
    ]
    writer = Writer(run)
    for sample in wanted:
        writer.send(topic, sample)
    equal(writer.offsets(), [0, 1, 2], "offsets")
    same_records([sample_of(m) for m in read_all(run, topic, 3)], wanted, "nulls")


@case
def a_consumer_replays_from_any_position(run: Run):
    count = run.scale(3000, 50_000)
    topic = create(run, "seek")
    wanted = samples(count)
    writer = Writer(run, compression_type="zstd", linger_ms=2)
    for sample in wanted:
        writer.send(topic, sample)
    equal(writer.offsets(), list(range(count)), "offsets")
    reader = consumer(run, TopicPartition(topic, 0, count // 2))
    same_records([sample_of(m) for m in read(reader, count - count // 2)], wanted[count // 2 :], "from the middle")
    for start in (1, count - 1, 0):
        reader.seek(TopicPartition(topic, 0, start))
        found = read(reader, count - start)
        equal(found[0].offset(), start, "first offset after seek")
        same_records([sample_of(m) for m in found], wanted[start:], f"replay from {start}")
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0), 10, cached=False), (0, count), "watermarks")
    reader.close()
    # The client looks the end up in its own time, so some of what is sent meanwhile may lie before it.
    tail = consumer(run, TopicPartition(topic, 0, OFFSET_END))
    messages: list = []

    def sent_and_seen():
        writer.send(topic, plain(b"%d" % len(writer.reports)))
        writer.offsets()
        messages.extend(tail.consume(100, 0.1))
        return len(messages) > 3

    until("records at the end", sent_and_seen)
    check(messages[0].offset() >= count, f"offset {messages[0].offset()} comes before the end")
    equal([int(m.value()) for m in messages], [m.offset() for m in messages], "records at the end")
    tail.close()
    count = len(writer.reports)
    past = consumer(run, TopicPartition(topic, 0, count + 1000))
    fails_with({KafkaError._AUTO_OFFSET_RESET}, lambda: read(past, 1, 10), "a position past the end")
    past.close()
    for isolation in ("read_uncommitted", "read_committed"):
        equal(len(read_all(run, topic, count, isolation_level=isolation)), count, isolation)


@case
def offsets_are_found_by_time(run: Run):
    topic = create(run, "times")
    first = harness.now_ms() - 100_000
    for batch in range(3):
        writer = Writer(run, linger_ms=100, compression_type=CODECS[batch])
        for i in range(10):
            writer.send(topic, Sample(b"k", b"v", (), first + (batch * 10 + i) * 1000))
        writer.offsets()
    reader = consumer(run)
    asks = [(first - 5000, 0), (first, 0), (first + 1, 1), (first + 14_500, 15), (first + 29_000, 29)]
    for ask, offset in asks:
        found = reader.offsets_for_times([TopicPartition(topic, 0, ask)], 10)[0]
        equal(found.offset, offset, f"at {ask - first} ms")
    found = reader.offsets_for_times([TopicPartition(topic, 0, first + 29_001)], 10)[0]
    equal(found.offset, OFFSET_END, "after the last record")
    reader.close()
    client = admin(run)
    specs = [
        (OffsetSpec.earliest(), 0),
        (OffsetSpec.latest(), 30),
        (OffsetSpec.max_timestamp(), 29),
        (OffsetSpec.for_timestamp(first + 14_500), 15),
    ]
    for spec, offset in specs:
        equal(done(client.list_offsets({TopicPartition(topic, 0): spec}))[0].offset, offset, type(spec).__name__)


@case
def an_idempotent_producer_keeps_order_and_count(run: Run):
    count = run.scale(20_000, 500_000)
    topic = create(run, "idempotent")
    writer = Writer(
        run, enable_idempotence=True, batch_num_messages=25, linger_ms=0, max_in_flight_requests_per_connection=5
    )
    for i in range(count):
        writer.send(topic, plain(b"%d" % i))
    equal(writer.offsets(), list(range(count)), "offsets")
    equal([int(m.value()) for m in read_all(run, topic, count)], list(range(count)), "values")
    reader = consumer(run)
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0), 10, cached=False), (0, count), "watermarks")
    reader.close()


@case
def topics_are_created_described_listed_and_deleted(run: Run):
    client = admin(run)
    name = topic_name("life")
    new = NewTopic(name, 3, config={"retention.ms": "3600000"})
    done(client.create_topics([new], validate_only=True))
    check(name not in client.list_topics(timeout=10).topics, "validate_only made a topic")
    done(client.create_topics([new]))
    until("the topic is listed", lambda: count_of_partitions(client, name) == 3)
    described = done(client.describe_topics(TopicCollection([name])))[0]
    equal([p.id for p in described.partitions], [0, 1, 2], "partitions")
    check(not described.is_internal, "the topic is internal")
    fails_with({KafkaError.TOPIC_ALREADY_EXISTS}, lambda: done(client.create_topics([new])), "the same topic again")
    done(client.delete_topics([name]))
    until("the topic is gone", lambda: name not in client.list_topics(timeout=10).topics)
    fails_with({KafkaError.UNKNOWN_TOPIC_OR_PART}, lambda: done(client.delete_topics([name])), "deleting it twice")
    gone = lambda: done(client.describe_topics(TopicCollection([name])))
    fails_with({KafkaError.UNKNOWN_TOPIC_OR_PART}, gone, "describing what is gone")
    done(client.create_topics([NewTopic(name, 1)]))
    until("the topic is listed again", lambda: count_of_partitions(client, name) == 1)
    again = done(client.describe_topics(TopicCollection([name])))[0]
    check(str(again.topic_id) != str(described.topic_id), "the new topic has the old one's id")
    done(client.delete_topics([name]))


@case
def the_cluster_and_its_settings_are_described(run: Run):
    client = admin(run)
    cluster = client.describe_cluster().result(10)
    check(cluster.cluster_id, "no cluster id")
    equal([f"{node.host}:{node.port}" for node in cluster.nodes], [run.bootstrap], "nodes")
    check(cluster.controller.id in [node.id for node in cluster.nodes], "the controller is no node")
    name = create(run, "settings", retention_ms="123456", compression_type="zstd")
    found = done(client.describe_configs([ConfigResource(ResourceType.TOPIC, name)]))[0]
    equal(found["retention.ms"].value, "123456", "retention.ms")
    equal(found["retention.ms"].source, ConfigSource.DYNAMIC_TOPIC_CONFIG.value, "source of a set value")
    equal(found["max.message.bytes"].value, "1048588", "max.message.bytes")
    check(found["max.message.bytes"].is_default, "max.message.bytes is not the default")
    broker = ConfigResource(ResourceType.BROKER, str(cluster.nodes[0].id))
    check(done(client.describe_configs([broker]))[0], "no settings of the broker")
    missing = ConfigResource(ResourceType.TOPIC, topic_name("missing"))
    ask = lambda: done(client.describe_configs([missing]))
    fails_with({KafkaError.UNKNOWN_TOPIC_OR_PART}, ask, "settings of a missing topic")


@case
def partitions_are_added_and_take_records(run: Run):
    topic = create(run, "grow", partitions=1)
    client = admin(run)
    done(client.create_partitions([NewPartitions(topic, 4)]))
    until("four partitions", lambda: count_of_partitions(client, topic) == 4)
    writer = Writer(run)
    for partition in range(4):
        for sample in samples(5):
            writer.send(topic, sample, partition)
    equal(writer.offsets(), [0, 1, 2, 3, 4] * 4, "offsets")
    fewer = lambda: done(client.create_partitions([NewPartitions(topic, 2)]))
    fails_with({KafkaError.INVALID_PARTITIONS}, fewer, "fewer partitions")


@case
def deleted_records_are_gone_and_offsets_stay(run: Run):
    topic = create(run, "cut")
    wanted = samples(100)
    writer = Writer(run)
    for sample in wanted:
        writer.send(topic, sample)
    writer.offsets()
    client = admin(run)
    equal(done(client.delete_records([TopicPartition(topic, 0, 40)]))[0].low_watermark, 40, "low watermark")
    reader = consumer(run, TopicPartition(topic, 0, 10), auto_offset_reset="earliest")
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0), 10, cached=False), (40, 100), "watermarks")
    same_records([sample_of(m) for m in read(reader, 60)], wanted[40:], "what is left")
    reader.close()
    beyond = lambda: done(client.delete_records([TopicPartition(topic, 0, 101)]))
    fails_with({KafkaError.OFFSET_OUT_OF_RANGE}, beyond, "beyond the end")
    writer.send(topic, plain(b"next"))
    equal(writer.offsets()[-1], 100, "the next offset")


@case
def settings_of_a_topic_are_changed(run: Run):
    client = admin(run)
    topic = create(run, "alter", retention_ms="1000000")

    def alter(*entries: ConfigEntry, **options):
        return done(client.incremental_alter_configs([resource(*entries)], **options))

    def resource(*entries: ConfigEntry) -> ConfigResource:
        return ConfigResource(ResourceType.TOPIC, topic, incremental_configs=list(entries))

    def entry(name: str, value, operation: AlterConfigOpType = AlterConfigOpType.SET) -> ConfigEntry:
        return ConfigEntry(name, value, incremental_operation=operation)

    def modified() -> dict:
        found = done(client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))[0].values()
        dynamic = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        return {setting.name: setting.value for setting in found if setting.source == dynamic}

    alter(entry("max.message.bytes", "5000"), validate_only=True)
    alter(entry("max.message.bytes", "2000"), entry("retention.ms", None, AlterConfigOpType.DELETE))
    until("the change is seen", lambda: modified() == {"max.message.bytes": "2000"})
    refused = Writer(run)
    refused.send(topic, plain(harness.incompressible(3000)))
    fails_with({KafkaError.MSG_SIZE_TOO_LARGE}, refused.offsets, "a record over the new limit")
    alter(entry("cleanup.policy", "compact", AlterConfigOpType.APPEND))
    until("both policies", lambda: modified().get("cleanup.policy") in ("delete,compact", "compact,delete"))
    alter(entry("cleanup.policy", "delete", AlterConfigOpType.SUBTRACT))
    until("one policy", lambda: modified().get("cleanup.policy") == "compact")
    for name, value in (("retention.ms", "soon"), ("no.such.setting", "1")):
        wrong = lambda name=name, value=value: alter(entry(name, value))
        fails_with({KafkaError.INVALID_CONFIG}, wrong, f"{name}={value}")
    # The older operation replaces all settings.
    done(client.alter_configs([ConfigResource(ResourceType.TOPIC, topic, set_config={"segment.bytes": "2000000"})]))
    until("the older operation's change", lambda: modified() == {"segment.bytes": "2000000"})
    missing = ConfigResource(
        ResourceType.TOPIC, topic_name("missing"), incremental_configs=[entry("retention.ms", "1")]
    )
    lost = lambda: done(client.incremental_alter_configs([missing]))
    fails_with({KafkaError.UNKNOWN_TOPIC_OR_PART}, lost, "a missing topic")


@case
def an_election_is_not_needed(run: Run):
    client = admin(run)
    partition = TopicPartition(create(run, "elect"), 0)
    verdict = client.elect_leaders(ElectionType.PREFERRED, [partition]).result(10)
    equal({of.topic: error.code() for of, error in verdict.items()}, {partition.topic: 84}, "the election's answer")


@case
def a_topic_made_again_under_load_has_nothing_of_the_old_one(run: Run):
    client = admin(run)
    other = create(run, "steady")
    stop = threading.Event()
    steady = Writer(run)

    def load_other():
        while not stop.is_set():
            steady.send(other, plain(b"%d" % len(steady.reports)))
            time.sleep(0.001)

    other_load = threading.Thread(target=load_other)
    other_load.start()
    for _ in range(run.scale(2, 10)):
        name = create(run, "again", partitions=2)
        acks: list = []
        ended = threading.Event()

        def load(name=name, acks=acks, ended=ended):
            writer = Producer({"bootstrap.servers": run.bootstrap, "message.timeout.ms": 5000})
            number = 0
            while not ended.is_set():
                number += 1
                value, sent = b"%d" % number, time.monotonic()

                def report(error, message, value=value, sent=sent):
                    if error is None:
                        acks.append(Ack(value, message.partition(), message.offset(), sent, time.monotonic()))

                try:
                    writer.produce(name, value, partition=number % 2, on_delivery=report)
                except KafkaException:
                    pass  # the topic is gone for a moment
                writer.poll(0.001)
            writer.flush(10)

        loader = threading.Thread(target=load)
        loader.start()
        until("load", lambda acks=acks: len(acks) > 100)
        deleted_from = time.monotonic()
        done(client.delete_topics([name]))

        def make(name=name):
            # librdkafka's producer lets the broker create topics, so it may have made the topic, with one partition:
            # that is a new topic as well.
            try:
                return done(client.create_topics([NewTopic(name, 2)]))
            except KafkaException as error:
                check(error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, str(error))
                return count_of_partitions(client, name) > 0

        until("the topic made again", make)
        created_at = time.monotonic()
        until("load on the new topic", lambda acks=acks, at=created_at: sum(a.sent > at for a in acks) > 100)
        ended.set()
        loader.join()
        records = []
        for partition in range(count_of_partitions(client, name)):
            reader = consumer(run)
            end = reader.get_watermark_offsets(TopicPartition(name, partition), 10, cached=False)[1]
            reader.close()
            records += [(m.partition(), m.offset(), m.value()) for m in read_all(run, name, end, partition)]
        harness.check_incarnation(records, acks, deleted_from, created_at)
    stop.set()
    other_load.join()
    count = len(steady.reports)
    equal(steady.offsets(), list(range(count)), "offsets of the other topic")
    found = [int(m.value()) for m in read_all(run, other, count)]
    equal(found, list(range(count)), "records of the other topic")


@case
def records_up_to_the_limit_pass_and_larger_ones_do_not(run: Run):
    topic = create(run, "large")
    big = harness.incompressible(1_048_400)
    writer = Writer(run, message_max_bytes=8_000_000)
    writer.send(topic, plain(big))
    equal(writer.offsets(), [0], "offset of a record near the limit")
    refused = Writer(run, message_max_bytes=8_000_000)
    refused.send(topic, plain(harness.incompressible(1_048_700)))
    fails_with({KafkaError.MSG_SIZE_TOO_LARGE}, refused.offsets, "a record over the limit")
    wide = create(run, "larger", max_message_bytes="6000000")
    bigger = harness.incompressible(5_900_000)
    writer = Writer(run, message_max_bytes=8_000_000)
    writer.send(wide, plain(bigger))
    writer.offsets()
    writer.send(wide, plain(b"after it"))
    equal(writer.offsets(), [0, 1], "offsets where the limit is higher")
    for name, wanted in ((topic, [big]), (wide, [bigger, b"after it"])):
        # Larger than what the consumer asks for: the first batch comes all the same.
        found = read_all(run, name, len(wanted), fetch_message_max_bytes=10_000)
        check([m.value() for m in found] == wanted, f"{name}: other bytes came back")


@case
def a_topic_of_many_partitions_serves_them_all(run: Run):
    count = run.scale(200, 1000)
    topic = create(run, "wide", partitions=count)
    writer = Writer(run, linger_ms=20)
    for partition in range(count):
        writer.send(topic, plain(b"%d" % partition), partition)
        writer.send(topic, plain(b"%d" % partition), partition)
    equal(writer.offsets(), [0, 1] * count, "offsets")
    reader = consumer(run, *[TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(count)])
    found = sorted((m.partition(), m.offset(), m.value()) for m in read(reader, 2 * count))
    equal(found, [(p, o, b"%d" % p) for p in range(count) for o in (0, 1)], "records of all partitions")
    writer.send(topic, plain(b"late"), count - 1)
    writer.offsets()
    late = read(reader, 1)[0]
    equal((late.partition(), late.offset(), late.value()), (count - 1, 2, b"late"), "the late record")
    reader.close()


@case
def the_time_of_a_record_is_the_producers_or_the_logs(run: Run):
    own = create(run, "create-time")
    old = Sample(b"k", b"v", (), 1_000_000_000_000)
    writer = Writer(run)
    writer.send(own, old)
    writer.offsets()
    found = read_all(run, own, 1)[0]
    equal(found.timestamp(), (TIMESTAMP_CREATE_TIME, old.timestamp_ms), "CreateTime")
    appended = create(run, "append-time", message_timestamp_type="LogAppendTime")
    writer = Writer(run, linger_ms=20, compression_type="gzip")
    before = harness.now_ms()
    for _ in range(3):
        writer.send(appended, old)
    writer.offsets()
    after = harness.now_ms()
    for message in read_all(run, appended, 3):
        kind, time_ms = message.timestamp()
        equal(kind, TIMESTAMP_LOG_APPEND_TIME, "LogAppendTime")
        check(before <= time_ms <= after, f"append time {time_ms} not in {before}..{after}")
    ahead = Writer(run)
    ahead.send(own, Sample(b"k", b"v", (), harness.now_ms() + 2 * 3_600_000))
    fails_with({KafkaError.INVALID_TIMESTAMP}, ahead.offsets, "two hours ahead")


@case
def a_waiting_consumer_wakes_at_once(run: Run):
    topic = create(run, "wake")
    writer = Writer(run, linger_ms=0)
    writer.send(topic, plain(b"first"))
    writer.offsets()
    reader = consumer(run, TopicPartition(topic, 0, OFFSET_BEGINNING), fetch_wait_max_ms=5000)
    read(reader, 1)
    waits = []
    for _ in range(run.scale(5, 20)):
        sent_at = []

        def later(sent_at=sent_at):
            time.sleep(0.3)
            sent_at.append(time.monotonic())
            writer.send(topic, plain(b"now"))
            writer.offsets()

        thread = threading.Thread(target=later)
        thread.start()
        message = reader.poll(10)
        arrived = time.monotonic()
        thread.join()
        check(message is not None and not message.error(), f"the poll came back with {message}")
        waits.append(arrived - sent_at[0])
    median = sorted(waits)[len(waits) // 2]
    check(median < 0.2, f"a record took {median * 1000:.0f} ms to a waiting consumer: {waits}")
    reader.close()


@case
def mistakes_are_answered_with_their_error(run: Run):
    client = admin(run)
    make = lambda topic: lambda: done(client.create_topics([topic]))
    fails_with({KafkaError.TOPIC_EXCEPTION}, make(NewTopic("no spaces!", 1)), "a bad name")
    fails_with({KafkaError.TOPIC_EXCEPTION}, make(NewTopic("x" * 250, 1)), "a long name")
    name = topic_name("bad")
    bad = NewTopic(name, 1, config={"retention.ms": "soon"})
    fails_with({KafkaError.INVALID_CONFIG}, make(bad), "a bad value")
    unknown = NewTopic(name, 1, config={"no.such.setting": "1"})
    fails_with({KafkaError.INVALID_CONFIG}, make(unknown), "an unknown setting")
    fails_with({KafkaError.INVALID_REPLICATION_FACTOR}, make(NewTopic(name, 1, 3)), "three replicas on one node")
    missing = topic_name("missing")
    grow = lambda: done(client.create_partitions([NewPartitions(missing, 3)]))
    fails_with({KafkaError.UNKNOWN_TOPIC_OR_PART}, grow, "partitions of a missing topic")
    reader = consumer(run)
    ask = lambda: reader.get_watermark_offsets(TopicPartition(missing, 0), 5, cached=False)
    unknown_here_or_there = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC}
    fails_with(unknown_here_or_there, ask, "offsets of a missing topic")
    reader.close()
    check(missing not in client.list_topics(timeout=10).topics, "a consumer that must not create topics made one")


@case
def a_producer_creates_its_topic(run: Run):
    name = topic_name("auto")
    writer = Writer(run)
    writer.send(name, plain(b"first"))
    equal(writer.offsets(), [0], "offset in the topic that was created")


@case_that_waits
def a_group_is_described_with_what_its_members_have(run: Run):
    partitions = librdkafka.create(run, "described", 3)
    topic = partitions[0].topic
    group = topic_name("described")
    reader = librdkafka.member(run, group, [topic], instance="first")
    reader.settle(partitions)
    by = admin(run)

    def listed(**filters) -> set:
        return {found.group_id for found in by.list_consumer_groups(**filters).result(10).valid}

    check(group in listed(states={ConsumerGroupState.STABLE}), "a group with a member is not stable")
    check(group not in listed(states={ConsumerGroupState.EMPTY}), "a group with a member is empty")
    check(group in listed(types={ConsumerGroupType.CLASSIC}), "the group is not a classic one")
    check(group not in listed(types={ConsumerGroupType.CONSUMER}), "the group is of another type")
    (described,) = done(by.describe_consumer_groups([group]))
    check(not described.is_simple_consumer_group, "the group is a simple one")
    equal(f"{described.coordinator.host}:{described.coordinator.port}", run.bootstrap, "the coordinator")
    (member,) = described.members
    equal(member.group_instance_id, "first", "the static name of the member")
    check("127.0.0.1" in member.host, f"the member's host: {member.host}")
    equal(sorted(map(named, member.assignment.topic_partitions)), partitions, "what the member is assigned")
    reader.close()


def checked(partitions: list) -> list:
    """Partitions of an answer; raises the first error among them."""
    for partition in partitions:
        if partition.error:
            raise KafkaException(partition.error)
    return partitions


class Member(shared.Member):
    def __init__(self, run: Run, options: shared.Options):
        super().__init__()
        settings = {
            "bootstrap.servers": run.bootstrap,
            "group.id": options.group or "none",
            "enable.auto.commit": options.auto_commit_ms is not None,
            "auto.commit.interval.ms": options.auto_commit_ms or 5000,
            "auto.offset.reset": "error" if options.reset == "none" else options.reset,
            "session.timeout.ms": options.session_ms,
            "heartbeat.interval.ms": 300,
            "topic.metadata.refresh.interval.ms": 500,
            "fetch.wait.max.ms": 100,
            "partition.assignment.strategy": {"range": "range", "cooperative": "cooperative-sticky"}[options.assignor],
        }
        if options.instance:
            settings["group.instance.id"] = options.instance
        self.consumer = Consumer(settings)

    def subscribe(self, topics):
        self.consumer.subscribe(
            topics,
            on_assign=lambda _, partitions: self.note("assigned", map(named, partitions)),
            on_revoke=lambda _, partitions: self.note("revoked", map(named, partitions)),
        )

    def subscribe_pattern(self, pattern):
        self.subscribe([pattern])  # what begins with ^ is one

    def assign(self, partitions):
        self.consumer.assign([TopicPartition(*partition) for partition in partitions])

    def poll(self, seconds):
        found, message = [], self.consumer.poll(seconds)
        while message is not None:
            if message.error():
                raise KafkaException(message.error())
            found.append(shared.Record(named_of(message), message.offset(), sample_of(message)))
            message = self.consumer.poll(0)
        return found

    def assignment(self):
        return frozenset(map(named, self.consumer.assignment()))

    def commit(self, offsets=None):
        if offsets is None:
            try:
                checked(self.consumer.commit(asynchronous=False))
            except KafkaException as error:
                if error.args[0].code() != KafkaError._NO_OFFSET:  # nothing was read since the last commit
                    raise
        else:
            wanted = [TopicPartition(*p, offset, metadata) for p, (offset, metadata) in offsets.items()]
            checked(self.consumer.commit(offsets=wanted, asynchronous=False))

    def committed(self, partition):
        (found,) = checked(self.consumer.committed([TopicPartition(*partition)], 10))
        return None if found.offset == OFFSET_INVALID else found.offset

    def position(self, partition):
        (found,) = checked(self.consumer.position([TopicPartition(*partition)]))
        return None if found.offset == OFFSET_INVALID else found.offset

    def seek(self, partition, offset):
        self.consumer.seek(TopicPartition(*partition, offset))

    def pause(self, partitions):
        self.consumer.pause([TopicPartition(*partition) for partition in partitions])

    def resume(self, partitions):
        self.consumer.resume([TopicPartition(*partition) for partition in partitions])

    def bounds(self, partition):
        return self.consumer.get_watermark_offsets(TopicPartition(*partition), 10, cached=False)

    def offset_at(self, partition, time_ms):
        (found,) = checked(self.consumer.offsets_for_times([TopicPartition(*partition, time_ms)], 10))
        return None if found.offset == OFFSET_END else found.offset

    def close(self):
        self.consumer.close()


def named_of(message) -> shared.Partition:
    return shared.Partition(message.topic(), message.partition())


class SharedWriter(shared.Writer):
    def __init__(self, run: Run, **settings):
        self.writer = Writer(run, linger_ms=1, **settings)

    def write(self, partition, wanted):
        self.writer.reports.clear()
        for sample in wanted:
            self.writer.send(partition.topic, sample, partition.index)
        return self.writer.offsets()

    def close(self):
        pass  # it has waited for all reports, and the client ends with the last reference to it


class SharedAdmin(shared.Admin):
    def __init__(self, run: Run):
        self.client = admin(run)

    def create(self, topic, partitions, configs):
        done(self.client.create_topics([NewTopic(topic, partitions, config=configs)]))

    def delete(self, topic):
        done(self.client.delete_topics([topic]))

    def grow(self, topic, partitions):
        done(self.client.create_partitions([NewPartitions(topic, partitions)]))

    def partitions(self, topic):
        return count_of_partitions(self.client, topic)

    def configs(self, topic):
        found = done(self.client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))[0]
        return {name: setting.value for name, setting in found.items()}

    def groups(self):
        found = self.client.list_consumer_groups().result(10)
        equal(found.errors, [], "errors of brokers")
        return {group.group_id for group in found.valid}

    def describe(self, group):
        try:
            found = done(self.client.describe_consumer_groups([group]))[0]
        except KafkaException as error:
            if error.args[0].code() != shared.GROUP_ID_NOT_FOUND:
                raise
            return shared.Description("Dead", "", [])
        state = "".join(word.capitalize() for word in found.state.name.split("_"))
        return shared.Description(state, found.partition_assignor, [member.client_id for member in found.members])

    def offsets(self, group):
        found = done(self.client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[0]
        return {named(p): (p.offset, p.metadata or "") for p in checked(found.topic_partitions)}

    def delete_group(self, group):
        done(self.client.delete_consumer_groups([group]))

    def set_offsets(self, group, offsets):
        wanted = [TopicPartition(*p, offset) for p, offset in offsets.items()]
        of_group = ConsumerGroupTopicPartitions(group, wanted)
        checked(done(self.client.alter_consumer_group_offsets([of_group]))[0].topic_partitions)

    def delete_records(self, partition, before):
        return done(self.client.delete_records([TopicPartition(*partition, before)]))[0].low_watermark


class Client(shared.Client):
    can = frozenset({"static", "fenced", "cooperative", "delete-group", "set-offsets", "delete-records"})

    def consumer(self, run, options):
        return Member(run, options)

    def writer(self, run, codec=None, acks=-1, idempotent=False):
        return SharedWriter(run, compression_type=codec or "none", acks=acks, enable_idempotence=idempotent)

    def new_admin(self, run):
        return SharedAdmin(run)

    def code(self, error):
        code = error.args[0].code() if isinstance(error, KafkaException) else None
        if code == KafkaError._FATAL:
            return shared.FENCED_INSTANCE_ID if "fenced" in str(error).lower() else code
        return code


librdkafka = Client()

if __name__ == "__main__":
    groups.add(librdkafka)
    harness.main(lambda run, text: members.serve(librdkafka, run, text))
