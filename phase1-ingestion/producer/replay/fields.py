"""The fields that a row of a file can have, and what stands in for those that it doesn't have."""

from typing import Any

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
    "merchant_category": None,
}
REQUIRED = ("user_id", "amount", "event_time")
LABEL_FIELDS = ("is_fraud", "fraud_type", "reported_at")
# When a label became known, if the source does not say: so many days after the payment.
LABEL_DELAY_DAYS = 7.0
TRANSACTION_FIELDS = ("transaction_id", *REQUIRED, *DEFAULTS)
FIELDS = (*TRANSACTION_FIELDS, *LABEL_FIELDS)

DAY_MS = 86_400_000
