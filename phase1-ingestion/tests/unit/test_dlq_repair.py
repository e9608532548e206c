"""Dead letters that are repaired: what a person changes is changed, and every other field stays as it was."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from fraud_common.avro import Decoder, Encoder, parse_schema, to_json
from fraud_common.dead_letters import STAGE, TOPIC, DeadLetter
from fraud_common.errors import SerializationError, UserError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import LABELS, SCHEMA_FILES, TRANSACTIONS
from producer.dlq.repair import Repairer, parse_changes
from producer.dlq.show import describe, printable

SCHEMAS = Path(__file__).parents[2] / "producer/schemas"
PAYMENT = {
    "transaction_id": "t1",
    "user_id": "u1",
    "amount": Decimal("12.30"),
    "currency": "EUR",
    "merchant_id": "m 1",
    "merchant_name": "O'Brien",
    "country": "IE",
    "city": "Cork",
    "device_id": "d1",
    "device_type": "web",
    "event_time": datetime(2024, 3, 1, 9, 15, tzinfo=UTC),
    "is_international": False,
    "metadata": {"k": "v"},
    "merchant_category": "pub",
}
LABEL = {
    "transaction_id": "t1",
    "user_id": "u1",
    "is_fraud": True,
    "fraud_type": None,
    "event_time": datetime(2024, 3, 1, 9, 15, tzinfo=UTC),
    "reported_at": datetime(2024, 3, 8, tzinfo=UTC),
}


class FakeRegistry:
    """What the repairs and the decoder ask the registry: versions by topic, the newest last, and texts by id."""

    url = "http://registry"

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self._versions: dict[str, list[int]] = {}
        for topic in (TRANSACTIONS, LABELS):
            self.add(topic, json.loads((SCHEMAS / SCHEMA_FILES[topic]).read_text()))

    def add(self, topic: str, schema: dict[str, Any]) -> Encoder:
        schema_id = len(self.texts) + 1
        self.texts[schema_id] = json.dumps(schema)
        self._versions.setdefault(topic, []).append(schema_id)
        return Encoder(parse_schema(self.texts[schema_id]), schema_id)

    def add_fields(self, topic: str, *fields: dict[str, Any]) -> Encoder:
        schema = json.loads(self.versions(topic)[-1][1])
        return self.add(topic, schema | {"fields": [*schema["fields"], *fields]})

    def versions(self, topic: str) -> list[tuple[int, str]]:
        return [(schema_id, self.texts[schema_id]) for schema_id in self._versions[topic]]

    known_versions = versions

    def schema(self, schema_id: int) -> str | None:
        return self.texts.get(schema_id)

    def encoder(self, topic: str) -> Encoder:
        schema_id, text = self.versions(topic)[-1]
        return Encoder(parse_schema(text), schema_id)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def repaired(registry: FakeRegistry, letter: DeadLetter, changes: str = "") -> list[tuple[str, bytes, dict[str, Any]]]:
    """Topic, key and decoded record of the messages that replace a letter."""
    repairer = Repairer(cast(SchemaRegistry, registry), parse_changes(changes))
    repairer.check()
    assert repairer.applies_to(letter)
    decoder = Decoder(cast(SchemaRegistry, registry))
    return [(message.topic, message.key, decoder.decode(message.value)) for message in repairer.repair(letter)]


def avro(value: bytes | None, topic: str = TRANSACTIONS) -> DeadLetter:
    return DeadLetter(2, 1, b"u1", value, {STAGE: "bronze", TOPIC: topic})


def as_json(record: dict[str, Any]) -> DeadLetter:
    return DeadLetter(2, 1, b"u1", to_json(record), {STAGE: "producer", TOPIC: TRANSACTIONS})


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("", {}),
        ("amount=19.99", {"amount": "19.99"}),
        ('merchant_name=O\'Brien & "Sons"; $(id)', {"merchant_name": 'O\'Brien & "Sons"; $(id)'}),
        ("city=a=b", {"city": "a=b"}),
        ("city=", {"city": ""}),
        ('{"amount": 19.99, "city": "Łódź"}', {"amount": 19.99, "city": "Łódź"}),
    ],
)
def test_changes(text: str, changes: dict[str, Any]) -> None:
    """Field case D12."""
    assert parse_changes(text) == changes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("amount", "SET=amount: must be FIELD=VALUE"),
        ("{amount", "SET={amount: not a JSON object"),
        ("colour=red", "SET=colour=…: must be FIELD=VALUE with one of transaction_id, "),
        ("amount=much", "SET: amount: 'much' is not a number"),
        ("amount=1e400", "SET: amount: '1e400' has more than 12 digits"),
        ("event_time=soon", "SET: event_time: 'soon' is not an ISO 8601 timestamp"),
        ("device_type=fridge", "SET: device_type: 'fridge' is none of mobile, web, atm, pos"),
        ("is_international=perhaps", "SET: is_international: 'perhaps' is neither true nor false"),
    ],
)
def test_a_wrong_change_is_explained_before_anything_is_sent(registry: FakeRegistry, text: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        Repairer(cast(SchemaRegistry, registry), parse_changes(text)).check()
    assert str(raised.value).startswith(message)


def test_a_changed_field_of_an_avro_record(registry: FakeRegistry) -> None:
    letter = avro(registry.encoder(TRANSACTIONS).encode(PAYMENT))
    ((topic, key, record),) = repaired(registry, letter, '{"user_id": "u2", "event_time": "2024-03-02T00:00:00+01:00"}')
    moment = datetime(2024, 3, 1, 23, tzinfo=UTC)
    assert (topic, key) == (TRANSACTIONS, b"u2")
    assert record == PAYMENT | {"user_id": "u2", "event_time": moment}


def test_a_field_that_only_the_newest_schema_has_is_kept(registry: FakeRegistry) -> None:
    """Field case D9's kind: a redrive loses nothing that the message had."""
    optional = {"name": "wallet", "type": ["null", "string"], "default": None}
    fee = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}
    encoder = registry.add_fields(TRANSACTIONS, optional, {"name": "fee", "type": ["null", fee], "default": None})
    evolved = PAYMENT | {"wallet": "phone", "fee": Decimal("0.125")}
    assert repaired(registry, avro(encoder.encode(evolved)), "amount=1") == [
        (TRANSACTIONS, b"u1", evolved | {"amount": Decimal("1.00")})
    ]
    ((_, _, record),) = repaired(registry, as_json(evolved | {"amount": "?"}), "amount=1")
    assert record == evolved | {"amount": Decimal("1.00")}
    ((_, _, record),) = repaired(registry, as_json(PAYMENT), "fee=0.5")
    assert (record["fee"], record["wallet"]) == (Decimal("0.500"), None)


