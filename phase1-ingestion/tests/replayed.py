"""What replay makes of a file, without Kafka: the messages and dead letters of all its rows, decoded."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraud_common.avro import Encoder, decode, load_schema
from fraud_common.topics import LABELS, SCHEMA_FILES, TRANSACTIONS
from producer.replay.column_map import load_map
from producer.replay.replay import Messages
from producer.replay.rows import read_rows
from producer.replay.summary import Summary, summarise

SCHEMAS = Path(__file__).parents[1] / "producer" / "schemas"


@dataclass(frozen=True)
class Replayed:
    """All that a file becomes."""

    payments: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    letters: list[dict[str, Any]]
    reasons: Counter[str]
    errors: list[str]
    summary: Summary


def encoders() -> dict[str, Encoder]:
    """Encoders of the schema files, without a registry."""
    return {topic: Encoder(load_schema(SCHEMAS / SCHEMA_FILES[topic])[1], 1) for topic in (TRANSACTIONS, LABELS)}


def replayed(file: Path, map_file: Path | None = None, portion: int = 1_000) -> Replayed:
    """Replay a file."""
    schemas = {topic: load_schema(SCHEMAS / SCHEMA_FILES[topic])[1] for topic in (TRANSACTIONS, LABELS)}
    result = Replayed([], [], [], Counter(), [], Summary("", 0, 0))
    column_map = load_map(map_file)
    with read_rows(file, column_map) as rows:
        summary = summarise(rows)
        messages = Messages(encoders(), rows, column_map)
        for start in range(0, rows.size, portion):
            sent, letters = messages.between(start, min(start + portion, rows.size))
            for message in sent:
                result.payments.append(_record(message.payment, schemas[TRANSACTIONS]))
                if message.label is not None:
                    result.labels.append(_record(message.label, schemas[LABELS]))
            for letter in letters:
                result.letters.append(json.loads(letter.value))
                result.reasons[letter.reason] += 1
                result.errors.append(letter.error)
        assert len(result.payments) + len(result.letters) == rows.size == summary.rows
    return Replayed(result.payments, result.labels, result.letters, result.reasons, result.errors, summary)


def _record(value: bytes, schema: Any) -> dict[str, Any]:
    record = decode(value, schema)
    assert isinstance(record, dict)
    return record
