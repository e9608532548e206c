"""Hypothesis strategies for payments and labels, many of them wrong: what all definitions must agree on."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

# The checkout that the tests run on is read-only.
settings.register_profile("without_a_database", database=None)
settings.load_profile("without_a_database")

# When they arrive; a round time, so that its neighbours in milliseconds are exact.
ARRIVED = datetime.now(UTC).replace(microsecond=0)

_TRICKY = "aZ09 '\"\\,;%_-\t\n\r\0\x1f\x7f\x85\xa0é\u2028\u3000\U0001f600"
_short = st.text(_TRICKY, max_size=6)
_long = st.integers(126, 130).flatmap(lambda size: st.text("aé 😀", min_size=size, max_size=size))
ids = st.one_of(st.just("u1"), _short, _long, st.none())
texts = st.one_of(st.just("DE"), _short, _long, st.text("x", min_size=63, max_size=66), st.none())
currencies = st.one_of(st.sampled_from(["EUR", "eur", "EURO", "EU", "EUR\n", "ÄÖÜ", "E R", ""]), st.none())
amounts = st.one_of(
    st.decimals(Decimal("0.01"), Decimal("9999999999.99"), places=2),
    st.sampled_from([Decimal("0.00"), Decimal("-0.01"), Decimal("9999999999.99"), None]),
)
_milliseconds = st.sampled_from([-5_000, -1, 0, 1, 5_000])
_edges = st.sampled_from([ARRIVED + timedelta(minutes=5), ARRIVED, datetime(2000, 1, 1, tzinfo=UTC)])
times = st.one_of(
    st.builds(lambda edge, milliseconds: edge + timedelta(milliseconds=milliseconds), _edges, _milliseconds),
    st.sampled_from([datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]),
    st.none(),
)


def _mostly(usual: Any, others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The usual value three times in four, so that many records are valid."""
    return st.integers(0, 3).flatmap(lambda number: others if number == 0 else st.just(usual))


payments: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "transaction_id": _mostly("t1", ids),
        "user_id": _mostly("A User 7", ids),
        "merchant_id": _mostly("m-1", ids),
        "amount": _mostly(Decimal("12.50"), amounts),
        "currency": _mostly("EUR", currencies),
        "country": _mostly("DE", texts),
        "device_id": _mostly("d1", texts),
        "merchant_name": st.just("a shop"),
        "city": st.just("Berlin"),
        "event_time": _mostly(ARRIVED - timedelta(days=1), times),
        "is_international": st.booleans(),
    }
)
labels: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "transaction_id": _mostly("t1", ids),
        "user_id": _mostly("A User 7", ids),
        "is_fraud": _mostly(True, st.sampled_from([False, None])),
        "fraud_type": _mostly("stolen_card", texts),
        "event_time": _mostly(ARRIVED - timedelta(days=1), times),
        "reported_at": _mostly(ARRIVED, times),
    }
)


def generated(records: st.SearchStrategy[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """So many different records at once, for engines whose every query takes a while."""
    collected: list[dict[str, Any]] = []
    examples = settings(max_examples=number, deadline=None, phases=[Phase.generate])
    examples(given(records)(lambda record: collected.append(record)))()
    return collected
