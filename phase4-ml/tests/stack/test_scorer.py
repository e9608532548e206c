"""The scorer with real Kafka, registry and API: nothing skipped, order kept, bad messages to the dead letters."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from api_process import own_api, wait_until
from confluent_kafka import Consumer
from fraud_common.avro import HEADER
from fraud_common.topics import LABELS
from kafka_tools import (
    KAFKA,
    RunningScorer,
    Topics,
    committed,
    encoder_of,
    own_topics,
    payment_bytes,
    read_topic,
    running_scorer,
)
from sample_payments import label
from scorer.kafka import pin_start
from scorer.settings import ScorerSettings


@pytest.fixture
def topics() -> Iterator[Topics]:
    with own_topics() as topics:
        yield topics


def in_order(topics: Topics, numbers: range) -> None:
    """Every payment has a score, and a user's first scores are in the order of the payments."""
    found = topics.scored_ids()
    for user in range(10):
        expected = [f"t{number:06d}" for number in numbers if number % 10 == user]
        assert list(dict.fromkeys(found[f"u{user}"])) == expected


def test_every_payment_is_scored_in_the_order_of_its_user(topics: Topics, tmp_path: Path) -> None:
    numbers = range(3000)
    topics.send_payments(numbers)
    with running_scorer(topics, tmp_path) as scorer:
        wait_until(lambda: topics.all_scored(len(numbers)), "all scored")
        assert scorer.stop() == 0, scorer.log
    in_order(topics, numbers)
    scores = topics.scores()
    # Nothing failed, so nothing was scored twice.
    assert len(scores) == len(numbers)
    for score in scores:
        assert score["key"] == score["user_id"].encode()
        assert 0 <= score["fraud_probability"] <= 1
        assert score["risk_tier"] in ("low", "medium", "high")
        assert score["model_version"]
        assert score["feature_source"] in ("batch", "default")
        assert abs((datetime.now(UTC) - score["scored_at"]).total_seconds()) < 300
    assert read_topic(topics.dead_letters) == []
    assert sum(committed(scorer.group, topics.raw).values()) == len(numbers)
    assert all(json.loads(line) for line in scorer.log.splitlines())


def bad_messages() -> dict[str, tuple[bytes | None, str]]:
    """Values that can't be scored, each with the reason that the dead letter must have."""
    good = payment_bytes(1)
    return {
        "null": (None, "SerializationError"),
        "empty": (b"", "SerializationError"),
        "garbage": (b"\x07garbage", "SerializationError"),
        "truncated": (good[:-20], "SerializationError"),
        "unknown schema": (HEADER.pack(0, 999_999) + good[HEADER.size :], "SerializationError"),
        "of another type": (encoder_of(LABELS).encode(label()), "merchant_id_missing"),
        "year 0": (payment_bytes(1, event_time=-62_135_596_800_000 - 86_400_000), "SerializationError"),
        "amount 0": (payment_bytes(1, amount=Decimal("0.00")), "amount_not_positive"),
        "amount negative": (payment_bytes(1, amount=Decimal("-12.50")), "amount_not_positive"),
        "no user": (payment_bytes(1, user_id=""), "user_id_missing"),
        "large ids": (payment_bytes(1, user_id="x" * 900_000), "user_id_invalid"),
        "NUL in an id": (payment_bytes(1, user_id="u\0"), "user_id_invalid"),
        "next year": (payment_bytes(1, event_time=datetime.now(UTC) + timedelta(days=365)), "event_time_in_future"),
        "two wrong": (payment_bytes(1, transaction_id="", amount=Decimal(-1)), "transaction_id_missing"),
    }


def test_what_cant_be_scored_is_a_dead_letter_and_the_rest_is_scored(topics: Topics, tmp_path: Path) -> None:
    bad = bad_messages()
    good = [(f"u{number % 10}".encode(), payment_bytes(number)) for number in range(200)]
    # In the middle of good ones, so that they share batches.
    topics.send([*good[:100], *((name.encode(), value) for name, (value, _) in bad.items()), *good[100:]])
    with running_scorer(topics, tmp_path) as scorer:
        wait_until(lambda: len(read_topic(topics.dead_letters)) >= len(bad), "all dead letters")
        wait_until(lambda: topics.all_scored(200), "all good ones scored")
        assert scorer.stop() == 0, scorer.log
    in_order(topics, range(200))
    sent = {(message.partition(), message.offset()): message for message in read_topic(topics.raw)}
    letters = read_topic(topics.dead_letters)
    assert sorted((message.key() or b"").decode() for message in letters) == sorted(bad)
    for letter in letters:
        name = (letter.key() or b"").decode()
        headers = {key: value.decode() for key, value in letter.headers() or []}
        assert letter.value() == bad[name][0], name
        assert headers["dlq.stage"] == "scorer"
        assert bad[name][1] in headers["dlq.reasons"].split(","), (name, headers)
        assert headers["dlq.error"]
        assert headers["dlq.topic"] == topics.raw
        original = sent[int(headers["dlq.partition"]), int(headers["dlq.offset"])]
        assert original.key() == letter.key()
        assert datetime.fromisoformat(headers["dlq.failed_at"]).tzinfo
        assert headers["dlq.attempts"] == "1"
    two = next(letter for letter in letters if letter.key() == b"two wrong")
    assert dict(two.headers() or [])["dlq.reasons"] == b"transaction_id_missing,amount_not_positive"


