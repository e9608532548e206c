"""Encoding and decoding, and what the error says if a record or a schema does not fit."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from fraud_common.avro import (
    Decoder,
    Encoder,
    cents_to_bytes,
    decode,
    latest_encoder,
    load_schema,
    parse_schema,
    schema_id_of,
    to_json,
)
from fraud_common.errors import SerializationError, UserError
from fraud_common.payments import MAX_AMOUNT_CENTS
from fraud_common.schema_registry import RegistryUnavailable, SchemaRegistry
from fraud_common.topics import SCHEMA_FILES, TRANSACTIONS

SCHEMAS = Path(__file__).parents[2] / "phase1-ingestion" / "producer" / "schemas"
RECORD = {
    "transaction_id": "tx-20241004-00000017",
    "user_id": "u0000001",
    "amount": cents_to_bytes(1250),
    "currency": "EUR",
    "merchant_id": "m00001",
    "merchant_name": "Corner Bakery",
    "country": "DE",
    "city": "Köln",
    "device_id": "d1",
    "device_type": "pos",
    "event_time": 1_728_000_000_123,
    "is_international": False,
    "metadata": {"channel": "app"},
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    _, schema = load_schema(SCHEMAS / SCHEMA_FILES[TRANSACTIONS])
    return Encoder(schema, 7)


def test_a_record_comes_back_as_it_was(encoder: Encoder) -> None:
    value = encoder.encode(RECORD)
    assert value.startswith(b"\0\0\0\0\7")
    assert schema_id_of(value) == encoder.schema_id == 7
    back = decode(value, encoder.schema)
    assert back["amount"] == Decimal("12.50")
    assert round(back["event_time"].timestamp() * 1000) == RECORD["event_time"]
    as_they_are = RECORD.keys() - {"amount", "event_time"}
    assert {name: back[name] for name in as_they_are} == {name: RECORD[name] for name in as_they_are}


@pytest.mark.parametrize("cents", [0, 1, 127, 128, 255, 256, -1, -128, -129, MAX_AMOUNT_CENTS, -MAX_AMOUNT_CENTS])
def test_amounts_are_the_decimal_that_avro_defines(encoder: Encoder, cents: int) -> None:
    value = encoder.encode(RECORD | {"amount": cents_to_bytes(cents)})
    assert decode(value, encoder.schema)["amount"] == Decimal(cents) / 100
    # Never longer than fastavro's own, slower way.
    assert len(value) <= len(encoder.encode(RECORD | {"amount": Decimal(cents) / 100}))


def test_an_amount_of_13_digits_is_refused() -> None:
    for cents in (MAX_AMOUNT_CENTS + 1, -MAX_AMOUNT_CENTS - 1):
        with pytest.raises(SerializationError, match=r"amount: -?10000000000\.00 has more than 12 digits"):
            cents_to_bytes(cents)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amount": None}, "amount: None does not fit decimal"),
        ({"amount": Decimal("1.005")}, "amount: Decimal('1.005') does not fit decimal (Scale provided in schema"),
        ({"device_type": "fridge"}, "device_type: 'fridge' does not fit"),
        ({"event_time": "yesterday"}, "event_time: 'yesterday' does not fit timestamp-millis"),
        ({"metadata": {"mcc": 5411}}, "metadata: {'mcc': 5411} does not fit map"),
        ({"user_id": 17}, "user_id: 17 does not fit string"),
    ],
)
def test_the_error_names_the_field(encoder: Encoder, change: dict, message: str) -> None:
    with pytest.raises(SerializationError) as error:
        encoder.encode(RECORD | change)
    assert str(error.value).startswith(message)


def test_a_missing_field_is_named_unless_it_has_a_default(encoder: Encoder) -> None:
    with pytest.raises(SerializationError, match=r"^city: missing$"):
        encoder.encode({name: value for name, value in RECORD.items() if name != "city"})
    without_metadata = {name: value for name, value in RECORD.items() if name != "metadata"}
    assert decode(encoder.encode(without_metadata), encoder.schema)["metadata"] == {}


@pytest.mark.parametrize("value", [None, b"", b"\0\0", b"\1\0\0\0\7abc", b'{"a": 1}'])
def test_what_is_not_wire_format_says_so(value: bytes | None) -> None:
    with pytest.raises(SerializationError, match="wire format"):
        schema_id_of(value)


def test_truncated_bodies_are_errors(encoder: Encoder) -> None:
    value = encoder.encode(RECORD)
    for broken in (value[:-3], value[:20]):
        with pytest.raises(SerializationError, match=r"^not Avro of its schema: "):
            decode(broken, encoder.schema)


def test_bytes_after_the_last_field_are_ignored_as_spark_ignores_them(encoder: Encoder) -> None:
    value = encoder.encode(RECORD)
    assert decode(value + b"\0", encoder.schema) == decode(value, encoder.schema)


def test_every_topics_schema_file_is_valid_and_has_the_topic_in_its_description() -> None:
    for topic, file in SCHEMA_FILES.items():
        text, schema = load_schema(SCHEMAS / file)
        assert schema == parse_schema(text)
        assert topic in json.loads(text)["doc"]


@pytest.mark.parametrize(
    "text",
    ['{"type": "record"', '{"type": "record", "name": "x", "fields": [{"name": "a", "type": "decimal"}]}', "{}"],
)
def test_an_invalid_schema_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.avsc"
    file.write_text(text)
    with pytest.raises(UserError, match=r"broken\.avsc is not a valid Avro schema: .*; correct the file$") as error:
        load_schema(file)
    assert "\n" not in str(error.value)


def test_a_missing_schema_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.avsc: No such file or directory; restore the file or correct SCHEMA_D"):
        load_schema(tmp_path / "none.avsc")


def test_the_decoder_refuses_garbage_without_asking_and_asks_for_an_unknown_schema(encoder: Encoder) -> None:
    decoder = Decoder(SchemaRegistry("http://localhost:1"))
    with pytest.raises(SerializationError, match="wire format"):
        decoder.decode(b"\1garbage")
    with pytest.raises(RegistryUnavailable):
        decoder.decode(encoder.encode(RECORD))


class Registry:
    """The registry's answers, without one."""

    url = "http://registry"

    def __init__(self, versions: dict[int, str], deleted: dict[int, str]) -> None:
        self._versions, self._all = versions, versions | deleted
        self.asked = 0

    def schema(self, schema_id: int) -> str | None:
        self.asked += 1
        return self._all.get(schema_id)

    def known_versions(self, topic: str) -> list[tuple[int, str]]:
        return list(self._versions.items()) if topic == TRANSACTIONS else []


