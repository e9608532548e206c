"""The names of rules, and their values for a payment."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from features import ALL_FEATURES, FEATURES
from rules.catalogue import CATALOGUE
from rules.facts import RulePayment, facts_of
from rules.money import amount_ref, is_round, to_cents
from rules.rates import Rates, stored_rates

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)


def facts(unknown: Any = (), vector: list[float] | None = None, **payment: Any) -> dict[str, Any]:
    given = {
        "user_id": "u1",
        "merchant_id": "m1",
        "amount": 12.34,
        "is_international": True,
        "event_time": AT,
    } | payment
    values = facts_of(RulePayment(**given), vector or [float(n) for n in range(len(FEATURES))], 0.25, "medium", unknown)
    assert len(values) == len(CATALOGUE)
    return dict(zip(CATALOGUE, values, strict=True))


def test_every_feature_is_a_name() -> None:
    assert set(FEATURES) <= set(CATALOGUE)
    booleans = {name for name in CATALOGUE if CATALOGUE[name].type == "boolean"}
    assert booleans == {
        "is_round_amount",
        "is_international",
        "is_night",
        "is_weekend",
        "is_mobile",
        "is_web",
        "is_atm",
        "is_pos",
        "is_new_merchant_30d",
        "is_new_device_30d",
        "is_new_country_30d",
    }


def test_groups_follow_the_features() -> None:
    for feature in ALL_FEATURES:
        if feature.source != "habit":
            assert CATALOGUE[feature.name].group == feature.source
    assert CATALOGUE["merchant_amount_zscore_30d"].group == "merchant"
    assert CATALOGUE["amount_zscore_30d"].group == "user"


def test_facts_are_the_payment_and_the_vector() -> None:
    values = facts(currency="USD", country="DE", device_id="d1", device_type="web", merchant_category="travel")
    expected = {
        "amount": 12.34,
        "amount_ref": 10.61,
        "is_round_amount": False,
        "currency": "USD",
        "country": "DE",
        "device_id": "d1",
        "device_type": "web",
        "merchant_category": "travel",
        "merchant_id": "m1",
        "user_id": "u1",
        "is_international": True,
        "fraud_probability": 0.25,
        "risk_tier": "medium",
    }
    assert {name: values[name] for name in expected} == expected
    for position, name in enumerate(FEATURES):
        if name not in expected:
            boolean = CATALOGUE[name].type == "boolean"
            assert values[name] == (position != 0 if boolean else position)
            assert isinstance(values[name], bool) == boolean


@pytest.mark.parametrize("empty", [None, ""])
def test_what_is_not_given_is_null(empty: str | None) -> None:
    values = facts(currency=empty, country=empty, device_id=empty, device_type=empty, merchant_category=empty)
    names = ("currency", "country", "device_id", "device_type", "merchant_category", "amount_ref")
    assert [values[name] for name in names] == [None] * len(names)
    assert facts(currency="XXX")["currency"] is None


def test_unknown_groups_are_null_and_nothing_else() -> None:
    values = facts(unknown=["novelty", "device"])
    for name in CATALOGUE.values():
        if name.name not in ("currency", "country", "device_id", "device_type", "merchant_category", "amount_ref"):
            assert (values[name.name] is None) == (name.group in ("novelty", "device"))


def test_what_json_cannot_express_is_null() -> None:
    vector = np.zeros(len(FEATURES), dtype=np.float32)
    vector[FEATURES.index("amount_mean_30d")] = np.nan
    vector[FEATURES.index("is_new_device_30d")] = np.inf
    vector[FEATURES.index("amount_sum_30d")] = 0.1
    values = facts(vector=vector.tolist())
    assert values["amount_mean_30d"] is None and values["is_new_device_30d"] is None
    assert values["amount_sum_30d"] == float(np.float32(0.1))
    assert values["is_night"] is False


@pytest.mark.parametrize(
    ("amount", "cents", "is_multiple"),
    [
        (50.0, 50.0, True),
        (0.01, 0.01, False),
        (1e10 - 0.01, 9999999999.99, False),
        (12.345, 12.35, False),
        (10, 10, True),
    ],
)
def test_money(amount: float, cents: float, is_multiple: bool) -> None:
    assert to_cents(amount) == cents and is_round(amount) is is_multiple


def test_every_number_of_cents_is_itself() -> None:
    for cents in [*range(1, 100_000), *range(10**12 - 1000, 10**12)]:
        assert to_cents(cents / 100) == cents / 100


def test_rates_begin_and_end_by_day_in_utc() -> None:
    rates = Rates(
        [
            {"currency": "USD", "valid_from": "2026-02-01", "rate": "0.5"},
            {"currency": "USD", "valid_from": "2026-01-01", "rate": "0.9"},
        ]
    )
    assert rates.rate("USD", datetime(2025, 12, 31, 23, 59, tzinfo=UTC)) is None
    assert rates.rate("USD", datetime(2026, 1, 31, 23, 59, tzinfo=UTC)) == 0.9
    assert rates.rate("USD", datetime(2026, 1, 31, 23, 59, tzinfo=timezone(timedelta(hours=-1)))) == 0.5
    assert rates.rate("GBP", AT) is None and rates.rate(None, AT) is None
    assert amount_ref(10.0, None) is None and amount_ref(10.0, 0.5) == 5.0


@pytest.mark.parametrize(
    "row",
    [
        {"currency": "USD", "valid_from": "2026-13-01", "rate": "1"},
        {"currency": "USD", "valid_from": "2026-01-01", "rate": "0"},
        {"currency": "USD", "valid_from": "2026-01-01", "rate": "nan"},
        {"currency": "USD", "valid_from": "2026-01-01"},
    ],
)
def test_an_invalid_rate_is_named(row: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"exchange_rates\.csv, line 3: "):
        Rates([{"currency": "EUR", "valid_from": "2026-01-01", "rate": "1"}, row])


def test_the_seed_can_be_read_and_has_the_euro() -> None:
    assert stored_rates().rate("EUR", AT) == 1.0
    assert facts(currency="EUR", amount=9.99)["amount_ref"] == 9.99


def test_periods_have_no_gap() -> None:
    rows = [("USD", "2026-02-01", "0.5"), ("USD", "2026-01-01", "0.9"), ("EUR", "2000-01-01", "1")]
    rates = Rates({"currency": currency, "valid_from": day, "rate": rate} for currency, day, rate in rows)
    january, february = date(2026, 1, 1), date(2026, 2, 1)
    assert sorted(rates.periods(), key=str) == [
        ("EUR", date(2000, 1, 1), None, 1.0),
        ("USD", january, february, 0.9),
        ("USD", february, None, 0.5),
    ]
