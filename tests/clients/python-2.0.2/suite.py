"""kafka-python 2.0.2, which a great many programs still pin: it infers the broker's release from the versions of a few
operations, and sends old versions of them all. The cases are the shared ones."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import six

# The client's own copy does not work from Python 3.12 on.
sys.modules["kafka.vendor.six"] = six
sys.modules["kafka.vendor.six.moves"] = six.moves

from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.coordinator.assignors.range import RangePartitionAssignor

import harness
from shared import groups, members, records
from shared.client import Admin, Description, named
from shared.kafka_python import KafkaPython, KafkaPythonMember, KafkaPythonWriter


class SharedAdmin(Admin):
    def __init__(self, run):
        self.client = KafkaAdminClient(bootstrap_servers=run.bootstrap)

    def create(self, topic, partitions, configs):
        self.client.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])

    def delete(self, topic):
        self.client.delete_topics([topic])

    def grow(self, topic, partitions):
        answer = self.client.create_partitions({topic: NewPartitions(partitions)})
        for _, code, message in answer.topic_errors:
            check_code(code, message)

    def partitions(self, topic):
        (found,) = self.client.describe_topics([topic])
        return len(found["partitions"])

    def configs(self, topic):
        (answer,) = self.client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        ((code, message, _, _, entries),) = answer.resources
        check_code(code, message)
        return {entry[0]: entry[1] for entry in entries}

    def replace_configs(self, topic, configs):
        answer = self.client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
        for code, message, _, _ in answer.resources:
            check_code(code, message)

    def groups(self):
        return {group for group, _ in self.client.list_consumer_groups()}

    def describe(self, group):
        (found,) = self.client.describe_consumer_groups([group])
        return Description(found.state, found.protocol, [member.client_id for member in found.members])

    def offsets(self, group):
        found = self.client.list_consumer_group_offsets(group)
        return {named(partition): (value.offset, value.metadata) for partition, value in found.items()}

    def delete_group(self, group):
        ((_, error),) = self.client.delete_consumer_groups([group])
        if error is not errors.NoError:
            raise error()


def check_code(code: int, message: str) -> None:
    """This release leaves it to its callers to look at some of the answers."""
    if code:
        raise errors.for_code(code)(message)


class Shared(KafkaPython):
    can = frozenset({"delete-group", "replace-configs", "gzip", "snappy", "lz4"})

    def consumer(self, run, options):
        return KafkaPythonMember(run, options, partition_assignment_strategy=[RangePartitionAssignor])

    def writer(self, run, codec=None, acks=-1, idempotent=False):
        return KafkaPythonWriter(run, codec, acks, retries=10)  # a new topic may not take records at once

    def new_admin(self, run):
        return SharedAdmin(run)


if __name__ == "__main__":
    shared = Shared()
    records.add(shared)
    groups.add(shared)
    harness.main(lambda run, text: members.serve(shared, run, text))
