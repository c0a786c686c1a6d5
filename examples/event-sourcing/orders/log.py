"""Events and snapshots in topics.

`orders` has one record for each event, keyed by the order's id, so that an order's events are in one partition and in their
order. It is never deleted: it is the truth. `orders.snapshots` is compacted and only saves time: for each partition of
`orders` the newest state of each order, and last a checkpoint, the offset that the snapshot reaches.
"""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Iterator, NamedTuple, Optional

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import TopicAlreadyExistsError
from kafka.partitioner.default import murmur2

from . import domain
from .domain import Event, Order

CHECKPOINT = b"checkpoint"


class Stored(NamedTuple):
    """An event and where it is in the log."""

    partition: int
    offset: int
    time_ms: int
    event: Event


class Missing(Exception):
    """What is asked for is not there."""


class OrderLog:
    """The log of a broker, through one connection of each kind."""

    def __init__(self, bootstrap: str, topic: str = "orders"):
        self.bootstrap = bootstrap
        self.events, self.snapshots = topic, topic + ".snapshots"
        # Every record waits for the medium, and a repeated attempt to send it does not store it twice.
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none", enable_auto_commit=False)

    def close(self) -> None:
        self._producer.close()
        self._consumer.close()

    def set_up(self, partitions: int) -> None:
        """Makes the topics, unless they are there."""
        forever = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        for topic, settings in ((self.events, forever), (self.snapshots, {"cleanup.policy": "compact"})):
            try:
                wanted = {topic: {"num_partitions": partitions, "configs": settings}}
                admin.create_topics(wanted, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                pass
        admin.close()

    def partitions(self) -> list:
        """The partitions of the events' topic; snapshots have the same."""
        partitions = self._consumer.partitions_for_topic(self.events)
        if not partitions:
            raise Missing(f"topic {self.events} is not there: the command setup makes it")
        return sorted(partitions)

    def partition_of(self, order_id: str) -> int:
        """The partition of an order's events: the one that every Kafka client picks for the key."""
        return (murmur2(order_id.encode()) & 0x7FFFFFFF) % len(self.partitions())

    def append(self, event: Event) -> Stored:
        """Adds an event to the log; it is safe when this returns."""
        key, value = event.order_id.encode(), domain.to_json(event)
        sent = self._producer.send(self.events, key=key, value=value, partition=self.partition_of(event.order_id))
        stored = sent.get(timeout=30)
        return Stored(stored.partition, stored.offset, stored.timestamp, event)

    def read(self, partition: int, start: int = 0, end: Optional[int] = None) -> Iterator[Stored]:
        """Events of a partition from `start` up to `end`, which is not in it; up to the end of the log without one."""
        for record in self._records(TopicPartition(self.events, partition), start, end):
            yield Stored(partition, record.offset, record.timestamp, domain.from_json(record.value))

    def history(self, order_id: str) -> list:
        """Everything that happened to an order."""
        return [stored for stored in self.read(self.partition_of(order_id)) if stored.event.order_id == order_id]

    def order(self, order_id: str, offset: Optional[int] = None, time: Optional[datetime] = None) -> Optional[Order]:
        """An order's state: now, after the event at `offset`, or at a moment."""
        partition = self.partition_of(order_id)
        if offset is not None:
            end = self.end_of(partition)
            if not 0 <= offset < end:
                raise Missing(f"partition {partition} has no event at offset {offset}: it ends at {end}")
            return self._replayed(partition, offset + 1).get(order_id)
        if time is not None:
            return self._replayed(partition, self.offset_at(partition, time)).get(order_id)
        return self.state_of(partition).get(order_id)

    def orders(self, time: Optional[datetime] = None) -> dict:
        """The state of all orders by id: now, or at a moment."""
        orders = {}
        for partition in self.partitions():
            if time is None:
                orders.update(self.state_of(partition))
            else:
                orders.update(self._replayed(partition, self.offset_at(partition, time)))
        return orders

    def state_of(self, partition: int) -> dict:
        """The orders of a partition now: the snapshot, and the events behind its checkpoint."""
        orders, checkpoint = self.snapshot_of(partition)
        events = ((stored.offset, stored.event) for stored in self.read(partition, checkpoint))
        return domain.replay(orders, events)

    def _replayed(self, partition: int, end: Optional[int]) -> dict:
        """The orders of a partition at an earlier point, from its first event on: a snapshot may lie behind that point."""
        return domain.replay({}, ((stored.offset, stored.event) for stored in self.read(partition, 0, end)))

    def end_of(self, partition: int) -> int:
        """The offset that the next event of a partition gets."""
        at = TopicPartition(self.events, partition)
        return self._consumer.end_offsets([at])[at]

    def offset_at(self, partition: int, time: datetime) -> Optional[int]:
        """The offset of the first event of a moment or later; None when there is none."""
        at = TopicPartition(self.events, partition)
        time_ms = max(0, int(time.timestamp() * 1000))  # a client's times begin in 1970
        found = self._consumer.offsets_for_times({at: time_ms})[at]
        return found.offset if found else None

    def snapshot(self, partition: int) -> tuple:
        """Writes a snapshot of a partition. Answers how many orders had changed, and the checkpoint.

        The checkpoint comes last. Without it, because this was stopped half way, the former one holds, and events that are
        in the newer states already change nothing: `domain.apply` looks at the version.
        """
        old, _ = self.snapshot_of(partition)
        new = self.state_of(partition)
        changed = [order for order in new.values() if order != old.get(order.order_id)]
        checkpoint = max((order.version for order in new.values()), default=-1) + 1
        if changed:
            # Ids of orders are anyone's choice: a prefix keeps one that is called `checkpoint` apart from ours.
            saved = [self._save(partition, b"order/" + order.order_id.encode(), asdict(order)) for order in changed]
            saved.append(self._save(partition, CHECKPOINT, {"next_offset": checkpoint}))
            for sent in saved:
                sent.get(timeout=30)
        return len(changed), checkpoint

    def _save(self, partition: int, key: bytes, value: dict):
        return self._producer.send(self.snapshots, key=key, value=json.dumps(value).encode(), partition=partition)

    def snapshot_of(self, partition: int) -> tuple:
        """The orders of a partition's snapshot, and its checkpoint."""
        orders, checkpoint = {}, 0
        for record in self._records(TopicPartition(self.snapshots, partition)):
            saved = json.loads(record.value)
            if record.key == CHECKPOINT:
                checkpoint = saved["next_offset"]
            else:
                orders[saved["order_id"]] = Order(**saved)
        return orders, checkpoint

    def _records(self, at: TopicPartition, start: int = 0, end: Optional[int] = None) -> Iterator:
        """The records of a partition. Compaction takes offsets away, so the position decides where it ends, not a count."""
        consumer = self._consumer
        last = consumer.end_offsets([at])[at]
        end = last if end is None else min(end, last)
        consumer.assign([at])
        consumer.seek(at, max(start, consumer.beginning_offsets([at])[at]))
        while consumer.position(at) < end:
            for record in consumer.poll(timeout_ms=500).get(at, []):
                if record.offset < end:
                    yield record
