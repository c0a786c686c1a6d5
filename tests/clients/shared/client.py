"""What the shared cases ask of a client. Each suite has one subclass of `Client`, `Member`, `Writer` and `Admin`, and adds
nothing to what the client does by itself: an adapter that retried or remembered would hide what is tested."""

import functools
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

from harness import Run, Sample, check, now_ms, topic_name, until

# Kafka's error codes that the cases look for.
OFFSET_METADATA_TOO_LARGE = 12
ILLEGAL_GENERATION = 22
UNKNOWN_MEMBER_ID = 25
REBALANCE_IN_PROGRESS = 27
NON_EMPTY_GROUP = 68
GROUP_ID_NOT_FOUND = 69
FENCED_INSTANCE_ID = 82
GROUP_SUBSCRIBED_TO_TOPIC = 86

# What a commit that comes too late for its generation is answered with.
STALE_COMMIT = {ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS}


class Partition(NamedTuple):
    topic: str
    index: int


class Record(NamedTuple):
    partition: Partition
    offset: int
    sample: Sample


def named(partition) -> Partition:
    """What a client calls a TopicPartition."""
    return Partition(partition.topic, partition.partition)


def record_of(found) -> Record:
    """What kafka-python and the clients after its model call a ConsumerRecord."""
    sample = Sample(found.key, found.value, tuple(found.headers), found.timestamp)
    return Record(Partition(found.topic, found.partition), found.offset, sample)


@dataclass(frozen=True)
class Options:
    """How a consumer is set up. Heartbeats and metadata are frequent in all of them, so that cases are short."""

    group: Optional[str] = None
    # Static membership under this name.
    instance: Optional[str] = None
    # How often positions are committed without being asked; None is never.
    auto_commit_ms: Optional[int] = None
    # Where to begin without a committed offset: "earliest", "latest" or "none".
    reset: str = "earliest"
    # "range" or, where the client has it, "cooperative".
    assignor: str = "range"
    # The reference takes no less than 6 s.
    session_ms: int = 10_000


class Member(ABC):
    """A consumer, in a group or with partitions of its own."""

    def __init__(self):
        # ("assigned" or "revoked", the partitions) in the order in which the client said so.
        self.events: list = []

    def note(self, what: str, partitions) -> None:
        self.events.append((what, frozenset(partitions)))

    def revoked(self) -> set:
        return {partition for what, partitions in self.events if what == "revoked" for partition in partitions}

    @abstractmethod
    def subscribe(self, topics: list) -> None: ...

    @abstractmethod
    def subscribe_pattern(self, pattern: str) -> None: ...

    @abstractmethod
    def assign(self, partitions: list) -> None: ...

    @abstractmethod
    def poll(self, seconds: float) -> list:
        """Records that have come, as `Record`s; after the time none."""

    @abstractmethod
    def assignment(self) -> frozenset: ...

    @abstractmethod
    def commit(self, offsets: Optional[dict] = None) -> None:
        """Commits `{partition: (offset, metadata)}`, without it the position of every partition."""

    @abstractmethod
    def committed(self, partition: Partition) -> Optional[int]: ...

    @abstractmethod
    def position(self, partition: Partition) -> int: ...

    @abstractmethod
    def seek(self, partition: Partition, offset: int) -> None: ...

    @abstractmethod
    def pause(self, partitions) -> None: ...

    @abstractmethod
    def resume(self, partitions) -> None: ...

    @abstractmethod
    def bounds(self, partition: Partition) -> tuple:
        """The first offset, and the one after the last."""

    @abstractmethod
    def offset_at(self, partition: Partition, time_ms: int) -> Optional[int]:
        """The first offset at or after the time; None when there is none."""

    @abstractmethod
    def close(self) -> None: ...

    def read(self, count: int, seconds: float = 30.0) -> list:
        """The next `count` records at least; an error when they do not come."""
        found: list = []
        until(f"{count} records", lambda: found.extend(self.poll(0.2)) or len(found) >= count, seconds)
        return found

    def settle(self, wanted, poll_seconds: float = 0.1) -> list:
        """Polls until the assignment is `wanted`; the records that came meanwhile."""
        found: list = []
        until(
            f"assignment of {sorted(wanted)}",
            lambda: found.extend(self.poll(poll_seconds)) or self.assignment() == frozenset(wanted),
        )
        return found


class Writer(ABC):
    """A producer that waits for its acknowledgements."""

    @abstractmethod
    def write(self, partition: Partition, samples: list) -> list:
        """Writes the samples in order; their offsets."""

    @abstractmethod
    def close(self) -> None: ...


@dataclass(frozen=True)
class Description:
    """A group as the client describes it."""

    state: str
    protocol: str
    # The client id of each member.
    clients: list