def schema_with(**types: Any) -> str:
    """Our schema with other types of some fields; a type of None removes the field."""
    schema = json.loads((SCHEMAS / SCHEMA_FILES[TRANSACTIONS]).read_text())
    fields = [field | {"type": types.get(field["name"], field["type"])} for field in schema["fields"]]
    return json.dumps(schema | {"fields": [field for field in fields if field["type"] is not None]})


def test_the_decoder_reads_a_version_that_was_deleted_and_refuses_one_that_means_other_things() -> None:
    """C1, C3: the same decision as Bronze."""
    ours = schema_with()
    micros = schema_with(event_time={"type": "long", "logicalType": "timestamp-micros"})
    registry = Registry(
        {1: ours, 2: schema_with(currency=None), 3: micros, 4: '"string"'}, {9: schema_with(metadata=None)}
    )
    decoder = Decoder(cast(SchemaRegistry, registry))
    deleted = Encoder(parse_schema(schema_with(metadata=None)), 9).encode(RECORD)
    assert decoder.decode(deleted)["user_id"] == RECORD["user_id"]
    assert decoder.decode(Encoder(parse_schema(ours), 1).encode(RECORD))["merchant_category"] is None
    for schema_id, reason in {
        2: "currency: is missing",
        3: "event_time: its type",
        4: "no record of this",
        5: "not in",
    }.items():
        value = Encoder(parse_schema(ours), schema_id).encode(RECORD)
        for _ in range(2):  # the second time without a question
            with pytest.raises(SerializationError, match=f"schema {schema_id} is .*{reason}"):
                decoder.decode(value)
    assert registry.asked == 6


def test_encoders_use_the_newest_usable_version() -> None:
    """C1."""
    registry = Registry({1: schema_with(), 2: schema_with(currency=None)}, {})
    registry.versions = registry.known_versions  # type: ignore[attr-defined]
    assert latest_encoder(cast(SchemaRegistry, registry), TRANSACTIONS).schema_id == 1


def test_a_record_as_text_has_amounts_as_a_person_writes_them() -> None:
    text = json.loads(to_json(RECORD | {"amount": cents_to_bytes(-1205), "note": Decimal("1.5")}))
    assert (text["amount"], text["city"], text["note"]) == ("-12.05", "Köln", "1.5")
    assert "Köln".encode() in to_json(RECORD)
