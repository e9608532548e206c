"""Phases 1 and 2 on the stack as a user has it: kill -9 of everything at once under load, then the counts."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bronze import TABLES, assert_exactly_once_in_bronze, kill_executor, kill_main_process, metric
from fraud_common.kafka import wait_for_broker
from fraud_common.settings import load_settings
from fraud_common.topics import DEAD_LETTERS, LABELS, TRANSACTIONS
from ingestion_stack import assert_exactly_once, count_in, id_in, messages_in, service, wait_until
from producer.settings import Settings

STATE = Path("/var/lib/producer")


@pytest.fixture(scope="module")
def settings() -> Settings:
    # A broker that was killed reads its logs first, on a machine that does much else.
    return load_settings(Settings).model_copy(update={"connect_timeout_seconds": 180})


def test_kill_9_of_all_at_once(settings: Settings) -> None:
    """As when the machine is reset; `make phase2-drills` kills them one by one."""
    killed = time.time()
    with ThreadPoolExecutor() as pool:
        kills = [
            pool.submit(kill_main_process, service(victim))
            for victim in ("producer", "kafka", "minio", "spark-streaming")
        ]
        kills.append(pool.submit(kill_executor))
    for kill in kills:
        kill.result()
    wait_for_broker(settings)
    before = count_in(settings, TRANSACTIONS)
    wait_until(lambda: count_in(settings, TRANSACTIONS) > before + 1000, "traffic again")
    wait_until(
        lambda: metric("bronze_last_commit_timestamp_seconds", topic=TRANSACTIONS) > killed,
        "a batch after it",
        # The whole stack runs beside it, and a pipeline run may.
        480,
    )


def test_every_message_is_in_kafka_exactly_once_or_a_dead_letter(settings: Settings) -> None:
    producer = service("producer")
    producer.stop(timeout=60)
    lines = [json.loads(line) for line in producer.logs().decode().splitlines() if line.startswith("{")]
    stopped = lines[-1]
    assert stopped["message"] == "stopped", lines[-3:]
    assert stopped["sent"] == stopped["delivered"] + stopped["failed"]
    assert stopped["lost"] == 0
    assert_exactly_once(settings, STATE)
    labels = messages_in(settings, LABELS)
    assert labels
    dead = messages_in(settings, DEAD_LETTERS)
    # What the producer refused is not in the topic as well.
    ids = {id_in(m.value()) for m in messages_in(settings, TRANSACTIONS)}
    refused = [m for m in dead if dict(m.headers() or [])["dlq.stage"] == b"producer" and b"bad-" in (m.value() or b"")]
    assert len(refused) > 20
    assert not [m for m in refused if id_in(m.value()) in ids - {""}]


def test_every_message_is_in_bronze_once_or_a_dead_letter(settings: Settings) -> None:
    for topic in TABLES:
        counts = assert_exactly_once_in_bronze(settings, topic)
        assert counts["bronze_rows"] > 0
        print(f"| {topic} | " + " | ".join(f"{name} {count:,}" for name, count in counts.items()) + " |")
