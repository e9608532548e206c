"""Text and JSON values as Avro's own types, by the field's schema: what a person types, or what a JSON letter has.

Avro's own types are those on the wire: an amount is bytes and a time is a whole number. What is decoded and encoded in
them stays the same to the last bit, whatever Python's types could represent.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from fraud_common.errors import SerializationError

Type = Any  # of a field, as in an .avsc file

_TRUE = {"true", "t", "1", "1.0", "yes", "y"}
_FALSE = {"false", "f", "0", "0.0", "no", "n"}
# A float32 shows 12.3 as 12.30000019: if a whole unit (a cent, say) is nearer than this, the number is that unit.
_UNIT_TOLERANCE = Decimal("0.001")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND = {"timestamp-millis": 1_000, "timestamp-micros": 1_000_000}


def plain_type(kind: Type) -> Type:
    """The type, or whole schema, without logical types: by it values stay as they are on the wire."""
    if isinstance(kind, list):
        return [plain_type(branch) for branch in kind]
    if isinstance(kind, dict):
        # A default is a value.
        return {
            name: value if name == "default" else plain_type(value)
            for name, value in kind.items()
            if name != "logicalType"
        }
    return kind


def default_value(value: Any, kind: Type) -> Any:
    """A default as Avro's own type; a schema writes those of bytes as text."""
    first = kind[0] if isinstance(kind, list) else kind
    primitive = first["type"] if isinstance(first, dict) else first
    return value.encode("latin-1") if primitive == "bytes" and isinstance(value, str) else value


def is_empty(value: Any) -> bool:
    """Whether a value says that there is none."""
    return value is None or value == ""


def to_avro(value: Any, kind: Type, name: str) -> Any:
    """The value as Avro's own type.

    Args:
        value: text, or anything that JSON has.
        kind: the type of the field.
        name: the field's name, for the error.

    Raises:
        SerializationError: the value does not fit; the message names the field.
    """
    if isinstance(kind, list):
        if "null" in kind and is_empty(value):
            return None
        branches = [branch for branch in kind if branch != "null"]
        return to_avro(value, branches[0], name)
    logical = kind.get("logicalType") if isinstance(kind, dict) else None
    primitive = kind["type"] if isinstance(kind, dict) else kind
    try:
        if logical == "decimal":
            return _decimal_bytes(value, kind["precision"], kind.get("scale", 0), name)
        if logical in _PER_SECOND:
            return _since_1970(value, _PER_SECOND[logical], name)
        return _of_primitive(value, primitive, kind, name)
    except (ValueError, TypeError, InvalidOperation, OverflowError) as error:
        if isinstance(error, SerializationError):
            raise
        raise SerializationError(f"{name}: {value!r:.80} is no {logical or primitive}") from None


def _of_primitive(value: Any, primitive: str, kind: Type, name: str) -> Any:
    if primitive == "boolean":
        return _truth(value, name)
    if primitive in ("int", "long"):
        return _whole(Decimal(str(value)))
    if primitive in ("float", "double"):
        return float(value)
    if primitive == "string":
        return json.dumps(value) if isinstance(value, dict | list) else str(value)
    if primitive == "enum":
        return _symbol(value, kind["symbols"], name)
    if primitive == "map":
        entries = json.loads(value) if isinstance(value, str) else value
        if not isinstance(entries, Mapping):
            raise SerializationError(f"{name}: {value!r:.80} is not a JSON object")
        return {str(key): to_avro(entry, kind["values"], f"{name}.{key}") for key, entry in entries.items()}
    if primitive == "bytes":
        return str(value).encode()
    return json.loads(value) if isinstance(value, str) else value


def _decimal_bytes(value: Any, precision: int, scale: int, name: str) -> bytes:
    try:
        units = Decimal(str(value).strip()).scaleb(scale)
        nearest = units.to_integral_value()
    except InvalidOperation:
        raise SerializationError(f"{name}: {value!r:.80} is not a number") from None
    if not units.is_finite():
        raise SerializationError(f"{name}: {value!r:.80} is not a number")
    if abs(units - nearest) > _UNIT_TOLERANCE:
        raise SerializationError(f"{name}: {value!r:.80} has more than {scale} decimal places")
    if abs(nearest) >= Decimal(10) ** precision:
        raise SerializationError(f"{name}: {value!r:.80} has more than {precision} digits")
    whole = int(nearest)
    return whole.to_bytes((whole + (whole < 0)).bit_length() // 8 + 1, "big", signed=True)


def _since_1970(value: Any, per_second: int, name: str) -> int:
    text = str(value).strip()
    try:
        if isinstance(value, int) or text.lstrip("-").isdecimal():
            return _whole(Decimal(text))
        moment = datetime.fromisoformat(text)
    except (ValueError, InvalidOperation):
        raise SerializationError(f"{name}: {value!r:.80} is not an ISO 8601 timestamp") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - _EPOCH) // timedelta(microseconds=1_000_000 // per_second)


def _whole(number: Decimal) -> int:
    whole = int(number) if abs(number) < 2**63 else None  # the numbers of Avro's long
    if whole != number or whole is None:
        raise ValueError(f"{number} is no whole number of 64 bits")
    return whole


def _truth(value: Any, name: str) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise SerializationError(f"{name}: {value!r:.80} is neither true nor false")


def _symbol(value: Any, symbols: list[str], name: str) -> str:
    for symbol in (str(value), str(value).lower()):
        if symbol in symbols:
            return symbol
    raise SerializationError(f"{name}: {value!r:.80} is none of {', '.join(symbols)}")
