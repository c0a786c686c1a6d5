"""A read model: a table of orders in SQLite that a consumer group keeps up to date.

The group's committed offsets say where to go on. They are committed after the table, so a crash between the two brings some
events a second time; the version in each row makes that harmless.
"""

import sqlite3
from typing import Iterator

from kafka import KafkaConsumer

from . import domain
from .domain import Order

GROUP = "orders-projection"


class Projection:
    """The table, in a file."""

    def __init__(self, path: str):
        self._database = sqlite3.connect(path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS orders"
            " (order_id TEXT PRIMARY KEY, customer TEXT, amount INTEGER, status TEXT, version INTEGER)"
        )

    def close(self) -> None:
        self._database.close()

    def apply(self, offset: int, event: domain.Event) -> None:
        """Brings a row up to date."""
        query = "SELECT order_id, customer, amount, status, version FROM orders WHERE order_id = ?"
        row = self._database.execute(query, (event.order_id,)).fetchone()
        order = domain.apply(Order(*row) if row else None, event, offset)
        values = (order.order_id, order.customer, order.amount, order.status, order.version)
        self._database.execute("INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?)", values)

    def commit(self) -> None:
        self._database.commit()

    def by_customer(self) -> list:
        """Customer, number of orders, sum, and how many are shipped: a question that the log alone answers slowly."""
        query = "SELECT customer, COUNT(*), SUM(amount), SUM(status = 'shipped') FROM orders GROUP BY customer"
        return self._database.execute(query + " ORDER BY customer").fetchall()


def follow(bootstrap: str, topic: str, group: str, projection: Projection, forever: bool) -> Iterator[int]:
    """Projects what the group has not projected yet. Yields how many events each step took; ends at the end of the log, if it
    shall end."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        while forever or not _is_done(consumer):
            batches = consumer.poll(timeout_ms=500)
            for records in batches.values():
                for record in records:
                    projection.apply(record.offset, domain.from_json(record.value))
            if batches:
                projection.commit()  # first the table,
                consumer.commit()  # then the offsets
                yield sum(map(len, batches.values()))
    finally:
        consumer.close()


def _is_done(consumer: KafkaConsumer) -> bool:
    """Whether the group has given this consumer partitions, and it is at the end of each."""
    partitions = consumer.assignment()
    ends = consumer.end_offsets(list(partitions)) if partitions else {}
    return bool(ends) and all(consumer.position(partition) >= end for partition, end in ends.items())
