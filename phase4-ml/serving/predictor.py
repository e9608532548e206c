"""From a payment to its answer: features, score, risk tier, decision, and the line for the audit table.

The hot path: one request to Redis, one vector, one call of the model, one call of the rules, one write to a file before
the answer leaves. A request, also one of many payments, uses one model and one ruleset.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from audit.prediction_log import PredictionLog
from feature_store.freshness import snapshots_are_valid, stream_is_current, stream_is_newer
from feature_store.history import has_all_days, has_all_payments
from feature_store.layout import (
    covers_days,
    covers_user,
    event_time_of,
    parties_of,
    unpack_device,
    unpack_merchant,
    unpack_user,
)
from features import (
    DAY_MS,
    EPOCH,
    FEATURES,
    NOTHING_NEW,
    UNKNOWN_CATEGORY_RISK,
    UNKNOWN_DEVICE,
    DeviceFeatures,
    MerchantDay,
    MerchantFeatures,
    Novelty,
    Parties,
    Payment,
    UserFeatures,
    milliseconds,
)
from fraud_common.payments import TEXT_PATTERN
from numpy.typing import NDArray
from rules.catalogue import Group
from rules.decide import Decision, Policy, decide
from rules.facts import RulePayment, facts_of
from rules.ruleset import InForce

from serving import metrics
from serving.explain_client import ExplainClient
from serving.feature_client import FeatureClient, Found, Subjects
from serving.model_store import Model, ModelStore
from serving.reasons import json_values
from serving.rules_1 import Rules
from serving.ruleset_store import RulesetStore
from serving.schemas import PaymentRequest
from serving.settings import Settings

logger = logging.getLogger(__name__)

UNKNOWN_USER = UserFeatures()
UNKNOWN_MERCHANT = MerchantFeatures()

# A data clock so far behind the wall clock is that of other days: a simulated one, or that of replayed data.
OTHER_DAYS = timedelta(hours=1)
NO_REASONS: dict[str, Any] = {"reasons": [], "reasons_status": "not_requested"}
# Groups of features that fall back to defaults, as rules/catalogue.py names them.
GROUPS: tuple[Group, ...] = ("user", "merchant", "novelty", "device")
NOTHING_KNOWN = frozenset(GROUPS)
UNKNOWN_USER_GROUPS: frozenset[Group] = frozenset({"user", "novelty"})
NO_NOVELTY: frozenset[Group] = frozenset({"novelty"})
# In a batch, other requests have their turn after so many payments; for more, the model runs in a thread.
CHUNK = 50
_is_text = re.compile(TEXT_PATTERN).fullmatch


@dataclass(frozen=True, slots=True)
class PaymentFeatures:
    """The features of a payment, and where those of its user and of its merchant came from."""

    # The moment that all features are of.
    event_time: datetime
    vector: NDArray[np.float32]
    source: str
    age_seconds: float | None
    merchant_source: str
    # The groups of features that are defaults because nothing is known; rules see NULL there. In the order of GROUPS.
    unknown: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True)
class ChosenUser:
    """What is known of a payment's user, and from where: stream, batch or default."""

    features: UserFeatures
    source: str
    # What only the events of the stream say; else the defaults.
    novelty: Novelty = NOTHING_NEW
    # Of the groups `user` and `novelty`.
    unknown: frozenset[Group] = frozenset()


@dataclass(frozen=True, slots=True)
class ChosenMerchant:
    """What is known of a payment's merchant, and from where: stream, batch, reference or default."""

    features: MerchantFeatures
    source: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class ChosenDevice:
    """What is known of a payment's device, which only the stream says."""

    features: DeviceFeatures
    known: bool


# Not frozen, since that takes twice the time to make.
@dataclass(slots=True)
class Scored:
    """A payment with its features, its score by a model, and what is decided about it."""

    request: PaymentRequest
    features: PaymentFeatures
    model: Model | Rules
    # As the answer and the audit table have it.
    score: float
    risk_tier: str
    decision: Decision
    ruleset_id: int | None
    predicted_at: datetime


