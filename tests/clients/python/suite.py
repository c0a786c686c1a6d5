"""kafka-python, the pure Python client: produce, fetch by position, administration; groups with the shared cases."""

import sys
import threading
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import ConfigResource, MemberToRemove, OffsetTimestamp
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.protocol.consumer import OffsetSpec

import harness
from harness import Ack, Run, Sample, case, case_that_waits, check, equal, raises, same_records, samples, topic_name, until
from shared import groups, members
from shared.client import Admin, Description, named
from shared.kafka_python import KafkaPython, KafkaPythonMember, KafkaPythonWriter, offset_and_metadata

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


def producer(run: Run, may_create: bool = False, **settings) -> KafkaProducer:
    made = KafkaProducer(bootstrap_servers=run.bootstrap, **settings)
    # The client has a setting of this name, but 3.0.12 does not hand it on to the part that asks for metadata.
    made._metadata.config["allow_auto_create_topics"] = may_create
    return made


def consumer(run: Run, *partitions: TopicPartition, **settings) -> KafkaConsumer:
    settings.setdefault("allow_auto_create_topics", False)
    settings.setdefault("auto_offset_reset", "earliest")
    made = KafkaConsumer(bootstrap_servers=run.bootstrap, enable_auto_commit=False, **settings)
    if partitions:
        made.assign(list(partitions))
    return made


def admin(run: Run) -> KafkaAdminClient:
    return KafkaAdminClient(bootstrap_servers=run.bootstrap)


def create(run: Run, what: str, partitions: int = 1, **configs) -> str:
    """A new topic, visible in metadata."""
    name = topic_name(what)
    named = {key.replace("_", "."): value for key, value in configs.items()}
    client = admin(run)
    client.create_topics({name: {"num_partitions": partitions, "configs": named}}, wait_for_metadata=True)
    client.close()
    return name


def send(client: KafkaProducer, topic: str, sample: Sample, partition: int = 0):
    return client.send(
        topic, sample.value, sample.key, list(sample.headers), partition=partition, timestamp_ms=sample.timestamp_ms
    )


def read(client: KafkaConsumer, count: int, seconds: float = 30.0) -> list:
    """The next `count` records; an error when they do not come."""
    found, deadline = [], time.monotonic() + seconds
    while len(found) < count:
        check(time.monotonic() < deadline, f"{len(found)} of {count} records within {seconds} s")
        for records in client.poll(timeout_ms=500).values():
            found.extend(records)
    return found


def sample_of(record) -> Sample:
    return Sample(record.key, record.value, tuple(record.headers), record.timestamp)


def fill(run: Run, topic: str, wanted: list, partition: int = 0, **settings) -> list:
    """Produces the samples in order; returns their offsets."""
    client = producer(run, **settings)
    futures = [send(client, topic, sample, partition) for sample in wanted]
    offsets = [future.get(30).offset for future in futures]
    client.close()
    return offsets


