"""The parts of kafka-python that are the same in all its releases, for the shared cases."""

from typing import Optional

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.structs import OffsetAndMetadata

from harness import Run

from .client import REBALANCE_IN_PROGRESS, Client, Member, Options, Writer, named, record_of


def offset_and_metadata(offset: int, metadata: str) -> OffsetAndMetadata:
    """Releases after 2.0 know the leader's epoch too; -1 is none."""
    return OffsetAndMetadata(offset, metadata, *[-1] * (len(OffsetAndMetadata._fields) - 2))


class KafkaPythonMember(Member, ConsumerRebalanceListener):
    def __init__(self, run: Run, options: Options, **more):
        super().__init__()
        self.consumer = KafkaConsumer(
            bootstrap_servers=run.bootstrap,
            group_id=options.group,
            auto_offset_reset=options.reset,
            enable_auto_commit=options.auto_commit_ms is not None,
            auto_commit_interval_ms=options.auto_commit_ms or 5000,
            session_timeout_ms=options.session_ms,
            heartbeat_interval_ms=300,
            metadata_max_age_ms=500,
            fetch_max_wait_ms=100,
            exclude_internal_topics=False,
            **more,
        )

    def on_partitions_revoked(self, revoked):
        self.note("revoked", map(named, revoked))

    def on_partitions_assigned(self, assigned):
        self.note("assigned", map(named, assigned))

    def subscribe(self, topics):
        self.consumer.subscribe(topics, listener=self)
        # It knows their partitions then. Otherwise 3.0.12 joins at once, joins again when it does know them, and forgets
        # the second time when a poll ends in the middle of it.
        self.consumer.topics()

    def subscribe_pattern(self, pattern):
        self.consumer.subscribe(pattern=pattern, listener=self)

    def assign(self, partitions):
        self.consumer.assign([TopicPartition(*partition) for partition in partitions])

    def poll(self, seconds):
        batches = self.consumer.poll(timeout_ms=int(seconds * 1000)).values()
        return [record_of(found) for batch in batches for found in batch]

    def assignment(self):
        return frozenset(map(named, self.consumer.assignment()))

    def commit(self, offsets=None):
        if offsets is not None:
            offsets = {TopicPartition(*p): offset_and_metadata(*value) for p, value in offsets.items()}
        self.consumer.commit(offsets)

    def committed(self, partition):
        return self.consumer.committed(TopicPartition(*partition))

    def position(self, partition):
        return self.consumer.position(TopicPartition(*partition))

    def seek(self, partition, offset):
        self.consumer.seek(TopicPartition(*partition), offset)

    def pause(self, partitions):
        self.consumer.pause(*[TopicPartition(*partition) for partition in partitions])

    def resume(self, partitions):
        self.consumer.resume(*[TopicPartition(*partition) for partition in partitions])

    def bounds(self, partition):
        asked = TopicPartition(*partition)
        return self.consumer.beginning_offsets([asked])[asked], self.consumer.end_offsets([asked])[asked]

    def offset_at(self, partition, time_ms):
        asked = TopicPartition(*partition)
        found = self.consumer.offsets_for_times({asked: time_ms})[asked]
        return found and found.offset

    def close(self):
        self.consumer.close()


class KafkaPythonWriter(Writer):
    def __init__(self, run: Run, codec: Optional[str], acks: int, **more):
        self.producer = KafkaProducer(
            bootstrap_servers=run.bootstrap, compression_type=codec, acks="all" if acks == -1 else acks, **more
        )

    def write(self, partition, samples):
        futures = [
            self.producer.send(
                partition.topic, s.value, s.key, list(s.headers), partition=partition.index, timestamp_ms=s.timestamp_ms
            )
            for s in samples
        ]
        self.producer.flush(30)
        return [future.get(30).offset for future in futures]

    def close(self):
        self.producer.close()


class KafkaPython(Client):
    def code(self, error):
        if isinstance(error, errors.CommitFailedError):  # says that the generation is over, without the code
            return REBALANCE_IN_PROGRESS
        return getattr(error, "errno", None) if isinstance(error, errors.KafkaError) else None
