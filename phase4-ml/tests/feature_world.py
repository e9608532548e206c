"""What the tests of features share: a small world of payments and labels, and what the oracle knows of its users."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import oracle
import pandas as pd
from feature_store import totals
from feature_store.layout import Label, PaymentEvent, unpack_user
from features import (
    DEVICE_FEATURES,
    NOVELTY_FEATURES,
    DeviceFeatures,
    MerchantFeatures,
    Novelty,
    Payment,
    UserEvents,
    UserFeatures,
    milliseconds,
    training_matrix,
)
from numpy.typing import NDArray
from serving.predictor import category_risk

DAYS, USERS, MERCHANTS, PAYMENTS, EXAMPLES = 70, 30, 20, 3000, 200
START = pd.Timestamp("2019-03-01", tz="UTC")


def make_world(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Payments, labels and merchants: two in one millisecond, users who come back after months, cleared frauds."""
    milliseconds = np.sort(rng.integers(0, DAYS * 86_400_000, PAYMENTS))
    user = rng.zipf(1.3, PAYMENTS) % USERS
    twins = rng.choice(np.arange(1, PAYMENTS), 60, replace=False)
    milliseconds[twins], user[twins] = milliseconds[twins - 1], user[twins - 1]
    payments = pd.DataFrame(
        {
            "transaction_id": [f"t{number:05d}" for number in rng.permutation(PAYMENTS)],
            "user_id": [f"parity-{number}" for number in user],
            "amount": np.exp(rng.normal(4, 1.5, PAYMENTS)).round(2) + 0.01,
            "merchant_id": [f"m{number}" for number in rng.integers(0, MERCHANTS, PAYMENTS)],
            # Some are not given.
            "country": rng.choice(["DE", "FR", "US", ""], PAYMENTS),
            "device_id": [f"d{number}" if number else "" for number in rng.integers(0, 5, PAYMENTS)],
            "device_type": rng.choice(["mobile", "web", "atm", "pos"], PAYMENTS),
            "event_time": START + pd.to_timedelta(milliseconds, unit="ms"),
            "is_international": rng.random(PAYMENTS) < 0.3,
            # Some give a currency, or a category that the reference has, or one that it lacks.
            "currency": rng.choice(["EUR", "USD", "XXX"], PAYMENTS),
            "merchant_category": rng.choice(["gaming", "lottery", ""], PAYMENTS),
        }
    )
    labelled = payments.sample(frac=0.3, random_state=1)
    frauds = labelled[["transaction_id", "user_id", "event_time"]].assign(
        is_fraud=True,
        reported_at=(labelled["event_time"] + pd.to_timedelta(rng.uniform(0.05, 15, len(labelled)), unit="D")).dt.floor(
            "ms"
        ),
    )
    cleared = frauds.sample(frac=0.2, random_state=2)
    cleared = cleared.assign(is_fraud=False, reported_at=cleared["reported_at"] + pd.Timedelta(days=5))
    # Two merchants are not in the reference.
    merchants = pd.DataFrame(
        {
            "merchant_id": [f"m{number}" for number in range(MERCHANTS - 2)],
            "category": "gaming",
            "category_risk": rng.choice(["low", "medium", "high"], MERCHANTS - 2),
        }
    )
    return payments, pd.concat([frauds, cleared], ignore_index=True), merchants


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the types that Trino gives."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}


def snapshots_at(
    payment: pd.Series, payments: pd.DataFrame, labels: pd.DataFrame, example: dict[str, Any]
) -> tuple[UserFeatures, MerchantFeatures]:
    """What Gold would say of the user and the merchant just before the payment."""
    now = payment["event_time"]
    own = payments[payments["user_id"] == payment["user_id"]]
    user = oracle.user_features(own[own["event_time"] < now], now)
    user |= oracle.user_frauds(labels, payment["user_id"], now)
    return (
        UserFeatures.from_row(plain(user | {"as_of": now})),
        MerchantFeatures.from_row(plain(example | {"as_of": now.floor("D")})),
    )


def payment_events(payments: pd.DataFrame) -> list[PaymentEvent]:
    """The payments as the stream sees them."""
    return [
        PaymentEvent(
            row.transaction_id,
            row.user_id,
            row.merchant_id,
            milliseconds(row.event_time.to_pydatetime()),
            round(row.amount * 100),
            row.country,
            row.device_id,
            row.is_international,
        )
        for row in payments.itertuples()
    ]


def label_members(labels: pd.DataFrame) -> list[bytes]:
    """The labels as the stream keeps them."""
    return sorted(
        Label(
            row.transaction_id,
            row.user_id,
            milliseconds(row.event_time.to_pydatetime()),
            milliseconds(row.reported_at.to_pydatetime()),
            row.is_fraud,
        ).pack()
        for row in labels.itertuples()
    )


@dataclass(frozen=True)
class Streamed:
    """What the stream keeps of a world, by key, without its limits."""

    users: dict[str, UserEvents]
    hashes: dict[str, dict[bytes, bytes]]
    device_users: dict[str, list[tuple[bytes, float]]]

    @classmethod
    def of(cls, payments: pd.DataFrame, labels: pd.DataFrame) -> "Streamed":
        """All events at once."""
        events = payment_events(payments)
        changes = totals.count_payments(events)
        users = {}
        for user, own in payments.groupby("user_id"):
            members = label_members(labels[labels["user_id"] == user])
            own_events = payment_events(own)
            users[str(user)] = unpack_user(sorted(event.pack() for event in own_events), members)
            frauds = totals.count_frauds({event.key: event for event in own_events}, members, [], {})
            changes.update(frauds)
        hashes: dict[str, dict[bytes, bytes]] = defaultdict(dict)
        for (key, name), number in changes.items():
            hashes[key][name.encode()] = b"%d" % number
        device_users: dict[str, list[tuple[bytes, float]]] = defaultdict(list)
        for (key, member), first in totals.first_payments(events).items():
            device_users[key].append((member, float(first)))
        return cls(users, hashes, device_users)


@dataclass(frozen=True)
class Example:
    """One payment with what was known just before it, and the training example of it."""

    payment: Payment
    row: pd.Series
    user: UserFeatures
    merchant: MerchantFeatures
    novelty: Novelty
    device: DeviceFeatures
    columns: dict[str, Any]


def make_examples(seed: int) -> list[Example]:
    """Examples from a small world; the very first payments are among them: users without any history."""
    payments, labels, merchants = make_world(np.random.default_rng(seed))
    chosen = pd.concat([payments.head(20), payments.sample(EXAMPLES - 20, random_state=seed)])
    examples = []
    for _, row in chosen.iterrows():
        columns = oracle.training_example(row, payments, labels, merchants)
        user, merchant = snapshots_at(row, payments, labels, columns)
        columns |= {"device_type": row["device_type"], "is_international": row["is_international"]}
        payment = Payment(
            row["amount"],
            row["is_international"],
            row["event_time"].to_pydatetime(),
            row["device_type"],
            row["currency"],
            row["country"],
            category_risk(row["merchant_category"], {"gaming": max(map(oracle.RISK.get, merchants["category_risk"]))}),
        )
        novelty = Novelty(**plain({name: columns[name] for name in NOVELTY_FEATURES}))
        device = DeviceFeatures(**plain({name: columns[name] for name in DEVICE_FEATURES}))
        examples.append(Example(payment, row, user, merchant, novelty, device, columns))
    return examples


def learned_matrix(examples: list[Example]) -> NDArray[np.float32]:
    """What a model learns from these examples."""
    return training_matrix(pd.DataFrame([example.columns for example in examples]))