class Predictor:
    """Answers payments, whatever else is down."""

    def __init__(
        self,
        features: FeatureClient,
        models: ModelStore,
        rules: RulesetStore,
        policy: Policy,
        log: PredictionLog,
        explainer: ExplainClient,
    ) -> None:
        self._features = features
        self._models = models
        self._rules = rules
        self._policy = policy
        self._log = log
        self._explainer = explainer

    async def predict(self, request: PaymentRequest, explain: bool) -> bytes:
        """The answer to one payment, as JSON."""
        started = time.perf_counter()
        (found,) = await self._features.look_up([subjects_of(request)])
        features = features_of(request, found, datetime.now(UTC))
        model = self._models.model
        (score,) = model.probabilities(features.vector.reshape(1, -1))
        vector, in_force, now = features.vector.tolist(), self._rules.in_force, datetime.now(UTC)
        scored = decided(request, features, vector, model, score, in_force, self._policy, now)
        elapsed = time.perf_counter() - started
        answer = make_answer(scored, elapsed)
        await self._log.record(audit_line(scored, answer))
        _count([scored])
        metrics.LATENCY.observe(elapsed)
        if not explain:
            return orjson.dumps(answer | NO_REASONS)
        reasons, status = await self._explainer.reasons(
            model.version, answer["fraud_probability"], json_values(features.vector)
        )
        return orjson.dumps(answer | {"reasons": reasons, "reasons_status": status})

    async def predict_batch(self, requests: Sequence[PaymentRequest]) -> bytes:
        """The answers to several payments, with one request to Redis, one call of the model, and one ruleset."""
        started = time.perf_counter()
        now = datetime.now(UTC)
        found = await self._features.look_up([subjects_of(request) for request in requests])
        features: list[PaymentFeatures] = []
        for number, (request, each) in enumerate(zip(requests, found, strict=True), start=1):
            features.append(features_of(request, each, now))
            await _yield_to_others(number)
        model = self._models.model
        matrix = np.stack([each.vector for each in features])
        if len(features) > CHUNK:
            scores = await asyncio.to_thread(model.probabilities, matrix)
        else:
            scores = model.probabilities(matrix)
        in_force, vectors, now = self._rules.in_force, matrix.tolist(), datetime.now(UTC)
        scored: list[Scored] = []
        for number, (request, known, vector, score) in enumerate(
            zip(requests, features, vectors, scores, strict=True), start=1
        ):
            scored.append(decided(request, known, vector, model, score, in_force, self._policy, now))
            if number % CHUNK == 0:
                await asyncio.sleep(0)
        elapsed = time.perf_counter() - started
        answers, lines = [], []
        for number, payment in enumerate(scored, start=1):
            answers.append(make_answer(payment, elapsed))
            lines.append(audit_line(payment, answers[-1]))
            await _yield_to_others(number)
        await self._log.record(b"".join(lines))
        _count(scored)
        metrics.BATCH_LATENCY.observe(elapsed)
        return orjson.dumps({"predictions": [answer | NO_REASONS for answer in answers]})


def policy_of(settings: Settings) -> Policy:
    """What the settings say about decisions."""
    return Policy(settings.decision_decline_high, settings.decision_holdout, settings.decision_holdout_max_amount)


def subjects_of(request: PaymentRequest) -> Subjects:
    """Whom to look up for a payment."""
    return Subjects(request.user_id, request.merchant_id, request.device_id or "")


