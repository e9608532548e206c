"""kafka-exporter without a broker: the metrics of a cluster, and what a scrape sees during an outage."""

import json
import logging
import re
from concurrent.futures import Future
from types import SimpleNamespace

import kafka_exporter.__main__ as program
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec
from fraud_common.errors import UserError
from fraud_common.logs import json_formatter
from fraud_common.settings import load_settings
from kafka_exporter.cluster import Cluster, Group, Partition, look
from kafka_exporter.collector import KafkaCollector
from kafka_exporter.metrics import families
from kafka_exporter.settings import Settings
from prometheus_client import CollectorRegistry

CLUSTER = Cluster(
    brokers={1: "kafka:29092", 2: "kafka-2:29092"},
    partitions={
        ("raw", 0): Partition(leader=1, replicas=[1, 2], in_sync=[1, 2], oldest=100, newest=500),
        ("raw", 1): Partition(leader=2, replicas=[1, 2], in_sync=[2], oldest=0, newest=40),
        ("raw", 2): Partition(leader=-1, replicas=[1], in_sync=[]),
    },
    groups={
        "scorer": Group(members=2, committed={("raw", 0): 450, ("raw", 1): 40, ("raw", 2): 7, ("deleted", 0): 3}),
        "slow": Group(members=0, committed={("raw", 0): 20}),
        "new": Group(members=1),
        "begins": Group(members=1, assigned=frozenset({"raw"})),
        # The topic was deleted and made again: what it committed is after the end.
        "made-again": Group(members=0, committed={("raw", 0): 90_000, ("raw", 1): 30}),
    },
)


def registry(look) -> CollectorRegistry:  # noqa: ANN001 - any function that gives a cluster
    result = CollectorRegistry()
    result.register(KafkaCollector(look, cache_seconds=60))
    return result


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("kafka_brokers", {}, 2),
        ("kafka_broker_info", {"id": "2", "address": "kafka-2:29092"}, 1),
        ("kafka_topic_partitions", {"topic": "raw"}, 3),
        ("kafka_topic_partition_current_offset", {"topic": "raw", "partition": "0"}, 500),
        ("kafka_topic_partition_oldest_offset", {"topic": "raw", "partition": "0"}, 100),
        ("kafka_topic_partition_leader", {"topic": "raw", "partition": "2"}, -1),
        ("kafka_topic_partition_leader_is_preferred", {"topic": "raw", "partition": "0"}, 1),
        ("kafka_topic_partition_leader_is_preferred", {"topic": "raw", "partition": "1"}, 0),
        ("kafka_topic_partition_replicas", {"topic": "raw", "partition": "1"}, 2),
        ("kafka_topic_partition_in_sync_replica", {"topic": "raw", "partition": "1"}, 1),
        ("kafka_topic_partition_under_replicated_partition", {"topic": "raw", "partition": "0"}, 0),
        ("kafka_topic_partition_under_replicated_partition", {"topic": "raw", "partition": "1"}, 1),
        ("kafka_consumergroup_members", {"consumergroup": "scorer"}, 2),
        ("kafka_consumergroup_members", {"consumergroup": "new"}, 1),
        ("kafka_consumergroup_current_offset", {"consumergroup": "scorer", "topic": "raw", "partition": "0"}, 450),
        ("kafka_consumergroup_current_offset_sum", {"consumergroup": "scorer", "topic": "raw"}, 490),
        ("kafka_consumergroup_lag", {"consumergroup": "scorer", "topic": "raw", "partition": "0"}, 50),
        ("kafka_consumergroup_lag", {"consumergroup": "scorer", "topic": "raw", "partition": "1"}, 0),
        ("kafka_consumergroup_lag_sum", {"consumergroup": "scorer", "topic": "raw"}, 50),
        # Messages that retention deleted do not count.
        ("kafka_consumergroup_lag_sum", {"consumergroup": "slow", "topic": "raw"}, 440),
        # I3: a partition without a commit counts from its oldest message, as does one that was added later.
        ("kafka_consumergroup_lag", {"consumergroup": "slow", "topic": "raw", "partition": "1"}, 40),
        ("kafka_consumergroup_lag_sum", {"consumergroup": "begins", "topic": "raw"}, 440),
        ("kafka_consumergroup_current_offset", {"consumergroup": "begins", "topic": "raw", "partition": "0"}, None),
        ("kafka_consumergroup_lag", {"consumergroup": "new", "topic": "raw", "partition": "0"}, None),
        ("kafka_consumergroup_lag_sum", {"consumergroup": "made-again", "topic": "raw"}, 410),
        ("kafka_exporter_errors", {}, 0),
        # A partition without a leader has no lag, and neither has a deleted topic.
        ("kafka_consumergroup_lag", {"consumergroup": "scorer", "topic": "raw", "partition": "2"}, None),
        ("kafka_consumergroup_lag", {"consumergroup": "scorer", "topic": "deleted", "partition": "0"}, None),
        ("kafka_topic_partition_current_offset", {"topic": "raw", "partition": "2"}, None),
    ],
)
def test_metrics_of_a_cluster(name: str, labels: dict[str, str], value: float | None) -> None:
    assert registry(lambda: CLUSTER).get_sample_value(name, labels) == value


