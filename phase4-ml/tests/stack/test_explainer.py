"""Reasons: stored for tiers medium and high as ?explain=true answers them, whatever is killed."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from serving_stack import PAYMENT, select, service, wait_until

# The example model scores by the amount.
SUSPICIOUS = PAYMENT | {"user_id": "known-1", "merchant_id": "known-1", "amount": 50_000}
STORED = """
select reasons from prediction_reasons join predictions using (prediction_id)
where transaction_id = %s and reasons is not null and unexplained is null
"""


@pytest.fixture
def run() -> str:
    return f"explain-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def explainer() -> Iterator[Any]:
    """The explainer's container, which runs again after the test."""
    container = service("explainer")
    yield container
    container.start()


def test_what_is_stored_is_what_explain_answers(api: httpx2.Client, run: str) -> None:
    answer = api.post("/predict?explain=true", json=SUSPICIOUS | {"transaction_id": run}).raise_for_status().json()
    assert (answer["risk_tier"], answer["reasons_status"]) == ("high", "ok")
    assert answer["reasons"][0]["name"] == "amount" and answer["reasons"][0]["effect"] > 0
    wait_until(lambda: select(STORED, run) == [(answer["reasons"],)], "the same reasons in the table", 30)


def test_a_kill_loses_no_reasons(api: httpx2.Client, run: str, explainer: Any) -> None:
    payments = [SUSPICIOUS | {"transaction_id": run} for _ in range(500)]

    def sent() -> None:
        answers = api.post("/predict/batch", json={"transactions": payments}).raise_for_status().json()["predictions"]
        assert {answer["risk_tier"] for answer in answers} == {"high"}

    sent()
    wait_until(lambda: select(STORED, run), "the first reasons", 30)
    explainer.kill()
    answer = api.post("/predict?explain=true", json=SUSPICIOUS | {"transaction_id": "t"}).raise_for_status().json()
    assert (answer["reasons"], answer["reasons_status"]) == ([], "unavailable")
    sent()
    explainer.start()
    wait_until(lambda: len(select(STORED, run)) == 2 * len(payments), "reasons for all", 60)