def test_a_record_of_an_older_schema_gets_the_defaults_of_the_newest(registry: FakeRegistry) -> None:
    older = registry.encoder(TRANSACTIONS).encode(PAYMENT)
    amount = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    registry.add_fields(TRANSACTIONS, {"name": "tip", "type": amount, "default": "\u0064"})
    ((_, _, record),) = repaired(registry, avro(older), "amount=1")
    assert record["tip"] == Decimal("1.00")


def test_values_that_python_can_not_represent_stay_as_they_are(registry: FakeRegistry) -> None:
    """A time before the year 1 can be repaired, and an amount written with leading zeros stays so."""
    broken = PAYMENT | {"event_time": -62_135_683_200_000, "amount": b"\0\0\0\x04\xce"}
    value = registry.encoder(TRANSACTIONS).encode(broken)
    ((_, _, record),) = repaired(registry, avro(value), "event_time=2024-03-01T09:15:00Z")
    assert record == PAYMENT
    repairer = Repairer(cast(SchemaRegistry, registry), {"city": "Cork"})
    (message,) = repairer.repair(avro(value))
    assert message.value == value


def test_a_schema_in_which_a_field_has_another_meaning_is_not_used(registry: FakeRegistry) -> None:
    """Field case C1's kind."""
    older = registry.encoder(TRANSACTIONS).encode(PAYMENT)
    schema = json.loads(registry.versions(TRANSACTIONS)[-1][1])
    (event_time,) = [field for field in schema["fields"] if field["name"] == "event_time"]
    event_time["type"]["logicalType"] = "timestamp-micros"
    newer = registry.add(TRANSACTIONS, schema)
    ((_, _, record),) = repaired(registry, avro(older), "city=Rome")
    assert record == PAYMENT | {"city": "Rome"}
    with pytest.raises(SerializationError, match="schema 3 is refused: event_time: its type is"):
        repaired(registry, avro(newer.encode(PAYMENT)), "city=Rome")


def test_a_field_that_a_later_version_lacks_is_kept(registry: FakeRegistry) -> None:
    encoder = registry.add_fields(TRANSACTIONS, {"name": "wallet", "type": ["null", "string"], "default": None})
    registry.add(TRANSACTIONS, json.loads(registry.versions(TRANSACTIONS)[0][1]))
    ((_, _, record),) = repaired(registry, avro(encoder.encode(PAYMENT | {"wallet": "phone"})), "city=Rome")
    assert record == PAYMENT | {"wallet": "phone", "city": "Rome"}


def test_a_change_applies_only_to_records_that_have_the_field(registry: FakeRegistry) -> None:
    repairer = Repairer(cast(SchemaRegistry, registry), {"amount": "1"})
    assert repairer.applies_to(avro(b"", TRANSACTIONS))
    assert not repairer.applies_to(avro(b"", LABELS))
    assert not Repairer(cast(SchemaRegistry, registry), {}).applies_to(avro(b"", TRANSACTIONS))
    ((topic, _, record),) = repaired(
        registry, avro(registry.encoder(LABELS).encode(LABEL), LABELS), "reported_at=2024-03-09"
    )
    assert (topic, record) == (LABELS, LABEL | {"reported_at": datetime(2024, 3, 9, tzinfo=UTC)})


