"""One look at the cluster: brokers, partitions with their offsets, groups with what they have committed."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

Place = tuple[str, int]  # topic, partition


@dataclass(frozen=True)
class Partition:
    """What the broker says of a partition; `oldest` and `newest` are None while it has no leader to ask."""

    leader: int
    replicas: list[int]
    in_sync: list[int]
    oldest: int | None = None
    newest: int | None = None


@dataclass(frozen=True)
class Group:
    """A consumer group: how many members it has now, and what it has committed."""

    members: int
    committed: dict[Place, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """All of it, at one moment."""

    brokers: dict[int, str]
    partitions: dict[Place, Partition]
    groups: dict[str, Group]


def look(admin: AdminClient, seconds: float) -> Cluster:
    """Ask the cluster; all questions together take at most so long.

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
    led = [place for place, partition in found.items() if partition.leader >= 0]
    # Asked at once, answered in any order.
    oldest = _ask_offsets(admin, led, OffsetSpec.earliest(), deadline)
    newest = _ask_offsets(admin, led, OffsetSpec.latest(), deadline)
    groups = _groups(admin, deadline)
    return Cluster(
        brokers={broker.id: f"{broker.host}:{broker.port}" for broker in metadata.brokers.values()},
        partitions={
            place: Partition(
                partition.leader,
                list(partition.replicas),
                list(partition.isrs),
                _offset(oldest, place, deadline),
                _offset(newest, place, deadline),
            )
            for place, partition in found.items()
        },
        groups=groups,
    )


def _ask_offsets(
    admin: AdminClient, places: list[Place], spec: OffsetSpec, deadline: float
) -> dict[TopicPartition, Future]:
    if not places:
        return {}
    return admin.list_offsets({TopicPartition(*place): spec for place in places}, request_timeout=_left(deadline))


def _offset(asked: dict[TopicPartition, Future], place: Place, deadline: float) -> int | None:
    future = asked.get(TopicPartition(*place))
    return None if future is None else future.result(timeout=_left(deadline)).offset


def _groups(admin: AdminClient, deadline: float) -> dict[str, Group]:
    listing = admin.list_consumer_groups(request_timeout=_left(deadline)).result(timeout=_left(deadline))
    names = [group.group_id for group in listing.valid]
    if not names:
        return {}
    described = admin.describe_consumer_groups(names, request_timeout=_left(deadline))
    # The broker takes one group a request.
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
