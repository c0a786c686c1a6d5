"""The tools that come with Apache Kafka, as people run them: each call is a program of its own, started by
benches/peers/kafka.sh, and a case reads what it prints. A start costs a second or more of a processor, so the short form
is one case of a few calls, and the long form has all of them."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness
from harness import Run, case, check, equal, long_case, topic_name, until

SCRIPT = Path(__file__).resolve().parents[3] / "benches/peers/kafka.sh"
CALL_SECONDS_MAX = 120
# A case makes up to twenty calls.
harness.CASE_SECONDS_MAX = 600
# Programs that end after a second are compiled for a quick start.
ENVIRONMENT = {**os.environ, "KAFKA_TOOL_HEAP": "-Xmx256m -XX:TieredStopAtLevel=1"}


def start(run: Run, name: str, *arguments: str, option: str = "--bootstrap-server") -> subprocess.Popen:
    verb = "class" if "." in name else "tool"
    words = ["bash", str(SCRIPT), verb, name, option, run.bootstrap, *arguments]
    return subprocess.Popen(
        words, env=ENVIRONMENT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def outcome(run: Run, name: str, *arguments: str, lines=(), **options):
    """Runs a tool to its end; returns its exit code, what it printed, and its complaints."""
    process = start(run, name, *arguments, **options)
    try:
        printed, complaints = process.communicate("".join(f"{line}\n" for line in lines), timeout=CALL_SECONDS_MAX)
    finally:
        process.kill()
    return process.returncode, printed, complaints


def tool(run: Run, name: str, *arguments: str, **options) -> str:
    """Runs a tool that must succeed; returns what it printed."""
    code, printed, complaints = outcome(run, name, *arguments, **options)
    shown = f"{name} {' '.join(arguments)}: exit code {code}\n{printed}\n{complaints}"
    check(code == 0 and "Error" not in printed and "Error" not in complaints, shown)
    return printed


def refused(run: Run, name: str, *arguments: str, why: str, **options) -> None:
    """Runs a tool that must say why it did not succeed."""
    _, printed, complaints = outcome(run, name, *arguments, **options)
    check(why in printed + complaints, f"{name} {' '.join(arguments)}: no {why!r} in\n{printed}\n{complaints}")


def create(run: Run, what: str, partitions: int = 1, *arguments: str) -> str:
    topic = topic_name(what)
    printed = tool(run, "topics", "--create", "--topic", topic, "--partitions", str(partitions), *arguments)
    check(f"Created topic {topic}." in printed, printed)
    return topic


def produce(run: Run, topic: str, lines, *arguments: str) -> None:
    tool(run, "console-producer", "--topic", topic, *arguments, lines=lines)


def consume(run: Run, topic: str, count: int, *arguments: str) -> list:
    """The lines of so many records."""
    # The tool waits for records until it has so many, and gives up, with an error, when none comes for this time.
    limits = ("--max-messages", str(count), "--timeout-ms", "20000")
    return tool(run, "console-consumer", "--topic", topic, *limits, *arguments).splitlines()


def rows(printed: str) -> list:
    """A printed table as dictionaries by its head line."""
    lines = [line.split() for line in printed.splitlines() if line.strip()]
    first = next(i for i, line in enumerate(lines) if line[0] == "GROUP")
    names = lines[first]
    return [dict(zip(names, line)) for line in lines[first + 1 :] if line[0] != "GROUP"]


def offsets(run: Run, group: str) -> dict:
    """What a group has committed, by topic and partition: offset and lag."""
    found = rows(tool(run, "consumer-groups", "--describe", "--group", group, "--offsets"))
    return {(row["TOPIC"], int(row["PARTITION"])): (row["CURRENT-OFFSET"], row["LAG"]) for row in found}


@case
def records_go_from_the_console_to_a_group_that_is_described(run: Run):
    topic = create(run, "console")
    group = topic_name("console")
    produce(run, topic, [f"record {i}" for i in range(20)])
    found = consume(run, topic, 15, "--group", group, "--from-beginning")
    equal(found, [f"record {i}" for i in range(15)], "records")
    equal(offsets(run, group), {(topic, 0): ("15", "5")}, "committed, and the lag")


@case
@long_case
def records_keep_key_headers_and_time_under_every_codec(run: Run):
    topic = create(run, "shapes")
    reads = ("parse.key=true", "parse.headers=true", "null.marker=NULL")
    options = [word for setting in reads for word in ("--reader-property", setting)]
    lines = []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        mine = [f"h1:{codec},h2:two\tkey {codec}\tvalue", f"NULL\tkey {codec}\tNULL"]
        produce(run, topic, mine, "--compression-codec", codec, *options)
        lines += mine
    prints = ("print.key", "print.headers", "print.offset", "print.partition", "print.timestamp")
    shown = [word for setting in prints for word in ("--formatter-property", f"{setting}=true")]
    found = consume(run, topic, len(lines), "--from-beginning", *shown)
    for i, (text, sent) in enumerate(zip(found, lines)):
        pattern = rf"CreateTime:\d+\tPartition:0\tOffset:{i}\t" + sent.replace("NULL\tkey", "NO_HEADERS\tkey").replace("NULL", "null")
        check(re.fullmatch(pattern, text), f"{text!r} is not like {pattern!r}")
    equal(len(found), len(lines), "lines")
    equal(consume(run, topic, 1, "--partition", "0", "--offset", "8"), ["value"], "from an offset")


@case
@long_case
def topics_are_created_altered_described_and_deleted(run: Run):
    topic = create(run, "life", 2, "--config", "retention.ms=3600000", "--replication-factor", "1")
    described = tool(run, "topics", "--describe", "--topic", topic)
    check("PartitionCount: 2\tReplicationFactor: 1\t" in described and "retention.ms=3600000" in described, described)
    equal(len(re.findall(rf"Topic: {topic}\tPartition: [01]\tLeader: (\d+)\tReplicas: \1\tIsr: \1", described)), 2, described)
    check(topic in tool(run, "topics", "--list").split(), "it is not listed")
    tool(run, "topics", "--alter", "--topic", topic, "--partitions", "5")
    check("PartitionCount: 5\t" in tool(run, "topics", "--describe", "--topic", topic), "it has not grown")
    refused(run, "topics", "--alter", "--topic", topic, "--partitions", "2", why="InvalidPartitions")
    refused(run, "topics", "--create", "--topic", topic, why="already exists")
    tool(run, "topics", "--create", "--topic", topic, "--if-not-exists")
    refused(run, "topics", "--create", "--topic", topic_name("x"), "--replication-factor", "3", why="InvalidReplicationFactor")
    equal(tool(run, "topics", "--describe", "--under-replicated-partitions", "--topic", topic), "", "under-replicated ones")
    overridden = tool(run, "topics", "--describe", "--topics-with-overrides", "--topic", topic)
    check(overridden.startswith(f"Topic: {topic}\t"), overridden)
    tool(run, "topics", "--delete", "--topic", topic)
    until("the topic is gone", lambda: topic not in tool(run, "topics", "--list").split())
    refused(run, "topics", "--delete", "--topic", topic, why="does not exist as expected")


@case
@long_case
def settings_are_described_and_altered(run: Run):
    topic = create(run, "settings")
    of = ("--entity-type", "topics", "--entity-name", topic)
    equal(tool(run, "configs", *of, "--describe"), f"Dynamic configs for topic {topic} are:\n", "before")
    tool(run, "configs", *of, "--alter", "--add-config", "retention.ms=1000000,cleanup.policy=[compact,delete]")
    described = tool(run, "configs", *of, "--describe")
    check("  retention.ms=1000000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=1000000" in described, described)
    check("  cleanup.policy=compact,delete sensitive=false" in described, described)
    tool(run, "configs", *of, "--alter", "--delete-config", "retention.ms", "--add-config", "segment.bytes=2000000")
    described = tool(run, "configs", *of, "--describe", "--all")
    check("  retention.ms=604800000 " in described and "  segment.bytes=2000000 " in described, described)
    check(len(described.splitlines()) > 30, f"few settings:\n{described}")
    refused(run, "configs", *of, "--alter", "--add-config", "retention.ms=soon", why="InvalidConfigurationException")
    refused(run, "configs", *of, "--alter", "--add-config", "no.such=1", why="InvalidConfigurationException")
    node = re.search(r"id: (\d+)", tool(run, "api-versions")).group(1)
    broker = tool(run, "configs", "--entity-type", "brokers", "--entity-name", node, "--describe", "--all")
    check(broker.startswith(f"All configs for broker {node} are:\n  "), broker)


@case
@long_case
def groups_are_listed_and_described(run: Run):
    topic = create(run, "group", 4)
    group = topic_name("group")
    produce(run, topic, [f"{i}\tv" for i in range(50)], "--reader-property", "parse.key=true")
    settings = ("--command-property", "fetch.max.wait.ms=100", "--command-property", "auto.commit.interval.ms=200")
    members = [start(run, "console-consumer", "--topic", topic, "--group", group, "--from-beginning", *settings) for _ in range(2)]
    try:
        describe = lambda *how: tool(run, "consumer-groups", "--describe", "--group", group, *how)
        # Before its first member the group is not there, and the tool complains.
        state = lambda: outcome(run, "consumer-groups", "--describe", "--group", group, "--state")[1]
        until("two members", lambda: re.search(r"range\s+Stable\s+2\s*$", state()), 60)
        # The short table's columns are apart by spaces, and one of them is a list; the assignment is the last.
        listed = describe("--members", "--verbose")
        owned = sorted(int(p) for found in re.findall(rf"{topic}:([\d,]+)", listed) for p in found.split(","))
        equal(owned, [0, 1, 2, 3], f"assignment in\n{listed}")
        until("all is committed", lambda: [lag for _, lag in offsets(run, group).values()] == ["0"] * 4, 40)
        check(group in tool(run, "consumer-groups", "--list").split(), "the group is not listed")
        stable = tool(run, "consumer-groups", "--list", "--state", "stable")
        check(re.search(rf"^{group}\s+Stable\s*$", stable, re.MULTILINE), stable)
        check(re.search(rf"^{group}\s+Classic\s+consumer\s*$", tool(run, "groups", "--list"), re.MULTILINE), "the list of groups")
        refused(run, "consumer-groups", "--delete", "--group", group, why="GroupNotEmptyException")
        refused(
            run, "consumer-groups", "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute",
            why="Assignments can only be reset if the group",
        )
        refused(run, "consumer-groups", "--delete-offsets", "--group", group, "--topic", topic, why="GroupSubscribedToTopic")
    finally:
        for member in members:
            member.terminate()
    printed = "".join(member.communicate(timeout=CALL_SECONDS_MAX)[0] for member in members)
    equal(printed, "v\n" * 50, "what both printed")
    until("the group is empty", lambda: "Empty" in describe("--state"), 40)
    tool(run, "consumer-groups", "--delete-offsets", "--group", group, "--topic", f"{topic}:0")
    check((topic, 0) not in offsets(run, group), "the offset is still there")
    check(group in tool(run, "consumer-groups", "--describe", "--all-groups", "--state").split(), "it is not among all groups")
    printed = tool(run, "consumer-groups", "--delete", "--group", group)
    check("were deleted successfully" in printed or "Deletion of requested consumer groups" in printed, printed)
    refused(run, "consumer-groups", "--describe", "--group", group, why="not found")


@case
@long_case
def offsets_of_a_group_are_reset_in_every_way(run: Run):
    topic = create(run, "reset")
    group = topic_name("reset")
    produce(run, topic, [f"{i}" for i in range(10)])
    between = int(time.time() * 1000) + 1
    time.sleep(0.05)
    produce(run, topic, [f"{i}" for i in range(10)])
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(between // 1000)) + f".{between % 1000:03}"
    reset = lambda *how, act="--execute": tool(
        run, "consumer-groups", "--reset-offsets", "--group", group, "--topic", topic, *how, act
    )
    table = lambda printed: [row["NEW-OFFSET"] for row in rows(printed)]
    equal(table(reset("--to-offset", "7", act="--dry-run")), ["7"], "a plan")
    ways = [
        (["--to-latest"], "20"),
        (["--to-offset", "7"], "7"),
        (["--shift-by", "5"], "12"),
        (["--shift-by", "-100"], "0"),
        (["--to-offset", "1000"], "20"),
        (["--to-datetime", moment], "10"),
        (["--to-earliest"], "0"),
        (["--by-duration", "PT0S"], "20"),
        (["--by-duration", "P1D"], "0"),
    ]
    for how, wanted in ways:
        equal(table(reset(*how)), [wanted], " ".join(how))
    equal(offsets(run, group), {(topic, 0): ("0", "20")}, "committed in the end")
    equal(table(reset("--to-current")), ["0"], "to where it is")
    everything = tool(run, "consumer-groups", "--reset-offsets", "--group", group, "--all-topics", "--to-latest", "--dry-run")
    equal(table(everything), ["20"], "a plan for all topics of the group")
    plan = reset("--to-offset", "3", "--export", act="--dry-run")
    equal([line.strip('"\n') for line in plan.splitlines() if topic in line], [f'{topic}",0,3' if '"' in plan else f"{topic},0,3"], "exported")
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write(f"{topic},0,13\n")
        file.flush()
        printed = tool(run, "consumer-groups", "--reset-offsets", "--group", group, "--from-file", file.name, "--execute")
    equal(table(printed), ["13"], "from a file")
    found = consume(run, topic, 7, "--group", group)
    equal(found, [f"{i}" for i in range(3, 10)], "what the group reads then")


@case
@long_case
def ends_of_a_topic_are_listed_and_records_deleted(run: Run):
    topic = create(run, "ends", 2)
    produce(run, topic, [f"{i}\tv" for i in range(30)], "--reader-property", "parse.key=true")
    ask = lambda *how: dict(
        (int(line.split(":")[1]), int(line.split(":")[2])) for line in tool(run, "get-offsets", *how).splitlines()
    )
    latest = ask("--topic", topic)
    equal(sum(latest.values()), 30, "records")
    equal(ask("--topic", topic, "--time", "earliest"), {0: 0, 1: 0}, "earliest")
    equal(ask("--topic-partitions", f"{topic}:0", "--time", "-1"), {0: latest[0]}, "of one partition")
    check(0 <= ask("--topic-partitions", f"{topic}:0", "--time", "max-timestamp")[0] < latest[0], "of the latest time")
    equal(ask("--topic", topic, "--time", "1000000000000"), {0: 0, 1: 0}, "by time")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"partitions": [{"topic": topic, "partition": 0, "offset": 3}], "version": 1}, file)
        file.flush()
        printed = tool(run, "delete-records", "--offset-json-file", file.name)
    check(f"partition: {topic}-0\tlow_watermark: 3" in printed, printed)
    equal(ask("--topic", topic, "--time", "earliest"), {0: 3, 1: 0}, "earliest after that")
    printed = tool(run, "log-dirs", "--describe", "--topic-list", topic)
    directories = json.loads(printed.splitlines()[-1])["brokers"][0]["logDirs"]
    sizes = {p["partition"]: p["size"] for found in directories for p in found["partitions"]}
    check(sizes.keys() == {f"{topic}-0", f"{topic}-1"} and all(size > 0 for size in sizes.values()), printed)


@case
@long_case
def the_performance_tools_measure(run: Run):
    topic = create(run, "perf", 3)
    count = 50_000
    printed = tool(
        run, "producer-perf", "--topic", topic, "--num-records", str(count), "--record-size", "100", "--throughput", "-1",
    )
    check(re.search(rf"^{count} records sent, [\d.]+ records/sec", printed, re.MULTILINE), printed)
    printed = tool(run, "consumer-perf", "--topic", topic, "--num-records", str(count), "--timeout", "20000", "--group", topic)
    heads, figures = [line.split(", ") for line in printed.splitlines() if ", " in line][:2]
    found = dict(zip(heads, figures))
    check(int(float(found["data.consumed.in.nMsg"])) >= count, printed)
    printed = tool(run, "e2e-latency", "--topic", topic, "--num-records", "100", "--producer-acks", "all", "--record-size", "100")
    check("Avg latency: " in printed and "Percentiles: 50th = " in printed, printed)
    printed = tool(
        run, "verifiable-producer", "--topic", topic, "--max-messages", "200", "--throughput", "-1"
    )
    events = [json.loads(line) for line in printed.splitlines()]
    equal(sum(event["name"] == "producer_send_success" for event in events), 200, "records that were acknowledged")
    printed = tool(
        run, "verifiable-consumer", "--topic", topic, "--group-id", topic_name("verifiable"), "--max-messages", "1000",
        "--reset-policy", "earliest",
    )
    events = [json.loads(line) for line in printed.splitlines()]
    names = [event["name"] for event in events]
    check({"partitions_assigned", "offsets_committed", "shutdown_complete"} <= set(names), printed)
    check(all(event["success"] for event in events if event["name"] == "offsets_committed"), printed)


@case
@long_case
def the_cluster_describes_itself(run: Run):
    versions = tool(run, "api-versions")
    check(versions.startswith(f"{run.bootstrap} (id: "), versions)
    for api in ("Produce(0): 0 to 13", "Fetch(1): 4 to 18", "OffsetCommit(8): 2 to 10", "JoinGroup(11): 0 to 9"):
        check(api in versions, f"no {api} in\n{versions}")
    status = tool(run, "quorum", "describe", "--status")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    check(fields["MaxFollowerLag"].strip() == "0" and int(fields["HighWatermark"]) >= 0, status)
    node = fields["LeaderId"].strip()
    check(f'"id": {node}' in fields["CurrentVoters"], status)
    replication = tool(run, "quorum", "describe", "--replication").splitlines()
    check(len(replication) == 2 and replication[1].split()[0] == node and replication[1].split()[-1] == "Leader", str(replication))
    for line in tool(run, "features", "describe").splitlines():  # a broker may have none
        check(re.fullmatch(r"Feature: \S+\s+SupportedMinVersion: .*FinalizedVersionLevel: .*", line), line)
    topic = create(run, "placed", 2)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [int(node)]}]}, file)
        file.flush()
        command = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
        printed = tool(run, command, "--reassignment-json-file", file.name, "--execute")
        check(f"Successfully started partition reassignment for {topic}-0" in printed, printed)
        printed = tool(run, command, "--reassignment-json-file", file.name, "--verify")
        check(f"Reassignment of partition {topic}-0 is completed." in printed, printed)
    check("No partition reassignments found." in tool(run, command, "--list"), "reassignments are listed")
    printed = tool(
        run, "org.apache.kafka.tools.LeaderElectionCommand", "--election-type", "preferred", "--topic", topic, "--partition", "0"
    )
    check("Valid replica already elected for partitions" in printed, printed)


if __name__ == "__main__":
    harness.main()
