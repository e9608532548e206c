"""Bad messages of every kind, for drills (INVALID_RATE). They are extra: the good stream does not change.

Each kind is a function from a good record to what is sent instead. The producer refuses some, some are
undecodable, and some are good Avro that breaks a quality rule of the Bronze writer.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from fraud_common.avro import HEADER, Encoder, cents_to_bytes

Record = dict[str, Any]
YEAR_MS = 365 * 86_400_000


@dataclass(frozen=True)
class Invalid:
    """A bad message: a record for the encoder, or bytes that are sent as they are."""

    kind: str
    record: Record | None = None
    value: bytes | None = None


def _record(**changes: Any) -> Callable[[Record, Encoder], Record]:
    return lambda record, encoder: record | changes


# Refused by the producer: they go to the dead letter topic and never reach transactions.raw.
REFUSED: dict[str, Callable[[Record, Encoder], Record]] = {
    "amount_missing": _record(amount=None),
    "amount_text": _record(amount="12,50"),
    "device_type_unknown": _record(device_type="fridge"),
    "too_large": _record(metadata={"note": "x" * 1_200_000}),
}
# Good Avro, bad data: the Bronze writer's quality rules catch it.
RULE_BREAKERS: dict[str, Callable[[Record, Encoder], Record]] = {
    "amount_negative": _record(amount=cents_to_bytes(-1250)),
    "amount_zero": _record(amount=cents_to_bytes(0)),
    "user_id_empty": _record(user_id=""),
    "transaction_id_empty": _record(transaction_id=""),
    "event_time_future": lambda record, _: record | {"event_time": record["event_time"] + 20 * YEAR_MS},
    "event_time_invalid": _record(event_time=-62_135_596_800_000 - 86_400_000),
    "several_rules": _record(amount=cents_to_bytes(-1), user_id="", transaction_id=""),
}
# Not decodable at all.
UNDECODABLE: dict[str, Callable[[Record, Encoder], bytes]] = {
    "garbage": lambda record, encoder: os.urandom(64),
    "truncated": lambda record, encoder: encoder.encode(record)[:-20],
    "unknown_schema": lambda record, encoder: HEADER.pack(0, 999_999) + encoder.encode(record)[HEADER.size :],
    "not_wire_format": lambda record, encoder: b'{"transaction_id": "tx-json", "amount": 12.5}',
    "empty": lambda record, encoder: b"",
}
KINDS = (*REFUSED, *RULE_BREAKERS, *UNDECODABLE)


def make_invalid(good: list[Record], rate: float, encoder: Encoder, rng: np.random.Generator) -> list[Invalid]:
    """About `rate` bad messages for each good record, of all kinds in equal shares, made from these records."""
    made = []
    for record in good:
        if rng.random() >= rate:
            continue
        kind = KINDS[int(rng.integers(len(KINDS)))]
        copy = record | {"transaction_id": f"bad-{kind}-{record['transaction_id']}"}
        if kind in UNDECODABLE:
            made.append(Invalid(kind, value=UNDECODABLE[kind](copy, encoder)))
        else:
            made.append(Invalid(kind, record=(REFUSED | RULE_BREAKERS)[kind](copy, encoder)))
    return made
