"""One look at the cluster: brokers, partitions with their offsets, groups with the offsets that they committed."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

# Topic and partition number.
TopicAndNumber = tuple[str, int]


@dataclass(frozen=True)
class Partition:
    """What the broker reports about a partition; `oldest` and `newest` are None while it has no leader."""

    leader: int
    replicas: list[int]
    in_sync: list[int]
    oldest: int | None = None
    newest: int | None = None


@dataclass(frozen=True)
class Group:
    """A consumer group: how many members it has now, and the offsets that it has committed."""

    members: int
    committed: dict[TopicAndNumber, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """The whole cluster at one moment."""

    brokers: dict[int, str]
    partitions: dict[TopicAndNumber, Partition]
    groups: dict[str, Group]


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
    with_leader = [each for each, partition in found.items() if partition.leader >= 0]
    # Both requests are sent before either answer is awaited.
    oldest = _ask_offsets(admin, with_leader, OffsetSpec.earliest(), deadline)
    newest = _ask_offsets(admin, with_leader, OffsetSpec.latest(), deadline)
    groups = _groups(admin, deadline)
    return Cluster(
        brokers={broker.id: f"{broker.host}:{broker.port}" for broker in metadata.brokers.values()},
        partitions={
            each: Partition(
                leader=partition.leader,
                replicas=list(partition.replicas),
                in_sync=list(partition.isrs),
                oldest=_offset(oldest, each, deadline),
                newest=_offset(newest, each, deadline),
            )
            for each, partition in found.items()
        },
        groups=groups,
    )


def _ask_offsets(
    admin: AdminClient, partitions: list[TopicAndNumber], spec: OffsetSpec, deadline: float
) -> dict[TopicPartition, Future]:
    if not partitions:
        return {}
    return admin.list_offsets({TopicPartition(*each): spec for each in partitions}, request_timeout=_left(deadline))


def _offset(asked: dict[TopicPartition, Future], partition: TopicAndNumber, deadline: float) -> int | None:
    future = asked.get(TopicPartition(*partition))
    return None if future is None else future.result(timeout=_left(deadline)).offset


def _groups(admin: AdminClient, deadline: float) -> dict[str, Group]:
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
    return {
        name: Group(
            members=len(described[name].result(timeout=_left(deadline)).members),
            committed={
                (entry.topic, entry.partition): entry.offset
                for entry in committed[name].result(timeout=_left(deadline)).topic_partitions
                if entry.offset >= 0 and entry.error is None
            },
        )
        for name in names
    }


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