def features_of(request: PaymentRequest, found: Found, now: datetime) -> PaymentFeatures:
    """The payment's features: from the stream, else from the batch snapshots, else the defaults.

    Args:
        found: what Redis has of the payment's user and merchant.
        now: the time at the wall.
    """
    moment = moment_of(request.event_time, found.stream.data_clock, now)
    payment = Payment(
        request.amount,
        request.is_international,
        moment,
        request.device_type,
        request.currency,
        request.country,
        category_risk(request.merchant_category, found.stream.category_risks),
    )
    complete_until = found.stream.complete.of_user(request.user_id)
    parties = parties_of(request.merchant_id, request.country, request.device_id)
    try:
        user = choose_user(found, parties, moment, complete_until, now)
        merchant, device = choose_merchant(found, moment, now), choose_device(found, moment, now)
        vector = user.features.to_array(payment, merchant.features, user.novelty, device.features)
        unknown = user.unknown
        if not merchant.known:
            unknown |= {"merchant"}
        if not device.known or not request.device_id:
            unknown |= {"device"}
    except Exception as error:
        # Whatever Redis has under these keys, the payment is answered.
        metrics.ERRORS.labels("snapshot").inc()
        _log_once(f"{type(error).__name__}: {error}")
        user, merchant = ChosenUser(UNKNOWN_USER, "default"), ChosenMerchant(UNKNOWN_MERCHANT, "default")
        vector = UNKNOWN_USER.to_array(payment, UNKNOWN_MERCHANT)
        unknown = NOTHING_KNOWN
    age = None
    if user.source == "stream":
        age = max(0, milliseconds(now) - complete_until) / 1000
    elif user.features.as_of:
        age = (moment - user.features.as_of).total_seconds()
    groups = tuple(group for group in GROUPS if group in unknown) if unknown else ()
    return PaymentFeatures(moment, vector, user.source, age, merchant.source, groups)


def category_risk(category: str | None, risks: Mapping[str, int]) -> int | None:
    """The risk of the category that a payment gives; None if it gives none, or if no risks are known at all."""
    return risks.get(category, UNKNOWN_CATEGORY_RISK) if category and risks else None


def stored_category(category: str | None) -> str | None:
    """The category that a payment gives, as rules see it and the audit table has it.

    No payment is refused because of its category, whatever it is. But Postgres stores no NUL, and a text of a megabyte
    would be in the table with every payment, so such a category is None there.
    """
    return category if category and _is_text(category) else None


def moment_of(event_time: datetime | None, data_clock: int, now: datetime) -> datetime:
    """The moment of a payment, for all of its features.

    A payment without an event time happens now; but just after the data clock if that is over an hour behind, since
    then the data are not of today, as with the simulator.

    Args:
        data_clock: milliseconds, 0 if it is unknown.
    """
    if event_time:
        return event_time
    after = EPOCH + timedelta(milliseconds=data_clock + 1)
    return after if data_clock and now - after > OTHER_DAYS else now


def read_snapshot[S: (UserFeatures, MerchantFeatures)](kind: type[S], text: bytes | None) -> S | None:
    """A batch snapshot, or None if there is none, or one that can't be read, such as that of another release."""
    try:
        return kind.from_json(text) if text else None
    except (ValueError, TypeError, AttributeError) as error:
        metrics.ERRORS.labels("snapshot").inc()
        _log_once(f"{type(error).__name__}: {error}")
        return None


def choose_user(found: Found, parties: Parties, moment: datetime, complete_until: int, now: datetime) -> ChosenUser:
    """What is known of the user just before a moment.

    The stream if it is newer than the snapshot, and if it still has all payments before that moment: it can't say what
    a user had done long before the newest payment, nor if the history is gone from Redis.

    A snapshot says nothing about novelty. Of a user who is nowhere, everything is unknown, except while the stream is
    current: then the user has not paid before, and the defaults are the truth.

    Args:
        parties: those of the payment.
        complete_until: up to which arrival time the stream has the user's payments, in milliseconds; 0 is unknown.
    """
    snapshot = read_snapshot(UserFeatures, found.user)
    if (found.events or found.labels) and _stream_is_newer(found, complete_until, snapshot, now):
        newest = event_time_of(found.events[-1]) if found.events else 0
        if covers_user(newest, found.stream.data_clock, milliseconds(moment)) and _user_is_complete(found, snapshot):
            events = unpack_user(found.events, found.labels)
            novelty = Novelty.from_events(events, parties, moment)
            return ChosenUser(UserFeatures.from_events(events, moment), "stream", novelty)
    if snapshot:
        return ChosenUser(snapshot, "batch", unknown=NO_NOVELTY)
    is_new = not found.events and not found.labels and _stream_has_all(found, complete_until, moment, now)
    return ChosenUser(UNKNOWN_USER, "default", unknown=frozenset() if is_new else UNKNOWN_USER_GROUPS)


