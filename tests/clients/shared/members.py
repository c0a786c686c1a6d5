"""Members of a group as processes of their own, so that one can crash: killed, it neither leaves nor commits.

The child prints what it does as JSON, a line each: {"read": [[topic, partition, offset, value], ...]} before it commits,
{"revoked": ...} and {"assigned": [[topic, partition], ...]} as the client tells it, {"owns": ...} when its assignment has
changed. It leaves the group and ends when its standard input does, so none is left behind by a suite that is gone.
"""

import json
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from harness import Run, check

from .client import STALE_COMMIT, Client, Options, Partition

END_SECONDS_MAX = 30


def serve(client: Client, run: Run, text: str) -> None:
    """The child's side."""
    wanted = json.loads(text)
    leave = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), leave.set()), daemon=True).start()
    options = Options(**wanted["options"])
    member = client.consumer(run, options)
    member.subscribe(wanted["topics"])
    told, owns = 0, None
    while not leave.is_set():
        records = member.poll(0.1)
        events = member.events[told:]
        told += len(events)
        for what, partitions in events:
            say(what, sorted(partitions))
        if records:
            say("read", [[*r.partition, r.offset, r.sample.value.decode()] for r in records])
            if options.auto_commit_ms is None:
                commit(client, member)
        if member.assignment() != owns:
            owns = member.assignment()
            say("owns", sorted(owns))
    member.close()
    say("closed", [])


def commit(client: Client, member) -> None:
    """Commits what was read. Too late for the generation, it is read again, by whoever owns the partition then."""
    try:
        member.commit()
    except Exception as error:  # each client has its own classes; `code` knows them
        if client.code(error) not in STALE_COMMIT:
            raise


def say(what: str, value) -> None:
    print(json.dumps({what: value}), flush=True)


class Child:
    """The parent's side."""

    def __init__(self, run: Run, topics: list, options: Options):
        suite = Path(sys.argv[0]).resolve()
        member = json.dumps({"topics": topics, "options": asdict(options)})
        self.process = subprocess.Popen(
            [sys.executable, str(suite), "--bootstrap", run.bootstrap, "--member", member],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.records: list = []  # (partition, offset, value)
        self.owns: frozenset = frozenset()
        self.closed = False
        self.reader = threading.Thread(target=self._listen, daemon=True)
        self.reader.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            try:
                said = json.loads(line)
            except ValueError:  # the client's own words, or a line that was cut by the kill
                continue
            for topic, index, offset, value in said.get("read", []):
                self.records.append((Partition(topic, index), offset, value))
            if "owns" in said:
                self.owns = frozenset(Partition(*of) for of in said["owns"])
            self.closed = self.closed or "closed" in said

    def leave(self) -> None:
        self.process.stdin.close()
        check(self.process.wait(END_SECONDS_MAX) == 0, f"a member ended with {self.process.returncode}")
        self.reader.join()
        check(self.closed, "a member ended before it was asked to")

    def crash(self) -> None:
        check(self.process.poll() is None, f"a member ended by itself with {self.process.returncode}")
        self.process.kill()
        self.process.wait()
        self.reader.join()
