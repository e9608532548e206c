"""The shipped maps on files of their layouts: which fields the payments get, and what is refused."""

from datetime import UTC, datetime
from pathlib import Path

from layouts import LAYOUTS
from replayed import Replayed, replayed


def of_layout(name: str, folder: Path) -> Replayed:
    make, suffix = LAYOUTS[name]
    make(folder / f"{name}{suffix}")
    return replayed(folder / f"{name}{suffix}", Path(name))


def test_sparkov(tmp_path: Path) -> None:
    result = of_layout("sparkov", tmp_path)
    first, second = result.payments
    assert (first["user_id"], str(first["amount"]), first["merchant_id"]) == (
        "2703186189652095", "4.97", "Rippin, Kub and Mann",
    )  # fmt: skip
    assert (first["merchant_category"], first["device_type"], second["device_type"]) == ("misc_net", "web", "pos")
    assert first["event_time"] == datetime(2019, 1, 1, 0, 0, 18, tzinfo=UTC)
    assert first["metadata"] == {"state": "NC", "merch_lat": "36.011293", "merch_long": "-82.048315"}
    assert [label["is_fraud"] for label in result.labels] == [False, True]
    assert dict(result.reasons) == {"amount_not_positive": 1}
    assert result.errors == ["amount: missing"]


def test_paysim(tmp_path: Path) -> None:
    result = of_layout("paysim", tmp_path)
    assert [payment["event_time"] for payment in result.payments] == [
        datetime(2024, 1, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 31, 23, tzinfo=UTC),
    ]
    assert result.payments[1]["merchant_category"] == "cash_out"
    assert len({payment["transaction_id"] for payment in result.payments}) == 2
    assert [label["is_fraud"] for label in result.labels] == [False, True]
    assert dict(result.reasons) == {"amount_not_positive": 1}


def test_ieee_cis(tmp_path: Path) -> None:
    result = of_layout("ieee-cis", tmp_path)
    assert [payment["transaction_id"] for payment in result.payments] == ["2987000", "2987001"]
    assert [str(payment["amount"]) for payment in result.payments] == ["68.50", "31.19"]
    assert result.payments[0]["event_time"] == datetime(2017, 12, 2, tzinfo=UTC)
    assert result.payments[0]["user_id"] == "13926-150.0-142.0-315.0"
    assert result.payments[1]["metadata"]["P_emaildomain"] == "gmail.com"
    assert len(result.summary.ignored) == 394 - 16
    assert result.errors == ["event_time: 'soon' is not a time: seconds since 2017-12-01"]


def test_ulb(tmp_path: Path) -> None:
    result = of_layout("ulb", tmp_path)
    first, second, third = result.payments
    assert first["transaction_id"] != second["transaction_id"]
    assert first["user_id"] != third["user_id"]
    assert third["event_time"] == datetime(2013, 9, 2, 23, 59, 52, tzinfo=UTC)
    assert [label["is_fraud"] for label in result.labels] == [False, False, True]
    assert dict(result.reasons) == {"amount_not_positive": 1}


def test_handbook(tmp_path: Path) -> None:
    result = of_layout("handbook", tmp_path)
    assert [(payment["transaction_id"], payment["user_id"]) for payment in result.payments] == [
        ("0", "596"),
        ("1", "4961"),
    ]
    assert [label["fraud_type"] for label in result.labels] == [None, "scenario-2"]
    assert dict(result.reasons) == {"event_time_invalid": 1}
    assert result.letters[0]["label"]["is_fraud"] is False