def test_a_message_that_was_sent_back_and_fails_again_counts_it(topics: Topics, tmp_path: Path) -> None:
    topics.send([(b"u1", payment_bytes(1, amount=Decimal(-1)))], headers=[("dlq.attempts", b"2")])
    with running_scorer(topics, tmp_path):
        (letter,) = wait_until(lambda: read_topic(topics.dead_letters), "the dead letter")
    assert dict(letter.headers() or [])["dlq.attempts"] == b"3"


def test_kill_9_in_the_middle_skips_nothing(topics: Topics, tmp_path: Path) -> None:
    numbers = range(6000)
    topics.send_payments(numbers)
    for kill in range(1, 4):
        # Small batches, so that it is in the middle of many.
        with running_scorer(topics, tmp_path, scorer_batch=10) as scorer:
            wait_until(lambda more=kill * 100: topics.all_scored(more), "some scored")  # type: ignore[misc]
            scorer.kill()
    assert not topics.all_scored(len(numbers)), "too fast to be killed in the middle"
    with running_scorer(topics, tmp_path) as scorer:
        wait_until(lambda: topics.all_scored(len(numbers)), "all scored")
        assert scorer.stop() == 0
    in_order(topics, numbers)
    # Nothing but the batches that were in hand is scored again.
    assert len(numbers) <= len(topics.scores()) <= len(numbers) + 3 * 10


def test_while_the_api_is_down_payments_wait(topics: Topics, tmp_path: Path) -> None:
    with running_scorer(topics, tmp_path, api_url="http://localhost:8765") as scorer:
        topics.send_payments(range(500))
        wait_until(lambda: "payments wait in Kafka" in scorer.log, "the scorer says so")
        assert topics.scores() == []
        with own_api(tmp_path):
            wait_until(lambda: topics.all_scored(500), "all scored")
        topics.send_payments(range(500, 1000))
        wait_until(lambda: scorer.log.count("payments wait in Kafka") == 2, "the scorer says so again")
        with own_api(tmp_path):
            wait_until(lambda: topics.all_scored(1000), "all scored")
        assert scorer.process.poll() is None
    in_order(topics, range(1000))
    assert read_topic(topics.dead_letters) == []


def test_sigterm_while_the_api_is_down_loses_nothing(topics: Topics, tmp_path: Path) -> None:
    topics.send_payments(range(100))
    with running_scorer(topics, tmp_path, api_url="http://localhost:8765") as scorer:
        wait_until(lambda: "payments wait in Kafka" in scorer.log, "the scorer says so")
        assert scorer.stop() == 0
    assert sum(committed(scorer.group, topics.raw).values()) == 0
    with running_scorer(topics, tmp_path):
        wait_until(lambda: topics.all_scored(100), "all scored")
    in_order(topics, range(100))


def test_the_first_start_begins_at_the_end_and_pins_that(topics: Topics, tmp_path: Path) -> None:
    topics.send_payments(range(100))
    # Down before its first batch: what comes before the next start is live all the same.
    with running_scorer(topics, tmp_path, scorer_from="latest", api_url="http://localhost:8765") as scorer:
        wait_until(lambda: "scoring" in scorer.log, "the scorer runs")
        scorer.kill()
    topics.send_payments(range(100, 300))
    with running_scorer(topics, tmp_path, scorer_from="latest"):
        wait_until(lambda: topics.all_scored(200), "what came since the first start is scored")
    in_order(topics, range(100, 300))


def test_the_start_of_every_partition_is_committed_at_once(topics: Topics) -> None:
    topics.send_payments(range(100))
    group = f"{topics.raw}-pin"
    settings = ScorerSettings(transactions_topic=topics.raw, scorer_group=group, scorer_from="latest")
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": group, "enable.auto.commit": False})
    pin_start(consumer, settings, 8)
    first = committed(group, topics.raw)
    assert len(first) == 8
    # Two more partitions: everything in them came later.
    pin_start(consumer, settings, 10)
    consumer.close()
    assert committed(group, topics.raw) == first | {8: 0, 9: 0}


def test_two_scorers_share_the_partitions(topics: Topics, tmp_path: Path) -> None:
    with running_scorer(topics, tmp_path) as one, running_scorer(topics, tmp_path) as other:
        wait_until(lambda: "partitions" in one.log and "partitions" in other.log, "both have partitions")
        topics.send_payments(range(1000))
        wait_until(lambda: topics.all_scored(1000), "all scored")
        assert one.stop() == other.stop() == 0
    in_order(topics, range(1000))


def test_what_a_person_can_put_right_is_one_line(topics: Topics, tmp_path: Path) -> None:
    def ends_with(**settings: Any) -> str:
        scorer = RunningScorer(topics, tmp_path, connect_timeout_seconds=1, **settings)
        assert scorer.process.wait(60) == 2, scorer.log
        return scorer.log.splitlines()[-1]

    assert "no broker answers" in ends_with(kafka_bootstrap_servers="localhost:1")
    assert "no schema registry answers" in ends_with(schema_registry_url="http://localhost:1")
    assert "there is no such topic" in ends_with(scored_topic="no-such-topic")
    assert "SCORER_FROM=tomorrow" in ends_with(scorer_from="tomorrow")