def test_every_metric_has_a_description() -> None:
    assert all(family.documentation for family in families(CLUSTER))


class Broker:
    """An admin client whose answers come from tables; an exception in one is that entry's answer."""

    def __init__(self, offsets: dict[str, list], groups: dict[str, object]) -> None:
        self.offsets, self.groups = offsets, groups
        self.asked: list[str] = []

    def list_topics(self, timeout: float) -> SimpleNamespace:
        partition = SimpleNamespace(leader=1, replicas=[1], isrs=[1])
        topics = {
            topic: SimpleNamespace(partitions=dict.fromkeys(range(len(ends)), partition))
            for topic, ends in self.offsets.items()
        }
        return SimpleNamespace(topics=topics, brokers={1: SimpleNamespace(id=1, host="kafka", port=29092)})

    def list_offsets(self, asked: dict[TopicPartition, OffsetSpec], request_timeout: float) -> dict:
        self.asked.append("offsets")
        newest = isinstance(next(iter(asked.values())), type(OffsetSpec.latest()))
        return {
            each: answer(SimpleNamespace(offset=end if newest else 0) if isinstance(end, int) else end)
            for each in asked
            for end in [self.offsets[each.topic][each.partition]]
        }

    def list_consumer_groups(self, request_timeout: float) -> Future:
        self.asked.append("groups")
        return answer(SimpleNamespace(valid=[SimpleNamespace(group_id=name) for name in self.groups]))

    def describe_consumer_groups(self, names: list[str], request_timeout: float) -> dict[str, Future]:
        return {name: answer(SimpleNamespace(members=[])) for name in names}

    def list_consumer_group_offsets(self, asked: list, request_timeout: float) -> dict[str, Future]:
        return {each.group_id: answer(self.groups[each.group_id]) for each in asked}


def answer(value: object) -> Future:
    future: Future = Future()
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


def commits(**partitions: int) -> SimpleNamespace:
    entries = [
        SimpleNamespace(topic="raw", partition=int(name[1:]), offset=offset, error=None)
        for name, offset in partitions.items()
    ]
    return SimpleNamespace(topic_partitions=entries)


def test_the_error_of_one_partition_or_group_loses_only_its_own_metrics() -> None:
    """I3."""
    refusal = KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
    broker = Broker({"raw": [500, refusal, 40]}, {"scorer": commits(p0=450, p1=7), "broken": refusal})
    seen = registry(lambda: look(broker, 5)).get_sample_value  # type: ignore[arg-type]
    assert seen("kafka_exporter_broker_answers") == 1
    assert seen("kafka_topic_partition_current_offset", {"topic": "raw", "partition": "0"}) == 500
    assert seen("kafka_topic_partition_current_offset", {"topic": "raw", "partition": "1"}) is None
    # Partition 2 was added after the group's commits.
    assert seen("kafka_consumergroup_lag_sum", {"consumergroup": "scorer", "topic": "raw"}) == 50 + 40
    assert seen("kafka_consumergroup_members", {"consumergroup": "broken"}) is None
    assert seen("kafka_exporter_errors") == 2


def test_groups_are_asked_before_offsets() -> None:
    """So a commit beyond the end means that the topic was made again, and not that time has passed."""
    broker = Broker({"raw": [1]}, {})
    look(broker, 5)  # type: ignore[arg-type]
    assert broker.asked == ["groups", "offsets", "offsets"]


def test_scrapes_of_the_same_moment_share_one_look() -> None:
    looks = []
    collector = KafkaCollector(lambda: looks.append(1) or CLUSTER, cache_seconds=60)
    assert list(collector.collect()) == list(collector.collect())
    assert len(looks) == 1


def test_an_outage_is_a_metric_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = iter([CLUSTER, KafkaException(KafkaError(KafkaError._TRANSPORT)), TimeoutError(), CLUSTER])

    def look() -> Cluster:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    caplog.set_level(logging.INFO)
    collector = KafkaCollector(look, cache_seconds=0)
    seen = [{family.name: family.samples[0].value for family in collector.collect()} for _ in range(4)]
    assert [metrics["kafka_exporter_broker_answers"] for metrics in seen] == [1, 0, 0, 1]
    assert ["kafka_brokers" in metrics for metrics in seen] == [True, False, False, True]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "is kafka up?" in caplog.messages[0]
    line = json.loads(json_formatter().format(caplog.records[0]))
    assert line["level"] == "warning"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", line["time"])


def test_registering_needs_no_broker() -> None:
    def refuse() -> Cluster:
        raise AssertionError("asked")

    registry(refuse)


def test_a_wrong_setting_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_PORT", "many")
    with pytest.raises(UserError, match=r"METRICS_PORT=many: .*correct it in \.env"):
        load_settings(Settings)


def test_a_client_without_an_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    outage = iter([False, False, True, False])

    def client(_: dict[str, object]) -> object:
        made.append(object())
        return made[-1]

    def look(used: object, _: float) -> object:
        if next(outage):
            raise TimeoutError
        return used

    monkeypatch.setattr(program, "AdminClient", client)
    monkeypatch.setattr(program, "look", look)
    look_now = program.make_look(Settings())
    assert look_now() is look_now() is made[0]
    with pytest.raises(TimeoutError):
        look_now()
    assert look_now() is made[1]
