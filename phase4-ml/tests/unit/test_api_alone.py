"""The API alone: no Redis, Postgres or MLflow answers, and it scores, checks its input and documents itself."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from api_process import PAYMENT, own_api
from rules.access import is_for_people


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """An API for which no other service answers."""
    nowhere = {"redis_host": "localhost", "postgres_host": "localhost", "mlflow_tracking_uri": "http://localhost:1"}
    with own_api(tmp_path_factory.mktemp("api"), redis_port=1, postgres_port=1, **nowhere) as client:
        yield client


def post(api: httpx2.Client, body: Any, path: str = "/predict") -> dict[str, Any]:
    answer = api.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_counters_of_alerts_are_0_before_the_first_error(api: httpx2.Client) -> None:
    """Field case G3: no alert sees the first error of a counter that appears with it."""
    lines = api.get("/metrics").text.splitlines()
    assert 'fraud_errors_total{part="prediction_log"} 0.0' in lines
    assert 'fraud_requests_total{path="/predict/batch",status="500"} 0.0' in lines


def test_the_root_leads_to_the_documentation(api: httpx2.Client) -> None:
    answer = api.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert api.get("/", follow_redirects=True).status_code == 200
    paths = set(api.get("/openapi.json").json()["paths"])
    assert {path for path in paths if not is_for_people(path)} == {
        "/predict",
        "/predict/batch",
        "/health",
        "/ready",
        "/metrics",
    }


def test_the_documentation_needs_no_internet(api: httpx2.Client) -> None:
    page = api.get("/docs").text
    parts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert parts and all(part.startswith("/") and api.get(part).status_code == 200 for part in parts), parts
    assert api.get("/nothing").status_code == 404


def test_the_examples_of_the_documentation_work_as_they_are(api: httpx2.Client) -> None:
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    for example in schemas["PaymentRequest"]["examples"]:
        post(api, example)
    for example in schemas["BatchRequest"]["examples"]:
        post(api, example, "/predict/batch")


def test_without_any_other_service_rules_score(api: httpx2.Client) -> None:
    for _ in range(20):
        answer = post(api, PAYMENT | {"amount": 5000}, "/predict?explain=true")
        assert (answer["model_version"], answer["feature_source"]) == ("rules-1", "default")
        assert answer["reasons"][0]["name"] == "amount"
    state = api.get("/ready").json()
    assert state["status"] == "degraded" and len(state["degraded"]) >= 3


def test_the_start_time_is_that_of_the_service(api: httpx2.Client) -> None:
    """A1: the alert on restart loops counts its changes."""
    starts = {line for line in api.get("/metrics").text.splitlines() if line.startswith("process_start_time_seconds ")}
    assert len(starts) == 1
    assert api.get("/metrics").text.count(starts.pop()) == 1


def wrong_fields(api: httpx2.Client, content: str, path: str = "/predict") -> list[list[Any]]:
    answer = api.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    return [detail["loc"] for detail in answer.json()["detail"]]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": -1}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": 1e11}, "amount"),
        ({"amount": math.nan}, "amount"),
        ({"amount": math.inf}, "amount"),
        ({"amount": "500"}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount": True}, "amount"),
        ({"transaction_id": ""}, "transaction_id"),
        ({"user_id": "  "}, "user_id"),
        ({"user_id": "a\x00b"}, "user_id"),
        ({"user_id": 7}, "user_id"),
        ({"merchant_id": "m" * 129}, "merchant_id"),
        ({"is_international": "no"}, "is_international"),
        ({"is_international": 0}, "is_international"),
        ({"event_time": "2024-11-29T14:30:00"}, "event_time"),
        ({"event_time": "yesterday"}, "event_time"),
        ({"event_time": 1732890600}, "event_time"),
        ({"event_time": "0001-01-01T00:00:00+14:00"}, "event_time"),
        ({"event_time": "1999-12-31T23:59:59Z"}, "event_time"),
        ({"event_time": "9999-12-31T00:00:00Z"}, "event_time"),
        ({"event_time": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, "event_time"),
        ({"device_type": 7}, "device_type"),
        ({"currency": "euro"}, "currency"),
        ({"country": "x" * 65}, "country"),
        ({"device_id": "a\nb"}, "device_id"),
        ({"user_id": " u1"}, "user_id"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_input_is_a_422_that_names_the_field(api: httpx2.Client, change: dict[str, Any], field: str) -> None:
    assert wrong_fields(api, json.dumps(PAYMENT | change)) == [["body", field]]
    batch = json.dumps({"transactions": [PAYMENT, PAYMENT | change]})
    assert wrong_fields(api, batch, "/predict/batch") == [["body", "transactions", 1, field]]


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "O'Brien & Söhne 7"},
        {"merchant_id": "fraud_Kirlin and Sons"},
        {"user_id": "x" * 128},
        {"device_type": "fridge"},
        {"device_type": None},
        {"event_time": "2000-01-01T00:00:00Z"},
        {"country": ""},
    ],
)
def test_what_bronze_takes_is_scored(api: httpx2.Client, change: dict[str, Any]) -> None:
    """C2: ids with blanks, as most public data sets have them; an unknown device type is no error."""
    post(api, PAYMENT | change)


@pytest.mark.parametrize("field", ["transaction_id", "user_id", "amount", "merchant_id"])
def test_a_missing_field_is_named(api: httpx2.Client, field: str) -> None:
    payment = {name: value for name, value in PAYMENT.items() if name != field}
    assert wrong_fields(api, json.dumps(payment)) == [["body", field]]


def test_is_international_may_be_left_out(api: httpx2.Client) -> None:
    post(api, {name: value for name, value in PAYMENT.items() if name != "is_international"})


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"a":' * 10_000])
def test_what_is_no_payment_at_all_is_a_422(api: httpx2.Client, body: str) -> None:
    assert wrong_fields(api, body)[0][0] == "body"


def test_bytes_that_are_no_text_are_a_422(api: httpx2.Client) -> None:
    answer = api.post("/predict", content=b'{"user_id": "\xff"}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text


def test_batch_has_a_size(api: httpx2.Client) -> None:
    assert wrong_fields(api, json.dumps({"transactions": []}), "/predict/batch") == [["body", "transactions"]]
    too_many = json.dumps({"transactions": [PAYMENT] * 1001})
    assert wrong_fields(api, too_many, "/predict/batch") == [["body", "transactions"]]


def test_a_request_has_a_size(api: httpx2.Client) -> None:
    body = json.dumps(PAYMENT | {"user_id": "x" * 1_100_000}).encode()
    answer = api.post("/predict", content=body)
    assert answer.status_code == 413 and "1048576 bytes" in answer.json()["detail"]

    def in_pieces() -> Any:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    # Its length is not announced.
    with suppress(httpx2.WriteError):  # the connection may be closed on the rest
        assert api.post("/predict", content=in_pieces()).status_code == 413
    post(api, PAYMENT)
