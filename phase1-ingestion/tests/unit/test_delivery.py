"""What becomes of messages that fail, on the client's mock broker: a dead letter is certainly not stored."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer
from fatal_error import make_fatal
from fraud_common.errors import SerializationError, UserError
from fraud_common.settings import load_settings
from fraud_common.topics import LABELS, MAX_RECORD_BYTES, TRANSACTIONS
from producer import delivery as module
from producer.delivery import Delivery
from producer.settings import Settings
from prometheus_client import REGISTRY


def small(count: int) -> list[dict[str, Any]]:
    """New messages: the client notes errors in them."""
    return [{"key": b"k", "value": b"v", "partition": 0} for _ in range(count)]


@pytest.fixture
def delivery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Delivery]:
    """A delivery whose clients have a mock broker each."""
    make = module.make_producer

    def with_mock(settings: Settings, max_bytes: int, **options: Any) -> Producer:
        return make(settings, max_bytes, **options, **{"test.mock.num.brokers": 1})

    monkeypatch.setattr(module, "make_producer", with_mock)
    made = Delivery(load_settings(Settings))
    clients = made._producer, made._dead_letters
    yield made
    for client in clients:
        client.purge()


def test_what_is_acknowledged_is_delivered(delivery: Delivery) -> None:
    delivery.send_batch(TRANSACTIONS, small(100))
    delivery.flush()
    assert (delivery.delivered, delivery.counts.dead_lettered, len(delivery)) == (100, 0, 0)
    assert delivery.settle(0.0)


@pytest.mark.parametrize("then", ["flush", "poll", "send", "settle"])
def test_after_a_fatal_error_it_ends_and_dead_letters_nothing(delivery: Delivery, then: str) -> None:
    """E5: messages of unknown fate are neither dead-lettered nor sent again by this process."""
    delivery.send_batch(TRANSACTIONS, small(100))
    make_fatal(delivery._producer)
    end: dict[str, Any] = {
        "flush": delivery.flush,
        "poll": lambda: delivery.poll(0.1),
        "send": lambda: delivery.send_batch(TRANSACTIONS, small(100)),
        "settle": lambda: delivery.settle(1.0),
    }
    with pytest.raises(UserError, match=r"OUT_OF_ORDER_SEQUENCE_NUMBER|_FATAL") as error:
        end[then]()
    assert "the simulator resumes after what Kafka has" in str(error.value)
    for _ in range(3):  # it stays ended, and reports the first error
        with pytest.raises(UserError) as again:
            delivery.flush()
        assert str(again.value) == str(error.value)
    assert delivery.counts.dead_lettered == delivery.counts.failed == delivery.counts.lost == 0
    assert delivery.counts.unknown + delivery.delivered == delivery.counts.sent


def test_dead_letters_from_before_a_fatal_error_are_delivered(delivery: Delivery) -> None:
    """E5."""
    delivery.dead_letter_record(TRANSACTIONS, b"k", {"a": 1}, SerializationError("amount: is missing"))
    make_fatal(delivery._producer)
    with pytest.raises(UserError):
        delivery.flush()
    assert len(delivery._dead_letters) == 0
    assert (delivery.counts.dead_lettered, delivery.counts.lost) == (1, 0)


def test_a_fatal_error_of_the_dead_letters_client_loses_none(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """E5: what it can't say about dead letters is in the log."""
    delivery.dead_letter_record(TRANSACTIONS, b"k", {"a": 1}, SerializationError("amount: is missing"))
    make_fatal(delivery._dead_letters)
    with pytest.raises(UserError):
        delivery.flush()
    assert delivery.counts.lost == sum("refuses a message" in line for line in caplog.messages) == 1


def test_a_message_that_is_too_large_becomes_a_dead_letter_and_the_others_are_sent(delivery: Delivery) -> None:
    large = {"key": b"k", "value": b"x" * (MAX_RECORD_BYTES + 1), "partition": 0}
    delivery.send_batch(TRANSACTIONS, [*small(3), large, *small(3)])
    delivery.flush()
    assert delivery.counts.by_reason == {"MSG_SIZE_TOO_LARGE": 1}
    assert (delivery.delivered, delivery.counts.dead_lettered) == (6, 1)


UNKNOWN = [
    KafkaError._PURGE_QUEUE,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._FATAL,
    KafkaError._TRANSPORT,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.UNKNOWN,
]
REFUSED = [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.RECORD_LIST_TOO_LARGE]
NO_TOPIC = [KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED]


@pytest.mark.parametrize(
    ("code", "dead_letters"), [*((code, 0) for code in (*UNKNOWN, *NO_TOPIC)), *((code, 1) for code in REFUSED)]
)
def test_only_what_is_certainly_not_stored_becomes_a_dead_letter(
    delivery: Delivery, code: int, dead_letters: int
) -> None:
    """E5: every other error ends the program."""
    delivery._failed(TRANSACTIONS, b"k", b"v", KafkaError(code))
    assert delivery.counts.dead_lettered == dead_letters
    if dead_letters:
        delivery.flush()
    else:
        with pytest.raises(UserError, match=TRANSACTIONS):
            delivery.poll(0)


def test_a_topic_that_is_gone_ends_the_stream_with_the_way_out(delivery: Delivery) -> None:
    delivery._failed(TRANSACTIONS, b"k", b"v", KafkaError(KafkaError._UNKNOWN_TOPIC))
    with pytest.raises(UserError, match=r"transactions\.raw: .*docker compose run --rm ingestion-init"):
        delivery.send_batch(TRANSACTIONS, [])


class FullQueue:
    """A client whose queue has room for a few messages at a time, and that takes some time to send them."""

    def __init__(self, room: int) -> None:
        self.room, self.waiting, self.accepted = room, 0, []

    def __len__(self) -> int:
        return self.waiting

    def produce(self, topic: str, *, value: bytes, **_: Any) -> None:
        if self.waiting == self.room:
            raise BufferError
        self.waiting += 1
        self.accepted.append((topic, value))

    def poll(self, _: float) -> int:
        self.waiting = max(0, self.waiting - 1)
        return 0


def test_large_rows_wait_for_room_and_keep_their_order(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    """D8: a queue that is full by bytes is no fault of a message."""
    monkeypatch.setattr(module, "QUEUE_BYTES_LIMIT", 1_000)
    queue = FullQueue(room=3)
    delivery._producer = queue  # type: ignore[assignment]
    values = [bytes([number]) * 200 for number in range(20)]
    delivery.send_batch(TRANSACTIONS, [{"key": b"k", "value": value} for value in values])
    assert [value for _, value in queue.accepted] == values
    assert (delivery.counts.sent, delivery.counts.dead_lettered) == (20, 0)


def test_a_dead_letter_that_fails_again_has_one_more_attempt(delivery: Delivery) -> None:
    seen: Counter[int] = Counter()
    delivery.dead_letter = lambda *_, attempts, **__: seen.update([attempts])  # type: ignore[method-assign, assignment]
    delivery.send_again(TRANSACTIONS, b"k", b"x" * (MAX_RECORD_BYTES + 1), attempts=2)
    assert seen == {3: 1}


def test_the_counter_of_dead_letters_is_0_before_the_first() -> None:
    """Field case G3: no alert sees the first one of a counter that appears with it."""
    labels = {"topic": LABELS, "reason": "SerializationError"}
    assert REGISTRY.get_sample_value("producer_messages_dead_lettered_total", labels) is not None
