"""One look at the cluster as Prometheus metrics, named as in danielqsj's kafka_exporter, which dashboards expect."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from kafka_exporter.cluster import Cluster, Partition

PARTITION = ["topic", "partition"]
GROUP_PARTITION = ["consumergroup", "topic", "partition"]
GROUP_TOPIC = ["consumergroup", "topic"]


def families(cluster: Cluster) -> Iterator[Metric]:
    """All metrics of one look."""
    yield from _brokers(cluster)
    yield from _partitions(cluster)
    yield from _groups(cluster)
    yield GaugeMetricFamily(
        "kafka_exporter_errors",
        "Partitions and groups that the broker said nothing about in the last look; their offsets and lag are missing",
        value=cluster.errors,
    )


def lag(partition: Partition, committed: int | None) -> int:
    """How many messages a group has still to read; deleted messages do not count.

    Without a commit it has to read them all. So it has if it committed more than there is: the topic was deleted and
    made again.
    """
    assert partition.newest is not None and partition.oldest is not None
    if committed is None or committed > partition.newest:
        return partition.newest - partition.oldest
    return partition.newest - max(committed, partition.oldest)


def _brokers(cluster: Cluster) -> Iterator[Metric]:
    yield GaugeMetricFamily("kafka_brokers", "Number of brokers in the cluster", value=len(cluster.brokers))
    info = GaugeMetricFamily("kafka_broker_info", "A broker and its address", labels=["id", "address"])
    for number, address in cluster.brokers.items():
        info.add_metric([str(number), address], 1)
    yield info


def _partitions(cluster: Cluster) -> Iterator[Metric]:
    counts = GaugeMetricFamily("kafka_topic_partitions", "Number of partitions of a topic", labels=["topic"])
    for topic, count in sorted(Counter(topic for topic, _ in cluster.partitions).items()):
        counts.add_metric([topic], count)
    yield counts

    def gauge(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"kafka_topic_partition_{name}", text, labels=PARTITION)

    newest = gauge("current_offset", "Offset that the next message of a partition will have")
    oldest = gauge("oldest_offset", "Offset of the oldest message that is kept")
    leader = gauge("leader", "Id of the broker that leads a partition; -1 is none")
    preferred = gauge("leader_is_preferred", "1 if the leader is the one that was first assigned")
    replicas = gauge("replicas", "Number of copies that a partition should have")
    in_sync = gauge("in_sync_replica", "Number of copies that are up to date")
    under = gauge("under_replicated_partition", "1 if copies are missing or out of date")
    for (topic, number), partition in sorted(cluster.partitions.items()):
        labels = [topic, str(number)]
        if partition.newest is not None and partition.oldest is not None:
            newest.add_metric(labels, partition.newest)
            oldest.add_metric(labels, partition.oldest)
        leader.add_metric(labels, partition.leader)
        preferred.add_metric(labels, float(partition.replicas[:1] == [partition.leader]))
        replicas.add_metric(labels, len(partition.replicas))
        in_sync.add_metric(labels, len(partition.in_sync))
        under.add_metric(labels, float(len(partition.in_sync) < len(partition.replicas)))
    yield from (newest, oldest, leader, preferred, replicas, in_sync, under)


def _groups(cluster: Cluster) -> Iterator[Metric]:
    def gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"kafka_consumergroup_{name}", text, labels=labels)

    members = gauge("members", "Number of members that a group has now", ["consumergroup"])
    offset = gauge("current_offset", "Offset that a group has committed for a partition", GROUP_PARTITION)
    offset_sum = gauge("current_offset_sum", "The same, over all partitions of a topic", GROUP_TOPIC)
    behind = gauge("lag", "Messages of a partition that a group has not committed", GROUP_PARTITION)
    behind_sum = gauge("lag_sum", "The same, over all partitions of a topic", GROUP_TOPIC)
    for name, group in sorted(cluster.groups.items()):
        members.add_metric([name], group.members)
        offsets: Counter[str] = Counter()
        lags: Counter[str] = Counter()
        for (topic, number), partition in sorted(cluster.partitions.items()):
            # Every partition of a topic that the group reads, also one that was added, or that it never committed.
            if topic not in group.topics or partition.newest is None or partition.oldest is None:
                continue
            committed, labels = group.committed.get((topic, number)), [name, topic, str(number)]
            if committed is not None:
                offset.add_metric(labels, committed)
                offsets[topic] += committed
            waiting = lag(partition, committed)
            behind.add_metric(labels, waiting)
            lags[topic] += waiting
        for topic, total in lags.items():
            behind_sum.add_metric([name, topic], total)
        for topic, total in offsets.items():
            offset_sum.add_metric([name, topic], total)
    yield from (members, offset, offset_sum, behind, behind_sum)
