"""From a payment to its answer: features, score, tier, and the line for the audit table, kept before the answer.

The hot path: one question to Redis, one vector, one call of the model, one write to a file.
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
# Batches: so many payments in a row before other requests have their turn; for more the model runs in a thread.
CHUNK = 50


@dataclass(frozen=True, slots=True)
class Looked:
    """A payment with what is known of its user and merchant."""

    event_time: datetime
    vector: NDArray[np.float32]
    source: str
    age_seconds: float | None


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
        looked = look(request, found, datetime.now(UTC))
        model = self._models.model
        matrix = looked.vector.reshape(1, -1)
        (score,) = model.probabilities(matrix)
        moved = reasons(model, looked.vector, score) if explain else []
        elapsed = time.perf_counter() - started
        answer, line = answer_and_line(request, looked, model, score, moved, elapsed)
        self._log.append(line, 1)
        metrics.LATENCY.observe(elapsed)
        return orjson.dumps(answer)

    async def predict_batch(self, requests: Sequence[PaymentRequest]) -> bytes:
        """The answers to several payments, with one question to Redis and one to the model."""
        started = time.perf_counter()
        now = datetime.now(UTC)
        found = await self._features.look_up([(request.user_id, request.merchant_id) for request in requests])
        looked: list[Looked] = []
        for position, (request, each) in enumerate(zip(requests, found, strict=True), start=1):
            looked.append(look(request, each, now))
            await _others_turn(position)
        model = self._models.model
        matrix = np.stack([known.vector for known in looked])
        if len(looked) > CHUNK:
            scores = await asyncio.to_thread(model.probabilities, matrix)
        else:
            scores = model.probabilities(matrix)
        elapsed = time.perf_counter() - started
        answers, lines = [], []
        for position, (request, known, score) in enumerate(zip(requests, looked, scores, strict=True), start=1):
            answer, line = answer_and_line(request, known, model, score, [], elapsed)
            answers.append(answer)
            lines.append(line)
            await _others_turn(position)
        self._log.append(b"".join(lines), len(lines))
        metrics.BATCH_LATENCY.observe(elapsed)
        return orjson.dumps({"predictions": answers})


def look(request: PaymentRequest, found: Found, now: datetime) -> Looked:
    """The payment's features: from the stream, else from the batch snapshots, else the defaults."""
    payment = Payment(request.amount, request.is_international, request.event_time or now, request.device_type)
    try:
        as_of = request.event_time or _next_moment(found.clock) or now
        user, source = choose_user(found, as_of)
        vector = user.to_array(payment, choose_merchant(found, as_of))
    except Exception as error:
        # Whatever stands in Redis under these keys, the payment is answered.
        metrics.ERRORS.labels("snapshot").inc()
        _tell(f"{type(error).__name__}: {error}")
        user, source = UNKNOWN_USER, "default"
        vector = UNKNOWN_USER.to_array(payment, UNKNOWN_MERCHANT)
    age = None
    if source == "stream" and found.clock is not None:
        # What the payment's features lack: nothing where the stream has seen later payments already.
        age = max(0, milliseconds(request.event_time) - found.clock) / 1000 if request.event_time else 0.0
    elif user.as_of:
        age = (payment.event_time - user.as_of).total_seconds()
    (metrics.CACHE_MISSES if source == "default" else metrics.CACHE_HITS).inc()
    return Looked(payment.event_time, vector, source, age)


def read_snapshot[S: (UserFeatures, MerchantFeatures)](kind: type[S], text: bytes | None) -> S | None:
    """A batch snapshot, or None where there is none to be read, as one of another release: the stream serves alone."""
    try:
        return kind.from_json(text) if text else None
    except (ValueError, TypeError, AttributeError) as error:
        metrics.ERRORS.labels("snapshot").inc()
        _tell(f"{type(error).__name__}: {error}")
        return None


