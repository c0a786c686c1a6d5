"""aiokafka, the client for asyncio. The cases are the shared ones: the client runs on one event loop on a thread of its
own, and each call waits for its end there."""

import asyncio
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

import harness
from harness import Run
from shared import groups, members, records
from shared import client as shared
from shared.client import named

CALL_SECONDS_MAX = 60

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, name="asyncio", daemon=True).start()


def wait(coroutine):
    """Runs it on the loop; its result."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(CALL_SECONDS_MAX)


def call(function, *arguments, **named_arguments):
    """Calls a plain function on the loop, where the client's objects are at home."""

    async def called():
        return function(*arguments, **named_arguments)

    return wait(called())


class Member(shared.Member, ConsumerRebalanceListener):
    def __init__(self, run: Run, options: shared.Options):
        super().__init__()
        self.consumer = call(
            AIOKafkaConsumer,
            bootstrap_servers=run.bootstrap,
            group_id=options.group,
            group_instance_id=options.instance,
            auto_offset_reset=options.reset,
            enable_auto_commit=options.auto_commit_ms is not None,
            auto_commit_interval_ms=options.auto_commit_ms or 5000,
            session_timeout_ms=options.session_ms,
            heartbeat_interval_ms=300,
            metadata_max_age_ms=500,
            fetch_max_wait_ms=100,
            exclude_internal_topics=False,
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        wait(self.consumer.start())

    def on_partitions_revoked(self, revoked):
        self.note("revoked", map(named, revoked))

    def on_partitions_assigned(self, assigned):
        self.note("assigned", map(named, assigned))

    def subscribe(self, topics):
        call(self.consumer.subscribe, topics, listener=self)

    def subscribe_pattern(self, pattern):
        call(self.consumer.subscribe, pattern=pattern, listener=self)

    def assign(self, partitions):
        call(self.consumer.assign, [TopicPartition(*partition) for partition in partitions])

    def poll(self, seconds):
        batches = wait(self.consumer.getmany(timeout_ms=int(seconds * 1000))).values()
        return [shared.record_of(found) for batch in batches for found in batch]

    def assignment(self):
        return frozenset(map(named, self.consumer.assignment()))

    def commit(self, offsets=None):
        if offsets is not None:
            offsets = {TopicPartition(*partition): value for partition, value in offsets.items()}
        wait(self.consumer.commit(offsets))

    def committed(self, partition):
        return wait(self.consumer.committed(TopicPartition(*partition)))

    def position(self, partition):
        return wait(self.consumer.position(TopicPartition(*partition)))

    def seek(self, partition, offset):
        call(self.consumer.seek, TopicPartition(*partition), offset)

    def pause(self, partitions):
        call(self.consumer.pause, *[TopicPartition(*partition) for partition in partitions])

    def resume(self, partitions):
        call(self.consumer.resume, *[TopicPartition(*partition) for partition in partitions])

    def bounds(self, partition):
        asked = TopicPartition(*partition)
        first = wait(self.consumer.beginning_offsets([asked]))[asked]
        return first, wait(self.consumer.end_offsets([asked]))[asked]

    def offset_at(self, partition, time_ms):
        asked = TopicPartition(*partition)
        found = wait(self.consumer.offsets_for_times({asked: time_ms}))[asked]
        return found and found.offset

    def close(self):
        wait(self.consumer.stop())


class Writer(shared.Writer):
    def __init__(self, run: Run, codec, acks, idempotent):
        self.producer = call(
            AIOKafkaProducer,
            bootstrap_servers=run.bootstrap,
            compression_type=codec,
            acks="all" if acks == -1 else acks,
            enable_idempotence=idempotent,
        )
        wait(self.producer.start())

    def write(self, partition, samples):
        return wait(self._write(partition, samples))

    async def _write(self, partition, samples):
        futures = [
            await self.producer.send(partition.topic, s.value, s.key, partition.index, s.timestamp_ms, list(s.headers))
            for s in samples
        ]
        await self.producer.flush()
        # Without an acknowledgement there is no place either.
        return [place and place.offset for place in await asyncio.gather(*futures)]

    def close(self):
        wait(self.producer.stop())


class Admin(shared.Admin):
    def __init__(self, run: Run):
        self.client = call(AIOKafkaAdminClient, bootstrap_servers=run.bootstrap)
        wait(self.client.start())

    def create(self, topic, partitions, configs):
        answer = wait(self.client.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)]))
        for _, code, message in answer.topic_errors:
            check_code(code, message)

    def delete(self, topic):
        for _, code in wait(self.client.delete_topics([topic])).topic_error_codes:
            check_code(code, topic)

    def grow(self, topic, partitions):
        wait(self.client.create_partitions({topic: NewPartitions(partitions)}))

    def partitions(self, topic):
        # Not by name: this client lets the broker create what it asks for.
        found = [known for known in wait(self.client.describe_topics()) if known["topic"] == topic]
        return len(found[0]["partitions"]) if found else 0

    def configs(self, topic):
        (answer,) = wait(self.client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        ((code, message, _, _, entries),) = answer.resources
        check_code(code, message)
        return {entry[0]: entry[1] for entry in entries}

    def replace_configs(self, topic, configs):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs)
        for answer in wait(self.client.alter_configs([resource])):
            for code, message, _, _ in answer.resources:
                check_code(code, message)

    def groups(self):
        return {group for group, *_ in wait(self.client.list_consumer_groups())}

    def describe(self, group):
        (answer,) = wait(self.client.describe_consumer_groups([group]))
        ((code, _, state, _, protocol, group_members, *_),) = answer.groups
        check_code(code, group)
        return shared.Description(state, protocol, [self._client_of(member) for member in group_members])

    @staticmethod
    def _client_of(member) -> str:
        """Newer versions of the answer have the member's static name before the client's."""
        return member[-4]

    def offsets(self, group):
        found = wait(self.client.list_consumer_group_offsets(group))
        return {named(partition): (value.offset, value.metadata) for partition, value in found.items()}

    def delete_records(self, partition, before):
        asked = TopicPartition(*partition)
        return wait(self.client.delete_records({asked: RecordsToDelete(before)}))[asked]


def check_code(code: int, message: str) -> None:
    """This client leaves it to its callers to look at some of the answers."""
    if code:
        raise errors.for_code(code)(message)


class Client(shared.Client):
    # Not "fenced": a member whose name another one took joins again, and takes it back.
    can = frozenset({"static", "replace-configs", "delete-records", "idempotent", "gzip", "snappy", "lz4", "zstd"})

    def consumer(self, run, options):
        return Member(run, options)

    def writer(self, run, codec=None, acks=-1, idempotent=False):
        return Writer(run, codec, acks, idempotent)

    def new_admin(self, run):
        return Admin(run)

    def code(self, error):
        if isinstance(error, errors.CommitFailedError):  # says that the generation is over, without the code
            return shared.REBALANCE_IN_PROGRESS
        return getattr(error, "errno", None) if isinstance(error, errors.KafkaError) else None


if __name__ == "__main__":
    client = Client()
    records.add(client)
    groups.add(client)
    harness.main(lambda run, text: members.serve(client, run, text))
