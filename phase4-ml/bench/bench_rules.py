"""What rules add to a prediction, and to a batch of 500: 50 live rules and 50 in shadow, in this process.

python phase4-ml/bench/bench_rules.py [--live 50] [--shadow 50]

Times of batches are of this process on the CPU, those of predictions at the wall. Compared are the steps between the
score and the line of the audit trail, with all that decisions need (the facts, the rules, the decision, the fields of
answer and audit row), the same without any rule, and the same steps of a release without decisions.
"""

import argparse
import gc
import json
import random
import statistics
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
from features import FEATURES
from rules.decide import Policy
from rules.lists import ListValues
from rules.ruleset import InForce, Ruleset
from serving.predictor import PaymentFeatures, audit_line, decided, make_answer, risk_tier
from serving.rules_1 import Rules
from serving.schemas import PaymentRequest

BATCH = 500
ROUNDS = 60
EVENT_TIME = datetime(2026, 3, 4, 11, tzinfo=UTC)
# As analysts write them; {} are replaced by numbers, so that no two rules are the same.
SHAPES = (
    "is_new_device_30d and amount > {a} and fraud_probability > 0.{b}",
    "transactions_10m >= {c} and amount_sum_1h > {a}",
    "is_new_country_30d and is_international and amount_ref > {a}",
    "amount_to_mean_30d > {c} and seconds_since_last < {c} and not is_weekend",
    "device_users_30d >= {c} and amount between {a} and 5000",
    "small_transactions_1h >= {c} and is_new_merchant_30d",
    "merchant_fraud_rate_30d > 0.{b} and merchant_category in ('gaming', 'electronics', 'jewelry')",
    "is_round_amount and amount_ref >= {a} and event_hour between 0 and 5",
    "in_list(user_id, 'blocked-users') or in_list(device_id, 'blocked-devices')",
    "coalesce(merchant_amount_zscore_30d, 0) > {c} and risk_tier = 'medium' and country <> 'DE'",
)


def main() -> None:
    """Measure, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--live", type=int, default=50, help="how many live rules")
    parser.add_argument("--shadow", type=int, default=50, help="how many rules in shadow")
    arguments = parser.parse_args()
    generator = random.Random(7)
    payments = [a_payment(number, generator) for number in range(BATCH)]
    rules = in_force(arguments.live, arguments.shadow, generator)
    steps: dict[str, Callable[[Any], bytes]] = {
        "without decisions": undecided,
        "without rules": lambda payment: with_rules(payment, InForce()),
        "with rules": lambda payment: with_rules(payment, rules),
    }
    gc.collect()
    gc.freeze()
    single: dict[str, list[float]] = {name: [] for name in steps}
    batches: dict[str, list[float]] = {name: [] for name in steps}
    # In turn, so that a busy moment of the machine falls on all of them.
    for _ in range(ROUNDS):
        for name, step in steps.items():
            began = time.thread_time()
            for payment in payments:
                step(payment)
            batches[name].append(time.thread_time() - began)
            for payment in payments:
                at = time.perf_counter()
                step(payment)
                single[name].append(time.perf_counter() - at)
    fired = [len(decided(*payment, rules, Policy(), datetime.now(UTC)).decision.hits) for payment in payments]
    before = single["without decisions"]
    print(
        json.dumps(
            {
                "rules": {"live": arguments.live, "shadow": arguments.shadow},
                "hits_per_payment": round(statistics.mean(fired), 3),
                "prediction_p50_us": {name: round(statistics.median(each) * 1e6, 2) for name, each in single.items()},
                "batch_of_500_p50_ms": {
                    name: round(statistics.median(each) * 1e3, 2) for name, each in batches.items()
                },
                "added_to_a_prediction_p50_us": round(
                    (statistics.median(single["with rules"]) - statistics.median(before)) * 1e6, 2
                ),
                "added_to_a_batch_of_500_p50_ms": round(
                    (statistics.median(batches["with rules"]) - statistics.median(batches["without decisions"])) * 1e3,
                    2,
                ),
            }
        )
    )


def with_rules(payment: Any, rules: InForce) -> bytes:
    """From the score to the lines of answer and audit row."""
    scored = decided(*payment, rules, Policy(), datetime.now(UTC))
    answer = make_answer(scored, 0.001)
    return audit_line(scored, answer) + orjson.dumps(answer)


def undecided(payment: Any) -> bytes:
    """The same of the release before decisions: neither answer nor row has one."""
    request, features, _, model, score = payment
    answer = {
        "transaction_id": request.transaction_id,
        "prediction_id": str(uuid.uuid4()),
        "fraud_probability": round(score, 6),
        "risk_tier": risk_tier(score, model),
        "model_version": model.version,
        "latency_ms": 1.0,
        "feature_source": features.source,
        "feature_age_seconds": features.age_seconds,
        "merchant_feature_source": features.merchant_source,
    }
    row = answer | {
        "user_id": request.user_id,
        "merchant_id": request.merchant_id,
        "amount": request.amount,
        "is_international": request.is_international,
        "event_time": features.event_time,
        "features": dict(zip(FEATURES, features.vector, strict=True)),
        "predicted_at": datetime.now(UTC),
    }
    line = orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
    return line + orjson.dumps(answer)


def a_payment(
    number: int, generator: random.Random
) -> tuple[PaymentRequest, PaymentFeatures, list[float], Rules, float]:
    """What `decided` takes of a scored payment."""
    request = PaymentRequest(
        transaction_id=f"t{number}",
        user_id=f"user-{number}",
        merchant_id=f"merchant-{number % 50}",
        amount=round(generator.lognormvariate(3.5, 1), 2),
        is_international=generator.random() < 0.1,
        currency=generator.choice(["EUR", "USD", "GBP"]),
        country=generator.choice(["DE", "FR", "US"]),
        device_id=f"device-{number}",
        device_type="mobile",
        merchant_category=generator.choice(["groceries", "gaming", "fuel"]),
        event_time=EVENT_TIME.isoformat(),
    )
    vector = np.array([generator.lognormvariate(0, 1) for _ in FEATURES], dtype=np.float32)
    vector[[name.startswith("is_") for name in FEATURES]] = 0
    vector[["rate" in name or "ratio" in name for name in FEATURES]] *= 0.02
    features = PaymentFeatures(EVENT_TIME, vector, "stream", 0.5, "stream")
    return request, features, vector.tolist(), Rules(), generator.random() * 0.1


def in_force(live: int, shadow: int, generator: random.Random) -> InForce:
    """Rules of these shapes, and two lists of 5,000 entries."""
    entries = [
        {
            "rule_id": number + 1,
            "version": 1,
            "name": f"rule-{number + 1}",
            "lane": "rule",
            "state": "live" if number < live else "shadow",
            "when": SHAPES[number % len(SHAPES)].format(
                a=generator.randrange(500, 2000), b=generator.randrange(10, 99), c=generator.randrange(8, 20)
            ),
            "answer": "challenge",
            "queue": False,
            "rollout_percent": 100,
            "expires_at": None,
        }
        for number in range(live + shadow)
    ]
    since = datetime.now(UTC) - timedelta(days=1)
    lists = {
        name: ListValues((f"value-{number}", since, None) for number in range(5000))
        for name in ("blocked-users", "blocked-devices")
    }
    return InForce(Ruleset.of(1, {"rules": entries}), lists)


if __name__ == "__main__":
    main()
