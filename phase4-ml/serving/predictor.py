"""From a payment to its answer: features, score, tier, and the line for the audit table, kept before the answer.

The hot path: one MGET, one vector, one call of the model, one write to a file.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from features import FEATURES, MERCHANT_KEY, USER_KEY, MerchantFeatures, Payment, UserFeatures
from numpy.typing import NDArray

from serving import metrics
from serving.feature_client import FeatureClient
from serving.model_store import Model, ModelStore
from serving.prediction_log import PredictionLog
from serving.rules import Rules
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
        user, merchant = await self._features.snapshots(
            (USER_KEY.format(request.user_id), MERCHANT_KEY.format(request.merchant_id))
        )
        looked = look(request, user, merchant, datetime.now(UTC))
        model = self._models.model
        matrix = looked.vector.reshape(1, -1)
        (score,) = model.probabilities(matrix)
        found = reasons(model, looked.vector, score) if explain else []
        elapsed = time.perf_counter() - started
        answer, line = answer_and_line(request, looked, model, score, found, elapsed)
        self._log.append(line, 1)
        metrics.LATENCY.observe(elapsed)
        return orjson.dumps(answer)

    async def predict_batch(self, requests: Sequence[PaymentRequest]) -> bytes:
        """The answers to several payments, with one question to Redis and one to the model."""
        started = time.perf_counter()
        now = datetime.now(UTC)
        users = [USER_KEY.format(request.user_id) for request in requests]
        merchants = [MERCHANT_KEY.format(request.merchant_id) for request in requests]
        keys = list(dict.fromkeys((*users, *merchants)))
        snapshots = dict(zip(keys, await self._features.snapshots(keys), strict=True))
        looked: list[Looked] = []
        for position, (request, user, merchant) in enumerate(zip(requests, users, merchants, strict=True), start=1):
            looked.append(look(request, snapshots[user], snapshots[merchant], now))
            await _others_turn(position)
        model = self._models.model
        matrix = np.stack([each.vector for each in looked])
        if len(looked) > CHUNK:
            scores = await asyncio.to_thread(model.probabilities, matrix)
        else:
            scores = model.probabilities(matrix)
        elapsed = time.perf_counter() - started
        answers, lines = [], []
        for position, (request, each, score) in enumerate(zip(requests, looked, scores, strict=True), start=1):
            answer, line = answer_and_line(request, each, model, score, [], elapsed)
            answers.append(answer)
            lines.append(line)
            await _others_turn(position)
        self._log.append(b"".join(lines), len(lines))
        metrics.BATCH_LATENCY.observe(elapsed)
        return orjson.dumps({"predictions": answers})


def look(request: PaymentRequest, user: bytes | None, merchant: bytes | None, now: datetime) -> Looked:
    """The payment's features, from the snapshots or from the defaults for what is not there or can't be read."""
    payment = Payment(request.amount, request.is_international, request.event_time or now, request.device_type)
    try:
        known_user = UserFeatures.from_json(user) if user else UNKNOWN_USER
        known_merchant = MerchantFeatures.from_json(merchant) if merchant else UNKNOWN_MERCHANT
        vector = known_user.to_array(payment, known_merchant)
        age = (payment.event_time - known_user.as_of).total_seconds() if known_user.as_of else None
    except Exception as error:
        # Whatever stands in Redis under these keys, the payment is answered.
        metrics.ERRORS.labels("snapshot").inc()
        _tell(f"{type(error).__name__}: {error}")
        user, age = None, None
        vector = UNKNOWN_USER.to_array(payment, UNKNOWN_MERCHANT)
    (metrics.CACHE_HITS if user else metrics.CACHE_MISSES).inc()
    return Looked(payment.event_time, vector, "batch" if user else "default", age)


@lru_cache(maxsize=100)
def _tell(problem: str) -> None:
    """Log what is wrong with a snapshot: each problem once, since other payments have it too; a metric counts all."""
    logger.error("a snapshot in Redis can't be used, the defaults are: %s", problem)


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
