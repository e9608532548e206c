"""The bad messages of drills: every kind is made, and is bad in its own way."""

import numpy as np
import pytest
from fraud_common.avro import Encoder, decode, load_schema, schema_id_of
from fraud_common.errors import SerializationError
from fraud_common.topics import MAX_RECORD_BYTES
from producer.settings import Settings
from producer.simulator.invalid import KINDS, REFUSED, RULE_BREAKERS, UNDECODABLE, make_invalid
from producer.simulator.records import Records
from producer.simulator.stream import Stream


def test_every_kind_of_bad_message_is_made_and_is_bad_in_its_own_way() -> None:
    _, schema = load_schema(Settings().schema_dir / "transaction.avsc")
    encoder = Encoder(schema, 7)
    stream = Stream(1, 200, 20_000)
    block = stream.block(20_001)
    records = list(Records(stream).transactions(block.payments, block.positions))
    made = {bad.kind: bad for bad in make_invalid(records, 1.0, encoder, np.random.default_rng(0))}
    assert set(made) == set(KINDS)
    for kind in REFUSED:
        record = made[kind].record
        if kind == "too_large":
            assert len(encoder.encode(record)) > MAX_RECORD_BYTES
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


def test_simulated_records_fit_their_schemas() -> None:
    stream = Stream(1, 300, 20_000)
    records = Records(stream)
    block, labels = stream.block(20_030), stream.labels(20_030)
    assert len(labels) > 0
    for file, made in (
        ("transaction.avsc", records.transactions(block.payments, block.positions)),
        ("fraud_label.avsc", records.labels(labels)),
    ):
        _, schema = load_schema(Settings().schema_dir / file)
        encoder = Encoder(schema, 1)
        for record in made:
            assert decode(encoder.encode(record), schema)["transaction_id"] == record["transaction_id"]
