"""kafka-exporter without a broker: the metrics of a cluster, and what a scrape sees during an outage."""

import json
import logging
import re

import kafka_exporter.__main__ as program
import pytest
from confluent_kafka import KafkaError, KafkaException
from fraud_common.errors import UserError
from fraud_common.logs import json_formatter
from fraud_common.settings import load_settings
from kafka_exporter.cluster import Cluster, Group, Partition
from kafka_exporter.collector import KafkaCollector
from kafka_exporter.metrics import families, lag
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
        ("kafka_consumergroup_lag_sum", {"consumergroup": "slow", "topic": "raw"}, 400),
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


def test_a_group_that_is_ahead_has_no_negative_lag() -> None:
    assert lag(Partition(leader=1, replicas=[1], in_sync=[1], oldest=0, newest=10), committed=12) == 0


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
