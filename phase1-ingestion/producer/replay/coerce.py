"""Converts values from files and dead letters to the types of the Transaction schema; errors name the field."""

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from fraud_common.avro import cents_to_bytes
from fraud_common.errors import SerializationError

# The value of a field that the source does not have. Fields that are not here are required.
DEFAULTS: dict[str, Any] = {
    "currency": "XXX",  # ISO 4217 for "no currency"
    "merchant_id": "unknown",
    "merchant_name": "unknown",
    "country": "ZZ",  # ISO 3166 user-assigned, commonly "unknown"
    "city": "unknown",
    "device_id": "unknown",
    "device_type": "pos",
    "is_international": False,
    "metadata": {},
}
REQUIRED = ("user_id", "amount", "event_time")
LABEL_FIELDS = ("is_fraud", "fraud_type", "reported_at")
# When a label became known, if the source does not say: so many days after the payment.
LABEL_DELAY_DAYS = 7.0
TRANSACTION_FIELDS = ("transaction_id", *REQUIRED, *DEFAULTS)

DAY_MS = 86_400_000
_TRUE = {"true", "t", "1", "1.0", "yes", "y"}
_FALSE = {"false", "f", "0", "0.0", "no", "n"}
# A float32 column shows 12.3 as 12.30000019: if a whole cent is nearer than this, the amount is that cent.
_CENT_TOLERANCE = Decimal("0.001")


def to_cents(value: Any) -> int:
    """An amount in hundredths.

    Raises:
        SerializationError: it is not a number, or has a fraction of a cent.
    """
    try:
        cents = Decimal(str(value)) * 100
        nearest = cents.to_integral_value()
    except (InvalidOperation, ValueError):
        raise SerializationError(f"amount: {value!r:.80} is not a number") from None
    if not cents.is_finite():
        raise SerializationError(f"amount: {value!r:.80} is not a number")
    if abs(cents - nearest) > _CENT_TOLERANCE:
        raise SerializationError(f"amount: {value!r:.80} has a fraction of a cent")
    return int(nearest)


def to_millis(value: Any, time_format: str = "iso", field: str = "event_time") -> int:
    """A time in milliseconds since 1970 UTC; a time without a zone is UTC.

    Args:
        time_format: iso, s, ms, or a strptime format.

    Raises:
        SerializationError: the value is not such a time.
    """
    try:
        if isinstance(value, datetime):
            moment = value
        elif isinstance(value, date):
            moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
        elif time_format in ("s", "ms"):
            return int(Decimal(str(value)) * (1000 if time_format == "s" else 1))
        elif isinstance(value, int):
            return value
        elif time_format == "iso":
            moment = datetime.fromisoformat(str(value).strip())
        else:
            moment = datetime.strptime(str(value).strip(), time_format)  # noqa: DTZ007 (set below)
    except (ValueError, InvalidOperation, OverflowError):
        raise SerializationError(f"{field}: {value!r:.80} is not a time of the format {time_format}") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1000)


def to_bool(value: Any, field: str) -> bool:
    """A truth value, from the usual spellings.

    Raises:
        SerializationError: it is none of them.
    """
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise SerializationError(f"{field}: {value!r:.80} is neither true nor false")


def to_transaction(draft: dict[str, Any], time_format: str = "iso") -> dict[str, Any]:
    """A Transaction record from loosely typed values; defaults fill what is absent or empty.

    Raises:
        SerializationError: a required field is absent or empty, or a value does not fit; the message names the field.
    """
    record = {field: draft[field] if _given(draft, field) else default for field, default in DEFAULTS.items()}
    for field in ("transaction_id", *REQUIRED):
        if not _given(draft, field):
            raise SerializationError(f"{field}: missing")
    for field in ("currency", "merchant_id", "merchant_name", "country", "city", "device_id"):
        record[field] = str(record[field])
    return record | {
        "transaction_id": str(draft["transaction_id"]),
        "user_id": str(draft["user_id"]),
        "amount": cents_to_bytes(to_cents(draft["amount"])),
        "event_time": to_millis(draft["event_time"], time_format),
        "device_type": str(record["device_type"]).lower(),
        "is_international": to_bool(record["is_international"], "is_international"),
        "metadata": {str(k): str(v) for k, v in dict(record["metadata"]).items()},
    }


def to_label(
    draft: dict[str, Any],
    transaction: dict[str, Any],
    time_format: str = "iso",
    label_delay_days: float = LABEL_DELAY_DAYS,
) -> dict[str, Any] | None:
    """The FraudLabel of a transaction, or None if the source has no label.

    Raises:
        SerializationError: the label is there but can't be read; the message names the field.
    """
    if not _given(draft, "is_fraud"):
        return None
    is_fraud = to_bool(draft["is_fraud"], "is_fraud")
    return {
        "transaction_id": transaction["transaction_id"],
        "user_id": transaction["user_id"],
        "is_fraud": is_fraud,
        "fraud_type": str(draft["fraud_type"]) if is_fraud and _given(draft, "fraud_type") else None,
        "event_time": transaction["event_time"],
        "reported_at": to_millis(draft["reported_at"], time_format, "reported_at")
        if _given(draft, "reported_at")
        else transaction["event_time"] + int(label_delay_days * DAY_MS),
    }


def _given(draft: dict[str, Any], field: str) -> bool:
    return draft.get(field) not in (None, "")
