"""Values from users' files: what is understood, what is refused, and which field the error names."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from fraud_common.errors import SerializationError
from producer.replay.coerce import to_bool, to_cents, to_label, to_millis, to_transaction

DRAFT = {"transaction_id": "t1", "user_id": "u1", "amount": "12.50", "event_time": "2024-03-01 09:15:00"}
NINE_FIFTEEN = 1_709_284_500_000


@pytest.mark.parametrize(
    ("value", "cents"),
    [("12.5", 1250), (12.3, 1230), (12.300000190734863, 1230), (Decimal("0.01"), 1), (-3, -300), ("1e3", 100_000)],
)
def test_amounts(value: object, cents: int) -> None:
    assert to_cents(value) == cents


@pytest.mark.parametrize("value", ["12,50", "abc", "", None, "nan", "inf", 1.005])
def test_amounts_that_are_none(value: object) -> None:
    with pytest.raises(SerializationError, match=r"^amount: "):
        to_cents(value)


@pytest.mark.parametrize(
    ("value", "time_format"),
    [
        ("2024-03-01 09:15:00", "iso"),
        ("2024-03-01T10:15:00+01:00", "iso"),
        ("01/03/2024 09:15", "%d/%m/%Y %H:%M"),
        ("1709284500", "s"),
        (1_709_284_500, "s"),
        (NINE_FIFTEEN, "ms"),
        (datetime(2024, 3, 1, 9, 15, tzinfo=UTC), "iso"),
    ],
)
def test_times(value: object, time_format: str) -> None:
    assert to_millis(value, time_format) == NINE_FIFTEEN


def test_a_date_is_its_midnight() -> None:
    assert to_millis(date(2024, 3, 1)) == NINE_FIFTEEN - (9 * 60 + 15) * 60_000


def test_a_time_that_is_none_names_field_and_format() -> None:
    with pytest.raises(SerializationError, match="event_time: 'soon' is not a time of the format iso"):
        to_millis("soon")


def test_truth_values() -> None:
    assert [to_bool(v, "x") for v in ("1", "TRUE", "no", 0, True, 1.0)] == [True, True, False, False, True, True]
    with pytest.raises(SerializationError, match="is_fraud: 'maybe'"):
        to_bool("maybe", "is_fraud")


def test_defaults_fill_what_is_absent_or_empty() -> None:
    record = to_transaction(DRAFT | {"city": ""})
    assert record["city"] == "unknown"
    assert record["currency"] == "XXX"
    assert record["country"] == "ZZ"
    assert record["event_time"] == NINE_FIFTEEN


@pytest.mark.parametrize("field", ["transaction_id", "user_id", "amount", "event_time"])
def test_a_missing_required_field_is_named(field: str) -> None:
    with pytest.raises(SerializationError, match=f"^{field}: missing"):
        to_transaction(DRAFT | {field: ""})


def test_labels() -> None:
    transaction = to_transaction(DRAFT)
    assert to_label(DRAFT, transaction) is None
    label = to_label(DRAFT | {"is_fraud": "1", "fraud_type": "stolen_card"}, transaction)
    assert label is not None
    assert label["reported_at"] - label["event_time"] == 7 * 86_400_000
    assert label["fraud_type"] == "stolen_card"
    known = to_label(DRAFT | {"is_fraud": "0", "reported_at": "2024-03-02"}, transaction)
    assert known is not None
    assert (known["is_fraud"], known["fraud_type"]) == (False, None)
