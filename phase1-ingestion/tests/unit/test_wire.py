"""Encoding and decoding, and what a person is told when a record or a schema doesn't fit."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from fraud_common.errors import SerializationError, UserError
from producer.simulator.invalid import KINDS, REFUSED, RULE_BREAKERS, UNDECODABLE, make_invalid
from producer.simulator.records import Records
from producer.simulator.stream import Stream
from fraud_common.avro import Encoder, cents_to_bytes, decode, load_schema, schema_id_of

SCHEMAS = Path(__file__).parent.parent / "schemas"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(load_schema(SCHEMAS / "transaction.avsc")[1], 7)


@pytest.fixture(scope="module")
def records() -> list[dict]:
    stream = Stream(1, 200, 20_000)
    block = stream.block(20_001)
    return list(Records(stream).transactions(block.payments, block.positions))


def test_a_record_comes_back_as_it_was(encoder: Encoder, records: list[dict]) -> None:
    value = encoder.encode(records[0])
    assert schema_id_of(value) == 7
    back = decode(value, encoder.schema)
    assert back["amount"] == Decimal(int.from_bytes(records[0]["amount"], "big")) / 100
    assert int(back["event_time"].timestamp() * 1000) == records[0]["event_time"]
    assert {k: back[k] for k in ("user_id", "device_type", "metadata")} == {
        k: records[0][k] for k in ("user_id", "device_type", "metadata")
    }


@pytest.mark.parametrize("cents", [0, 1, 127, 128, 255, 256, -1, -128, -129, 10**12 - 1, -(10**12 - 1)])
def test_amounts_are_the_decimal_that_avro_defines(encoder: Encoder, records: list[dict], cents: int) -> None:
    value = encoder.encode(records[0] | {"amount": cents_to_bytes(cents)})
    assert decode(value, encoder.schema)["amount"] == Decimal(cents) / 100
    # Never longer than fastavro's own, slower way.
    assert len(value) <= len(encoder.encode(records[0] | {"amount": Decimal(cents) / 100}))


def test_an_amount_of_13_digits_is_refused() -> None:
    with pytest.raises(SerializationError, match=r"amount: 10000000000\.00 has more than 12 digits"):
        cents_to_bytes(10**12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amount": None}, "amount: None does not fit decimal"),
        ({"device_type": "fridge"}, "device_type: 'fridge' does not fit"),
        ({"event_time": "yesterday"}, "event_time: 'yesterday' does not fit timestamp-millis"),
    ],
)
def test_the_error_names_the_field(encoder: Encoder, records: list[dict], change: dict, message: str) -> None:
    with pytest.raises(SerializationError) as error:
        encoder.encode(records[0] | change)
    assert str(error.value).startswith(message)


def test_a_missing_field_is_named(encoder: Encoder, records: list[dict]) -> None:
    record = dict(records[0])
    del record["city"]
    with pytest.raises(SerializationError, match="city: missing"):
        encoder.encode(record)


@pytest.mark.parametrize("value", [None, b"", b"\0\0", b"\1\0\0\0\7abc", b'{"a": 1}'])
def test_what_is_not_wire_format_says_so(value: bytes | None) -> None:
    with pytest.raises(SerializationError, match="wire format"):
        schema_id_of(value)


def test_truncated_and_too_long_bodies_are_errors(encoder: Encoder, records: list[dict]) -> None:
    value = encoder.encode(records[0])
    for broken in (value[:-3], value + b"\0", value[:20]):
        with pytest.raises(SerializationError):
            decode(broken, encoder.schema)


def test_an_unreadable_schema_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.avsc: No such file"):
        load_schema(tmp_path / "nowhere.avsc")
    broken = tmp_path / "broken.avsc"
    broken.write_text('{"type": "record"')
    with pytest.raises(UserError, match="not a valid Avro schema"):
        load_schema(broken)
    broken.write_text('{"type": "record", "name": "x", "fields": [{"name": "a", "type": "decimal"}]}')
    with pytest.raises(UserError, match="not a valid Avro schema"):
        load_schema(broken)


def test_every_kind_of_bad_message_is_made_and_is_bad_in_its_own_way(encoder: Encoder, records: list[dict]) -> None:
    made = {bad.kind: bad for bad in make_invalid(records, 1.0, encoder, np.random.default_rng(0))}
    assert set(made) == set(KINDS)
    for kind in REFUSED:
        record = made[kind].record
        if kind == "too_large":
            assert len(encoder.encode(record)) > 1_000_000
        else:
            with pytest.raises(SerializationError):
                encoder.encode(record)
    for kind in RULE_BREAKERS:
        schema_id_of(encoder.encode(made[kind].record))
    for kind in UNDECODABLE:
        with pytest.raises(SerializationError):
            if schema_id_of(made[kind].value) == 999_999:
                raise SerializationError("unknown schema")
            decode(made[kind].value, encoder.schema)
