"""The features by brute force: for one moment at a time, from all events, with plain pandas.

This code follows the meaning of the features and shares nothing with the SQL.
"""

from typing import Any

import numpy as np
import pandas as pd

WINDOWS = (1, 7, 30)
DEVICE_USERS_COUNTED = 20
MINUTES = {"10m": 10, "1h": 60, "6h": 360}
HIGH_AMOUNT = 500
SMALL_AMOUNT = 5
LOG_STEP = 1 / 1024
# Those of the test worlds and of the simulator.
CURRENCIES = dict.fromkeys(("DE", "FR", "NL", "ES", "IT", "AT"), "EUR") | {
    "GB": "GBP",
    "PL": "PLN",
    "US": "USD",
    "TR": "TRY",
    "TH": "THB",
    "BR": "BRL",
    "AE": "AED",
    "RO": "RON",
    "NG": "NGN",
    "CN": "CNY",
}
RISK = {"low": 0, "medium": 1, "high": 2}
CLOCK_RANK = 3


def days(n: int) -> pd.Timedelta:
    """So many days."""
    return pd.Timedelta(days=n)


def data_clock(payments: pd.DataFrame) -> pd.Timestamp:
    """The third-newest of the users' newest event times; with fewer users, the oldest of these."""
    newest = sorted(payments.groupby("user_id")["event_time"].max(), reverse=True)
    return newest[:CLOCK_RANK][-1]


def user_features(before: pd.DataFrame, as_of: pd.Timestamp) -> dict[str, Any]:
    """A user's state from the user's events before a moment."""
    features: dict[str, Any] = {}
    month = before[before["event_time"] >= as_of - days(30)]
    for window in WINDOWS:
        amounts = month.loc[month["event_time"] >= as_of - days(window), "amount"].to_numpy(float)
        features |= {
            f"transactions_{window}d": len(amounts),
            f"amount_sum_{window}d": amounts.sum(),
            f"amount_mean_{window}d": amounts.mean() if len(amounts) else 0,
            f"amount_stddev_{window}d": amounts.std() if len(amounts) else 0,
            f"amount_max_{window}d": amounts.max() if len(amounts) else 0,
        }
    for name, column in (("merchants", "merchant_id"), ("countries", "country"), ("devices", "device_id")):
        features[f"distinct_{name}_30d"] = len(set(given(month[column])))
    for window, minutes in MINUTES.items():
        recent = month[month["event_time"] >= as_of - pd.Timedelta(minutes=minutes)]
        features |= {f"transactions_{window}": len(recent), f"amount_sum_{window}": recent["amount"].sum()}
    for window, length in (("1h", pd.Timedelta(hours=1)), ("1d", days(1))):
        recent = month[month["event_time"] >= as_of - length]
        features[f"small_transactions_{window}"] = (recent["amount"] <= SMALL_AMOUNT).sum()
    last_day = month["event_time"] >= as_of - days(1)
    new_merchants = set(month[last_day]["merchant_id"]) - set(month[~last_day]["merchant_id"])
    features["new_merchants_1d"] = len(new_merchants)
    features["international_ratio_30d"] = month["is_international"].mean() if len(month) else 0
    features["high_amount_ratio_30d"] = (month["amount"] >= HIGH_AMOUNT).mean() if len(month) else 0
    features["last_event_time"] = month["event_time"].max() if len(month) else None
    return features


def given(names: pd.Series) -> pd.Series:
    """Countries or devices: one that is missing is a value of its own, the same as an empty text."""
    return names.fillna("")


def novelty(payment: pd.Series, before: pd.DataFrame) -> dict[str, Any]:
    """What is new about a payment for its user, from the user's events before it."""
    now = payment["event_time"]
    month = before[before["event_time"] >= now - days(30)]
    features: dict[str, Any] = {}
    for name, column in (("merchant", "merchant_id"), ("device", "device_id"), ("country", "country")):
        same = month[given(month[column]) == given(payment[[column]]).iloc[0]]
        features[f"is_new_{name}_30d"] = int(len(month) > 0 and len(same) == 0)
        if name == "country":
            continue
        features[f"{name}_share_30d"] = len(same) / len(month) if len(month) else 1
        last = (now - same["event_time"].max()).total_seconds() if len(same) else 30 * 86_400
        features[f"seconds_since_{name}"] = last if len(month) else 86_400
    near = [min((hour - now.hour) % 24, (now.hour - hour) % 24) <= 2 for hour in month["event_time"].dt.hour]
    features["hour_share_30d"] = sum(near) / len(near) if near else 1
    return features


