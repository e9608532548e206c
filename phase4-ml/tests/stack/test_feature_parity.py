"""Training and serving compute the same numbers: for one payment at one instant, the vector that a model learns from
and the one that it scores, after the snapshots went through real Redis.

The examples come from the brute-force oracle of the transforms' tests, which is proved there to be what the SQL makes.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import oracle
import pandas as pd
import pytest
from features import (
    FEATURES,
    MERCHANT_KEY,
    TRAINING_COLUMNS,
    USER_KEY,
    MerchantFeatures,
    Payment,
    UserFeatures,
    training_matrix,
)
from serving.feature_client import FeatureClient, Found
from serving.settings import Settings, load_settings
from stack import redis_client

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
            "country": rng.choice(["DE", "FR", "US"], PAYMENTS),
            "device_id": [f"d{number}" for number in rng.integers(0, 5, PAYMENTS)],
            "device_type": rng.choice(["mobile", "web", "atm", "pos"], PAYMENTS),
            "event_time": START + pd.to_timedelta(milliseconds, unit="ms"),
            "is_international": rng.random(PAYMENTS) < 0.3,
        }
    )
    labelled = payments.sample(frac=0.3, random_state=1)
    frauds = labelled[["transaction_id", "user_id", "event_time"]].assign(
        is_fraud=True,
        reported_at=labelled["event_time"] + pd.to_timedelta(rng.uniform(0.05, 15, len(labelled)), unit="D"),
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
    user["confirmed_frauds"] = (oracle.frauds_known(labels, now)["user_id"] == payment["user_id"]).sum()
    return (
        UserFeatures.from_row(plain(user | {"as_of": now})),
        MerchantFeatures.from_row(plain(example | {"as_of": now.floor("D")})),
    )


def through_redis(values: dict[str, str], names: list[str]) -> list[Found]:
    """Written as the feature writer does, and read as the API does."""
    redis_client().mset(values)

    async def read() -> list[Found]:
        client = FeatureClient(load_settings(Settings, redis_deadline_ms=5_000))
        try:
            return await client.look_up([(name, name) for name in names])
        finally:
            await client.close()

    read_back = asyncio.run(read())
    redis_client().delete(*values)
    return read_back


@pytest.mark.parametrize("seed", [1, 2])
def test_an_example_is_the_vector_of_the_same_payment_at_the_same_instant(seed: int) -> None:
    payments, labels, merchants = make_world(np.random.default_rng(seed))
    # The very first ones too: users without any history.
    chosen = pd.concat([payments.head(20), payments.sample(EXAMPLES - 20, random_state=seed)])
    examples, live, values = [], [], {}
    names = [f"parity-{number}" for number in range(EXAMPLES)]
    for number, (_, payment) in enumerate(chosen.iterrows()):
        example = oracle.training_example(payment, payments, labels, merchants)
        user, merchant = snapshots_at(payment, payments, labels, example)
        values[USER_KEY.format(names[number])] = user.to_json()
        values[MERCHANT_KEY.format(names[number])] = merchant.to_json()
        examples.append(example | {"device_type": payment["device_type"]})
        live.append(
            Payment(
                payment["amount"],
                payment["is_international"],
                payment["event_time"].to_pydatetime(),
                payment["device_type"],
            )
        )
    learned = training_matrix(pd.DataFrame(examples).assign(is_international=chosen["is_international"].to_numpy()))
    scored = np.stack(
        [
            UserFeatures.from_json(found.user or b"").to_array(
                payment, MerchantFeatures.from_json(found.merchant or b"")
            )
            for payment, found in zip(live, through_redis(values, names), strict=True)
        ]
    )
    assert learned.shape == scored.shape == (EXAMPLES, len(FEATURES))
    for position, name in enumerate(FEATURES):
        np.testing.assert_allclose(scored[:, position], learned[:, position], rtol=1e-6, atol=1e-6, err_msg=name)
        # A feature that is the same for all would prove nothing.
        assert len(np.unique(scored[:, position])) > 1, name


def test_training_reads_what_the_vector_needs() -> None:
    assert len(FEATURES) == len(set(FEATURES))
    assert set(FEATURES) - set(TRAINING_COLUMNS) == {"is_mobile", "is_web", "is_atm", "is_pos"}
