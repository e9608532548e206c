"""The headers of dead letters, from writing to reading."""

from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Message
from fraud_common.dead_letters import (
    ATTEMPTS,
    FAILED_AT,
    OFFSET,
    PARTITION,
    TOPIC,
    DeadLetter,
    Headers,
    Position,
    dead_letter_headers,
    dead_letter_of,
    earlier_attempts,
    text_headers,
)

OWN_POSITION = Position("transactions.dlq", 2, 117)


def message(headers: Headers | None, value: bytes | None = b"v") -> Message:
    return Message(topic="transactions.dlq", partition=2, offset=117, key=b"u1", value=value, headers=headers)


def letter(headers: Headers | None, value: bytes | None = b"v") -> DeadLetter:
    return dead_letter_of(message(headers, value))


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
    assert (read.topic, read.source, read.coordinates) == (
        "transactions.raw",
        Position("transactions.raw", 3, 0),
        "2-117",
    )
    assert read.attempts == 2
    failed_at = datetime.fromisoformat(read.headers[FAILED_AT])
    assert timedelta(0) <= datetime.now(UTC) - failed_at < timedelta(minutes=1)


def test_a_message_that_never_reached_kafka_is_known_by_its_own_coordinates() -> None:
    read = letter(dead_letter_headers(stage="producer", reasons=["X"], error="why", topic="transactions.raw"))
    assert (read.headers[PARTITION], read.source, read.attempts) == ("", OWN_POSITION, 1)


@pytest.mark.parametrize("headers", [None, [], [("other", b"1")], [(ATTEMPTS, b"many"), (TOPIC, None)]])
def test_a_letter_without_our_headers_can_be_read(headers: Headers | None) -> None:
    read = letter(headers)
    assert (read.stage, read.reasons, read.topic, read.source) == ("unknown", ["unknown"], "", OWN_POSITION)
    assert read.attempts == 1
    assert not read.is_json


@pytest.mark.parametrize(("partition", "offset"), [("3", ""), ("", "3"), ("-1", "3"), ("3", "9" * 5000), ("٣", "3")])
def test_a_source_that_is_no_position_is_the_letters_own(partition: str, offset: str) -> None:
    headers: Headers = [(TOPIC, b"transactions.raw"), (PARTITION, partition.encode()), (OFFSET, offset.encode())]
    assert letter(headers).source == OWN_POSITION


def test_a_messages_own_headers_travel_with_it() -> None:
    """Every header, in its order, also twice the same; ours replace those of an earlier failure."""
    own: Headers = [("trace", b"1"), ("empty", None), ("trace", b"\xff")]
    written = dead_letter_headers(
        stage="bronze", reasons=["X"], error="why", topic="t", attempts=3, original=[*own, (ATTEMPTS, b"2")]
    )
    assert [name for name, _ in written].count(ATTEMPTS) == 1
    read = letter(written, value=None)
    assert (read.original_headers, read.attempts, read.value) == (own, 3, None)


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
