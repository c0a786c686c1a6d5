"""What the Python client suites share: cases and their report, sample records, waiting with a deadline. Cases that hold
for every client are in `shared`.

A suite is a module of functions marked `@case`; `main` runs them against the broker that `--bootstrap` names and
prints a line for each, and last `N passed, N failed, N skipped`. It exits with 1 when a case failed. Each case makes
topics and groups of its own, so that cases do not see each other and a broker with data in it serves as well as a new
one.
"""

import argparse
import os
import random
import signal
import socket
import sys
import time
import traceback
import uuid
from concurrent import futures
from dataclasses import dataclass
from typing import Callable, Optional

CASE_SECONDS_MAX = 120
WAITING_CASES_MAX = 8
# For all those that wait together: their number is small beside how many run at once.
WAITING_SECONDS_MAX = 2 * CASE_SECONDS_MAX

_cases: list = []
_waiting_cases: list = []


class Skip(Exception):
    """Raised by a case that does not apply; the text says why."""


@dataclass
class Run:
    """What a case gets: the broker, and whether the long form is asked for."""

    bootstrap: str
    full: bool

    def scale(self, short: int, long: int) -> int:
        return long if self.full else short


def case(function: Callable[[Run], None]) -> Callable[[Run], None]:
    """Marks a function as a case; its name says what holds."""
    _cases.append(function)
    return function


def case_that_waits(function: Callable[[Run], None]) -> Callable[[Run], None]:
    """Marks a case that mostly waits, for a timeout or a rebalance: such cases run at the same time as each other, after
    the rest."""
    _waiting_cases.append(function)
    return function


def long_case(function: Callable[[Run], None]) -> Callable[[Run], None]:
    """Marks a case that is left out of the short form."""
    function.is_long = True
    return function


def main(member: Optional[Callable[[Run, str], None]] = None) -> None:
    """Runs the suite. `member` is the program's other side: with `--member TEXT` it is called instead of the cases."""
    options = argparse.ArgumentParser(description="Runs a client suite against a broker that speaks Kafka.")
    options.add_argument("--bootstrap", default=os.environ.get("HEADWATER_BOOTSTRAP"), metavar="HOST:PORT")
    options.add_argument("--full", action="store_true", help="larger counts and more combinations")
    options.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains the text")
    options.add_argument("--member", default="", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if not chosen.bootstrap:
        options.error("--bootstrap or HEADWATER_BOOTSTRAP names the broker")
    run = Run(chosen.bootstrap, chosen.full)
    if member and chosen.member:
        member(run, chosen.member)
        return
    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    for function, verdict, report in _verdicts(run, chosen.only):
        counts[verdict] += 1
        print(f"{verdict} {function.__name__} {report}", flush=True)
    # In one piece: what a client still says on its way out must not come between the line and its end.
    sys.stdout.flush()
    os.write(sys.stdout.fileno(), f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} skipped\n".encode())
    # Not sys.exit: a client whose background thread hangs on a broken broker must not hang the suite.
    os._exit(1 if counts["FAIL"] or not counts["PASS"] else 0)


def _verdicts(run: Run, only: str):
    """Runs the cases; yields each with its verdict and what to print beside it."""
    signal.signal(signal.SIGALRM, _too_long)
    chosen = lambda function: only in function.__name__ and (run.full or not hasattr(function, "is_long"))
    for function in filter(chosen, _cases):
        yield function, *_attempt(run, function, signal.alarm)
    waiting = list(filter(chosen, _waiting_cases))
    pool = futures.ThreadPoolExecutor(WAITING_CASES_MAX)
    attempts = {pool.submit(_attempt, run, function): function for function in waiting}
    try:
        for done in futures.as_completed(list(attempts), WAITING_SECONDS_MAX):
            yield attempts.pop(done), *done.result()
    except futures.TimeoutError:
        for function in attempts.values():
            yield function, "FAIL", f": not done after {WAITING_SECONDS_MAX} s"


def _attempt(run: Run, function: Callable[[Run], None], alarm: Callable[[int], object] = lambda seconds: None):
    """Runs a case; its verdict, and what to print beside it. `alarm` sets and clears the time limit."""
    start = time.monotonic()
    try:
        check(_reachable(run), f"nothing listens at {run.bootstrap}")
        alarm(CASE_SECONDS_MAX)
        function(run)
        alarm(0)
        verdict, detail = "PASS", ""
    except Skip as reason:
        verdict, detail = "SKIP", f": {reason}"
    except Exception as error:  # whatever a client raises is a failed case, not the end of the suite
        verdict, detail = "FAIL", f": {type(error).__name__}: {error}"
        print(traceback.format_exc(), flush=True)
    finally:
        alarm(0)
    return verdict, f"({time.monotonic() - start:.1f} s){detail}"


def _reachable(run: Run) -> bool:
    """Asked before each case: once the broker is gone, the rest need not wait for their clients to notice."""
    host, port = run.bootstrap.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 5).close()
        return True
    except OSError:
        return False


