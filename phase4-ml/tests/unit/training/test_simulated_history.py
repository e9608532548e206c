"""The examples of a simulated history: what the oracle says of the same payments, and no more than was known."""

import numpy as np
import pandas as pd
import pytest
from features import FEATURES
from oracle import assert_same, training_example
from producer.simulator.merchants import build_merchants
from simulated_history import MATURITY_DAYS, History, make_dataset, make_history
from training.gold import Dataset
from training_world import UNWEIGHTED

SETTINGS = UNWEIGHTED.model_copy(update={"training_legitimate_per_fraud": 5, "training_minimum_frauds": 1})


@pytest.fixture(scope="module", params=["cards", "terminal"])
def world(request: pytest.FixtureRequest) -> tuple[History, Dataset]:
    history = make_history(3, 200, 40, request.param)
    return history, make_dataset(SETTINGS, history)


def tables(history: History) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The payments and labels as the oracle takes them."""
    own = history.payments
    device = [str(number) if number else "" for number in own.device.tolist()]
    payments = pd.DataFrame(
        {
            "transaction_id": [str(row) for row in range(len(own))],
            "user_id": np.array(history.users)[own.user],
            "merchant_id": own.merchant.astype(str),
            "device_id": device,
            "country": history.country.astype(str),
            "amount": own.cents / 100,
            "is_international": history.is_international.astype(bool),
            "event_time": pd.to_datetime(own.event_ms, unit="ms", utc=True),
            "device_type": None,
            "merchant_category": None,
            "currency": None,
        }
    )
    labels = pd.DataFrame(
        {
            "transaction_id": history.label_row.astype(str),
            "user_id": payments["user_id"].to_numpy()[history.label_row],
            "is_fraud": history.label_is_fraud,
            "fraud_type": None,
            "reported_at": pd.to_datetime(history.reported_ms, unit="ms", utc=True),
        }
    )
    return payments, labels


def test_features_are_those_of_the_oracle(world: tuple[History, Dataset]) -> None:
    history, dataset = world
    payments, labels = tables(history)
    merchants = pd.DataFrame({"merchant_id": build_merchants(2).ids, "category": "", "category_risk": "medium"})
    examples = dataset.examples
    row_of = {
        (user, moment, amount): row
        for row, (user, moment, amount) in enumerate(
            zip(payments["user_id"], history.payments.event_ms, np.float32(payments["amount"]), strict=True)
        )
    }
    rng = np.random.default_rng(1)
    frauds = np.flatnonzero(examples.is_fraud)
    for place in [*rng.choice(frauds, min(15, len(frauds)), replace=False), *rng.choice(len(examples), 15)]:
        moment = examples.event_time[place].astype(np.int64)
        row = row_of[examples.user_id[place], moment, examples.matrix[place, FEATURES.index("amount")]]
        expected = training_example(payments.iloc[row], payments, labels, merchants)
        found = dict(zip(FEATURES, examples.matrix[place].tolist(), strict=True))
        # What the request says, and the merchant's category, which the simulator knows.
        names = set(FEATURES) & set(expected) - {"merchant_category_risk", "is_local_currency"}
        assert len(names) > 50
        assert_same(found, {name: np.float32(expected[name]) for name in names}, str(row))


def test_examples_have_matured_and_labels_were_reported(world: tuple[History, Dataset]) -> None:
    history, dataset = world
    examples, split = dataset.examples, dataset.split
    end = np.datetime64(history.end_day, "D")
    assert examples.event_time.max() < end - np.timedelta64(MATURITY_DAYS, "D")
    assert examples.is_fraud.sum() > 10
    assert (examples.known_at[examples.is_fraud] < end).all()
    assert (examples.fraud_type[~examples.is_fraud] == "").all()
    # The sample represents all payments; the holdout is complete.
    train_end, holdout_start = (
        np.datetime64(moment.replace(tzinfo=None), "ms") for moment in (split.train_end, split.holdout_start)
    )
    happened = history.payments.event_ms.astype("datetime64[ms]")
    learned = examples.event_time < train_end
    assert examples.weight[learned].sum() == pytest.approx((happened < train_end).sum(), rel=0.15)
    in_holdout = (happened >= holdout_start) & (happened <= examples.event_time.max())
    assert (~learned).sum() == pytest.approx(in_holdout.sum(), rel=0.02)
