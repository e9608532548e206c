"""Decides a stored prediction again: the same ruleset, lists, features and score must give the same decision.

Upstream is the table predictions, which has all of them, but for the lists, whose past is kept; downstream is the API
(POST /replay). Where the model is at hand, the score is computed again too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from features import FEATURES
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor

from rules.decide import Policy, decide
from rules.facts import RulePayment, facts_of
from rules.lists import ListValues
from rules.ruleset import NO_RULES, InForce, Ruleset, RulesetError

# Scores are stored with six digits.
SCORE_TOLERANCE = 1.5e-6
# Workers take a change of lists up within five seconds; one that is so near may explain a difference.
CHANGE_SECONDS = 10

_COLUMNS = (
    "prediction_id::text, transaction_id, user_id, merchant_id, amount, is_international, event_time, "
    "fraud_probability, risk_tier, model_version, features, predicted_at, decision, queue, ruleset_id, rule_results, "
    "held_out, currency, country, device_id, device_type, merchant_category, unknown_features"
)
PREDICTION = f"select {_COLUMNS} from predictions where prediction_id = %s"
RULESET = "select document from rulesets where ruleset_id = %s"
LISTS = "select list_name from lists where list_name = any(%(names)s) and created_at <= %(at)s"
MEMBERS = """
select list_name, value, valid_from, valid_to from list_members
where list_name = any(%(names)s) and value = any(%(values)s)
    and valid_from <= %(at)s and (valid_to is null or valid_to > %(at)s)
"""
SUPPRESSIONS = """
select rule_id, user_id, valid_from, valid_to from suppressions
where user_id = %(user)s and valid_from <= %(at)s and valid_to > %(at)s
"""
CHANGED = f"""
with times (valid_from, valid_to) as (
    select valid_from, valid_to from list_members where list_name = any(%(names)s) and value = any(%(values)s)
    union all
    select valid_from, valid_to from suppressions where user_id = %(user)s
)
select count(*) from times
where valid_from between %(at)s - interval '{CHANGE_SECONDS} s' and %(at)s
    or valid_to between %(at)s - interval '{CHANGE_SECONDS} s' and %(at)s
"""


class ReplayError(Exception):
    """Why a prediction can't be decided again; the message is for people."""