def choose_merchant(found: Found, moment: datetime, now: datetime) -> ChosenMerchant:
    """What is known of the merchant at the start of the day, by the same rule; its category is only in the snapshot.

    Once the snapshots are too old to be used, the category still is: the source is then `reference`, and the merchant
    is unknown. So is one that is nowhere, except while the stream is current: then it is new.
    """
    snapshot = read_snapshot(MerchantFeatures, found.merchant)
    known = snapshot or UNKNOWN_MERCHANT
    if found.days and _stream_is_newer(found, found.stream.complete.slowest, snapshot, now):
        days, frauds = unpack_merchant(found.days)
        covered = covers_days(days, found.stream.data_clock, milliseconds(moment) // DAY_MS)
        if covered and _merchant_is_complete(found, days, snapshot):
            return ChosenMerchant(MerchantFeatures.from_days(days, frauds, moment, known), "stream")
    if snapshot and snapshots_are_valid(found.stream.pushed_at, milliseconds(now)):
        return ChosenMerchant(snapshot, "batch")
    if snapshot:
        return ChosenMerchant(snapshot.reference(), "reference", known=False)
    is_new = not found.days and _stream_has_all(found, found.stream.complete.slowest, moment, now)
    return ChosenMerchant(UNKNOWN_MERCHANT, "default", known=is_new)


def choose_device(found: Found, moment: datetime, now: datetime) -> ChosenDevice:
    """What is known of the device, by the same rule. No snapshot has it, so without the stream it is unknown.

    A device that a current stream does not have is new, and its zeros are the truth.
    """
    if (found.device_users or found.device_frauds) and _stream_is_newer(
        found, found.stream.complete.slowest, None, now
    ):
        users, frauds = unpack_device(found.device_users, found.device_frauds)
        days = {user.first_payment // DAY_MS for user in users}
        if covers_days(days, found.stream.data_clock, milliseconds(moment) // DAY_MS):
            return ChosenDevice(DeviceFeatures.from_days(users, frauds, moment), known=True)
    is_new = not found.device_users and not found.device_frauds
    known = is_new and _stream_has_all(found, found.stream.complete.slowest, moment, now)
    return ChosenDevice(UNKNOWN_DEVICE, known)


def _stream_has_all(found: Found, complete_until: int, moment: datetime, now: datetime) -> bool:
    """Whether a user, a merchant or a device of which the stream has nothing has done nothing before a moment."""
    clock = found.stream.data_clock
    return stream_is_current(complete_until, milliseconds(now)) and covers_user(clock, clock, milliseconds(moment))


def _user_is_complete(found: Found, snapshot: UserFeatures | None) -> bool:
    if not snapshot or has_all_payments(found.events, found.stream.data_clock, snapshot, found.stream.max_payments):
        return True
    metrics.INCOMPLETE["user"].inc()
    return False


def _merchant_is_complete(found: Found, days: Mapping[int, MerchantDay], snapshot: MerchantFeatures | None) -> bool:
    if not snapshot or has_all_days(days, found.stream.data_clock, snapshot):
        return True
    metrics.INCOMPLETE["merchant"].inc()
    return False


def _stream_is_newer(
    found: Found, complete_until: int, snapshot: UserFeatures | MerchantFeatures | None, now: datetime
) -> bool:
    wall = milliseconds(now)
    # Without a time of the push, as after an upgrade, a snapshot counts as just written.
    snapshot_at = (found.stream.pushed_at or wall) if snapshot else None
    return stream_is_newer(complete_until, snapshot_at, wall)


@lru_cache(maxsize=100)
def _log_once(problem: str) -> None:
    """Log what is wrong with a snapshot: each problem once, since many payments may have it; a metric counts all."""
    logger.error("a snapshot in Redis can't be used, so the stream or the defaults are: %s", problem)


def risk_tier(score: float, model: Model | Rules) -> str:
    """The tier of a score by the thresholds that are stored with the model (training/thresholds.py chooses them)."""
    return "high" if score >= model.high else "medium" if score >= model.medium else "low"


def decided(
    request: PaymentRequest,
    features: PaymentFeatures,
    vector: list[float],
    model: Model | Rules,
    score: float,
    in_force: InForce,
    policy: Policy,
    now: datetime,
) -> Scored:
    """A scored payment with its decision.

    Args:
        vector: that of the features, as Python's numbers.
        now: the time at the wall.
    """
    rounded, tier = round(score, 6), risk_tier(score, model)
    payment = RulePayment(
        request.user_id,
        request.merchant_id,
        request.amount,
        request.is_international,
        features.event_time,
        request.currency,
        request.country,
        request.device_id,
        request.device_type,
        stored_category(request.merchant_category),
    )
    facts = facts_of(payment, vector, rounded, tier, features.unknown)
    decision = decide(facts, in_force, policy, now)
    return Scored(request, features, model, rounded, tier, decision, in_force.ruleset.ruleset_id, now)


def make_answer(scored: Scored, elapsed: float) -> dict[str, Any]:
    """The answer without its reasons; `elapsed` in seconds."""
    return {
        "transaction_id": scored.request.transaction_id,
        "prediction_id": str(uuid.uuid4()),
        "fraud_probability": scored.score,
        "risk_tier": scored.risk_tier,
        "model_version": scored.model.version,
        "latency_ms": round(elapsed * 1000, 3),
        "feature_source": scored.features.source,
        "feature_age_seconds": scored.features.age_seconds,
        "merchant_feature_source": scored.features.merchant_source,
        "decision": scored.decision.answer,
        "queue": scored.decision.queue,
        "rules": scored.decision.rules,
        "ruleset_id": scored.ruleset_id,
    }


def audit_line(scored: Scored, answer: dict[str, Any]) -> bytes:
    """The row of the table `predictions`: a line of JSON."""
    request, features = scored.request, scored.features
    row = answer | {
        "user_id": request.user_id,
        "merchant_id": request.merchant_id,
        "amount": request.amount,
        "is_international": request.is_international,
        "event_time": features.event_time,
        # A value that JSON can't express (a snapshot with NaN) becomes null.
        "features": dict(zip(FEATURES, features.vector, strict=True)),
        "predicted_at": scored.predicted_at,
        "rule_results": scored.decision.results,
        "held_out": scored.decision.held_out,
        "currency": request.currency,
        "country": request.country,
        "device_id": request.device_id,
        "device_type": request.device_type,
        "merchant_category": stored_category(request.merchant_category),
        "unknown_features": ",".join(features.unknown),
    }
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _count(payments: Sequence[Scored]) -> None:
    """Count answered payments; each counter once, since every change of one is a write to a file in memory."""
    counts: dict[metrics.Counter, int] = {}
    for scored in payments:
        features, decision = scored.features, scored.decision
        for counter in (
            metrics.PREDICTIONS[scored.risk_tier],
            metrics.FEATURE_SOURCE[features.source],
            metrics.MERCHANT_FEATURE_SOURCE[features.merchant_source],
            metrics.CACHE_MISSES if features.source == "default" else metrics.CACHE_HITS,
            metrics.DECISIONS[decision.answer, decision.queue],
        ):
            counts[counter] = counts.get(counter, 0) + 1
        if features.age_seconds is not None:
            metrics.FEATURE_AGE[features.source].observe(features.age_seconds)
        if decision.hits or decision.threw:
            for counter in metrics.RULES.of(decision):
                counts[counter] = counts.get(counter, 0) + 1
        if decision.held_out:
            metrics.HOLDOUT_PAYMENTS.inc()
            metrics.HOLDOUT_AMOUNT.inc(decision.held_out_amount)
            metrics.HOLDOUT_LOSS.inc(decision.held_out_amount * scored.score)
    for counter, number in counts.items():
        counter.inc(number)


async def _yield_to_others(number: int) -> None:
    if number % CHUNK == 0:
        await asyncio.sleep(0)
