"""Generated requests to the API alone: none is an error of ours, and every refusal is short and says where.

FUZZ_REQUESTS says how many there are, FUZZ_SEED which: `make fuzz REQUESTS=5000 SEED=7` for the long form.
"""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import orjson
import pytest
from api_process import metric_of, own_api
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from request_strategies import batches, faulty, payments, requests, rule_requests, to_json
from serving.schemas import BatchAnswer, PredictionAnswer
from serving.settings import MAX_ERRORS

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "300"))
ADMIN_KEY = "key-of-an-admin"
SEED = int(os.environ.get("FUZZ_SEED", "1"))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    nowhere = {"redis_host": "localhost", "postgres_host": "localhost", "mlflow_tracking_uri": "http://localhost:1"}
    keys = {"rules_keys": f"admin:admin:{ADMIN_KEY}"}
    with own_api(tmp_path_factory.mktemp("api"), redis_port=1, postgres_port=1, **nowhere, **keys) as client:
        yield client


def for_each[T](values: st.SearchStrategy[T], number: int, check: Callable[[T], None]) -> None:
    """Check so many generated values; one that fails is reduced to its simplest form."""
    many = settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    seed(SEED)(many(given(values)(check)))()


def refused(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The errors of a 422, which are few, short and say where."""
    errors = answer.json()["detail"]
    assert 1 <= len(errors) <= MAX_ERRORS and len(answer.content) < 10_000
    assert all(each["loc"][0] in ("body", "query", "path") and each["msg"] and each["type"] for each in errors)
    return errors


def test_no_request_is_an_error_of_ours(api: httpx2.Client) -> None:
    statuses: list[int] = []

    def check(request: dict[str, Any]) -> None:
        answer = api.request(**request)
        assert answer.status_code < 500, answer.text
        statuses.append(answer.status_code)
        path = answer.request.url.path
        if answer.status_code == 422:
            refused(answer)
        if answer.status_code == 200 and path == "/predict":
            PredictionAnswer.model_validate_json(answer.content)
        if answer.status_code == 200 and path == "/predict/batch":
            BatchAnswer.model_validate_json(answer.content)

    for_each(requests, REQUESTS, check)
    print({status: statuses.count(status) for status in sorted(set(statuses))})
    assert len(statuses) >= REQUESTS and {200, 404, 405, 422} <= set(statuses)
    assert api.get("/health").status_code == 200
    assert metric_of(api, "fraud_requests_total", status="500") == 0
    assert metric_of(api, "fraud_background_failures_total") == 0


def test_no_request_about_rules_is_an_error_of_ours(api: httpx2.Client) -> None:
    """There is no Postgres, so what is right is answered with 503."""
    statuses: list[int] = []

    def check(request: dict[str, Any]) -> None:
        headers = request["headers"] | {"X-API-Key": ADMIN_KEY.encode()}
        answer = api.request(**request | {"headers": headers})
        assert answer.status_code in (200, 307, 404, 405, 422, 503), answer.text
        statuses.append(answer.status_code)
        if answer.status_code == 422:
            refused(answer)
        if answer.status_code == 503 and request["method"] != "HEAD":
            assert "scoring is not affected" in answer.json()["detail"]

    for_each(rule_requests, REQUESTS, check)
    print({status: statuses.count(status) for status in sorted(set(statuses))})
    assert len(statuses) >= REQUESTS and {405, 422, 503} <= set(statuses)
    assert metric_of(api, "fraud_requests_total", status="500") == 0


def test_a_good_payment_is_scored_alone_and_in_a_batch_alike(api: httpx2.Client) -> None:
    def check(given_payments: list[dict[str, Any]]) -> None:
        chosen = [payment | {"event_time": "2024-11-29T14:30:00Z"} for payment in given_payments]
        alone = [api.post("/predict", content=to_json(payment)) for payment in chosen]
        together = api.post("/predict/batch", content=to_json({"transactions": chosen}))
        assert {answer.status_code for answer in (*alone, together)} == {200}
        same = ("transaction_id", "fraud_probability", "risk_tier", "model_version", "feature_source")
        for payment, one, other in zip(chosen, alone, together.json()["predictions"], strict=True):
            assert one.json()["transaction_id"] == payment["transaction_id"]
            assert 0 <= one.json()["fraud_probability"] <= 1 and math.isfinite(one.json()["latency_ms"])
            assert {name: one.json()[name] for name in same} == {name: other[name] for name in same}

    for_each(st.lists(payments, min_size=1, max_size=3), REQUESTS // 10, check)


def test_a_batch_is_refused_for_the_payments_that_are_refused_alone(api: httpx2.Client) -> None:
    def check(batch: dict[str, Any]) -> None:
        alone = [api.post("/predict", content=to_json(payment)) for payment in batch["transactions"]]
        bad = [position for position, answer in enumerate(alone) if answer.status_code == 422]
        answer = api.post("/predict/batch", content=to_json(batch))
        if not bad:
            assert answer.status_code == (200 if alone else 422)
            return
        assert answer.status_code == 422
        errors = refused(answer)
        if errors[0]["type"] == "json_invalid":
            assert any(refused(alone[position])[0]["type"] == "json_invalid" for position in bad)
            return
        named = list(dict.fromkeys(each["loc"][2] for each in errors))
        assert named == bad[: len(named)]
        # All errors of those that are named, and of as many as the list has room for.
        sizes = [len(refused(alone[position])) for position in bad]
        assert len(errors) == sum(sizes[: len(named)])
        assert len(named) == len(bad) or sum(sizes[: len(named) + 1]) > MAX_ERRORS

    for_each(batches(st.one_of(payments, faulty)), REQUESTS // 10, check)


def test_a_megabyte_of_unknown_keys_is_refused_in_a_few_words(api: httpx2.Client) -> None:
    """B6: in one payment, in one of a batch, and spread over a batch."""
    keys = {f"k{number}": 1 for number in range(80_000)}
    spread = [{f"k{number}": 1 for number in range(32)}] * 1000
    for path, body in (
        ("/predict", keys),
        ("/predict", {"x" * 1_000_000: 1}),
        ("/predict/batch", keys),
        ("/predict/batch", {"transactions": [keys]}),
        ("/predict/batch", {"transactions": spread}),
    ):
        answer = api.post(path, content=orjson.dumps(body))
        assert answer.status_code == 422 and refused(answer)
