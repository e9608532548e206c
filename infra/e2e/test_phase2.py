"""Phase 2 on the stack as a user has it: kill -9 of each part under the producer's load, then the counts."""

import time

import pytest
from bronze import (
    TABLES,
    assert_exactly_once_in_bronze,
    kill_executor,
    kill_main_process,
    metric,
)
from ingestion.kafka import wait_for_broker
from ingestion.settings import TRANSACTIONS_TOPIC, Settings, load_settings
from stack import service, wait_until

VICTIMS = {
    "driver": lambda: kill_main_process(service("spark-streaming")),
    "executor": kill_executor,
    "broker": lambda: kill_main_process(service("kafka")),
    "minio": lambda: kill_main_process(service("minio")),
}


@pytest.fixture(scope="module")
def settings() -> Settings:
    # A broker that was killed reads its logs first, on a machine that does much else.
    return load_settings().model_copy(update={"connect_timeout_seconds": 180})


@pytest.mark.parametrize("victim", VICTIMS)
def test_kill_9(settings: Settings, victim: str) -> None:
    VICTIMS[victim]()
    killed = time.time()
    wait_for_broker(settings)
    wait_until(
        lambda: metric("bronze_last_commit_timestamp_seconds", topic=TRANSACTIONS_TOPIC) > killed,
        f"a batch after kill -9 of {victim}",
        # The whole stack runs beside it, and a pipeline run may.
        480,
    )


def test_every_message_is_in_bronze_once_or_a_dead_letter(settings: Settings) -> None:
    service("producer").stop(timeout=60)
    for topic in TABLES:
        counts = assert_exactly_once_in_bronze(settings, topic)
        assert counts["bronze_rows"] > 0
        print(f"| {topic} | " + " | ".join(f"{name} {count:,}" for name, count in counts.items()) + " |")