class Admin(ABC):
    """Administration. What a client lacks stays unimplemented; `Client.can` says so."""

    @abstractmethod
    def create(self, topic: str, partitions: int, configs: dict) -> None: ...

    @abstractmethod
    def delete(self, topic: str) -> None: ...

    @abstractmethod
    def grow(self, topic: str, partitions: int) -> None: ...

    @abstractmethod
    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 for one that is not there."""

    @abstractmethod
    def configs(self, topic: str) -> dict: ...

    @abstractmethod
    def groups(self) -> set: ...

    @abstractmethod
    def describe(self, group: str) -> Description:
        """The group; one that is not there is in state "Dead", whichever way the client is told."""

    @abstractmethod
    def offsets(self, group: str) -> dict:
        """All that is committed: `{partition: (offset, metadata)}`."""

    def delete_group(self, group: str) -> None:
        raise NotImplementedError

    def set_offsets(self, group: str, offsets: dict) -> None:
        raise NotImplementedError

    def delete_offsets(self, group: str, partitions: list) -> None:
        raise NotImplementedError

    def replace_configs(self, topic: str, configs: dict) -> None:
        """Gives the topic these settings, and all others their defaults."""
        raise NotImplementedError

    def delete_records(self, partition: Partition, before: int) -> int:
        """Deletes what lies before the offset; the first offset that is left."""
        raise NotImplementedError


class Client(ABC):
    """A client library."""

    # Of "static", "fenced", "cooperative", "delete-group", "set-offsets", "delete-offsets", "delete-records", "replace-configs",
    # "idempotent" and the codecs.
    can: frozenset = frozenset()

    def __init__(self):
        # What each thread keeps, because some clients take a second to start.
        self._kept = threading.local()

    @abstractmethod
    def consumer(self, run: Run, options: Options) -> Member: ...

    @abstractmethod
    def writer(self, run: Run, codec: Optional[str] = None, acks: int = -1, idempotent: bool = False) -> Writer: ...

    @abstractmethod
    def new_admin(self, run: Run) -> Admin: ...

    @abstractmethod
    def code(self, error: Exception) -> Optional[int]:
        """Kafka's error code that an exception of the client stands for; None for other exceptions."""

    def admin(self, run: Run) -> Admin:
        """This thread's own."""
        if not hasattr(self._kept, "admin"):
            self._kept.admin = self.new_admin(run)
        return self._kept.admin

    def member(self, run: Run, group: str, topics: list, **options) -> Member:
        made = self.consumer(run, Options(group=group, **options))
        made.subscribe(topics)
        return made

    def reader(self, run: Run, *partitions: Partition, **options) -> Member:
        made = self.consumer(run, Options(**options))
        made.assign(list(partitions))
        return made

    def create(self, run: Run, what: str, partitions: int = 1, **configs) -> list:
        """A new topic, visible in metadata; its partitions."""
        name = topic_name(what)
        admin = self.admin(run)
        admin.create(name, partitions, {key.replace("_", "."): value for key, value in configs.items()})
        until("the topic is visible", lambda: admin.partitions(name) == partitions)
        return [Partition(name, index) for index in range(partitions)]

    def fill(self, run: Run, partition: Partition, samples: list) -> list:
        """Writes the samples with this thread's own producer; their offsets."""
        if not hasattr(self._kept, "writer"):
            self._kept.writer = self.writer(run)
        return self._kept.writer.write(partition, samples)

    def refused(self, codes, action: Callable[[], object], what: str) -> None:
        """Checks that the action fails with one of the error codes."""
        try:
            result = action()
        except Exception as error:  # each client has its own classes; `code` knows them
            found = self.code(error)
            if found is None:
                raise
            check(found in codes, f"{what}: error {found}, wanted {sorted(codes)}: {error}")
            return
        raise AssertionError(f"{what}: no error, but {result!r}")


class Cases:
    """Functions of a client and a run, for the clients that have the abilities that each needs."""

    def __init__(self, case: Callable):
        self._case = case
        self._functions: list = []

    def needing(self, *abilities: str):
        def mark(function):
            self._functions.append((set(abilities), function))
            return function

        return mark

    def add(self, client: Client) -> None:
        """Makes those that apply to the client part of the suite."""
        for abilities, function in self._functions:
            if abilities <= client.can:
                self._case(functools.wraps(function)(functools.partial(function, client)))


def plain(count: int, first: int = 0) -> list:
    """Samples without keys that are numbered from `first`."""
    return [Sample(None, b"%d" % number, (), now_ms()) for number in range(first, first + count)]


def numbers(records: list) -> list:
    return [int(record.sample.value) for record in records]
