"""A stored prediction is decided again: the same, or a list of what is different."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pytest
from features import FEATURES
from rules.decide import Policy
from rules.lists import ListValues
from rules.replay import Difference, Past, Stored, replay
from rules.ruleset import InForce
from ruleset_world import NOW, entry, ruleset
from serving.predictor import PaymentFeatures, audit_line, decided, make_answer
from serving.rules_1 import Rules
from serving.schemas import PaymentRequest

POLICY = Policy()
BLOCKED = entry(4, when="in_list(user_id, 'blocked')", answer="decline", queue=True)
ENTRIES = (
    entry(1, when="amount > 100 and merchant_amount_zscore_30d > 0.1"),
    entry(2, state="shadow", when="amount_ref > 1"),
    entry(3, when="is_new_device_30d", answer="decline"),
    BLOCKED,
)
BLOCKED_USERS = {"blocked": ListValues([("u9", NOW - timedelta(days=1), None)])}


def stored(in_force: InForce, policy: Policy = POLICY, unknown: tuple[str, ...] = (), **payment: Any) -> Stored:
    """What the table has of a payment that the API has answered."""
    request = PaymentRequest(
        **{"transaction_id": "t1", "user_id": "u1", "merchant_id": "m1", "amount": 200.1, "currency": "USD"} | payment
    )
    # Float32 values that no double is equal to, and one that JSON can't express.
    vector = np.linspace(0.1, 3.3, len(FEATURES), dtype=np.float32)
    vector[FEATURES.index("is_new_device_30d")] = 1
    vector[FEATURES.index("device_users_30d")] = np.nan
    features = PaymentFeatures(NOW, vector, "stream", 0.5, "stream", unknown)
    (score,) = Rules().probabilities(vector.reshape(1, -1))
    scored = decided(request, features, vector.tolist(), Rules(), score, in_force, policy, datetime.now(UTC))
    row = orjson.loads(audit_line(scored, make_answer(scored, 0.001)))
    times = {"event_time": NOW, "predicted_at": scored.predicted_at}
    return Stored(**{name: row[name] for name in Stored.__match_args__} | times)


@pytest.mark.parametrize("user_id", ["u1", "u9"])
@pytest.mark.parametrize("unknown", [(), ("user", "merchant", "novelty", "device")])
@pytest.mark.parametrize("policy", [Policy(), Policy(decline_high=True), Policy(holdout=1.0, holdout_max_amount=900)])
def test_the_same_again(user_id: str, unknown: tuple[str, ...], policy: Policy) -> None:
    in_force = InForce(ruleset(*ENTRIES), BLOCKED_USERS, {3: ListValues([("u2", NOW, None)])})
    prediction = stored(in_force, policy, unknown, user_id=user_id, device_id="d1", country="US")
    assert prediction.held_out is (policy.holdout == 1.0 and user_id != "u9")
    again = replay(Past(prediction, in_force, changed_just_before=False), Rules())
    assert (again.same, again.differences, again.notes) == (True, [], [])
    assert orjson.loads(orjson.dumps(again.to_dict()))["same"] is True


@pytest.mark.parametrize("category", ["a\0b", "line\nbreak", "x" * 129])
def test_a_category_that_postgres_should_not_have_is_unknown_to_rules_too(category: str) -> None:
    in_force = InForce(ruleset(entry(1, when="merchant_category is null")))
    prediction = stored(in_force, merchant_category=category)
    assert prediction.merchant_category is None
    assert prediction.rule_results is not None and prediction.rule_results["fired"] == [[1, 1]]
    assert replay(Past(prediction, in_force, changed_just_before=False), Rules()).same


def test_what_is_different_is_listed() -> None:
    prediction = stored(InForce(ruleset(*ENTRIES), BLOCKED_USERS))
    other = InForce(ruleset(*ENTRIES[:2], BLOCKED), BLOCKED_USERS)
    again = replay(Past(prediction, other, changed_just_before=False), None)
    assert not again.same
    assert again.differences == [
        Difference("decision", "decline", "challenge"),
        Difference("fired", [[1, 1], [3, 1]], [[1, 1]]),
    ]
    assert again.notes == ["model rules-1 can't be had any more, so its stored score was used"]


def test_another_model_of_that_version_is_noticed() -> None:
    in_force = InForce(ruleset(*ENTRIES))
    prediction = stored(in_force)

    class Other(Rules):
        def probabilities(self, matrix: Any) -> list[float]:
            return [0.9]

    again = replay(Past(prediction, in_force, changed_just_before=False), Other())
    assert {each.what for each in again.differences} == {"fraud_probability", "risk_tier"}


def test_a_list_that_changed_just_before_may_be_why() -> None:
    prediction = stored(InForce(ruleset(*ENTRIES), BLOCKED_USERS))
    now_blocked = InForce(ruleset(*ENTRIES), {"blocked": ListValues([("u1", NOW - timedelta(days=1), None)])})
    again = replay(Past(prediction, now_blocked, changed_just_before=True), Rules())
    assert [each.what for each in again.differences] == ["queue", "fired"]
    assert "changed less than 10 s before" in again.notes[0]


def test_features_that_an_earlier_release_did_not_have_are_named() -> None:
    in_force = InForce(ruleset(entry(1)))
    prediction = stored(in_force)
    lacking = replace(prediction, features={n: v for n, v in prediction.features.items() if n != "device_users_today"})
    again = replay(Past(lacking, in_force, changed_just_before=False), None)
    assert again.same and "without the features device_users_today" in again.notes[-1]
