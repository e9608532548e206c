"""Messages of the unit tests of Bronze: schemas, a good payment and label, and their bytes."""

import json
import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro

SCHEMAS = Path(__file__).parents[2] / "phase1-ingestion" / "producer" / "schemas"
TRANSACTION = json.loads((SCHEMAS / "transaction.avsc").read_text())
LABEL = json.loads((SCHEMAS / "fraud_label.avsc").read_text())
EVOLVED = TRANSACTION | {"fields": [*TRANSACTION["fields"], {"name": "channel", "type": "string", "default": "none"}]}

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "transaction_id": "t1",
    "user_id": "u1",
    "amount": Decimal("12.50"),
    "currency": "EUR",
    "merchant_id": "m1",
    "merchant_name": "Shop",
    "country": "DE",
    "city": "Berlin",
    "device_id": "d1",
    "device_type": "pos",
    "event_time": NOW,
    "is_international": False,
    "metadata": {"a": "b"},
    "merchant_category": None,
}
GOOD_LABEL: dict[str, Any] = {
    "transaction_id": "t1",
    "user_id": "u1",
    "is_fraud": True,
    "fraud_type": "card_testing",
    "event_time": NOW,
    "reported_at": NOW + timedelta(minutes=30),
}


def avro(record: dict[str, Any], schema: dict[str, Any] = TRANSACTION, schema_id: int = 1) -> bytes:
    """A message in the Confluent wire format."""
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(dict(schema)), record)
    return struct.pack(">bI", 0, schema_id) + body.getvalue()
