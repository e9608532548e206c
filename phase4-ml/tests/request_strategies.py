"""Hypothesis strategies for requests to the API: good payments, payments with faults, other JSON, and bytes."""

import json
import math
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fraud_common.payments import DEVICE_TYPES, EARLIEST_EVENT_TIME, MAX_AMOUNT_CENTS
from hypothesis import strategies as st

_letters = st.characters(exclude_categories=["Cc", "Cs"])
ids = st.text(_letters, min_size=1, max_size=128).map(lambda text: text.strip(" ") or "u")
_earliest, _latest = EARLIEST_EVENT_TIME.replace(tzinfo=None), datetime.fromisoformat("2026-01-01")
_times = st.datetimes(_earliest, _latest)

payments: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "transaction_id": ids,
        "user_id": ids,
        "merchant_id": ids,
        "amount": st.integers(1, MAX_AMOUNT_CENTS).map(lambda cents: cents / 100),
    },
    optional={
        "is_international": st.booleans(),
        "currency": st.one_of(st.none(), st.from_regex("[A-Z]{3}", fullmatch=True)),
        "merchant_category": st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
        "country": st.one_of(st.none(), st.text(_letters, max_size=64)),
        "device_id": st.one_of(st.none(), st.text(_letters, max_size=128)),
        "device_type": st.one_of(st.none(), st.sampled_from(DEVICE_TYPES), st.text(max_size=5)),
        "event_time": st.one_of(st.none(), _times.map(lambda moment: moment.replace(tzinfo=UTC).isoformat())),
    },
)

# Values for any field, most of them wrong there.
_numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -0.0, 10**400, 1e308, 5e-324, 1e10, math.nan, math.inf, 2**63, 0.1 + 0.2, 1e-400]),
)
_texts = st.one_of(
    st.text(max_size=200),
    st.sampled_from(["", " ", "\0", "\ud800", "\udfff\ud800", "é" * 129, "x" * 1000, "9999-12-31T23:59:60Z", "\ufeff"]),
    st.datetimes().map(datetime.isoformat),
)
_leaves = st.one_of(st.none(), st.booleans(), _numbers, _texts)
anything = st.recursive(
    _leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=20), inner, max_size=4)),
    max_leaves=10,
)
_fields = ["transaction_id", "user_id", "merchant_id", "amount", "currency", "country", "device_id", "event_time", "x"]
faulty = st.builds(
    lambda payment, faults: payment | faults,
    payments,
    st.dictionaries(st.one_of(st.sampled_from(_fields), st.text(max_size=100)), anything, min_size=1, max_size=3),
)
_crowded = st.integers(1, 3000).map(lambda count: {f"k{number}": number for number in range(count)})
_deep = st.builds(
    lambda depth, opening, closing: opening * depth + closing * depth,
    st.integers(1, 2000),
    st.sampled_from([b"[", b'{"user_id":', b'{"transactions":[']),
    st.sampled_from([b"", b"]", b"}", b"]}"]),
)


def batches(payment: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Requests with several payments."""
    return st.lists(payment, max_size=5).map(lambda chosen: {"transactions": chosen})


def to_json(value: Any) -> bytes:
    """JSON as clients send it, with what the standard does not allow: NaN, and lone surrogates."""
    return json.dumps(value).encode()


def damaged(bodies: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bodies with a few bytes replaced, put in, or cut off."""
    return st.builds(
        lambda body, at, length, put_in: body[: at % (len(body) + 1)] + put_in + body[at % (len(body) + 1) + length :],
        bodies,
        st.integers(0, 10_000),
        st.integers(0, 20),
        st.one_of(st.binary(max_size=5), st.sampled_from([b"\0", b"\xff", b"\\ud800", b"1e999", b"[", b'"', b"}{"])),
    )


_payment_bodies = st.one_of(payments, faulty, anything, _crowded).map(to_json)
_batch_bodies = st.one_of(batches(payments), batches(faulty), batches(st.one_of(anything, _crowded))).map(to_json)
_other_bodies = st.one_of(damaged(_payment_bodies), damaged(_batch_bodies), st.binary(max_size=300), _deep)
_headers = st.dictionaries(
    st.sampled_from(["Content-Type", "Accept", "X-API-Key", "Accept-Encoding", "Expect", "Cookie"]),
    st.sampled_from([b"", b"application/json", b"text/plain; charset=utf-16", b"100-continue", b"\xff", b"a" * 2000]),
    max_size=3,
)


def _requests(
    methods: list[str], urls: st.SearchStrategy[str], content: st.SearchStrategy[bytes]
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"method": st.sampled_from(methods), "url": urls, "content": content, "headers": _headers}
    )


_to_predict = st.sampled_from(["/predict", "/predict?explain=true", "/predict?explain=2", "/predict?explain=%00&x=1"])
# To the API of rules: bodies with the right names and wrong values, among others.
_RULE_FIELDS = [
    "name", "when", "answer", "owner", "note", "queue", "lane", "rollout_percent", "expires_at", "reason", "version",
    "to", "user_id", "valid_from", "valid_to", "about", "needs_approval", "values", "entry_ids", "rule", "threshold",
    "days", "from",
]  # fmt: skip
_RULE_VALUES = [
    "amount > 500", "amount >", "a" * 5000, "(" * 3000, "challenge", "rule-1", "2099-01-01T00:00:00Z", "2026-01-01",
    "shadow", "user_id", 1, True, ["u1"], [1], ["u1"] * 2000, 0.5,
]  # fmt: skip
_rule_bodies = st.dictionaries(
    st.one_of(st.sampled_from(_RULE_FIELDS), st.text(max_size=100)),
    st.one_of(st.sampled_from(_RULE_VALUES), anything),
    max_size=8,
).map(to_json)
_rule_paths = st.builds(
    lambda *parts: "/" + "/".join(parts),
    st.sampled_from(["rules", "lists", "rulesets", "backtests", "replay"]),
    st.sampled_from(["rule-1", "validate", "1", "0", "99999999999999999999", "%00", "a%2Fb", "Rule", "\u00e9", ""]),
    st.sampled_from(
        ["submit", "approve", "reject", "pause", "retire", "versions", "history", "suppressions", "restore", "cancel",
         "entries", "entries/approve", "entries/end", "entries?limit=0", "entries?value=%00", "suppressions/1/end", ""]
    ),
)  # fmt: skip
_anywhere = st.text(max_size=30).map(lambda text: "/" + quote(text.encode(errors="replace"), safe="?&=%"))
_kinds = [
    _requests(["POST"], _to_predict, _payment_bodies),
    _requests(["POST"], st.just("/predict/batch"), _batch_bodies),
    _requests(["POST"], st.sampled_from(["/predict", "/predict/batch"]), _other_bodies),
    _requests(["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"], st.one_of(_to_predict, _anywhere), _other_bodies),
]
rule_requests: st.SearchStrategy[dict[str, Any]] = st.one_of(
    _requests(["POST"], st.sampled_from(["/rules", "/rules/validate", "/lists", "/backtests"]), _rule_bodies),
    _requests(["POST"], _rule_paths, _rule_bodies),
    _requests(["GET", "POST", "PUT", "HEAD"], _rule_paths, st.one_of(_rule_bodies, _other_bodies)),
)
# Most of them to what scores.
requests: st.SearchStrategy[dict[str, Any]] = st.sampled_from([0, 0, 0, 1, 1, 1, 2, 2, 2, 3]).flatmap(
    _kinds.__getitem__
)
