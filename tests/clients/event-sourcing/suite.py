"""The event sourcing example: its README line by line, and what its modules promise."""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "event-sourcing"
sys.path.insert(0, str(EXAMPLE))

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from orders import domain, projection
from orders.log import Missing, OrderLog

import harness
from harness import Run, case, check, equal, raises, topic_name

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
END = "-- end of output, exit code"


def new_log(run: Run, partitions: int = 2) -> OrderLog:
    log = OrderLog(run.bootstrap, topic_name("orders"))
    log.set_up(partitions)
    return log


def fill(log: OrderLog, count: int, seed: int = 1) -> list:
    """Appends random events that the rules allow; returns them as stored."""
    draw, orders, stored = random.Random(seed), {}, []
    while len(stored) < count:
        order_id = f"o-{draw.randrange(count // 3 + 1)}"
        order = orders.get(order_id)
        try:
            event = draw.choice(
                [
                    lambda: domain.create(order, order_id, draw.choice("abc"), draw.randrange(1, 100)),
                    lambda: domain.pay(order, order_id, "card"),
                    lambda: domain.ship(order, order_id, "parcel"),
                ]
            )()
        except domain.Rejected:
            continue
        stored.append(log.append(event))
        orders[order_id] = domain.apply(order, event, stored[-1].offset)
    return stored


def state(stored: list) -> dict:
    """What events add up to."""
    return domain.replay({}, ((each.offset, each.event) for each in stored))


@case
def the_readme_runs_line_by_line(run: Run):
    steps, is_console = [], False
    for line in (EXAMPLE / "README.md").read_text().splitlines():
        if line.startswith("```"):
            is_console = line == "```console"
        elif is_console and line.startswith("$ "):
            steps.append((line[2:], []))
        elif is_console:
            steps[-1][1].append(line)
    check(len(steps) > 15, f"the README has {len(steps)} commands")
    topic = topic_name("orders")
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(EXAMPLE),
            "ORDERS_BOOTSTRAP": run.bootstrap,
            "ORDERS_TOPIC": topic,
            "ORDERS_GROUP": topic_name("projection"),
        }
        # One shell for all of them: a variable that one sets is there for the next.
        script = "".join(f"{{ {command}\n}} 2>&1\necho '{END}' $?\n" for command, _ in steps)
        shell = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, timeout=100
        )
    outputs = re.split(f"{END} [0-9]+\n", shell.stdout)
    equal(len(outputs), len(steps) + 1, "outputs")
    for (command, wanted), found in zip(steps, outputs):
        found = found.replace(f"topics {topic} and {topic}.snapshots", "topics orders and orders.snapshots")
        equal(TIME.sub("TIME", found).splitlines(), [TIME.sub("TIME", line) for line in wanted], command)


@case
def the_state_decides_about_commands(run: Run):
    created = domain.apply(None, domain.create(None, "o", "ada", 5), 0)
    raises(domain.Rejected, lambda: domain.create(created, "o", "ada", 5), "an order that exists")
    raises(domain.Rejected, lambda: domain.create(None, "o", "ada", 0), "nothing to pay")
    raises(domain.Rejected, lambda: domain.pay(None, "o", "card"), "a payment of nothing")
    raises(domain.Rejected, lambda: domain.ship(created, "o", "parcel"), "a shipment before the payment")
    paid = domain.apply(created, domain.pay(created, "o", "card"), 1)
    raises(domain.Rejected, lambda: domain.pay(paid, "o", "card"), "a second payment")
    shipped = domain.apply(paid, domain.ship(paid, "o", "parcel"), 2)
    equal((shipped.status, shipped.version), ("shipped", 2), "the state")
    equal(domain.apply(shipped, domain.OrderPaid("o", "card"), 1), shipped, "an event that is in it already")
    for event in (domain.OrderCreated("é", "ada", 1), domain.OrderPaid("o", "x"), domain.OrderShipped("o", "y")):
        equal(domain.from_json(domain.to_json(event)), event, "an event out of the log")