def choose_user(found: Found, as_of: datetime) -> tuple[UserFeatures, str]:
    """What is known of the user just before a moment, and from where: stream, batch or default."""
    snapshot = read_snapshot(UserFeatures, found.user)
    if (found.events or found.labels) and _is_newer(found.clock, snapshot):
        return UserFeatures.from_events(unpack_user(found.events, found.labels), as_of), "stream"
    return (snapshot, "batch") if snapshot else (UNKNOWN_USER, "default")


def choose_merchant(found: Found, as_of: datetime) -> MerchantFeatures:
    """What is known of the merchant at the start of the day, by the same rule; its category is in the snapshot only."""
    snapshot = read_snapshot(MerchantFeatures, found.merchant) or UNKNOWN_MERCHANT
    if found.days and _is_newer(found.clock, snapshot):
        payments, frauds = unpack_merchant(found.days)
        return MerchantFeatures.from_days(payments, frauds, as_of, snapshot)
    return snapshot


def _is_newer(clock: int | None, snapshot: UserFeatures | MerchantFeatures | None) -> bool:
    """Whether the stream is: one that stands still is behind the snapshot at some time, and then that is better."""
    if clock is None:
        return False
    return snapshot is None or snapshot.as_of is None or milliseconds(snapshot.as_of) <= clock


def _next_moment(clock: int | None) -> datetime | None:
    """A payment that does not tell its time is taken for the stream's next one."""
    return None if clock is None else EPOCH + timedelta(milliseconds=clock + 1)


@lru_cache(maxsize=100)
def _tell(problem: str) -> None:
    """Log what is wrong with a snapshot: each problem once, since other payments have it too; a metric counts all."""
    logger.error("a snapshot in Redis can't be used, the stream or the defaults are: %s", problem)


def reasons(model: Model | Rules, vector: NDArray[np.float32], score: float) -> list[dict[str, Any]]:
    """The features that moved the score the most: each in turn is replaced by its typical value and scored again."""
    variants = np.tile(vector, (len(FEATURES), 1))
    np.fill_diagonal(variants, model.typical)
    effects = [(score - without, position) for position, without in enumerate(model.probabilities(variants))]
    effects.sort(key=lambda effect: -abs(effect[0]))
    return [
        {"name": FEATURES[position], "value": _shown(vector[position]), "effect": round(effect, 6)}
        for effect, position in effects[:MAX_REASONS]
        if abs(effect) >= 1e-6
    ]


def answer_and_line(
    request: PaymentRequest,
    looked: Looked,
    model: Model | Rules,
    score: float,
    found: list[dict[str, Any]],
    elapsed: float,
) -> tuple[dict[str, Any], bytes]:
    """The answer, and the line for the table `predictions`."""
    tier = "high" if score >= model.high else "medium" if score >= model.medium else "low"
    metrics.PREDICTIONS[tier].inc()
    metrics.FEATURE_SOURCE[looked.source].inc()
    answer = {
        "transaction_id": request.transaction_id,
        "prediction_id": str(uuid.uuid4()),
        "fraud_probability": round(score, 6),
        "risk_tier": tier,
        "model_version": model.version,
        "latency_ms": round(elapsed * 1000, 3),
        "feature_source": looked.source,
        "feature_age_seconds": looked.age_seconds,
    }
    row = answer | {
        "user_id": request.user_id,
        "merchant_id": request.merchant_id,
        "amount": request.amount,
        "is_international": request.is_international,
        "event_time": looked.event_time,
        # A number in the vector may be no number in JSON (a snapshot with NaN): then it is null here.
        "features": dict(zip(FEATURES, looked.vector, strict=True)),
        "predicted_at": datetime.now(UTC),
    }
    answer["reasons"] = found
    return answer, orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _shown(value: np.float32) -> float | None:
    return float(str(value)) if np.isfinite(value) else None


async def _others_turn(position: int) -> None:
    if position % CHUNK == 0:
        await asyncio.sleep(0)
