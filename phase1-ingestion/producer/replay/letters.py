"""The dead letter of a row that could not be sent: what was understood of it, and the row itself.

The value is a JSON object:

- the fields of schema Transaction that were understood, in plain form: amount "12.50", event_time in ISO 8601, ids,
  texts; a field that was not understood has the file's text, so a person sees what to repair;
- `label`, if the row has one: is_fraud, fraud_type and reported_at; where the payment's time is unknown, instead of
  reported_at `label_delay_days`, the map's delay between both;
- `original`: all columns of the row as the file has them; `row`: its number in the file, from 1; `file`: its name.

So a repair needs neither the file nor the map: the transaction is this object without the last three keys, with the
repaired fields; its label is `label_of`. A row with too few or too many columns has no fields, since they may be in
each other's place; a line that could not be read has `line`, its text, `line_number` and `error`.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from producer.replay.fields import DEFAULTS, LABEL_FIELDS, TRANSACTION_FIELDS
from producer.replay.rows import Row

Record = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def explain(row: Row) -> tuple[str, str]:
    """Why a row is refused: the reasons as the dead letter's header has them, and a sentence."""
    if row.misfit is not None:
        return "SerializationError", row.misfit
    rules = (row.violated or "").split(",")
    return ",".join(rules), "; ".join(_sentence(rule, row) for rule in rules)


def letter_of_row(row: Row, constants: Mapping[str, Any], file: str, label_delay_days: float) -> bytes:
    """The value of the dead letter of a row."""
    original = {name: text for name, text in _json(row.original).items() if text is not None}
    if row.misfit is not None and row.misfit.startswith("line: "):
        return _encoded({"original": original, "row": row.number, "file": file})
    draft = _json(row.draft)
    misfits = {sentence.partition(":")[0] for sentence in (row.misfit or "").split("; ")}
    fields = {name: value for name, value in {**constants, **row.fields}.items() if name not in misfits}
    understood = draft | {name: plain(name, value) for name, value in fields.items() if value is not None}
    record = {name: understood[name] for name in TRANSACTION_FIELDS if understood.get(name) is not None}
    label = {name: understood[name] for name in LABEL_FIELDS if understood.get(name) is not None}
    if "is_fraud" in label:
        if "reported_at" not in label:
            label["label_delay_days"] = label_delay_days
        record["label"] = label
    return _encoded({**record, "original": original, "row": row.number, "file": file})


def letter_of_line(number: int, text: str, reason: str, file: str) -> bytes:
    """The value of the dead letter of a line that could not be read."""
    return _encoded({"line": text, "line_number": number, "error": reason, "file": file})


def label_of(letter: Mapping[str, Any], event_time: datetime) -> Record | None:
    """The label of a repaired row, for the payment's time: is_fraud, fraud_type, reported_at; None without a label."""
    label = letter.get("label")
    if not isinstance(label, Mapping):
        return None
    result = {name: label.get(name) for name in LABEL_FIELDS}
    if result["reported_at"] is None:
        known = event_time + timedelta(days=float(label.get("label_delay_days", 0)))
        result["reported_at"] = max(event_time, min(known, datetime.now(UTC))).isoformat()
    return result


def plain(field: str, value: Any) -> Any:
    """A field's value as JSON has it."""
    if field == "amount" and isinstance(value, int):
        return f"{'-' if value < 0 else ''}{abs(value) // 100}.{abs(value) % 100:02}"
    if field in ("event_time", "reported_at") and isinstance(value, int):
        return (_EPOCH + timedelta(milliseconds=value)).isoformat()
    return _json(value) if field == "metadata" and isinstance(value, str) else value


def _sentence(rule: str, row: Row) -> str:
    field = rule.rpartition("_")[0]
    names = {"event_time_in": "event_time", "amount_not": "amount", "reported_before": "reported_at"}
    field = {**names, "reported_in": "reported_at"}.get(field, field)
    value = row.fields.get(field)
    if value is None and field not in DEFAULTS:
        return f"{field}: missing"
    return f"{rule}: {plain(field, value)!s:.80}"


def _json(text: str | None) -> Record:
    return dict(json.loads(text)) if text else {}


def _encoded(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace")
