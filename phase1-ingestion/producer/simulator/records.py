"""Simulated payments and labels as records of their Avro schemas."""

from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import numpy as np
from fraud_common.avro import cents_to_bytes

from producer.simulator.payments import LEGITIMATE, SCENARIOS, Payments
from producer.simulator.stream import Labels, Stream, transaction_id

DEVICE_TYPES = ("mobile", "web", "atm", "pos")


class Records:
    """Makes records; what is the same for all payments of a merchant or cardholder is made once."""

    def __init__(self, stream: Stream) -> None:
        self._users = stream.world.users
        self._homes = stream.world.homes
        self._shops = [astuple(shop) for shop in stream.world.shops]
        self.keys = [user.encode() for user in self._users]

    def transactions(self, payments: Payments, positions: np.ndarray) -> Iterator[dict[str, Any]]:
        """`Transaction` records; amount and event_time as Avro stores them, which fastavro takes as they are."""
        for user, merchant, cents, event_ms, device, device_type, position in zip(
            payments.user.tolist(),
            payments.merchant.tolist(),
            payments.cents.tolist(),
            payments.event_ms.tolist(),
            payments.device.tolist(),
            payments.device_type.tolist(),
            positions.tolist(),
            strict=True,
        ):
            merchant_id, name, city, country, currency = self._shops[merchant]
            yield {
                "transaction_id": transaction_id(position),
                "user_id": self._users[user],
                "amount": cents_to_bytes(cents),
                "currency": currency,
                "merchant_id": merchant_id,
                "merchant_name": name,
                "country": country,
                "city": city,
                "device_id": f"{device:016x}" if device else "",
                "device_type": DEVICE_TYPES[device_type],
                "event_time": event_ms,
                "is_international": country != self._homes[user],
                "metadata": {},
            }

    def labels(self, labels: Labels) -> Iterator[dict[str, Any]]:
        """`FraudLabel` records."""
        for position, user, event_ms, reported_ms, scenario in zip(
            labels.position.tolist(),
            labels.user.tolist(),
            labels.event_ms.tolist(),
            labels.reported_ms.tolist(),
            labels.scenario.tolist(),
            strict=True,
        ):
            yield {
                "transaction_id": transaction_id(position),
                "user_id": self._users[user],
                "is_fraud": scenario != LEGITIMATE,
                "fraud_type": None if scenario == LEGITIMATE else SCENARIOS[scenario],
                "event_time": event_ms,
                "reported_at": reported_ms,
            }