def test_a_row_takes_its_label_along(registry: FakeRegistry) -> None:
    """Field case D9."""
    label = {"is_fraud": True, "fraud_type": "stolen_card", "reported_at": "2024-03-20T00:00:00+00:00"}
    payment, fraud = repaired(registry, as_json(PAYMENT | {"amount": "?", "label": label}), "amount=12.30")
    assert payment == (TRANSACTIONS, b"u1", PAYMENT)
    reported = datetime(2024, 3, 20, tzinfo=UTC)
    assert fraud == (LABELS, b"u1", LABEL | {"fraud_type": "stolen_card", "reported_at": reported})


def test_a_label_whose_time_depends_on_the_repair(registry: FakeRegistry) -> None:
    """Field case D9: the delay is the one that the map gave, counted from the repaired time."""
    label = {"is_fraud": True, "label_delay_days": 3}
    letter = as_json(
        PAYMENT | {"event_time": "1.3.24", "label": label, "row": 7, "file": "a.csv", "original": {"t": "1"}}
    )
    payment, fraud = repaired(registry, letter, "event_time=2024-03-01T09:15:00Z")
    assert payment[2] == PAYMENT
    assert fraud[2] == LABEL | {"reported_at": datetime(2024, 3, 4, 9, 15, tzinfo=UTC)}


@pytest.mark.parametrize("is_fraud", ["1", 1, True, "yes"])
def test_the_label_of_a_letter_of_an_earlier_version(registry: FakeRegistry, is_fraud: Any) -> None:
    draft = {"transaction_id": 1001, "user_id": "u1", "amount": 12.30000019, "event_time": "2024-03-01 09:15"}
    payment, label = repaired(registry, as_json(draft | {"is_fraud": is_fraud, "fraud_type": ""}))
    assert payment[2]["amount"] == Decimal("12.30")
    assert (payment[2]["currency"], payment[2]["device_type"]) == ("XXX", "pos")
    assert label[2] == LABEL | {"transaction_id": "1001", "reported_at": datetime(2024, 3, 8, 9, 15, tzinfo=UTC)}


def test_a_label_that_is_wrong_can_be_repaired_or_added(registry: FakeRegistry) -> None:
    """Field case D13: payment and label are sent together, or neither is."""
    wrong = as_json(PAYMENT | {"label": {"is_fraud": "perhaps", "reported_at": "2024-03-08"}})
    with pytest.raises(SerializationError, match="is_fraud: 'perhaps' is neither true nor false"):
        repaired(registry, wrong)
    assert repaired(registry, wrong, "is_fraud=true")[1][2] == LABEL
    assert [topic for topic, _, _ in repaired(registry, as_json(PAYMENT), "is_fraud=false")] == [TRANSACTIONS, LABELS]
    assert [topic for topic, _, _ in repaired(registry, as_json(PAYMENT | {"label": None}))] == [TRANSACTIONS]


@pytest.mark.parametrize(
    ("letter", "message"),
    [
        (as_json(PAYMENT | {"amount": "not a number"}), "amount: 'not a number' is not a number"),
        (as_json({"user_id": "u1"}), "transaction_id: missing"),
        (as_json(PAYMENT | {"metadata": "text"}), "metadata: 'text' is no map"),
        (as_json(PAYMENT | {"event_time": 10**30}), "event_time: 1000"),
        (DeadLetter(2, 1, None, b'{"a": ', {STAGE: "producer", TOPIC: TRANSACTIONS}), "not a JSON object"),
        (DeadLetter(2, 1, None, b"{" * 100_000, {STAGE: "producer", TOPIC: TRANSACTIONS}), "not a JSON object"),
        (avro(b"\0\0\0\0\x63abc"), "schema 99 is not in the registry at http://registry"),
        (avro(b"\0\0\0\0\x01"), "not Avro of its schema"),
        (avro(None), "shorter than the 5 bytes"),
    ],
)
def test_a_letter_that_stays_broken_says_why(registry: FakeRegistry, letter: DeadLetter, message: str) -> None:
    with pytest.raises(SerializationError) as raised:
        repaired(registry, letter, "city=Rome")
    assert message in str(raised.value)


def test_what_a_dead_letter_shows(registry: FakeRegistry) -> None:
    decoder = Decoder(cast(SchemaRegistry, registry))
    assert describe(as_json({"a": 1}), decoder) == '{"a": 1}'
    assert '"merchant_name": "O\'Brien"' in describe(avro(registry.encoder(TRANSACTIONS).encode(PAYMENT)), decoder)
    assert describe(avro(b"\1\0\0\0\7abc"), decoder).startswith("8 bytes (first byte is 1, ")
    assert describe(avro(None), decoder) == "a tombstone: it has no value"
    assert printable("a\x1b[2Jb\0\u009b\n Łódź") == r"a\x1b[2Jb\x00\x9b\x0a Łódź"