@case
def every_codec_and_acks_level_is_read_back_as_sent(run: Run):
    count = run.scale(150, 3000)
    for codec in CODECS:
        for acks in (0, 1, "all"):
            topic = create(run, f"codec-{codec}-{acks}", partitions=2)
            wanted = samples(count)
            if acks == 0:  # nothing would say that a partition does not take records yet
                ends = consumer(run).end_offsets([TopicPartition(topic, 0), TopicPartition(topic, 1)])
                equal(set(ends.values()), {0}, "ends of a new topic")
            client = producer(run, acks=acks, compression_type=codec, enable_idempotence=False, linger_ms=5)
            futures = [send(client, topic, sample, index % 2) for index, sample in enumerate(wanted)]
            client.flush(30)
            for index, future in enumerate(futures):
                offset = future.get(10).offset
                check(acks == 0 or offset == index // 2, f"offset {offset} of record {index}")
            client.close()
            for partition in (0, 1):
                reader = consumer(run, TopicPartition(topic, partition))
                mine = wanted[partition::2]
                found = read(reader, len(mine))
                same_records([sample_of(r) for r in found], mine, f"{codec}, acks={acks}, partition {partition}")
                equal([r.offset for r in found], list(range(len(mine))), "offsets")
                reader.close()


@case
def a_consumer_replays_from_any_position(run: Run):
    count = run.scale(1000, 50_000)
    topic = create(run, "seek")
    partition = TopicPartition(topic, 0)
    wanted = samples(count)
    fill(run, topic, wanted, compression_type="lz4", linger_ms=5)
    reader = consumer(run, partition)
    for start in (count // 2, 1, count - 1, 0):
        reader.seek(partition, start)
        found = read(reader, count - start)
        equal(found[0].offset, start, "first offset after seek")
        same_records([sample_of(r) for r in found], wanted[start:], f"replay from {start}")
    reader.seek_to_beginning(partition)
    equal(reader.position(partition), 0, "position at the beginning")
    reader.seek_to_end(partition)
    equal(reader.position(partition), count, "position at the end")
    check(not reader.poll(timeout_ms=200), "there is something after the end")
    equal(reader.beginning_offsets([partition]), {partition: 0}, "beginning")
    equal(reader.end_offsets([partition]), {partition: count}, "end")
    reader.close()
    strict = consumer(run, partition, auto_offset_reset="none")
    strict.seek(partition, count + 1000)
    raises(errors.OffsetOutOfRangeError, lambda: read(strict, 1, 10), "a position past the end")
    strict.close()
    committed_only = consumer(run, partition, isolation_level="read_committed")
    equal(len(read(committed_only, count)), count, "records under read_committed")
    committed_only.close()


@case
def offsets_are_found_by_time(run: Run):
    topic = create(run, "times")
    partition = TopicPartition(topic, 0)
    first = harness.now_ms() - 100_000
    # Three batches, so that the answer lies in the middle of one as well as between two.
    for batch in range(3):
        wanted = [Sample(b"k", b"v", (), first + (batch * 10 + i) * 1000) for i in range(10)]
        fill(run, topic, wanted, linger_ms=100, compression_type=CODECS[batch])
    reader = consumer(run, partition)
    for ask, offset in ((first - 5000, 0), (first, 0), (first + 1, 1), (first + 14_500, 15), (first + 29_000, 29)):
        found = reader.offsets_for_times({partition: ask})[partition]
        equal((found.offset, found.timestamp), (offset, first + offset * 1000), f"at {ask - first} ms")
    equal(reader.offsets_for_times({partition: first + 29_001}), {partition: None}, "after the last record")
    reader.close()
    client = admin(run)
    for spec, offset in ((OffsetSpec.EARLIEST, 0), (OffsetSpec.LATEST, 30), (OffsetSpec.MAX_TIMESTAMP, 29)):
        found = client.list_partition_offsets({partition: spec})[partition]
        equal(found.offset, offset, f"{spec.name}")
    client.close()


@case
def an_idempotent_producer_keeps_order_and_count(run: Run):
    count = run.scale(3000, 100_000)
    topic = create(run, "idempotent")
    client = producer(run, enable_idempotence=True, batch_size=600, linger_ms=0, max_in_flight_requests_per_connection=5)
    futures = [client.send(topic, b"%d" % i, partition=0) for i in range(count)]
    equal([future.get(60).offset for future in futures], list(range(count)), "offsets")
    client.close()
    reader = consumer(run, TopicPartition(topic, 0))
    equal([int(r.value) for r in read(reader, count, 60)], list(range(count)), "values")
    equal(reader.end_offsets([TopicPartition(topic, 0)]), {TopicPartition(topic, 0): count}, "end")
    reader.close()


@case
def topics_are_created_described_listed_and_deleted(run: Run):
    client = admin(run)
    name = topic_name("life")
    client.create_topics({name: {"num_partitions": 3, "configs": {"retention.ms": "3600000"}}}, validate_only=True)
    check(name not in client.list_topics(), "validate_only made a topic")
    created = client.create_topics({name: {"num_partitions": 3, "configs": {"retention.ms": "3600000"}}})["topics"][0]
    equal((created["num_partitions"], created["replication_factor"]), (3, 1), "what was created")
    equal(created["configs"]["retention.ms"]["value"], "3600000", "a setting in the answer")
    client.wait_for_topics([name])
    check(name in client.list_topics(), "the topic is not listed")
    topic = client.describe_topics([name])[0]
    equal(sorted(p["partition_index"] for p in topic["partitions"]), [0, 1, 2], "partitions")
    equal(topic["topic_id"], created["topic_id"], "topic id")
    equal(client.describe_topics([uuid.UUID(topic["topic_id"])])[0]["name"], name, "the topic by its id")
    page = client.describe_topic_partitions([name], response_partition_limit=2)
    equal(page["next_cursor"], {"topic_name": name, "partition_index": 2}, "cursor of the first page")
    rest = client.describe_topic_partitions([name], cursor=page["next_cursor"])["topics"][0]
    equal([p["partition_index"] for p in rest["partitions"]], [2], "the second page")
    raises(errors.TopicAlreadyExistsError, lambda: client.create_topics([name]), "the same topic again")
    client.delete_topics([name])
    until("the topic is gone", lambda: name not in client.list_topics())
    raises(errors.UnknownTopicOrPartitionError, lambda: client.delete_topics([name]), "deleting it twice")
    client.create_topics({name: {"num_partitions": 1}}, wait_for_metadata=True)
    again = client.describe_topics([name])[0]
    check(again["topic_id"] != topic["topic_id"], "the new topic has the old one's id")
    client.delete_topics([uuid.UUID(again["topic_id"])])
    until("the topic deleted by id is gone", lambda: name not in client.list_topics())
    client.close()


@case
def the_cluster_and_its_settings_are_described(run: Run):
    client = admin(run)
    cluster = client.describe_cluster()
    check(cluster["cluster_id"], "no cluster id")
    nodes = {broker["broker_id"]: f"{broker['host']}:{broker['port']}" for broker in cluster["brokers"]}
    equal(list(nodes.values()), [run.bootstrap], "brokers")
    check(cluster["controller_id"] in nodes, "the controller is no broker")
    name = create(run, "settings", retention_ms="123456", compression_type="zstd")
    found = client.describe_configs([ConfigResource("TOPIC", name)], config_filter="all")["topic"][name]
    equal(found["retention.ms"]["value"], "123456", "retention.ms")
    equal(found["retention.ms"]["config_source"], "DYNAMIC_TOPIC_CONFIG", "source of a set value")
    equal(found["max.message.bytes"]["value"], "1048588", "max.message.bytes")
    equal(found["max.message.bytes"]["config_source"], "DEFAULT_CONFIG", "source of a default")
    equal(found["cleanup.policy"]["config_type"], "LIST", "type of cleanup.policy")
    modified = client.describe_configs([ConfigResource("TOPIC", name)])["topic"][name]
    equal(set(modified), {"retention.ms", "compression.type"}, "what is not default")
    asked = client.describe_configs([ConfigResource("TOPIC", name, ["segment.bytes"])], config_filter="all")
    equal(set(asked["topic"][name]), {"segment.bytes"}, "one setting by name")
    broker = client.describe_configs([ConfigResource("BROKER", str(next(iter(nodes))))], config_filter="all")
    check(broker["broker"], "no settings of the broker")
    client.close()


@case
def partitions_are_added_and_take_records(run: Run):
    topic = create(run, "grow", partitions=1)
    client = admin(run)
    client.create_partitions({topic: 4})
    client.wait_for_topics([topic])
    until("four partitions", lambda: len(client.describe_topics([topic])[0]["partitions"]) == 4)
    for partition in range(4):
        equal(fill(run, topic, samples(5), partition), [0, 1, 2, 3, 4], f"offsets of partition {partition}")
    raises(errors.InvalidPartitionsError, lambda: client.create_partitions({topic: 2}), "fewer partitions")
    client.close()


@case
def deleted_records_are_gone_and_offsets_stay(run: Run):
    topic = create(run, "cut", partitions=2)
    partition = TopicPartition(topic, 0)
    wanted = samples(100)
    fill(run, topic, wanted, linger_ms=5)
    client = admin(run)
    equal(client.delete_records({partition: 40})[partition]["low_watermark"], 40, "low watermark")
    reader = consumer(run, partition)
    equal(reader.beginning_offsets([partition]), {partition: 40}, "beginning")
    reader.seek(partition, 10)  # now below the start: the reset policy applies
    same_records([sample_of(r) for r in read(reader, 60)], wanted[40:], "what is left")
    raises(errors.OffsetOutOfRangeError, lambda: client.delete_records({partition: 101}), "beyond the end")
    equal(client.delete_records({partition: -1})[partition]["low_watermark"], 100, "low watermark at the end")
    equal(reader.beginning_offsets([partition]), {partition: 100}, "beginning, all deleted")
    equal(fill(run, topic, samples(1)), [100], "the next offset")
    reader.close()
    client.close()


@case
def settings_of_a_topic_are_changed(run: Run):
    client = admin(run)
    topic = create(run, "alter", retention_ms="1000000")

    def alter(incremental: bool = True, validate_only: bool = False, **configs):
        wanted = {key.replace("_", "."): value for key, value in configs.items()}
        resource = ConfigResource("TOPIC", topic, wanted)
        return client.alter_configs([resource], validate_only, raise_on_unknown=False, incremental=incremental)

    def modified() -> dict:
        found = client.describe_configs([ConfigResource("TOPIC", topic)])["topic"][topic]
        return {key: setting["value"] for key, setting in found.items()}

    accepted = {"topic": {topic: "OK"}}
    equal(alter(validate_only=True, max_message_bytes="5000"), accepted, "a change that is only validated")
    equal(alter(max_message_bytes="2000", retention_ms=("DELETE", None)), accepted, "a change")
    until("the change is seen", lambda: modified() == {"max.message.bytes": "2000"})
    large = lambda: fill(run, topic, [Sample(None, harness.incompressible(3000), (), harness.now_ms())])
    raises(errors.MessageSizeTooLargeError, large, "a record over the new limit")
    equal(alter(cleanup_policy=("APPEND", "compact")), accepted, "a policy that is added")
    until("both policies", lambda: modified().get("cleanup.policy") in ("delete,compact", "compact,delete"))
    equal(alter(cleanup_policy=("SUBTRACT", "delete")), accepted, "a policy that is taken away")
    until("one policy", lambda: modified().get("cleanup.policy") == "compact")
    for name, wrong in (("a bad value", {"retention_ms": "soon"}), ("an unknown setting", {"no_such_setting": "1"})):
        verdict = alter(**wrong)["topic"][topic]
        check("InvalidConfig" in verdict, f"{name}: {verdict}")
    # The older operation replaces all settings; this client adds what is set already.
    equal(alter(incremental=False, segment_bytes="2000000"), accepted, "a change by the older operation")
    wanted = {"max.message.bytes": "2000", "cleanup.policy": "compact", "segment.bytes": "2000000"}
    until("the older operation's change", lambda: modified() == wanted)
    equal(client.reset_configs([ConfigResource("TOPIC", topic, [])]), accepted, "a reset")
    until("no changed setting is left", lambda: modified() == {})
    missing = topic_name("missing")
    lost = client.alter_configs([ConfigResource("TOPIC", missing, {"retention.ms": "1"})], raise_on_unknown=False)
    check("UnknownTopicOrPartition" in lost["topic"][missing], f"a missing topic: {lost}")
    client.close()


@case
def one_node_answers_for_its_disks_and_its_quorum(run: Run):
    client = admin(run)
    topic = create(run, "disk", partitions=2)
    fill(run, topic, [Sample(None, harness.incompressible(50_000), (), harness.now_ms())], partition=1)
    node = client.describe_cluster()["brokers"][0]["broker_id"]
    (answer,) = client.describe_log_dirs([topic])
    equal(answer["broker"], node, "the broker of the folders")
    sizes = {
        partition["partition_index"]: partition["partition_size"]
        for folder in answer["log_dirs"]
        for of in folder["topics"]
        if of["name"] == topic
        for partition in of["partitions"]
    }
    equal(set(sizes), {0, 1}, "partitions in the folders")
    check(sizes[0] == 0 and sizes[1] > 50_000, f"sizes of the partitions: {sizes}")
    folder = answer["log_dirs"][0]
    check(folder["total_bytes"] > folder["usable_bytes"] > 0, f"bytes of the folder's disk: {folder}")
    equal(client.list_partition_reassignments(), {}, "reassignments")
    client.elect_leaders(0, {topic: [0, 1]})  # not needed, which this client takes for success
    quorum = client.describe_metadata_quorum()["topics"][0]["partitions"][0]
    equal([voter["replica_id"] for voter in quorum["current_voters"]], [quorum["leader_id"]], "voters of the quorum")
    listed = client.list_config_resources(["TOPIC"])
    check(topic in next(iter(listed.values())), "the topic is not among what has settings")
    client.close()


@case
def a_topic_made_again_under_load_has_nothing_of_the_old_one(run: Run):
    client = admin(run)
    other = create(run, "steady")
    stop = threading.Event()
    steady: list = []

    def load_other():
        writer = producer(run)
        while not stop.is_set():
            steady.append(writer.send(other, b"%d" % len(steady), partition=0))
            time.sleep(0.001)
        writer.close()

    other_load = threading.Thread(target=load_other)
    other_load.start()
    for _ in range(run.scale(2, 10)):
        name = create(run, "again", partitions=2)
        acks: list = []
        ended = threading.Event()

        def load(name=name, acks=acks, ended=ended):
            # Not idempotent: such a producer keeps its sequence across the new topic, and may wait out its timeout.
            writer = producer(
                run, enable_idempotence=False, delivery_timeout_ms=8000, request_timeout_ms=4000, max_block_ms=2000
            )
            number = 0
            while not ended.is_set():
                number += 1
                value, sent = b"%d" % number, time.monotonic()
                try:
                    future = writer.send(name, value, partition=number % 2)
                except errors.KafkaError:
                    continue  # the topic is gone for a moment
                note = lambda m, v=value, s=sent: acks.append(Ack(v, m.partition, m.offset, s, time.monotonic()))
                future.add_callback(note)
                time.sleep(0.001)
            writer.close(timeout=10)

        loader = threading.Thread(target=load)
        loader.start()
        until("load", lambda acks=acks: len(acks) > 100)
        deleted_from = time.monotonic()
        client.delete_topics([name])

        def make(name=name):
            try:
                return client.create_topics({name: {"num_partitions": 2}}, wait_for_metadata=True)
            except errors.TopicAlreadyExistsError:
                return None  # it is still being deleted

        until("the topic made again", make)
        created_at = time.monotonic()
        until("load on the new topic", lambda acks=acks, at=created_at: sum(a.sent > at for a in acks) > 100)
        ended.set()
        loader.join()
        partitions = [TopicPartition(name, 0), TopicPartition(name, 1)]
        reader = consumer(run, *partitions)
        total = sum(reader.end_offsets(partitions).values())
        records = [(r.partition, r.offset, r.value) for r in read(reader, total)]
        harness.check_incarnation(records, acks, deleted_from, created_at)
        reader.close()
    stop.set()
    other_load.join()
    equal([future.get(30).offset for future in steady], list(range(len(steady))), "offsets of the other topic")
    reader = consumer(run, TopicPartition(other, 0))
    found = [int(r.value) for r in read(reader, len(steady))]
    equal(found, list(range(len(steady))), "records of the other topic")
    reader.close()
    client.close()


@case
def records_up_to_the_limit_pass_and_larger_ones_do_not(run: Run):
    topic = create(run, "large")
    big = harness.incompressible(1_048_400)
    client = producer(run, max_request_size=8_000_000)
    equal(client.send(topic, big, partition=0).get(30).offset, 0, "offset of a record near the limit")
    refused = client.send(topic, harness.incompressible(1_048_700), partition=0)
    raises(errors.MessageSizeTooLargeError, lambda: refused.get(30), "a record over the limit")
    client.close()
    client = producer(run, max_request_size=8_000_000)
    wide = create(run, "larger", max_message_bytes="6000000")
    bigger = harness.incompressible(5_900_000)
    equal(client.send(wide, bigger, partition=0).get(30).offset, 0, "offset where the limit is higher")
    equal(client.send(wide, b"after it", partition=0).get(30).offset, 1, "offset of the next one")
    client.close()
    for name, wanted in ((topic, [big]), (wide, [bigger, b"after it"])):
        # Larger than what the consumer asks for: the first batch comes all the same.
        reader = consumer(run, TopicPartition(name, 0), max_partition_fetch_bytes=10_000)
        check([r.value for r in read(reader, len(wanted))] == wanted, f"{name}: other bytes came back")
        reader.close()


@case
def a_topic_of_many_partitions_serves_them_all(run: Run):
    count = run.scale(200, 1000)
    topic = create(run, "wide", partitions=count)
    client = producer(run, linger_ms=20)
    futures = [client.send(topic, b"%d" % p, partition=p) for p in range(count) for _ in range(2)]
    for future in futures:
        future.get(60)
    client.close()
    partitions = [TopicPartition(topic, p) for p in range(count)]
    reader = consumer(run, *partitions)
    found = sorted((r.partition, r.offset, r.value) for r in read(reader, 2 * count))
    equal(found, [(p, o, b"%d" % p) for p in range(count) for o in (0, 1)], "records of all partitions")
    equal(reader.end_offsets(partitions), {partition: 2 for partition in partitions}, "ends")
    # All idle but one: an incremental session must still bring that one.
    writer = producer(run)
    writer.send(topic, b"late", partition=count - 1).get(30)
    late = read(reader, 1)[0]
    equal((late.partition, late.offset, late.value), (count - 1, 2, b"late"), "the late record")
    writer.close()
    reader.close()


@case
def the_time_of_a_record_is_the_producers_or_the_logs(run: Run):
    own = create(run, "create-time")
    old = 1_000_000_000_000
    fill(run, own, [Sample(b"k", b"v", (), old)])
    record = read(consumer(run, TopicPartition(own, 0)), 1)[0]
    equal((record.timestamp, record.timestamp_type), (old, 0), "CreateTime")
    appended = create(run, "append-time", message_timestamp_type="LogAppendTime")
    before = harness.now_ms()
    fill(run, appended, [Sample(b"k", b"v", (), old)] * 3, compression_type="gzip", linger_ms=20)
    after = harness.now_ms()
    for record in read(consumer(run, TopicPartition(appended, 0)), 3):
        equal(record.timestamp_type, 1, "LogAppendTime")
        check(before <= record.timestamp <= after, f"append time {record.timestamp} not in {before}..{after}")
    ahead = [Sample(b"k", b"v", (), harness.now_ms() + 2 * 3_600_000)]
    raises(errors.InvalidTimestampError, lambda: fill(run, own, ahead), "two hours ahead")


@case
def a_waiting_consumer_wakes_at_once(run: Run):
    topic = create(run, "wake")
    writer = producer(run)
    writer.send(topic, b"first", partition=0).get(30)
    reader = consumer(run, TopicPartition(topic, 0), fetch_max_wait_ms=5000)
    read(reader, 1)
    waits = []
    for _ in range(run.scale(5, 20)):
        sent_at = []

        def later():
            time.sleep(0.3)
            sent_at.append(time.monotonic())
            writer.send(topic, b"now", partition=0).get(30)

        thread = threading.Thread(target=later)
        thread.start()
        records = reader.poll(timeout_ms=10_000)
        arrived = time.monotonic()
        thread.join()
        check(records, "the poll came back empty")
        waits.append(arrived - sent_at[0])
    median = sorted(waits)[len(waits) // 2]
    check(median < 0.2, f"a record took {median * 1000:.0f} ms to a waiting consumer: {waits}")
    reader.close()
    writer.close()


@case
def mistakes_are_answered_with_their_error(run: Run):
    client = admin(run)
    missing = topic_name("missing")
    writer = producer(run, max_block_ms=1000)
    raises(errors.KafkaError, lambda: writer.send(missing, b"v").get(10), "an unknown topic")
    check(missing not in client.list_topics(), "a producer that must not create topics made one")
    raises(errors.InvalidTopicError, lambda: client.create_topics(["no spaces!"]), "a bad name")
    raises(errors.InvalidTopicError, lambda: client.create_topics(["x" * 250]), "a long name")
    wrong = {topic_name("bad"): {"configs": {"retention.ms": "soon"}}}
    raises(errors.InvalidConfigurationError, lambda: client.create_topics(wrong), "a bad value")
    unknown = {topic_name("bad"): {"configs": {"no.such.setting": "1"}}}
    raises(errors.InvalidConfigurationError, lambda: client.create_topics(unknown), "an unknown setting")
    three = {topic_name("bad"): {"num_partitions": 1, "replication_factor": 3}}
    raises(errors.InvalidReplicationFactorError, lambda: client.create_topics(three), "three replicas on one node")
    none = {topic_name("bad"): {"num_partitions": 0}}
    raises(errors.InvalidPartitionsError, lambda: client.create_topics(none), "no partitions")
    raises(errors.UnknownTopicOrPartitionError, lambda: client.create_partitions({missing: 3}), "a missing topic")
    writer.close()
    client.close()


@case
def a_producer_creates_its_topic_when_it_may(run: Run):
    name = topic_name("auto")
    client = producer(run, may_create=True)
    equal(client.send(name, b"first", partition=0).get(30).offset, 0, "offset in the topic that was created")
    client.close()
    check(name in (seen := admin(run)).list_topics(), "the topic is not listed")
    seen.close()


@case_that_waits
def members_are_removed_and_offsets_reset_by_an_administrator(run: Run):
    topic = create(run, "managed")
    partition = TopicPartition(topic, 0)
    start = harness.now_ms() - 100_000
    fill(run, topic, [Sample(None, b"%d" % i, (), start + i * 1000) for i in range(50)])
    group = topic_name("managed")
    client = admin(run)
    listed = lambda **filters: {found["group_id"] for found in client.list_groups(**filters)}
    reader = shared.member(run, group, [topic], instance="managed")
    reader.read(50)
    check(group in listed(states_filter=["Stable"]), "a group with a member is not stable")
    check(group not in listed(states_filter=["Empty"]), "a group with a member is empty")
    check(group in listed(types_filter=["classic"]), "the group is not a classic one")
    check(group not in listed(types_filter=["consumer"]), "the group is of another type")
    (found,) = client.describe_groups([group])[group]["members"]
    equal(found["group_instance_id"], "managed", "the static name of the member")
    equal(found["member_assignment"]["assigned_partitions"][0]["topic"], topic, "what the member is assigned")
    reader.close()  # a static member stays
    gone = client.remove_group_members(group, [MemberToRemove(group_instance_id="nobody")])
    equal(set(gone.values()), {errors.UnknownMemberIdError}, "removing a member that is not there")
    removed = client.remove_group_members(group, [MemberToRemove(group_instance_id="managed", reason="tidy")])
    equal(set(removed.values()), {errors.NoError}, "removing the member")
    until("an empty group", lambda: group in listed(states_filter=["Empty"]))
    resets = (
        (OffsetSpec.EARLIEST, 0),
        (OffsetSpec.LATEST, 50),
        (OffsetTimestamp(start + 20_500), 21),
        (17, 17),
        (1000, 50),
    )
    for target, offset in resets:
        verdict = client.reset_group_offsets(group, {partition: target})[partition]
        equal((verdict["error"], verdict["offset"]), (errors.NoError, offset), f"a reset to {target}")
        equal(client.list_group_offsets([group])[group][partition].offset, offset, "the offset after it")
    client.close()


class SharedAdmin(Admin):
    def __init__(self, run: Run):
        self.client = admin(run)

    def create(self, topic, partitions, configs):
        self.client.create_topics({topic: {"num_partitions": partitions, "configs": configs}})

    def delete(self, topic):
        self.client.delete_topics([topic])

    def grow(self, topic, partitions):
        self.client.create_partitions({topic: partitions})

    def partitions(self, topic):
        return len(self.client.describe_topics([topic])[0]["partitions"])

    def configs(self, topic):
        found = self.client.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")["topic"][topic]
        return {name: setting["value"] for name, setting in found.items()}

    def groups(self):
        return {group["group_id"] for group in self.client.list_groups()}

    def describe(self, group):
        found = self.client.describe_groups([group])[group]
        return Description(
            found["group_state"], found["protocol_data"], [member["client_id"] for member in found["members"]]
        )

    def offsets(self, group):
        found = self.client.list_group_offsets([group])[group]
        return {named(partition): (value.offset, value.metadata) for partition, value in found.items()}

    def delete_group(self, group):
        verdict = self.client.delete_groups([group])[group]
        if verdict != "OK":
            raise getattr(errors, verdict)()

    def set_offsets(self, group, offsets):
        wanted = {TopicPartition(*p): offset_and_metadata(offset, "") for p, offset in offsets.items()}
        check_each(self.client.alter_group_offsets(group, wanted))

    def delete_offsets(self, group, partitions):
        check_each(self.client.delete_group_offsets(group, [TopicPartition(*p) for p in partitions]))

    def delete_records(self, partition, before):
        asked = TopicPartition(*partition)
        return self.client.delete_records({asked: before})[asked]["low_watermark"]


def check_each(verdicts: dict) -> None:
    """Raises the first error of an answer that has one for each partition."""
    for error in verdicts.values():
        if error is not errors.NoError:
            raise error()


class Shared(KafkaPython):
    can = frozenset({"static", "fenced", "cooperative", "delete-group", "set-offsets", "delete-offsets", "delete-records"})

    def consumer(self, run, options):
        assignors = {"range": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}
        return KafkaPythonMember(
            run,
            options,
            group_instance_id=options.instance,
            partition_assignment_strategy=[assignors[options.assignor]],
            allow_auto_create_topics=False,
        )

    def writer(self, run, codec=None, acks=-1, idempotent=False):
        return KafkaPythonWriter(run, codec, acks, enable_idempotence=idempotent)

    def new_admin(self, run):
        return SharedAdmin(run)


shared = Shared()

if __name__ == "__main__":
    groups.add(shared)
    harness.main(lambda run, text: members.serve(shared, run, text))
