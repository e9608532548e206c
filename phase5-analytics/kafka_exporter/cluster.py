"""One look at the cluster: brokers, partitions with their offsets, groups with the offsets that they committed.

What the broker refuses to say about one partition or one group is left out and counted; the rest is still shown.
"""

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

log = logging.getLogger("exporter")

# Topic and partition number.
TopicAndNumber = tuple[str, int]


@dataclass(frozen=True)
class Partition:
    """What the broker reports about a partition; `oldest` and `newest` are None if it doesn't say."""

    leader: int
    replicas: list[int]
    in_sync: list[int]
    oldest: int | None = None
    newest: int | None = None


@dataclass(frozen=True)
class Group:
    """A consumer group: its members now, the offsets that it has committed, and the topics that members read."""

    members: int
    committed: dict[TopicAndNumber, int] = field(default_factory=dict)
    assigned: frozenset[str] = frozenset()

    @property
    def topics(self) -> set[str]:
        """The topics that it reads."""
        return {topic for topic, _ in self.committed} | self.assigned


@dataclass(frozen=True)
class Cluster:
    """The whole cluster at one moment."""

    brokers: dict[int, str]
    partitions: dict[TopicAndNumber, Partition]
    groups: dict[str, Group]
    errors: int = 0  # partitions and groups that the broker said nothing about


def look(admin: AdminClient, seconds: float) -> Cluster:
    """Ask the cluster; all requests together take at most `seconds`.

    Raises:
        KafkaException: the broker does not answer, or refuses.
        TimeoutError: it answers too slowly.
    """
    deadline = time.monotonic() + seconds
    metadata = admin.list_topics(timeout=seconds)
    found = {
        (topic, number): partition
        for topic, description in metadata.topics.items()
        for number, partition in description.partitions.items()
    }
    # Groups first: what a group has committed can't be after the end of a partition that is looked up later.
    groups = _groups(admin, deadline)
    with_leader = [each for each, partition in found.items() if partition.leader >= 0]
    # Both requests are sent before either answer is awaited.
    oldest_asked = _ask_offsets(admin, with_leader, OffsetSpec.earliest(), deadline)
    newest_asked = _ask_offsets(admin, with_leader, OffsetSpec.latest(), deadline)
    oldest, newest = _offsets(oldest_asked, deadline), _offsets(newest_asked, deadline)
    silent = [each for each in found if oldest.get(each) is None or newest.get(each) is None]
    return Cluster(
        brokers={broker.id: f"{broker.host}:{broker.port}" for broker in metadata.brokers.values()},
        partitions={
            each: Partition(
                leader=partition.leader,
                replicas=list(partition.replicas),
                in_sync=list(partition.isrs),
                oldest=oldest.get(each),
                newest=newest.get(each),
            )
            for each, partition in found.items()
        },
        groups={name: group for name, group in groups.items() if group is not None},
        errors=len(silent) + sum(group is None for group in groups.values()),
    )


def _ask_offsets(
    admin: AdminClient, partitions: list[TopicAndNumber], spec: OffsetSpec, deadline: float
) -> dict[TopicPartition, Future]:
    if not partitions:
        return {}
    return admin.list_offsets({TopicPartition(*each): spec for each in partitions}, request_timeout=_left(deadline))


def _offsets(asked: dict[TopicPartition, Future], deadline: float) -> dict[TopicAndNumber, int | None]:
    """The offset of each partition; None where the broker refuses, as for a topic that was deleted meanwhile."""
    answers: dict[TopicAndNumber, int | None] = {}
    for partition, future in asked.items():
        each = (partition.topic, partition.partition)
        try:
            answers[each] = future.result(timeout=_left(deadline)).offset
        except KafkaException as error:
            answers[each] = None
            log.debug("%s[%d]: %s", *each, error.args[0].str())
    return answers


def _groups(admin: AdminClient, deadline: float) -> dict[str, Group | None]:
    """Each group; None where its coordinator refuses."""
    listing = admin.list_consumer_groups(request_timeout=_left(deadline)).result(timeout=_left(deadline))
    names = [group.group_id for group in listing.valid]
    if not names:
        return {}
    described = admin.describe_consumer_groups(names, request_timeout=_left(deadline))
    # The broker takes one group per request.
    committed = {
        name: admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)], request_timeout=_left(deadline))[
            name
        ]
        for name in names
    }
    return {name: _group(name, described[name], committed[name], deadline) for name in names}


def _group(name: str, described: Future, committed: Future, deadline: float) -> Group | None:
    try:
        members = described.result(timeout=_left(deadline)).members
        offsets = committed.result(timeout=_left(deadline)).topic_partitions
    except KafkaException as error:
        log.debug("group %s: %s", name, error.args[0].str())
        return None
    return Group(
        members=len(members),
        committed={
            (entry.topic, entry.partition): entry.offset
            for entry in offsets
            if entry.offset >= 0 and entry.error is None
        },
        assigned=frozenset(
            partition.topic
            for member in members
            if member.assignment is not None
            for partition in member.assignment.topic_partitions
        ),
    )


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
