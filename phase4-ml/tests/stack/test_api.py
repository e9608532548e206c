"""The API of the stack: real features from Redis, a model from MLflow, and predictions in Postgres."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from feature_store import writer
from feature_store.layout import (
    CLOCK_KEY,
    COMPLETE_KEY,
    DEVICE_FRAUDS,
    DEVICE_USERS,
    MERCHANT_DAYS,
    PUSHED_AT_KEY,
    USER_EVENTS,
    USER_LABELS,
    Label,
    PaymentEvent,
    device_number,
    merchant_number,
)
from features import CATEGORY_RISKS_KEY, FEATURES, USER_KEY, milliseconds
from serving_stack import (
    API_URL,
    AS_OF,
    PAYMENT,
    known_user,
    metric,
    redis_client,
    select,
    stream_is_complete,
    wait_until,
)

KNOWN = PAYMENT | {"user_id": "known-1", "merchant_id": "known-1", "event_time": "2024-11-29T14:30:00Z"}


def post(api: httpx2.Client, body: Any, path: str = "/predict") -> dict[str, Any]:
    answer = api.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("user", "merchant", "source"),
    [
        ("known-1", "known-1", "batch"),
        ("known-1", "nobody", "batch"),
        ("nobody", "known-1", "default"),
        ("U1234", "M001", "default"),
        ("Łukasz-7", "店", "default"),
    ],
)
def test_known_and_unknown_are_scored(api: httpx2.Client, healthy: str, user: str, merchant: str, source: str) -> None:
    answer = post(api, PAYMENT | {"user_id": user, "merchant_id": merchant})
    assert answer["transaction_id"] == "t1"
    assert 0 <= answer["fraud_probability"] <= 1
    assert answer["risk_tier"] in ("low", "medium", "high")
    assert answer["model_version"] == healthy
    assert answer["feature_source"] == source
    assert (answer["feature_age_seconds"] is None) == (source == "default")
    assert answer["reasons"] == []
    assert answer["latency_ms"] > 0


def test_age_is_event_time_less_the_snapshots(api: httpx2.Client) -> None:
    assert post(api, KNOWN)["feature_age_seconds"] == 1800
    # A payment of another year, and one from before the snapshot.
    assert post(api, KNOWN | {"event_time": "2025-11-29T14:00:00+00:00"})["feature_age_seconds"] == 365 * 86_400
    assert post(api, KNOWN | {"event_time": "2024-11-29T14:00:00+01:00"})["feature_age_seconds"] == -3600


def test_thresholds_make_the_tier(api: httpx2.Client) -> None:
    for amount in (5, 50, 200, 500, 1000, 5000, 50_000):
        answer = post(api, KNOWN | {"amount": amount})
        score = answer["fraud_probability"]
        assert answer["risk_tier"] == ("high" if score >= 0.6 else "medium" if score >= 0.3 else "low")


def test_the_same_payment_again_is_another_prediction_with_the_same_score(api: httpx2.Client) -> None:
    first, second = post(api, KNOWN), post(api, KNOWN)
    assert first["prediction_id"] != second["prediction_id"]
    assert first["fraud_probability"] == second["fraud_probability"]


def test_explain_names_what_moved_the_score(api: httpx2.Client, example_files: tuple[bytes, dict]) -> None:
    payment = KNOWN | {"amount": 5000}
    answer = api.post("/predict?explain=true", json=payment).json()
    reasons = answer["reasons"]
    assert 1 <= len(reasons) <= 5
    effects = [abs(reason["effect"]) for reason in reasons]
    assert effects == sorted(effects, reverse=True) and effects[-1] > 0
    # The made-up model looks at the amount: with the typical one the score is what the effect says.
    (amount,) = (reason for reason in reasons if reason["name"] == "amount")
    assert amount["value"] == 5000
    assert {reason["name"] for reason in reasons} <= set(FEATURES)
    assert answer["fraud_probability"] == post(api, payment)["fraud_probability"]


def test_batch_is_the_same_as_one_by_one_in_the_same_order(api: httpx2.Client) -> None:
    payments = [
        KNOWN | {"transaction_id": f"t{n}", "user_id": f"known-{n % 300}", "amount": n + 1} for n in range(1000)
    ]
    answers = post(api, {"transactions": payments}, "/predict/batch")["predictions"]
    assert [answer["transaction_id"] for answer in answers] == [payment["transaction_id"] for payment in payments]
    assert {answer["feature_source"] for answer in answers} == {"batch", "default"}
    for number in (0, 250, 999):
        alone = post(api, payments[number])
        same = ("fraud_probability", "risk_tier", "model_version", "feature_source", "feature_age_seconds")
        same += ("decision", "queue", "rules", "ruleset_id")
        assert {name: alone[name] for name in same} == {name: answers[number][name] for name in same}


def test_every_prediction_is_recorded_with_its_features(api: httpx2.Client) -> None:
    answer = post(api, KNOWN | {"amount": 12.34})
    query = (
        "select transaction_id, user_id, amount, fraud_probability, risk_tier, model_version, feature_source,"
        " feature_age_seconds, features, event_time::text from predictions where prediction_id = %s"
    )
    ((*row, features, event_time),) = wait_until(lambda: select(query, answer["prediction_id"]), "the row", 30)
    assert row[:3] == ["t1", "known-1", 12.34]
    assert row[3:] == [
        answer[name]
        for name in ("fraud_probability", "risk_tier", "model_version", "feature_source", "feature_age_seconds")
    ]
    assert set(features) == set(FEATURES)
    assert features["amount"] == 12.34 and features["transactions_30d"] == 50
    assert event_time.startswith("2024-11-29 14:30:00")


def test_unreadable_snapshots_are_as_none(api: httpx2.Client) -> None:
    before = metric("fraud_errors_total")
    texts = ["no json", "[]", '{"version":99}', '{"version":1,"amount_sum_1d":"x"}', '{"version":1,"as_of":"soon"}']
    for text in texts:
        redis_client().set(USER_KEY.format("broken"), text, ex=60)
        assert post(api, KNOWN | {"user_id": "broken"})["feature_source"] == "default", text
    # Each as an unreadable snapshot, or on a busy machine as an answer of Redis that came too late.
    assert metric("fraud_errors_total") - before >= len(texts)


@pytest.fixture
def streamed() -> Iterator[None]:
    """A user and a merchant that the stream knows: three payments of yesterday and one just before 14:00."""
    at = [AS_OF - timedelta(hours=25), *(AS_OF - timedelta(days=1, seconds=number) for number in (1, 2)), AS_OF]
    payments = [
        PaymentEvent(f"s{number}", "streamed", "streamed", milliseconds(moment), 1000 * (number + 1), "DE", "d1", False)
        for number, moment in enumerate(at)
    ]
    label = Label("s0", "streamed", payments[0].event_time, payments[0].event_time + 1, True)
    writer.apply(redis_client(), writer.Batch(payments, [label]), max_payments_per_user=100)
    redis_client().set(CLOCK_KEY, milliseconds(AS_OF))
    redis_client().set(CATEGORY_RISKS_KEY, '{"gaming": 2}')
    stream_is_complete(time.time())
    yield
    redis_client().delete(
        *(key.format("streamed") for key in (USER_EVENTS, USER_LABELS, USER_KEY)),
        MERCHANT_DAYS.format(merchant_number("streamed")),
        *(key.format(device_number("d1")) for key in (DEVICE_USERS, DEVICE_FRAUDS)),
        CLOCK_KEY,
        COMPLETE_KEY,
        PUSHED_AT_KEY,
        CATEGORY_RISKS_KEY,
    )


@pytest.mark.usefixtures("streamed")
def test_the_stream_is_used_unless_the_snapshot_is_newer(api: httpx2.Client) -> None:
    late = KNOWN | {"user_id": "streamed", "merchant_id": "streamed", "event_time": "2024-11-29T14:00:30Z"}
    late |= {"country": "FR", "device_id": "d1", "currency": "EUR", "merchant_category": "gaming"}
    answer = post(api, late)
    assert answer["feature_source"] == "stream"
    assert 0 <= answer["feature_age_seconds"] < 60
    query = "select features from predictions where prediction_id = %s"
    ((features,),) = wait_until(lambda: select(query, answer["prediction_id"]), "the row", 30)
    assert features["transactions_1d"] == 1 and features["transactions_7d"] == 4
    assert features["amount_sum_7d"] == 100 and features["seconds_since_last"] == 30
    assert features["confirmed_frauds"] == 1
    assert (features["is_new_merchant_30d"], features["is_new_device_30d"], features["is_new_country_30d"]) == (0, 0, 1)
    assert (features["is_local_currency"], features["merchant_category_risk"]) == (1, 2)
    assert features["device_share_30d"] == 1 and features["seconds_since_device"] == 30
    assert (features["device_users_30d"], features["device_users_today"]) == (1, 1)
    assert features["merchant_transactions_1d"] == 3 and features["merchant_fraud_rate_1d"] == pytest.approx(1 / 3)

    # While the stream is current, no snapshot is newer.
    snapshot = replace(known_user(), transactions_30d=4, as_of=AS_OF + timedelta(milliseconds=1))
    redis_client().set(USER_KEY.format("streamed"), snapshot.to_json(), ex=60)
    redis_client().set(PUSHED_AT_KEY, round(time.time() * 1000))
    assert post(api, late)["feature_source"] == "stream"
    # It stopped an hour ago; the snapshots were pushed after that, or before.
    stopped = time.time() - 3600
    stream_is_complete(stopped)
    assert post(api, late)["feature_source"] == "batch"
    redis_client().set(PUSHED_AT_KEY, round(stopped * 1000))
    answer = post(api, late)
    assert answer["feature_source"] == "stream"
    assert answer["feature_age_seconds"] == pytest.approx(3600, abs=60)

    # One of an earlier release, which has not all the features, is no snapshot.
    lacks_one = snapshot.to_json().replace('"confirmed_frauds"', '"confirmed_fraud"')
    for other_release in (lacks_one, snapshot.to_json().replace('"confirmed_frauds":0,', "")):
        assert other_release != snapshot.to_json()
        redis_client().set(USER_KEY.format("streamed"), other_release, ex=60)
        assert post(api, late)["feature_source"] == "stream", other_release


@pytest.mark.usefixtures("streamed")
def test_a_user_whose_history_is_gone_is_served_from_the_snapshot(api: httpx2.Client) -> None:
    """Field case E3: the key is lost, and the next payment begins a new one."""
    late = KNOWN | {"user_id": "streamed", "merchant_id": "streamed", "event_time": "2024-11-29T14:00:30Z"}
    snapshot = replace(known_user(), transactions_30d=4, transactions_7d=4, as_of=AS_OF)
    redis_client().set(USER_KEY.format("streamed"), snapshot.to_json(), ex=60)
    answer = post(api, late)
    assert (answer["feature_source"], answer["merchant_feature_source"]) == ("stream", "stream")
    redis_client().delete(USER_EVENTS.format("streamed"))
    new = PaymentEvent("new", "streamed", "streamed", milliseconds(AS_OF) + 1000, 100, "DE", "d1", False)
    writer.apply(redis_client(), writer.Batch([new]), max_payments_per_user=100)
    before = metric("fraud_incomplete_histories_total", of="user")
    assert post(api, late)["feature_source"] == "batch"
    assert metric("fraud_incomplete_histories_total", of="user") == before + 1


@pytest.mark.usefixtures("streamed")
def test_a_payment_without_a_time_has_one_moment_everywhere(api: httpx2.Client) -> None:
    """B2: just after the data clock, in the features and in the audit row."""
    without = {name: each for name, each in KNOWN.items() if name != "event_time"}
    answer = post(api, without | {"user_id": "streamed", "merchant_id": "streamed"})
    query = "select features, event_time from predictions where prediction_id = %s"
    ((features, event_time),) = wait_until(lambda: select(query, answer["prediction_id"]), "the row", 30)
    assert event_time == AS_OF + timedelta(milliseconds=1)
    assert features["transactions_1d"] == 1 and features["transactions_7d"] == 4
    assert features["seconds_since_last"] == pytest.approx(0.001, abs=0.01)
    assert features["event_hour"] == 14 and features["is_night"] == 0
    assert answer["feature_source"] == "stream"


@pytest.mark.usefixtures("streamed")
def test_the_stream_is_not_the_source_of_what_it_no_longer_has(api: httpx2.Client) -> None:
    old = KNOWN | {"user_id": "streamed", "event_time": "2023-11-29T14:00:30Z"}
    assert post(api, old)["feature_source"] == "default"


@pytest.mark.usefixtures("streamed")
def test_an_unreadable_stream_is_as_none(api: httpx2.Client) -> None:
    payment = KNOWN | {"user_id": "streamed", "merchant_id": "streamed"}
    redis_client().zadd(USER_EVENTS.format("streamed"), {b"too short": 0})
    assert post(api, payment)["feature_source"] == "default"
    redis_client().delete(USER_EVENTS.format("streamed"), USER_LABELS.format("streamed"))
    redis_client().set(USER_EVENTS.format("streamed"), "no sorted set", ex=60)
    assert post(api, payment)["feature_source"] == "default"
    redis_client().delete(USER_EVENTS.format("streamed"))


def test_metrics_count(api: httpx2.Client, healthy: str) -> None:
    names = ["fraud_predictions_total", "fraud_redis_cache_hits_total", "fraud_redis_cache_misses_total"]
    before = [metric(name) for name in names]
    for user in ("known-1", "known-2", "nobody"):
        post(api, KNOWN | {"user_id": user})
    assert [metric(name) - old for name, old in zip(names, before, strict=True)] == [3, 2, 1]
    assert metric("fraud_prediction_latency_seconds_count") > 0
    assert metric("fraud_model_version") == float(healthy)
    assert metric("fraud_redis_breaker_open") == 0


def test_health_and_ready(api: httpx2.Client, healthy: str) -> None:
    assert api.get("/health").json() == {"status": "ok"}
    state = api.get("/ready").json()
    assert (state["status"], state["model_version"], state["degraded"]) == ("ok", healthy, [])


def test_whatever_is_sent_the_answer_is_documented(healthy: str) -> None:
    command = ["schemathesis", "run", f"{API_URL}/openapi.json", "--max-examples", "60", "--no-color"]
    # The others are for people with keys, and have a test of their own (test_rules_api.py).
    command += ["--include-path-regex", "^/(predict|health|ready|metrics)"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_formats"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:]
    assert "5 selected" in result.stdout
