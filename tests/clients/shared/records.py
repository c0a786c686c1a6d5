"""Producing, reading by position and administration of topics, for the clients whose suites have no such cases of their
own."""

import functools

import harness
from harness import Run, Sample, case, check, equal, same_records, samples, topic_name, until

from .client import Cases, Client, Partition, numbers, plain

CODECS = (None, "gzip", "snappy", "lz4", "zstd")

INVALID_TOPIC = 17
INVALID_PARTITIONS = 37
INVALID_CONFIG = 40
MESSAGE_TOO_LARGE = 10
OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
TOPIC_ALREADY_EXISTS = 36

_cases = Cases(case)
needing = _cases.needing
add = _cases.add


@needing()
def every_codec_and_acks_level_is_read_back_as_sent(client: Client, run: Run):
    count = run.scale(100, 3000)
    combinations = [(codec, -1) for codec in CODECS if codec is None or codec in client.can] + [(None, 0), (None, 1)]
    for codec, acks in combinations:
        what = f"{codec}, acks={acks}"
        partitions = client.create(run, f"codec-{codec}-{acks}", 2)
        if acks == 0:  # nothing would say that a partition does not take records yet
            until("partitions that take records", functools.partial(takes_records, client, run, partitions))
        writer = client.writer(run, codec=codec, acks=acks)
        wanted = samples(count)
        for partition in partitions:
            offsets = writer.write(partition, wanted[partition.index :: 2])
            check(acks == 0 or offsets == list(range(len(offsets))), f"offsets with {what}: {offsets}")
        writer.close()
        reader = client.reader(run, *partitions)
        found = reader.read(count)
        reader.close()
        for partition in partitions:
            mine = [record for record in found if record.partition == partition]
            equal([record.offset for record in mine], list(range(len(mine))), f"{what}, offsets of {partition}")
            same_records([record.sample for record in mine], wanted[partition.index :: 2], what)


def takes_records(client: Client, run: Run, partitions: list) -> bool:
    reader = client.reader(run, *partitions)
    answered = [reader.bounds(partition) == (0, 0) for partition in partitions]
    reader.close()
    return all(answered)


@needing()
def a_reader_replays_from_any_position(client: Client, run: Run):
    count = run.scale(1000, 30_000)
    (partition,) = client.create(run, "seek")
    wanted = samples(count)
    equal(client.fill(run, partition, wanted), list(range(count)), "offsets")
    reader = client.reader(run, partition)
    for start in (count // 2, 1, count - 1, 0):
        reader.seek(partition, start)
        found = reader.read(count - start)
        equal(found[0].offset, start, "first offset after seek")
        same_records([record.sample for record in found], wanted[start:], f"replay from {start}")
    equal(reader.position(partition), count, "position at the end")
    equal(reader.bounds(partition), (0, count), "first and last offset")
    reader.close()


@needing()
def offsets_are_found_by_time(client: Client, run: Run):
    (partition,) = client.create(run, "times")
    first = harness.now_ms() - 100_000
    # Three batches, so that the answer lies in the middle of one as well as between two.
    for batch in range(3):
        client.fill(run, partition, [Sample(b"k", b"v", (), first + (batch * 10 + i) * 1000) for i in range(10)])
    reader = client.reader(run, partition)
    for ask, offset in ((-5000, 0), (0, 0), (1, 1), (14_500, 15), (29_000, 29), (29_001, None)):
        equal(reader.offset_at(partition, first + ask), offset, f"at {ask} ms")
    reader.close()


@needing("idempotent")
def an_idempotent_producer_keeps_order_and_count(client: Client, run: Run):
    count = run.scale(3000, 100_000)
    (partition,) = client.create(run, "idempotent")
    writer = client.writer(run, idempotent=True)
    equal(writer.write(partition, plain(count)), list(range(count)), "offsets")
    writer.close()
    reader = client.reader(run, partition)
    equal(numbers(reader.read(count)), list(range(count)), "values")
    reader.close()


@needing()
def topics_are_created_grown_and_deleted(client: Client, run: Run):
    admin = client.admin(run)
    name = topic_name("life")
    admin.create(name, 2, {"retention.ms": "3600000"})
    until("the topic is visible", lambda: admin.partitions(name) == 2)
    equal(admin.configs(name)["retention.ms"], "3600000", "a setting")
    equal(admin.configs(name)["max.message.bytes"], "1048588", "a default")
    client.refused({TOPIC_ALREADY_EXISTS}, lambda: admin.create(name, 1, {}), "the same topic again")
    client.fill(run, Partition(name, 1), plain(3))
    admin.grow(name, 4)
    until("four partitions", lambda: admin.partitions(name) == 4)
    writer = client.writer(run)  # a new one knows of the new partitions
    writer.write(Partition(name, 3), plain(3))
    writer.close()
    client.refused({INVALID_PARTITIONS}, lambda: admin.grow(name, 2), "fewer partitions")
    admin.delete(name)
    until("the topic is gone", lambda: admin.partitions(name) == 0)
    client.refused({UNKNOWN_TOPIC_OR_PARTITION}, lambda: admin.delete(name), "deleting it twice")
    client.refused({INVALID_TOPIC}, lambda: admin.create("no spaces!", 1, {}), "a bad name")
    bad = topic_name("bad")
    client.refused({INVALID_CONFIG}, lambda: admin.create(bad, 1, {"retention.ms": "soon"}), "a bad value")
    client.refused({INVALID_CONFIG}, lambda: admin.create(bad, 1, {"no.such.setting": "1"}), "an unknown setting")


@needing("replace-configs")
def settings_of_a_topic_are_replaced(client: Client, run: Run):
    (partition,) = client.create(run, "settings", retention_ms="1000000", segment_bytes="2000000")
    admin = client.admin(run)
    admin.replace_configs(partition.topic, {"retention.ms": "7200000", "max.message.bytes": "2000"})
    until("a setting that changed", lambda: admin.configs(partition.topic)["retention.ms"] == "7200000")
    found = admin.configs(partition.topic)
    equal(found["segment.bytes"], "1073741824", "a setting that was left out")
    long = lambda: client.fill(run, partition, [Sample(None, harness.incompressible(3000), (), harness.now_ms())])
    client.refused({MESSAGE_TOO_LARGE}, long, "a record over the new limit")
    wrong = lambda: admin.replace_configs(partition.topic, {"retention.ms": "soon"})
    client.refused({INVALID_CONFIG}, wrong, "a bad value")
    equal(admin.configs(partition.topic)["retention.ms"], "7200000", "the setting after the refusal")


@needing("delete-records")
def deleted_records_are_gone_and_offsets_stay(client: Client, run: Run):
    (partition,) = client.create(run, "cut")
    client.fill(run, partition, plain(100))
    admin = client.admin(run)
    equal(admin.delete_records(partition, 40), 40, "first offset that is left")
    reader = client.reader(run, partition)
    equal(reader.bounds(partition), (40, 100), "first and last offset")
    reader.seek(partition, 10)  # now below the start: the reset policy applies
    equal(numbers(reader.read(60)), list(range(40, 100)), "what is left")
    beyond = lambda: admin.delete_records(partition, 101)
    client.refused({OFFSET_OUT_OF_RANGE}, beyond, "beyond the end")
    equal(client.fill(run, partition, plain(1)), [100], "the next offset")
    reader.close()
