"""The naive design that the bench compares with: the same payment scored in the obvious way.

scikit-learn's predict_proba for each request, a GET for each key, and a new connection to Postgres for each record.
"""

import json
import os
import time
import uuid
from datetime import UTC, datetime

import joblib
import redis
from fastapi import FastAPI
from features import FEATURES, MERCHANT_KEY, USER_KEY, MerchantFeatures, Payment, UserFeatures
from fraud_common.postgres import connect
from fraud_common.settings import load_settings
from serving.schemas import PaymentRequest
from serving.settings import Settings

settings = load_settings(Settings)
forest = joblib.load(os.environ["NAIVE_MODEL"])
features = redis.Redis(settings.redis_host, settings.redis_port, password=settings.redis_password or None)
app = FastAPI()


@app.get("/ready")
def ready() -> dict[str, list[str]]:
    """Ready as soon as it answers."""
    return {"degraded": []}


@app.post("/predict")
def predict(payment: PaymentRequest) -> dict[str, object]:
    """Score one payment."""
    started = time.perf_counter()
    user_text = features.get(USER_KEY.format(payment.user_id))
    merchant_text = features.get(MERCHANT_KEY.format(payment.merchant_id))
    user = UserFeatures.from_json(user_text) if user_text else UserFeatures()
    merchant = MerchantFeatures.from_json(merchant_text) if merchant_text else MerchantFeatures()
    now = payment.event_time or datetime.now(UTC)
    vector = user.to_array(Payment(payment.amount, payment.is_international, now, payment.device_type), merchant)
    score = float(forest.predict_proba(vector.reshape(1, -1))[0, 1])
    tier = "high" if score >= 0.6 else "medium" if score >= 0.3 else "low"
    latency_ms = (time.perf_counter() - started) * 1000
    connection = connect(settings, "bench")
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "insert into predictions"
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'naive', 'batch', null, %s, %s, now())",
            (
                str(uuid.uuid4()),
                payment.transaction_id,
                payment.user_id,
                payment.merchant_id,
                payment.amount,
                payment.is_international,
                now,
                score,
                tier,
                json.dumps(dict(zip(FEATURES, vector.tolist(), strict=True))),
                latency_ms,
            ),
        )
    connection.close()
    return {"transaction_id": payment.transaction_id, "fraud_probability": score, "risk_tier": tier}
