"""Good records for the tests to change: a payment and a label, as they are before they become Avro."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

NOON = datetime(2024, 11, 29, 12, tzinfo=UTC)


def payment(number: int, **changes: Any) -> dict[str, Any]:
    """A good payment; each of ten cardholders pays in turn."""
    return {
        "transaction_id": f"t{number:06d}",
        "user_id": f"u{number % 10}",
        "amount": Decimal("12.50") + number % 100,
        "currency": "EUR",
        "merchant_id": f"m{number % 7}",
        "merchant_name": "a shop",
        "country": "DE",
        "city": "Berlin",
        "device_id": "d1",
        "device_type": "mobile",
        "event_time": NOON + timedelta(seconds=number),
        "is_international": False,
        "metadata": {},
    } | changes


def label(**changes: Any) -> dict[str, Any]:
    """A good label: its payment was fraud."""
    return {
        "transaction_id": "t1",
        "user_id": "u1",
        "is_fraud": True,
        "fraud_type": None,
        "event_time": NOON,
        "reported_at": NOON,
    } | changes