class Scores(Protocol):
    """A model: serving's, or rules-1."""

    @property
    def medium(self) -> float:
        """From this score on, a payment is in tier medium."""
        ...

    @property
    def high(self) -> float:
        """The same of tier high."""
        ...

    def probabilities(self, matrix: NDArray[np.float32]) -> list[float]:
        """The probability of fraud of each row."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A prediction as the table has it."""

    prediction_id: str
    transaction_id: str
    user_id: str
    merchant_id: str
    amount: float
    is_international: bool
    event_time: datetime
    fraud_probability: float
    risk_tier: str
    model_version: str
    features: Mapping[str, float | None]
    predicted_at: datetime
    decision: str | None
    queue: bool | None
    ruleset_id: int | None
    rule_results: Mapping[str, Any] | None
    held_out: bool | None
    currency: str | None
    country: str | None
    device_id: str | None
    device_type: str | None
    merchant_category: str | None
    unknown_features: str | None

    @property
    def vector(self) -> NDArray[np.float32]:
        """The features as they were computed; what JSON could not express, or an earlier release lacked, is NaN."""
        values = (self.features.get(name) for name in FEATURES)
        return np.array([np.nan if value is None else value for value in values], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that another decision was stored with."""

    what: str
    stored: Any
    replayed: Any


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision, made again."""

    prediction_id: str
    transaction_id: str
    predicted_at: datetime
    ruleset_id: int | None
    model_version: str
    same: bool
    decision: str
    queue: bool
    rules: Sequence[str]
    differences: Sequence[Difference]
    notes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """As the API answers it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Past:
    """A stored prediction, and what was in force when it was made."""

    stored: Stored
    in_force: InForce
    # Lists or suppressions of this payment changed just before it.
    changed_just_before: bool


def past_of(cursor: Cursor, prediction_id: str) -> Past:
    """A prediction with its ruleset and the lists as of its time.

    Raises:
        ReplayError: it is not there, has no decision, or its rules are of a newer release.
    """
    cursor.execute(PREDICTION, (prediction_id,))
    rows = cursor.fetchall()
    if not rows:
        raise ReplayError(
            f"there is no prediction {prediction_id} in Postgres; those older than PREDICTIONS_RETENTION_DAYS are in "
            "gold.predictions_archive"
        )
    stored = Stored(*rows[0])
    if stored.decision is None or stored.rule_results is None:
        raise ReplayError(f"prediction {prediction_id} was made by a release without decisions")
    ruleset = _ruleset(cursor, stored.ruleset_id)
    question = {
        "names": sorted(ruleset.lists),
        "values": _texts(stored),
        "user": stored.user_id,
        "at": stored.predicted_at,
    }
    cursor.execute(LISTS, question)
    lists = {name: ListValues() for (name,) in cursor.fetchall()}
    cursor.execute(MEMBERS, question)
    lists |= ListValues.by_name(cursor.fetchall())
    cursor.execute(SUPPRESSIONS, question)
    suppressions: dict[int, ListValues] = ListValues.by_name(cursor.fetchall())
    cursor.execute(CHANGED, question)
    ((changed,),) = cursor.fetchall()
    return Past(stored, InForce(ruleset, lists, suppressions), changed > 0)


def replay(past: Past, model: Scores | None) -> Replay:
    """Decide again, by the stored score and the model's answer at that time.

    Args:
        model: the version that scored; None if it can't be had.
    """
    stored, results = past.stored, past.stored.rule_results or {}
    unknown = stored.unknown_features.split(",") if stored.unknown_features else []
    payment = RulePayment(
        stored.user_id,
        stored.merchant_id,
        stored.amount,
        stored.is_international,
        stored.event_time,
        stored.currency,
        stored.country,
        stored.device_id,
        stored.device_type,
        stored.merchant_category,
    )
    vector = stored.vector
    facts = facts_of(payment, vector.tolist(), stored.fraud_probability, stored.risk_tier, unknown)  # type: ignore[arg-type]
    # The settings may be others today; what the model answered is stored, and so is what the hold-out has replaced.
    policy = Policy(decline_high=results["model"] == "decline")
    decision = decide(facts, past.in_force, policy, stored.predicted_at)
    compared: list[tuple[str, Any, Any]] = [
        ("decision", results.get("would", stored.decision), decision.answer),
        ("queue", stored.queue, decision.queue),
        ("model", results["model"], decision.results["model"]),
    ]
    for what in ("fired", "shadow", "threw", "suppressed"):
        compared.append((what, sorted(results[what]), sorted(decision.results[what])))
    notes = []
    if model is None:
        notes.append(f"model {stored.model_version} can't be had any more, so its stored score was used")
    else:
        compared += _scored_again(stored, vector, model)
    differences = [Difference(*each) for each in compared if each[1] != each[2]]
    if missing := [name for name in FEATURES if name not in stored.features]:
        notes.append(f"it was stored by a release without the features {', '.join(missing)}, which are NULL here")
    if differences and past.changed_just_before:
        notes.append(
            f"a list or a suppression of this payment changed less than {CHANGE_SECONDS} s before; the worker may not "
            "have had that change yet"
        )
    return Replay(
        stored.prediction_id,
        stored.transaction_id,
        stored.predicted_at,
        stored.ruleset_id,
        stored.model_version,
        not differences,
        decision.answer,
        decision.queue,
        decision.rules,
        differences,
        notes,
    )


def _scored_again(stored: Stored, vector: NDArray[np.float32], model: Scores) -> list[tuple[str, Any, Any]]:
    (score,) = model.probabilities(vector.reshape(1, -1))
    again = round(score, 6)
    if abs(again - stored.fraud_probability) <= SCORE_TOLERANCE:
        again = stored.fraud_probability
    tier = "high" if score >= model.high else "medium" if score >= model.medium else "low"
    return [("fraud_probability", stored.fraud_probability, again), ("risk_tier", stored.risk_tier, tier)]


def _ruleset(cursor: Cursor, ruleset_id: int | None) -> Ruleset:
    if ruleset_id is None:
        return NO_RULES
    cursor.execute(RULESET, (ruleset_id,))
    rows = cursor.fetchall()
    if not rows:
        raise ReplayError(f"ruleset {ruleset_id} is not in this database")
    try:
        return Ruleset.of(ruleset_id, rows[0][0])
    except RulesetError as error:
        raise ReplayError(str(error)) from error


def _texts(stored: Stored) -> list[str]:
    """The values of the payment that a list can have."""
    values = (
        stored.user_id,
        stored.merchant_id,
        stored.currency,
        stored.country,
        stored.device_id,
        stored.device_type,
        stored.merchant_category,
        stored.risk_tier,
    )
    return [value for value in values if value]