@case
def state_is_rebuilt_as_of_any_offset_and_time(run: Run):
    log = new_log(run, partitions=1)
    stored = []
    for seed in range(4):
        stored += fill_more(log, 10, seed)
        time.sleep(0.02)
    equal([(each.offset, each.event) for each in log.read(0)], [(e.offset, e.event) for e in stored], "the log")
    for count in (1, 7, 20, 40):
        last = stored[count - 1]
        wanted = state(stored[:count])[last.event.order_id]
        equal(log.order(last.event.order_id, offset=last.offset), wanted, f"the state after offset {last.offset}")
    for first in (10, 20, 30):
        moment = datetime.fromtimestamp(stored[first].time_ms / 1000, timezone.utc)
        equal(log.orders(moment), state(stored[:first]), f"the state before event {first}")
    equal(log.orders(), state(stored), "the state now")
    equal(log.orders(datetime.fromtimestamp(0, timezone.utc)), {}, "the state before everything")
    log.close()


def fill_more(log: OrderLog, count: int, seed: int) -> list:
    """Events of orders that the earlier ones do not touch."""
    more = []
    for number in range(count // 2):
        order_id = f"o-{seed}-{number}"
        more.append(log.append(domain.OrderCreated(order_id, "ada", 1)))
        more.append(log.append(domain.OrderPaid(order_id, "card")))
    return more


@case
def what_is_asked_before_there_is_anything_is_answered(run: Run):
    nothing = OrderLog(run.bootstrap, topic_name("nothing"))
    raises(Missing, nothing.orders, "orders of a topic that is not there")
    nothing.close()
    log = new_log(run)
    fill(log, 10)
    equal(log.orders(datetime(1969, 12, 31, tzinfo=timezone.utc)), {}, "orders before 1970")
    log.close()


@case
def a_snapshot_changes_nothing_but_where_reading_begins(run: Run):
    log = new_log(run)
    stored = fill(log, run.scale(60, 1000))
    equal(log.orders(), state(stored), "without a snapshot")
    for partition in log.partitions():
        mine = [each for each in stored if each.partition == partition]
        equal(log.snapshot(partition)[1], mine[-1].offset + 1, "the checkpoint")
        equal(log.snapshot(partition), (0, mine[-1].offset + 1), "a snapshot of what has not changed")
        equal(log.snapshot_of(partition)[0], state(mine), "the snapshot")
    late = [log.append(domain.OrderCreated(f"late-{number}", "bob", number + 1)) for number in range(10)]
    equal(log.orders(), state(stored + late), "a snapshot and what came later")
    # A snapshot that was stopped before its checkpoint: some orders are newer than the checkpoint that holds.
    newest = late[-1]
    paid = log.append(domain.OrderPaid(newest.event.order_id, "card"))
    order = log.order(newest.event.order_id)
    log._save(paid.partition, b"order/" + order.order_id.encode(), asdict(order)).get(30)
    equal(log.orders(), state(stored + late + [paid]), "half a snapshot")
    log.close()


@case
def a_projection_goes_on_where_it_stopped_even_after_a_crash(run: Run):
    log, group = new_log(run), topic_name("projection")
    stored = fill(log, run.scale(60, 1000))
    with tempfile.TemporaryDirectory() as folder:
        table = projection.Projection(f"{folder}/orders.db")

        def project() -> int:
            return sum(projection.follow(run.bootstrap, log.events, group, table, forever=False))

        def rows() -> dict:
            query = "SELECT order_id, customer, amount, status, version FROM orders"
            return {row[0]: domain.Order(*row) for row in table._database.execute(query)}

        equal(project(), len(stored), "the first time")
        equal(rows(), state(stored), "the table")
        equal(project(), 0, "when nothing happened")
        stored.append(log.append(domain.OrderCreated("late", "bob", 3)))
        equal(project(), 1, "after one event")
        # A crash after the table was written and before the offsets were: the last events come again.
        consumer = KafkaConsumer(bootstrap_servers=run.bootstrap, group_id=group, enable_auto_commit=False)
        last = TopicPartition(log.events, stored[-1].partition)
        consumer.assign([last])
        consumer.commit({last: OffsetAndMetadata(stored[-1].offset - 5, "", -1)})
        consumer.close()
        equal(project(), 6, "events that come again")
        equal(rows(), state(stored), "the table after that")
        table.close()
    log.close()


if __name__ == "__main__":
    harness.main()
