"""From a payment to its answer: features, score, risk tier, and the line for the audit table.

The hot path: one request to Redis, one vector, one call of the model, one write to a file before the answer leaves.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from audit.prediction_log import PredictionLog
from feature_store.layout import unpack_merchant, unpack_user
from features import EPOCH, FEATURES, MerchantFeatures, Payment, UserFeatures, milliseconds
from numpy.typing import NDArray

from serving import metrics
from serving.feature_client import FeatureClient, Found
from serving.model_store import Model, ModelStore
from serving.rules_1 import Rules
from serving.schemas import PaymentRequest

logger = logging.getLogger(__name__)

UNKNOWN_USER = UserFeatures()
UNKNOWN_MERCHANT = MerchantFeatures()

MAX_REASONS = 5
# In a batch, other requests have their turn after so many payments; for more, the model runs in a thread.
CHUNK = 50


@dataclass(frozen=True, slots=True)
class PaymentFeatures:
    """The features of a payment, and where those of its user came from."""

    event_time: datetime
    vector: NDArray[np.float32]
    source: str
    age_seconds: float | None


@dataclass(frozen=True, slots=True)
class Scored:
    """A payment with its features and its score by a model."""

    request: PaymentRequest
    features: PaymentFeatures
    model: Model | Rules
    score: float


class Predictor:
    """Answers payments, whatever else is down."""

    def __init__(self, features: FeatureClient, models: ModelStore, log: PredictionLog) -> None:
        self._features = features
        self._models = models
        self._log = log

    async def predict(self, request: PaymentRequest, explain: bool) -> bytes:
        """The answer to one payment, as JSON."""
        started = time.perf_counter()
        (found,) = await self._features.look_up([(request.user_id, request.merchant_id)])
        features = features_of(request, found, datetime.now(UTC))
        model = self._models.model
        (score,) = model.probabilities(features.vector.reshape(1, -1))
        reasons = explain_score(model, features.vector, score) if explain else []
        elapsed = time.perf_counter() - started
        scored = Scored(request, features, model, score)
        answer = make_answer(scored, elapsed)
        self._log.append(audit_line(scored, answer), 1)
        _count(scored, answer)
        metrics.LATENCY.observe(elapsed)
        return orjson.dumps(answer | {"reasons": reasons})

    async def predict_batch(self, requests: Sequence[PaymentRequest]) -> bytes:
        """The answers to several payments, with one request to Redis and one call of the model."""
        started = time.perf_counter()
        now = datetime.now(UTC)
        found = await self._features.look_up([(request.user_id, request.merchant_id) for request in requests])
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
        elapsed = time.perf_counter() - started
        answers, lines = [], []
        for number, (request, known, score) in enumerate(zip(requests, features, scores, strict=True), start=1):
            scored = Scored(request, known, model, score)
            answer = make_answer(scored, elapsed)
            answers.append(answer | {"reasons": []})
            lines.append(audit_line(scored, answer))
            _count(scored, answer)
            await _yield_to_others(number)
        self._log.append(b"".join(lines), len(lines))
        metrics.BATCH_LATENCY.observe(elapsed)
        return orjson.dumps({"predictions": answers})


def features_of(request: PaymentRequest, found: Found, now: datetime) -> PaymentFeatures:
    """The payment's features: from the stream, else from the batch snapshots, else the defaults.

    Args:
        found: what Redis has of the payment's user and merchant.
        now: the event time of a payment without one.
    """
    payment = Payment(request.amount, request.is_international, request.event_time or now, request.device_type)
    try:
        as_of = request.event_time or _after(found.clock) or now
        user, source = choose_user(found, as_of)
        vector = user.to_array(payment, choose_merchant(found, as_of))
    except Exception as error:
        # Whatever Redis has under these keys, the payment is answered.
        metrics.ERRORS.labels("snapshot").inc()
        _log_once(f"{type(error).__name__}: {error}")
        user, source = UNKNOWN_USER, "default"
        vector = UNKNOWN_USER.to_array(payment, UNKNOWN_MERCHANT)
    age = None
    if source == "stream" and found.clock is not None:
        # By how much the stream is behind the payment: 0 if it has seen later payments already.
        age = max(0, milliseconds(request.event_time) - found.clock) / 1000 if request.event_time else 0.0
    elif user.as_of:
        age = (payment.event_time - user.as_of).total_seconds()
    return PaymentFeatures(payment.event_time, vector, source, age)


def read_snapshot[S: (UserFeatures, MerchantFeatures)](kind: type[S], text: bytes | None) -> S | None:
    """A batch snapshot, or None if there is none, or one that can't be read, such as that of another release."""
    try:
        return kind.from_json(text) if text else None
    except (ValueError, TypeError, AttributeError) as error:
        metrics.ERRORS.labels("snapshot").inc()
        _log_once(f"{type(error).__name__}: {error}")
        return None


