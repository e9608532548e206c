"""Messages with faults of every kind, through all that reads Kafka for scoring: each is used, or refused for a reason.

FUZZ_MESSAGES says how many of each topic, FUZZ_SEED which: `make fuzz MESSAGES=100000`.
"""

import random
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Message
from feature_store.layout import Label, PaymentEvent
from feature_store.records import RuleViolation, to_label, to_payment
from features import milliseconds
from fraud_common.avro import Decoder, Encoder, load_schema
from fraud_common.dead_letters import Headers, dead_letter_of, text_headers
from fraud_common.errors import SerializationError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import LABELS, SCHEMA_FILES, TRANSACTIONS
from model_quality import __main__ as model_quality
from mutated_messages import MESSAGES, SEED, mutated
from sample_payments import NOON, label, payment
from scorer.records import headers_of_dead_letter
from scorer.scorer import requests_of
from serving.schemas import PaymentRequest

SCHEMAS = Path(__file__).parents[3] / "phase1-ingestion" / "producer" / "schemas"
STOP = threading.Event()
ARRIVED = milliseconds(NOON + timedelta(days=1))


class Registry:
    """Knows the two schemas, and says that it knows no other."""

    url = "http://registry"

    def __init__(self) -> None:
        self._topics = {1: TRANSACTIONS, 2: LABELS}

    def schema(self, schema_id: int) -> str | None:
        return text(self._topics[schema_id]) if schema_id in self._topics else None

    def known_versions(self, topic: str) -> list[tuple[int, str]]:
        return [(schema_id, text(own)) for schema_id, own in self._topics.items() if own == topic]


def text(topic: str) -> str:
    return load_schema(SCHEMAS / SCHEMA_FILES[topic])[0]


@dataclass(frozen=True, slots=True)
class Received:
    """What the consumers use of a message of Kafka."""

    number: int
    body: bytes | None
    own_headers: Headers | None = None

    def value(self) -> bytes | None:
        return self.body

    def key(self) -> bytes | None:
        return b"key"

    def topic(self) -> str:
        return TRANSACTIONS

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return 2, ARRIVED

    def headers(self) -> Headers | None:
        return self.own_headers


def received(values: list[bytes]) -> list[Message]:
    return [cast(Message, Received(number, value)) for number, value in enumerate(values)]


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(cast(SchemaRegistry, Registry()))


def encoder(topic: str, schema_id: int) -> Encoder:
    return Encoder(load_schema(SCHEMAS / SCHEMA_FILES[topic])[1], schema_id)


@pytest.fixture(scope="module")
def transactions() -> list[bytes]:
    good = [payment(number, merchant_category=None, metadata={"channel": "app"}) for number in range(50)]
    good += [payment(1, user_id="Łukasz 7", country="", device_type="web", merchant_category="pub")]
    encode = encoder(TRANSACTIONS, 1).encode
    return list(mutated([encode(record) for record in good], MESSAGES, SEED))


@pytest.fixture(scope="module")
def labels() -> list[bytes]:
    encode = encoder(LABELS, 2).encode
    originals = [encode(label()), encode(label(is_fraud=False, fraud_type="stolen_card", transaction_id="t" * 128))]
    return list(mutated(originals, MESSAGES, SEED))


def test_the_scorer_scores_or_refuses_with_a_reason(decoder: Decoder, transactions: list[bytes]) -> None:
    payments, refused = requests_of(received(transactions), decoder, STOP)
    assert len(payments) + len(refused) == MESSAGES
    assert len(payments) > MESSAGES // 10 and len(refused) > MESSAGES // 10
    for _, request in payments:
        PaymentRequest.model_validate(request)
    for message, refusal in refused:
        headers = {name: value.decode() for name, value in headers_of_dead_letter(message, refusal) if value}
        assert headers["dlq.reasons"] and headers["dlq.error"] and headers["dlq.offset"] == str(message.offset())
    print(Counter(reason for _, refusal in refused for reason in refusal.reasons).most_common())


def test_the_feature_stream_takes_what_the_scorer_takes(decoder: Decoder, transactions: list[bytes]) -> None:
    scored = {message.offset() for message, _ in requests_of(received(transactions), decoder, STOP)[0]}
    for number, value in enumerate(transactions):
        try:
            taken = to_payment(decoder.decode(value), ARRIVED)
        except (SerializationError, RuleViolation) as error:
            assert number not in scored and str(error)
        else:
            assert number in scored and isinstance(taken, PaymentEvent)


def test_labels_are_stored_or_left_out_alike(decoder: Decoder, labels: list[bytes]) -> None:
    skipped = model_quality.SKIPPED._value.get()
    stored = model_quality.decode(received(labels), decoder, STOP)
    assert MESSAGES // 10 < len(stored) < MESSAGES - MESSAGES // 10
    assert model_quality.SKIPPED._value.get() - skipped == MESSAGES - len(stored)
    taken: list[Label] = []
    for value in labels:
        try:
            taken.append(to_label(decoder.decode(value), ARRIVED))
        except (SerializationError, RuleViolation) as error:
            assert str(error)
    assert [each.transaction_id for each in taken] == [each["transaction_id"] for each in stored]


def test_a_dead_letter_can_be_read_whatever_its_headers_are() -> None:
    draw = random.Random(SEED)
    names = ["dlq.stage", "dlq.reasons", "dlq.error", "dlq.topic", "dlq.partition", "dlq.offset", "dlq.attempts", "x"]
    contents = [b"3", b"-1", b"9" * 30, b"\xff\xfe", b"", None, "Ⅷ".encode(), b"a,,b", b"\0"]
    for number in range(MESSAGES):
        headers: Headers = [(draw.choice(names), draw.choice(contents)) for _ in range(draw.randrange(12))]
        message = cast(Message, Received(number, draw.choice([None, b"", b"{", draw.randbytes(20)]), headers))
        letter = dead_letter_of(message)
        assert letter.reasons and letter.stage and letter.source.offset >= 0 and letter.attempts >= 0
        assert isinstance(letter.is_json, bool) and set(text_headers(message)) == {name for name, _ in headers}
