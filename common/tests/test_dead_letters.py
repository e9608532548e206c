"""The headers of dead letters, from writing to reading."""

from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Message
from fraud_common.dead_letters import (
    ATTEMPTS,
    FAILED_AT,
    PARTITION,
    TOPIC,
    DeadLetter,
    Headers,
    dead_letter_headers,
    earlier_attempts,
    text_headers,
)


def message(headers: Headers | None) -> Message:
    return Message(topic="transactions.dlq", partition=2, offset=117, key=b"u1", value=b"v", headers=headers)


def letter(headers: Headers | None, value: bytes = b"v") -> DeadLetter:
    return DeadLetter(2, 117, b"u1", value, text_headers(message(headers)))


def test_headers_come_back_as_they_were_written() -> None:
    written = dead_letter_headers(
        stage="bronze",
        reasons=["amount_positive", "user_id_present"],
        error="amount: -1",
        topic="transactions.raw",
        partition=3,
        offset=0,
        attempts=2,
    )
    read = letter(written)
    assert (read.stage, read.reasons) == ("bronze", ["amount_positive", "user_id_present"])
    assert (read.topic, read.source, read.coordinates) == ("transactions.raw", "transactions.raw-3-0", "2-117")
    assert read.attempts == 2
    failed_at = datetime.fromisoformat(read.headers[FAILED_AT])
    assert timedelta(0) <= datetime.now(UTC) - failed_at < timedelta(minutes=1)


def test_a_message_that_never_reached_kafka_is_known_by_its_own_coordinates() -> None:
    read = letter(dead_letter_headers(stage="producer", reasons=["X"], error="why", topic="transactions.raw"))
    assert (read.headers[PARTITION], read.source, read.attempts) == ("", "2-117", 1)


@pytest.mark.parametrize("headers", [None, [], [("other", b"1")], [(ATTEMPTS, b"many"), (TOPIC, None)]])
def test_a_letter_without_our_headers_can_be_read(headers: Headers | None) -> None:
    read = letter(headers)
    assert (read.stage, read.reasons, read.topic, read.source) == ("unknown", ["unknown"], "", "2-117")
    assert read.attempts == 1
    assert not read.is_json


def test_headers_that_are_not_utf_8_can_be_read() -> None:
    assert text_headers(message([("dlq.error", b"a\xffb"), ("text", "plain")])) == {
        "dlq.error": "a�b",
        "text": "plain",
    }


def test_a_long_error_is_cut() -> None:
    headers = dict(dead_letter_headers(stage="bronze", reasons=["X"], error="e" * 5000, topic="t"))
    assert headers["dlq.error"] == b"e" * 1000


@pytest.mark.parametrize(("headers", "attempts"), [(None, 0), ([(ATTEMPTS, b"2")], 2), ([(ATTEMPTS, b"-1")], 0)])
def test_earlier_attempts(headers: Headers | None, attempts: int) -> None:
    assert earlier_attempts(message(headers)) == attempts


def test_only_the_producers_json_is_json() -> None:
    by_producer = dead_letter_headers(stage="producer", reasons=["X"], error="why", topic="t")
    by_bronze = dead_letter_headers(stage="bronze", reasons=["X"], error="why", topic="t")
    assert letter(by_producer, b'{"a": 1}').is_json
    assert not letter(by_producer, b"\0\0\0\0\7").is_json
    assert not letter(by_bronze, b'{"a": 1}').is_json
