"""The command line: `python -m orders --help`."""

import argparse
import os
import sys
from datetime import datetime, timezone

from kafka.errors import KafkaError

from . import domain, projection
from .domain import Order, Rejected
from .log import Missing, OrderLog


def moment(text: str) -> datetime:
    """A time as a person writes it; without a zone it is UTC."""
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def main() -> int:
    parser = argparse.ArgumentParser(prog="orders", description="Orders, event sourced on a log that speaks Kafka.")
    parser.add_argument("--bootstrap", default=os.environ.get("ORDERS_BOOTSTRAP", "127.0.0.1:9092"), metavar="HOST:PORT")
    parser.add_argument("--topic", default=os.environ.get("ORDERS_TOPIC", "orders"), help="the topic of the events")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("setup", help="make the topics")
    command.add_argument("--partitions", type=int, default=3)
    command = commands.add_parser("create", help="take a new order")
    command.add_argument("order_id")
    command.add_argument("customer")
    command.add_argument("amount", type=int)
    command = commands.add_parser("pay", help="note that an order is paid")
    command.add_argument("order_id")
    command.add_argument("payment")
    command = commands.add_parser("ship", help="note that an order is shipped")
    command.add_argument("order_id")
    command.add_argument("parcel")
    command = commands.add_parser("history", help="show what happened to an order")
    command.add_argument("order_id")
    command = commands.add_parser("show", help="show an order: now, after an offset, or at a time")
    command.add_argument("order_id")
    command.add_argument("--offset", type=int, help="after the event at this offset of the order's partition")
    command.add_argument("--time", type=moment, help="at this time, like 2025-01-31T12:00:00Z")
    command = commands.add_parser("list", help="show all orders: now, or at a time")
    command.add_argument("--time", type=moment, help="at this time, like 2025-01-31T12:00:00Z")
    commands.add_parser("snapshot", help="save the state, so that it need not be rebuilt from the beginning")
    command = commands.add_parser("project", help="bring the read model up to date")
    command.add_argument("--database", default="orders.db")
    command.add_argument("--group", default=os.environ.get("ORDERS_GROUP", projection.GROUP))
    command.add_argument("--follow", action="store_true", help="go on and wait for events")
    command = commands.add_parser("report", help="ask the read model")
    command.add_argument("--database", default="orders.db")
    options = parser.parse_args()

    if options.command == "project":
        return project(options)
    if options.command == "report":
        return report(options)
    try:
        log = OrderLog(options.bootstrap, options.topic)
    except KafkaError as reason:
        print(f"no broker at {options.bootstrap} ({reason}): start one, or name another with --bootstrap")
        return 1
    try:
        return run(log, options)
    except Rejected as reason:
        print(f"rejected: {reason}")
        return 1
    except Missing as reason:
        print(reason)
        return 1
    finally:
        log.close()


def run(log: OrderLog, options: argparse.Namespace) -> int:
    if options.command == "setup":
        log.set_up(options.partitions)
        print(f"topics {log.events} and {log.snapshots} are there")
    elif options.command in ("create", "pay", "ship"):
        handle(log, options)
    elif options.command == "history":
        for stored in log.history(options.order_id):
            time = datetime.fromtimestamp(stored.time_ms / 1000, timezone.utc).isoformat(timespec="milliseconds")
            print(f"offset {stored.offset}  {time}  {stored.event}")
    elif options.command == "show":
        order = log.order(options.order_id, options.offset, options.time)
        print(line(order) if order else f"there is no order {options.order_id}")
    elif options.command == "list":
        for _, order in sorted(log.orders(options.time).items()):
            print(line(order))
    elif options.command == "snapshot":
        for partition in log.partitions():
            changed, checkpoint = log.snapshot(partition)
            print(f"partition {partition}: {changed} orders saved, up to offset {checkpoint}")
    return 0


def handle(log: OrderLog, options: argparse.Namespace) -> None:
    """A command: rebuild the order's state, decide, append the event."""
    order = log.order(options.order_id)
    if options.command == "create":
        event = domain.create(order, options.order_id, options.customer, options.amount)
    elif options.command == "pay":
        event = domain.pay(order, options.order_id, options.payment)
    else:
        event = domain.ship(order, options.order_id, options.parcel)
    stored = log.append(event)
    print(f"{event} at offset {stored.offset} of partition {stored.partition}")


def project(options: argparse.Namespace) -> int:
    table = projection.Projection(options.database)
    count = 0
    try:
        for step in projection.follow(options.bootstrap, options.topic, options.group, table, options.follow):
            count += step
            if options.follow:
                print(f"{step} events projected", flush=True)
        print(f"{count} events projected")
    except KeyboardInterrupt:
        pass
    finally:
        table.close()
    return 0


def report(options: argparse.Namespace) -> int:
    table = projection.Projection(options.database)
    for customer, count, amount, shipped in table.by_customer():
        print(f"{customer}: {count} orders, {amount} in all, {shipped} shipped")
    table.close()
    return 0


def line(order: Order) -> str:
    return f"{order.order_id}  {order.customer}  {order.amount}  {order.status}"


if __name__ == "__main__":
    sys.exit(main())
