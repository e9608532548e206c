"""With a real broker, Prometheus and Alertmanager: the targets, and an alert from its cause to Alertmanager."""

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "kafka:29092")
EXPORTER = "http://kafka-exporter:9308"
PROMETHEUS = "http://prometheus:9090"
ALERTMANAGER = "http://alertmanager:9093"
AIRFLOW = "http://airflow-metrics:9102"


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(1)
    return result


def query(expr: str) -> list[dict[str, Any]]:
    answer = httpx2.get(f"{PROMETHEUS}/api/v1/query", params={"query": expr}).raise_for_status()
    return answer.json()["data"]["result"]


def sample(text: str, name: str, **labels: str) -> float | None:
    """The value of a metric in the text format."""
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] == name and wanted <= set(series.partition("{")[2].rstrip("}").split(",")):
            return float(value)
    return None


def make_topic(admin: AdminClient, name: str, partitions: int) -> None:
    admin.create_topics([NewTopic(name, num_partitions=partitions)])[name].result(timeout=30)


def send(topic: str, partition: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": KAFKA})
    for _ in range(count):
        producer.produce(topic, b"x", partition=partition)
    assert producer.flush(30) == 0


def commit(group: str, offsets: list[TopicPartition]) -> None:
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": group})

    def committed() -> bool:
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # A broker without any group so far has to create the offsets topic first.
            assert error.args[0].retriable() or error.args[0].code() == KafkaError.NOT_COORDINATOR, error
            return False
        return True

    wait_until(committed, f"{group} has committed", 30)
    consumer.close()


@pytest.fixture
def admin() -> AdminClient:
    return AdminClient({"bootstrap.servers": KAFKA})


@pytest.fixture
def topic(admin: AdminClient) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    make_topic(admin, name, 2)
    yield name
    admin.delete_topics([name])[name].result(timeout=30)


def test_exporter_sees_topics_and_groups(topic: str) -> None:
    send(topic, 0, 30)
    send(topic, 1, 12)
    group = f"group-{topic}"
    commit(group, [TopicPartition(topic, 0, 10), TopicPartition(topic, 1, 12)])

    def seen() -> str | None:
        text = httpx2.get(f"{EXPORTER}/metrics").raise_for_status().text
        return text if sample(text, "kafka_consumergroup_lag_sum", consumergroup=group, topic=topic) else None

    text = wait_until(seen, "the group's lag", 30)
    assert sample(text, "kafka_brokers") == 1
    assert sample(text, "kafka_topic_partitions", topic=topic) == 2
    assert sample(text, "kafka_topic_partition_current_offset", topic=topic, partition="0") == 30
    assert sample(text, "kafka_consumergroup_lag", consumergroup=group, topic=topic, partition="0") == 20
    assert sample(text, "kafka_consumergroup_lag", consumergroup=group, topic=topic, partition="1") == 0
    assert sample(text, "kafka_consumergroup_members", consumergroup=group) == 0
    assert sample(text, "kafka_exporter_look_seconds") < 1  # type: ignore[operator]


def test_partitions_without_a_commit_and_added_ones_have_lag(admin: AdminClient, topic: str) -> None:
    """I3: they count from their oldest message."""
    group = f"group-{topic}"
    send(topic, 0, 30)
    send(topic, 1, 12)
    commit(group, [TopicPartition(topic, 0, 10)])
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(timeout=30)
    wait_until(lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3, "a new partition", 30)
    send(topic, 2, 7)

    def lag() -> list[float | None]:
        text = httpx2.get(f"{EXPORTER}/metrics").raise_for_status().text
        labels = {"consumergroup": group, "topic": topic}
        every = [sample(text, "kafka_consumergroup_lag", **labels, partition=str(number)) for number in range(3)]
        return [*every, sample(text, "kafka_consumergroup_lag_sum", **labels)]

    wait_until(lambda: lag() == [20, 12, 7, 39], "the lag of all three partitions", 30)


def test_running_services_are_scraped() -> None:
    jobs = ("kafka", "kafka-exporter", "airflow", "alertmanager", "prometheus")
    for job in jobs:
        wait_until(lambda job=job: query(f'up{{job="{job}"}} == 1'), f"{job} is up", 60)


def test_the_broker_exports_its_own_metrics(topic: str) -> None:
    send(topic, 0, 5)
    expr = f'kafka_server_brokertopicmetrics_messagesin_total{{topic="{topic}"}} == 5'
    wait_until(lambda: query(expr), "messages in, from the broker", 60)
    assert query('jvm_memory_used_bytes{job="kafka", area="heap"}')
    assert query("kafka_server_under_replicated_partitions == 0")


def test_airflow_metrics_have_labels() -> None:
    host = AIRFLOW.removeprefix("http://").partition(":")[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(
            b"airflow.dagrun.duration.success,dag_id=fraud_pipeline,run_type=scheduled:61000|ms", (host, 8125)
        )
        sender.sendto(b"airflow.scheduler_heartbeat:1|c", (host, 8125))

    def counted() -> float | None:
        text = httpx2.get(f"{AIRFLOW}/metrics").raise_for_status().text
        return sample(text, "airflow_dagrun_duration_success_sum", dag_id="fraud_pipeline")

    assert wait_until(counted, "the run's duration", 15) == 61
    assert sample(httpx2.get(f"{AIRFLOW}/metrics").text, "airflow_scheduler_heartbeat") == 1


def test_rules_are_evaluated_without_errors() -> None:
    groups = httpx2.get(f"{PROMETHEUS}/api/v1/rules").raise_for_status().json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 20
    wait_until(
        lambda: all(
            rule["health"] == "ok"
            for group in httpx2.get(f"{PROMETHEUS}/api/v1/rules").json()["data"]["groups"]
            for rule in group["rules"]
        ),
        "every rule was evaluated",
        60,
    )


def test_the_watchdog_reaches_alertmanager() -> None:
    """Field case I6: it fires for as long as rules are evaluated and alerts delivered."""

    def received() -> list[dict[str, Any]]:
        alerts = httpx2.get(f"{ALERTMANAGER}/api/v2/alerts").raise_for_status().json()
        return [alert for alert in alerts if alert["labels"]["alertname"] == "Watchdog"]

    (alert,) = wait_until(received, "the watchdog", 60)
    assert [receiver["name"] for receiver in alert["receivers"]] == ["watchdog"]


def test_services_that_are_not_there_are_missed() -> None:
    """Field case I6: this stack has no scorer, whose name can't be resolved."""
    wait_until(
        lambda: query('ALERTS{alertname="TargetMissing", job="scorer"}'), "the alert on the missing scorer pends", 60
    )