def choose_user(found: Found, as_of: datetime) -> tuple[UserFeatures, str]:
    """What is known of the user just before a moment, and from where: stream, batch or default."""
    snapshot = read_snapshot(UserFeatures, found.user)
    if (found.events or found.labels) and _is_newer(found.clock, snapshot):
        return UserFeatures.from_events(unpack_user(found.events, found.labels), as_of), "stream"
    return (snapshot, "batch") if snapshot else (UNKNOWN_USER, "default")


def choose_merchant(found: Found, as_of: datetime) -> MerchantFeatures:
    """What is known of the merchant at the start of the day, by the same rule; its category is only in the snapshot."""
    snapshot = read_snapshot(MerchantFeatures, found.merchant) or UNKNOWN_MERCHANT
    if found.days and _is_newer(found.clock, snapshot):
        payments, frauds = unpack_merchant(found.days)
        return MerchantFeatures.from_days(payments, frauds, as_of, snapshot)
    return snapshot


def _is_newer(clock: int | None, snapshot: UserFeatures | MerchantFeatures | None) -> bool:
    """Whether the stream is newer than the snapshot; one that has stopped falls behind it."""
    if clock is None:
        return False
    return snapshot is None or snapshot.as_of is None or milliseconds(snapshot.as_of) <= clock


def _after(clock: int | None) -> datetime | None:
    """The event time of a payment without one: just after the newest that the stream has seen."""
    return None if clock is None else EPOCH + timedelta(milliseconds=clock + 1)


@lru_cache(maxsize=100)
def _log_once(problem: str) -> None:
    """Log what is wrong with a snapshot: each problem once, since many payments may have it; a metric counts all."""
    logger.error("a snapshot in Redis can't be used, so the stream or the defaults are: %s", problem)


def explain_score(model: Model | Rules, vector: NDArray[np.float32], score: float) -> list[dict[str, Any]]:
    """The features that moved the score the most: each in turn is replaced by its typical value and scored again.

    Args:
        vector: the payment's features, shape (len(FEATURES),).
    """
    variants = np.tile(vector, (len(FEATURES), 1))
    np.fill_diagonal(variants, model.typical)
    without = model.probabilities(variants)
    effects = {name: round(score - other, 6) for name, other in zip(FEATURES, without, strict=True)}
    largest = sorted(effects, key=lambda name: -abs(effects[name]))[:MAX_REASONS]
    value = dict(zip(FEATURES, vector, strict=True))
    return [
        {"name": name, "value": _json_number(value[name]), "effect": effects[name]} for name in largest if effects[name]
    ]


def risk_tier(score: float, model: Model | Rules) -> str:
    """The tier of a score by the thresholds that are stored with the model (training/thresholds.py chooses them)."""
    return "high" if score >= model.high else "medium" if score >= model.medium else "low"


def make_answer(scored: Scored, elapsed: float) -> dict[str, Any]:
    """The answer without its reasons; `elapsed` in seconds."""
    return {
        "transaction_id": scored.request.transaction_id,
        "prediction_id": str(uuid.uuid4()),
        "fraud_probability": round(scored.score, 6),
        "risk_tier": risk_tier(scored.score, scored.model),
        "model_version": scored.model.version,
        "latency_ms": round(elapsed * 1000, 3),
        "feature_source": scored.features.source,
        "feature_age_seconds": scored.features.age_seconds,
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
        "predicted_at": datetime.now(UTC),
    }
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _count(scored: Scored, answer: dict[str, Any]) -> None:
    metrics.PREDICTIONS[answer["risk_tier"]].inc()
    metrics.FEATURE_SOURCE[scored.features.source].inc()
    (metrics.CACHE_MISSES if scored.features.source == "default" else metrics.CACHE_HITS).inc()


def _json_number(value: np.float32) -> float | None:
    return float(str(value)) if np.isfinite(value) else None


async def _yield_to_others(number: int) -> None:
    if number % CHUNK == 0:
        await asyncio.sleep(0)
