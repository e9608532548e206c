"""Phase 1 on the stack as a user has it: from the schema registry to exactly-once after crashes."""

import json
import time
from pathlib import Path

import httpx2
import pytest
from ingestion.kafka import TOPICS, wait_for_broker
from ingestion.progress import read_gauges
from ingestion.settings import DEAD_LETTER_TOPIC, LABELS_TOPIC, TRANSACTIONS_TOPIC, Settings, load_settings
from stack import assert_exactly_once, count_in, id_in, messages_in, service, wait_until

STATE = Path("/var/lib/producer")
METRICS = "http://producer:9400/metrics"
TPS = 200


@pytest.fixture(scope="module")
def settings() -> Settings:
    # A broker that was killed reads its logs first, on a machine that does much else.
    return load_settings().model_copy(update={"connect_timeout_seconds": 180})


def test_topics_and_schemas_are_there(settings: Settings) -> None:
    topics = wait_for_broker(settings).list_topics(timeout=10).topics
    assert {name: len(topics[name].partitions) for name in TOPICS} == {name: n for name, (n, _) in TOPICS.items()}
    url = settings.schema_registry_url
    assert len(httpx2.get(f"{url}/subjects").json()) == 3
    assert httpx2.get(f"{url}/config").json() == {"compatibilityLevel": "BACKWARD"}


def test_the_history_is_complete_and_the_live_rate_is_the_wanted_one(settings: Settings) -> None:
    gauges = read_gauges(METRICS)
    assert gauges["producer_backfill_days_sent"] == gauges["producer_backfill_days"] == 60
    started, before = time.monotonic(), payments(settings)
    wait_until(lambda: time.monotonic() - started > 15, "15 s of live traffic")
    rate = (payments(settings) - before) / (time.monotonic() - started)
    # INVALID_RATE adds 2 % to the wanted 200, of which three quarters are sent.
    assert rate == pytest.approx(TPS * 1.015, rel=0.05)


def payments(settings: Settings) -> int:
    return count_in(settings, TRANSACTIONS_TOPIC)


def test_kill_9_of_the_producer_and_docker_starts_it_again(settings: Settings) -> None:
    producer = service("producer")
    restarts = producer.attrs["RestartCount"]
    producer.exec_run(["sh", "-c", "kill -9 $(cat /proc/1/task/1/children)"])
    wait_until(lambda: service("producer").attrs["RestartCount"] > restarts, "restart by Docker")
    before = payments(settings)
    wait_until(lambda: payments(settings) > before + TPS, "traffic again")


def test_broker_away_for_20_seconds(settings: Settings) -> None:
    before = payments(settings)
    service("kafka").kill()
    away = time.monotonic()
    wait_until(lambda: time.monotonic() - away > 20, "the outage itself")
    service("kafka").start()
    wait_for_broker(settings)
    wait_until(lambda: payments(settings) > before + 20 * TPS, "caught up")


def test_every_message_is_in_kafka_exactly_once_or_a_dead_letter(settings: Settings) -> None:
    producer = service("producer")
    producer.stop(timeout=60)
    lines = [json.loads(line) for line in producer.logs().decode().splitlines() if line.startswith("{")]
    stopped = lines[-1]
    assert stopped["message"] == "stopped", lines[-3:]
    assert stopped["sent"] == stopped["delivered"] + stopped["failed"]
    assert stopped["lost"] == 0
    assert_exactly_once(settings, STATE)
    labels = messages_in(settings, LABELS_TOPIC)
    assert labels
    dead = messages_in(settings, DEAD_LETTER_TOPIC)
    # What the producer refused is not in the topic as well.
    ids = {id_in(m.value()) for m in messages_in(settings, TRANSACTIONS_TOPIC)}
    refused = [m for m in dead if dict(m.headers() or [])["dlq.stage"] == b"producer" and b"bad-" in (m.value() or b"")]
    assert len(refused) > 20
    assert not [m for m in refused if id_in(m.value()) in ids - {""}]
