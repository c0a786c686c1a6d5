#!/usr/bin/env python3
"""Kafka's own producer-perf and consumer-perf beside `headwater bench`, on Apache Kafka and on Headwater: do they see the same broker?

usage: benches/agree.py [ROUNDS] [SECONDS]   needs target/release/headwater, taskset, a JDK and mvn (benches/peers/kafka.sh)

Brokers run on CPU 0, generators on CPU 1, one at a time, in alternating order. First 20 MB/s of 1 KiB records for SECONDS: latencies, with linger in
them, and the broker's CPU time. Then as fast as each generator can, and reading what was written. Prints Markdown.
"""

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KAFKA = [os.path.join(ROOT, "benches/peers/kafka.sh")]
HEADWATER = os.path.join(ROOT, "target/release/headwater")
RECORD, A_SECOND, FAST_RECORDS = 1024, 19_531, 1_000_000
WARM_UP = 5 * A_SECOND
TICKS = os.sysconf("SC_CLK_TCK")


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def client_cpu_seconds():
    times = os.times()
    return times.children_user + times.children_system


class Broker:
    """A broker that runs, and what loads do to it."""

    def __init__(self, name, address, pid):
        self.name, self.address, self.pid = name, address, int(pid)
        self.seen, self.shapes = {}, {}
        self.topics = 0

    def topic(self):
        self.topics += 1
        return f"agree-{self.topics}"

    def note(self, case, tool, measures):
        for measure, value in measures.items():
            self.seen.setdefault((case, measure), {}).setdefault(tool, []).append(value)

    def timed(self, case, tool, size, load):
        """Runs a load of so many bytes and notes what it cost and what it says of itself."""
        broker, client = cpu_seconds(self.pid), client_cpu_seconds()
        measures = load()
        broker, client = cpu_seconds(self.pid) - broker, client_cpu_seconds() - client
        self.note(case, tool, {**measures, "broker CPU s/GB": broker / size * 1e9, "generator CPU s/GB": client / size * 1e9})

    def kafkas(self, name, *arguments):
        return run(["taskset", "-c", "1", *KAFKA, "tool", name, "--bootstrap-server", self.address, *map(str, arguments)])

    def ours(self, *arguments):
        command = [HEADWATER, "bench", *map(str, arguments), "--broker", self.address, "--output", "json", "--quiet"]
        return json.loads(run(["taskset", "-c", "1", *command]))["phases"][-1]["flows"][0]

    def create(self):
        name = self.topic()
        self.kafkas("topics", "--create", "--topic", name, "--partitions", 4)
        return name

    def producer_perf(self, topic, records, rate, warm_up):
        said = self.kafkas(
            "producer-perf", "--topic", topic, "--num-records", records, "--throughput", rate, "--record-size", RECORD, "--print-metrics",
            *(["--warmup-records", warm_up] if warm_up else []),
            "--command-property", "acks=all", "batch.size=65536", "linger.ms=5",
        )
        # With a warm-up the last of these lines is the one without it.
        line = [line for line in said.splitlines() if "99.9th" in line][-1]
        rate, average, most, p50, _p95, p99, _p999 = re.search(
            r"\(([\d.]+) MB/sec\), ([\d.]+) ms avg latency, ([\d.]+) ms max latency, (\d+) ms 50th, (\d+) ms 95th, (\d+) ms 99th, (\d+) ms 99.9th", line
        ).groups()
        batch = float(re.search(r"batch-size-avg\S*\s*:\s*([\d.]+)", said)[1])
        batch = max(1, round(batch / (RECORD + 8)))
        in_request = float(re.search(r"records-per-request-avg\S*\s*:\s*([\d.]+)", said)[1])
        shape = batch, min(4, max(1, round(in_request / batch)))
        return {"MB/s": float(rate) * 1.048576, "p50 ms": float(p50), "p99 ms": float(p99)}, shape

    def produce(self, topic, *arguments):
        flow = self.ours("produce", "--topic", topic, "--partitions", 4, "--producers", 1, "--in-flight", 5, "--record-bytes", RECORD, *arguments)
        latency = flow["latency"]
        return {"MB/s": flow["mb_per_s"], "p50 ms": latency["p50_us"] / 1e3, "p99 ms": latency["p99_us"] / 1e3}

    def round(self, seconds, theirs_first):
        """All loads once, by either tool. Ours takes the shape of batches and requests from what Kafka's said last."""
        topic = None

        def both(case, size, theirs, ours):
            nonlocal topic
            for tool, load in [("theirs", theirs), ("ours", ours)][:: 1 if theirs_first else -1]:
                if case != "reading":
                    topic = self.create()
                self.timed(case, tool, size, load)

        def noted(case, said, shape):
            self.shapes[case] = shape
            return shaped(case, said)

        def shaped(case, said):
            batch, partitions = self.shapes[case]
            return {**said, "records a batch": batch, "batches a request": partitions}

        def ours(case, *arguments):
            batch, partitions = self.shapes[case]
            return self.produce(topic, "--batch-records", batch, "--request-partitions", partitions, *arguments)

        def steady():
            return noted("at 20 MB/s", *self.producer_perf(topic, WARM_UP + seconds * A_SECOND, A_SECOND, WARM_UP))

        def steady_ours():
            batch, partitions = self.shapes["at 20 MB/s"]
            linger = max(1, round(batch * partitions * 1000 / A_SECOND))
            return shaped("at 20 MB/s", ours("at 20 MB/s", "--linger-ms", linger, "--rate", A_SECOND, "--duration", seconds + 5))

        def fast():
            said, shape = self.producer_perf(topic, FAST_RECORDS, -1, 0)
            return noted("as fast as it goes", {"MB/s": said["MB/s"]}, shape)

        def fast_ours():
            said = ours("as fast as it goes", "--megabytes", FAST_RECORDS * RECORD // 1_000_000)
            return shaped("as fast as it goes", {"MB/s": said["MB/s"]})

        def read():
            said = self.kafkas("consumer-perf", "--topic", topic, "--num-records", FAST_RECORDS - 100_000).splitlines()
            row = dict(zip(re.split(r",\s*", said[-2]), re.split(r",\s*", said[-1])))
            return {"MB/s": float(row["fetch.MB.sec"]) * 1.048576}

        both("at 20 MB/s", (WARM_UP + seconds * A_SECOND) * RECORD, steady, steady_ours)
        both("as fast as it goes", FAST_RECORDS * RECORD, fast, fast_ours)
        # Once unmeasured, so that both find it in memory.
        self.ours("consume", "--topic", topic)
        both("reading", FAST_RECORDS * RECORD, read, lambda: {"MB/s": self.ours("consume", "--topic", topic)["mb_per_s"]})

    def rows(self):
        for (case, measure), of in self.seen.items():
            if of.keys() != {"theirs", "ours"}:
                continue
            theirs, ours = statistics.median(of["theirs"]), statistics.median(of["ours"])
            spread = ["-".join(f"{value:.3g}" for value in sorted({min(of[tool]), max(of[tool])})) for tool in ("theirs", "ours")]
            yield f"| {self.name} | {case} | {measure} | {theirs:.3g} ({spread[0]}) | {ours:.3g} ({spread[1]}) | {ours / theirs if theirs else float('nan'):.2f} |"


def main():
    count, seconds = (int(text) for text in (sys.argv[1:] + ["3", "20"][len(sys.argv) - 1:])[:2])
    if subprocess.run([*KAFKA, "version"], capture_output=True).returncode != 0:
        run([*KAFKA, "fetch"])
    with tempfile.TemporaryDirectory(prefix="headwater-agree-", dir="/var/tmp") as folder:
        port = free_port()
        os.environ.update(KAFKA_RUN=os.path.join(folder, "kafka"), KAFKA_CPUS="0")
        address = f"127.0.0.1:{free_port()}"
        command = ["taskset", "-c", "0", HEADWATER, "serve", "--data-dir", os.path.join(folder, "headwater"), "--kafka", address]
        command += ["--admin", f"127.0.0.1:{free_port()}", "--aws", f"127.0.0.1:{free_port()}"]
        with open(os.path.join(folder, "headwater.log"), "w") as log:
            server = subprocess.Popen(command, stderr=log)
        try:
            started = run([*KAFKA, "start", str(port)])
            brokers = [Broker("Apache Kafka", f"127.0.0.1:{port}", re.search(r"pid (\d+)", started)[1]), Broker("Headwater", address, server.pid)]
            time.sleep(1)
            for broker in brokers:
                # The JVM compiles what it runs often; 3 GB are enough for all that is measured here.
                broker.ours("produce", "--topic", "warm", "--megabytes", 3000)
            for number in range(count):
                for broker in brokers:
                    broker.round(seconds, theirs_first=number % 2 == 0)
        finally:
            subprocess.run([*KAFKA, "stop", str(port)], capture_output=True)
            server.terminate()
            server.wait()
    print(f"{count} rounds, {seconds} s at 20 MB/s each; medians (least-greatest)\n")
    print("| broker | load | measure | Kafka's tool | headwater bench | ours / theirs |\n| --- | --- | --- | --- | --- | --- |")
    for broker in brokers:
        print("\n".join(broker.rows()))


main()