def user_frauds(labels: pd.DataFrame, user_id: str, as_of: pd.Timestamp) -> dict[str, int]:
    """The known frauds of a user at a moment: all of them, and by when they were reported."""
    known = frauds_known(labels, as_of)
    own = known[known["user_id"] == user_id]
    reported = {f"frauds_reported_{n}d": (own["reported_at"] >= as_of - days(n)).sum() for n in WINDOWS}
    return {"confirmed_frauds": len(own)} | reported


def frauds_known(labels: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """The payments whose newest label at a moment is fraud."""
    known = (
        labels[labels["reported_at"] <= as_of].sort_values("reported_at").drop_duplicates("transaction_id", keep="last")
    )
    return known[known["is_fraud"]]


def merchant_features(
    payments: pd.DataFrame, labels: pd.DataFrame, merchant_id: str, day: pd.Timestamp
) -> dict[str, float]:
    """A merchant's state at the start of a day."""
    own = payments[payments["merchant_id"] == merchant_id]
    known = set(frauds_known(labels, day)["transaction_id"])
    features = {}
    for window in WINDOWS:
        inside = own[(own["event_time"] < day) & (own["event_time"] >= day - days(window))]
        frauds = inside["transaction_id"].isin(known).sum()
        features[f"merchant_transactions_{window}d"] = len(inside)
        features[f"merchant_fraud_rate_{window}d"] = frauds / len(inside) if len(inside) else 0
    month = own[(own["event_time"] < day) & (own["event_time"] >= day - days(30))]
    features |= {
        f"merchant_{name}": number for name, number in frauds_reported(month["transaction_id"], labels, day).items()
    }
    logs = log_amount(month["amount"].to_numpy(float))
    features["merchant_log_mean_30d"] = logs.mean() if len(logs) else 0
    # With equal amounts the rounding of their mean is no deviation.
    features["merchant_log_stddev_30d"] = logs.std() if len(set(logs)) > 1 else 0
    return features


def log_amount(amount: Any) -> Any:
    """The logarithm of an amount, or of several, in cents and in whole steps."""
    return np.round(np.log(np.round(amount * 100)) / LOG_STEP) * LOG_STEP


def frauds_reported(transaction_ids: pd.Series, labels: pd.DataFrame, day: pd.Timestamp) -> dict[str, int]:
    """How many more of some payments are known as frauds at the start of a day than some days before."""

    def known(at: pd.Timestamp) -> int:
        return transaction_ids.isin(set(frauds_known(labels, at)["transaction_id"])).sum()

    return {f"frauds_reported_{window}d": known(day) - known(day - days(window)) for window in WINDOWS}


def device_features(payments: pd.DataFrame, labels: pd.DataFrame, device_id: str, now: pd.Timestamp) -> dict[str, int]:
    """A device's state at the start of a day, and its users since then; a payment without a device has none."""
    own = payments[given(payments["device_id"]) == device_id] if device_id else payments.head(0)
    day = now.floor("D")
    month = own[(own["event_time"] < day) & (own["event_time"] >= day - days(30))]
    today = own[(own["event_time"] >= day) & (own["event_time"] < now)]
    reported = frauds_reported(month["transaction_id"], labels, day)
    return {
        "device_users_30d": min(month["user_id"].nunique(), DEVICE_USERS_COUNTED),
        "device_users_today": min(today["user_id"].nunique(), DEVICE_USERS_COUNTED),
    } | {f"device_{name}": number for name, number in reported.items()}


def category_and_risk(category: Any, merchant_id: str, merchants: pd.DataFrame) -> tuple[str, int]:
    """The category that a payment gives (null or empty if none), with its risk in the seed; else the merchant's."""
    if isinstance(category, str) and category:
        risks = [RISK[risk] for risk in merchants.loc[merchants["category"] == category, "category_risk"]]
        return category, max(risks, default=1)
    known = merchants[merchants["merchant_id"] == merchant_id]
    return ("unknown", 1) if known.empty else (known["category"].iloc[0], RISK[known["category_risk"].iloc[0]])


def local_currency(payment: pd.Series) -> int:
    """Whether a payment is in the currency of its country; -1 if it does not give both."""
    currency, country = payment.get("currency"), given(payment[["country"]]).iloc[0]
    if not isinstance(currency, str) or currency == "XXX" or not country:
        return -1
    return int(CURRENCIES[country] == currency)


def merchant_category(payments: pd.DataFrame, merchants: pd.DataFrame, merchant_id: str) -> tuple[str, int]:
    """A merchant's category and its risk: the newest that its payments give up to the data clock, else the seed's."""
    own = payments[(payments["merchant_id"] == merchant_id) & (payments["event_time"] <= data_clock(payments))]
    own = own[own["merchant_category"].fillna("") != ""].sort_values(["event_time", "merchant_category"])
    return category_and_risk(None if own.empty else own["merchant_category"].iloc[-1], merchant_id, merchants)


def training_example(
    payment: pd.Series, payments: pd.DataFrame, labels: pd.DataFrame, merchants: pd.DataFrame
) -> dict[str, Any]:
    """The whole example of one payment."""
    now = payment["event_time"]
    own = payments[payments["user_id"] == payment["user_id"]]
    before = own[own["event_time"] < now]
    features = user_features(before, now) | novelty(payment, before)
    features |= merchant_features(payments, labels, payment["merchant_id"], now.floor("D"))
    features |= user_frauds(labels, payment["user_id"], now)
    features |= device_features(payments, labels, given(payment[["device_id"]]).iloc[0], now)

    mean, spread = features["amount_mean_30d"], features["amount_stddev_30d"]
    features["amount_to_mean_30d"] = payment["amount"] / mean if mean > 0 else 1
    features["amount_zscore_30d"] = (payment["amount"] - mean) / spread if spread > 0 else 0
    there, deviation = features["merchant_log_mean_30d"], features["merchant_log_stddev_30d"]
    distance = log_amount(payment["amount"]) - there
    features["merchant_amount_zscore_30d"] = distance / deviation if deviation > 0 else 0
    last = features.pop("last_event_time")
    features["seconds_since_last"] = (now - last).total_seconds() if last is not None else 30 * 86_400
    month = features["transactions_30d"]
    features["transactions_1d_to_30d"] = features["transactions_1d"] / month if month else 0
    last_day = features["transactions_1d"]
    features["new_merchants_1d_ratio"] = features["new_merchants_1d"] / last_day if last_day else 0
    features["amount_1d_to_30d"] = features["amount_sum_1d"] / features["amount_sum_30d"] if month else 0

    category, risk = category_and_risk(payment.get("merchant_category"), payment["merchant_id"], merchants)
    own_labels = labels[labels["transaction_id"] == payment["transaction_id"]].sort_values("reported_at")
    return features | {
        "amount": payment["amount"],
        "event_hour": now.hour,
        "is_night": now.hour < 6,
        "is_weekend": now.day_of_week >= 5,
        "merchant_category": category,
        "merchant_category_risk": risk,
        "is_local_currency": local_currency(payment),
        "is_fraud": bool(own_labels["is_fraud"].iloc[-1]) if len(own_labels) else False,
    }


def late_history(payment: pd.Series, payments: pd.DataFrame) -> bool:
    """Whether a payment of its user's 30 days arrived after it, although it was not late itself."""
    now = payment["event_time"]
    own = payments[payments["user_id"] == payment["user_id"]]
    month = own[(own["event_time"] < now) & (own["event_time"] >= now - days(30))]
    return bool((month["kafka_timestamp"] > payment["kafka_timestamp"]).any() and not payment["is_late"])


def current_features(user_id: str, payments: pd.DataFrame, labels: pd.DataFrame, as_of: pd.Timestamp) -> dict[str, Any]:
    """A user's state at the data clock, an event of that very moment included."""
    own = payments[(payments["user_id"] == user_id) & (payments["event_time"] <= as_of)]
    return user_features(own, as_of) | user_frauds(labels, user_id, as_of)


def assert_same(actual: dict[str, Any], expected: dict[str, Any], where: str) -> None:
    """Equal to 1e-6, every expected feature."""
    for name, value in expected.items():
        found = actual[name]
        if isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_)):
            assert np.isclose(float(found), float(value), rtol=1e-6, atol=1e-6), (
                f"{where}: {name} is {found}, not {value}"
            )
        elif value is None:
            assert found is None or pd.isna(found), f"{where}: {name} is {found}, not null"
        else:
            assert found == value, f"{where}: {name} is {found}, not {value}"
