"""A line of the audit trail for the tests to change."""

import uuid
from typing import Any

import orjson


def line(run: str, **changes: Any) -> bytes:
    """A good prediction of the payment `run`."""
    row = {
        "prediction_id": str(uuid.uuid4()),
        "transaction_id": run,
        "user_id": "u",
        "merchant_id": "m",
        "amount": 1.5,
        "is_international": False,
        "event_time": "2024-11-29T14:30:00Z",
        "fraud_probability": 0.1,
        "risk_tier": "low",
        "model_version": "1",
        "feature_source": "default",
        "feature_age_seconds": None,
        "features": {"amount": 1.5},
        "latency_ms": 0.3,
        "predicted_at": "2024-11-29T14:30:00Z",
    }
    return orjson.dumps(row | changes) + b"\n"