def _too_long(_signal, _frame):
    raise TimeoutError(f"not done after {CASE_SECONDS_MAX} s")


def topic_name(what: str) -> str:
    """A new name for a topic."""
    return f"{what}-{uuid.uuid4().hex[:8]}"


def now_ms() -> int:
    return int(time.time() * 1000)


def until(what: str, condition: Callable[[], object], seconds: float = 30.0):
    """Waits until `condition` returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        check(time.monotonic() < deadline, f"{what}: not within {seconds} s")
        time.sleep(0.02)


def check(holds: object, what: str) -> None:
    """An assertion that `python -O` keeps."""
    if not holds:
        raise AssertionError(what)


def equal(found, wanted, what: str) -> None:
    check(found == wanted, f"{what}: found {_short(found)}, wanted {_short(wanted)}")


def raises(kinds, action: Callable[[], object], what: str) -> Exception:
    """Checks that `action` raises one of `kinds`, and returns the exception."""
    try:
        result = action()
    except kinds as error:
        return error
    raise AssertionError(f"{what}: no error, but {_short(result)}")


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}... ({len(text)} characters)"


@dataclass(frozen=True)
class Sample:
    """A record as a producer gives it, and as a consumer must find it."""

    key: Optional[bytes]
    value: Optional[bytes]
    headers: tuple
    timestamp_ms: int


def samples(count: int, first_timestamp_ms: Optional[int] = None) -> list:
    """Records of every shape: no, empty and binary keys; null, empty, repetitive and random values; no headers, and
    headers that repeat a name. Always the same ones, so that a failure repeats. Never both key and value null: not
    every client lets that through."""
    source = random.Random(7)
    first = now_ms() - count if first_timestamp_ms is None else first_timestamp_ms
    values = [
        lambda i: b"value %d" % i,
        lambda i: b"",
        lambda i: source.randbytes(1 + i % 700),
        lambda i: b"again and again " * (1 + i % 200),
        lambda i: None,
    ]
    keys = [lambda i: b"key %d" % (i % 10), lambda i: None, lambda i: b"", lambda i: bytes([0, 255, i % 256])]
    headers = [
        (),
        (("trace", b"\x00\x01\xff"),),
        (("name", b"one"), ("name", b"two"), ("", b""), ("länge", b"x" * 300)),
    ]
    result = []
    for i in range(count):
        value = values[i % len(values)](i)
        key = keys[i % len(keys)](i)
        if key is None and value is None:
            key = b"tombstone"
        result.append(Sample(key, value, headers[i % len(headers)], first + i))
    return result


def same_records(found: list, wanted: list, what: str) -> None:
    """Compares record by record, so that a failure names the first one that differs."""
    for index, (left, right) in enumerate(zip(found, wanted)):
        equal(left, right, f"{what}, record {index}")
    equal(len(found), len(wanted), f"{what}, number of records")


def incompressible(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@dataclass(frozen=True)
class Ack:
    """An acknowledged record of a topic that is deleted under load, with the time (monotonic) of sending and ack."""

    value: bytes
    partition: int
    offset: int
    sent: float
    acked: float


def check_incarnation(records: list, acks: list, deleted_from: float, created_at: float) -> None:
    """What must hold of a topic that was deleted and made again under load. `records` are (partition, offset, value),
    all that the new topic serves; `deleted_from` is when the delete was asked for, `created_at` when the topic was
    there again. What was acknowledged before the first belongs to the old topic alone; what was sent after the second
    and acknowledged is in the new one, where the ack said; between the two either may be."""
    served = {}
    for partition, offset, value in records:
        check((partition, offset) not in served, f"partition {partition} served offset {offset} twice")
        served[partition, offset] = value
    for partition in {partition for partition, _ in served}:
        offsets = sorted(offset for p, offset in served if p == partition)
        equal(offsets, list(range(len(offsets))), f"offsets of partition {partition}")
    values = set(served.values())
    before = [ack for ack in acks if ack.acked < deleted_from]
    after = [ack for ack in acks if ack.sent > created_at]
    check(before and after, f"no load on one side: {len(before)} acks before, {len(after)} after")
    for ack in before:
        check(ack.value not in values, f"{ack.value!r}, acknowledged before the delete, is in the new topic")
    for ack in after:
        equal(served.get((ack.partition, ack.offset)), ack.value, f"partition {ack.partition} offset {ack.offset}")
