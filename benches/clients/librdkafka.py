"""librdkafka as the client of a comparison, by its Python package: `headwater bench compare` carries this file along.

    librdkafka.py produce BOOTSTRAP TOPIC RECORDS RECORD_BYTES [NAME=VALUE...]
    librdkafka.py consume BOOTSTRAP TOPIC RECORDS PARTITIONS [NAME=VALUE...]

The last line of its output is a JSON object with `records` and `seconds`: what was acknowledged, or read up to the end of
every partition, and how long that took from the first record on.
"""

import json
import os
import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaError, Producer

# Records that are handed over in one call: many, so that Python costs little for each.
CALL = 1000
# Nothing for so long ends a run.
NOTHING_WAIT_S = 30


def produce(config, topic, records, record_bytes):
    failed = []
    # With reports of failures alone, what is neither queued nor failed at the end was acknowledged.
    config |= {"delivery.report.only.error": True, "acks": "all"}
    producer = Producer(config)

    def report(error, _message):
        if error is not None:
            failed.append(error)

    # Values are random and do not repeat within a batch.
    values = [os.urandom(record_bytes) for _ in range(CALL)]
    begun = time.monotonic()
    left = records
    while left > 0 and not failed:
        # Made anew for each call, which leaves its errors in them.
        part = [{"value": value} for value in values[:left]]
        while part:
            queued = producer.produce_batch(topic, part, on_delivery=report)
            left -= queued
            producer.poll(0 if queued else 0.002)
            # What did not fit into the queue carries an error; it is tried again.
            refused = [message for message in part if "_error" in message] if queued < len(part) else []
            failed += [message["_error"] for message in refused if message["_error"].code() != KafkaError._QUEUE_FULL]
            part = [{"value": message["value"]} for message in refused] if not failed else None
    waiting = producer.flush(NOTHING_WAIT_S * 4)
    seconds = time.monotonic() - begun
    if failed or waiting:
        sys.exit(f"{len(failed)} records failed ({failed[:1]}), {waiting} were not acknowledged")
    return records - left, seconds


def consume(config, topic, records, partitions):
    config |= {"group.id": f"bench-{uuid.uuid4()}", "auto.offset.reset": "earliest", "enable.partition.eof": True}
    consumer = Consumer(config)
    consumer.subscribe([topic])
    found, ended, first, last = 0, set(), None, time.monotonic()
    while len(ended) < partitions:
        messages = consumer.consume(CALL, 0.1)
        now = time.monotonic()
        if not messages and now - last > NOTHING_WAIT_S:
            sys.exit(f"nothing came for {NOTHING_WAIT_S} s; {found} records of {records} did")
        for message in messages:
            error = message.error()
            if error is None:
                found += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                sys.exit(f"{error}")
        if messages:
            first, last = first or now, now
    consumer.close()
    return found, last - (first or last)


def main(verb, bootstrap, topic, records, number, *settings):
    config = dict(setting.split("=", 1) for setting in settings) | {"bootstrap.servers": bootstrap}
    run = {"produce": produce, "consume": consume}[verb]
    found, seconds = run(config, topic, int(records), int(number))
    print(json.dumps({"records": found, "seconds": seconds}))


main(*sys.argv[1:])
