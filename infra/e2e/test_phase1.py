"""Phase 1 on the stack as a user has it: the schema registry, the topics, the history and the live rate."""

import time

import httpx2
import pytest
from fraud_common.kafka import wait_for_broker
from fraud_common.settings import load_settings
from fraud_common.topics import SCHEMA_FILES, TOPICS, TRANSACTIONS, subject_of
from ingestion_stack import count_in, wait_until
from producer.progress import read_gauges
from producer.settings import Settings

METRICS = "http://producer:9400/metrics"
TPS = 100


@pytest.fixture(scope="module")
def settings() -> Settings:
    # A broker that was killed reads its logs first, on a machine that does much else.
    return load_settings(Settings).model_copy(update={"connect_timeout_seconds": 180})


def test_topics_and_schemas_are_there(settings: Settings) -> None:
    topics = wait_for_broker(settings).list_topics(timeout=10).topics
    assert {name: len(topics[name].partitions) for name in TOPICS} == {
        name: topic.partitions for name, topic in TOPICS.items()
    }
    url = settings.schema_registry_url
    assert len(httpx2.get(f"{url}/subjects").json()) == len(SCHEMA_FILES)
    for topic in SCHEMA_FILES:
        assert httpx2.get(f"{url}/config/{subject_of(topic)}").json() == {"compatibilityLevel": "FULL_TRANSITIVE"}


def test_the_history_is_complete_and_the_live_rate_is_the_target_rate(settings: Settings) -> None:
    gauges = read_gauges(METRICS)
    assert gauges["producer_backfill_days_sent"] == gauges["producer_backfill_days"] == 60
    started, before = time.monotonic(), payments(settings)
    wait_until(lambda: time.monotonic() - started > 15, "15 s of live traffic")
    rate = (payments(settings) - before) / (time.monotonic() - started)
    # INVALID_RATE adds 2 % to the target rate, of which three quarters are sent.
    assert rate == pytest.approx(TPS * 1.015, rel=0.05)


def payments(settings: Settings) -> int:
    return count_in(settings, TRANSACTIONS)
