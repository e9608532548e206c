"""The scorer's requests: what the API gets, and what the scorer makes of its answers, over HTTP on localhost."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
import pytest
from fraud_common.errors import Stopping
from fraud_common.topics import SCORED, own_schema
from sample_payments import NOON, payment
from scorer.api import ScoringApi
from scorer.records import InvalidPayment, Refusal, to_request, to_score


class _Moody(BaseHTTPRequestHandler):
    """An API that first fails in every way, then refuses without saying which, and scores the rest."""

    moods: list[int]
    refuses = "bad"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ids = [each["transaction_id"] for each in body["transactions"]]
        if self.moods:
            self._answer(self.moods.pop(), {"detail": "later"})
        elif self.refuses in ids:
            self._answer(422, {"detail": "one of them is bad"})
        else:
            self._answer(200, {"predictions": [{"transaction_id": each} for each in ids]})

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server that is gone afterwards."""
    server = ThreadingHTTPServer(("localhost", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Strict(_Moody):
    """An API that says which payments it refuses, as FastAPI does."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        detail = [
            {"loc": ["body", "transactions", position, "amount"], "type": "greater_than", "msg": "must be positive"}
            for position, each in enumerate(body["transactions"])
            if each["amount"] <= 0
        ]
        if detail:
            self._answer(422, {"detail": detail})
        else:
            self._answer(200, {"predictions": [{"amount": each["amount"]} for each in body["transactions"]]})


def test_payments_that_the_api_names_are_refused_and_the_rest_is_scored() -> None:
    with served(_Strict) as url:
        outcomes = ScoringApi(url, "", threading.Event()).score([{"amount": amount} for amount in (1, -1, 2, 0)])
    refusal = Refusal(["amount_greater_than"], "amount: must be positive")
    assert outcomes == [{"amount": 1}, refusal, {"amount": 2}, refusal]


def test_a_payment_larger_than_a_request_is_refused_without_asking() -> None:
    api = ScoringApi("http://localhost:1", "", threading.Event())
    (outcome,) = api.score([{"transaction_id": "x" * 1_100_000}])
    assert isinstance(outcome, Refusal)
    assert outcome.reasons == ["too_large"]
    assert api.score([]) == []


def test_sigterm_ends_the_wait_for_the_api() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopping, match="no answer"):
        ScoringApi("http://localhost:1", "", stop).score([{"transaction_id": "t1"}])


def test_answers_that_say_later_are_waited_for_and_the_bad_one_is_found() -> None:
    _Moody.moods = [500, 503, 429, 401, 404, 200]  # the last first: a 200 without predictions
    requests = [{"transaction_id": "bad" if number == 37 else f"t{number}"} for number in range(100)]
    with served(_Moody) as url:
        outcomes = ScoringApi(url, "", threading.Event()).score(requests)
    assert _Moody.moods == []
    assert isinstance(outcomes[37], Refusal)
    assert outcomes[37].reasons == ["http_422"]
    for number, outcome in enumerate(outcomes):
        assert number == 37 or outcome == {"transaction_id": f"t{number}"}


def test_a_request_has_what_the_api_takes() -> None:
    request = to_request(payment(1, amount=Decimal("1234567890.12"), merchant_category="pub"), NOON)
    assert request == {
        "transaction_id": "t000001",
        "user_id": "u1",
        "amount": 1234567890.12,
        "merchant_id": "m1",
        "is_international": False,
        "event_time": "2024-11-29T12:00:01+00:00",
        "currency": "EUR",
        "merchant_category": "pub",
        "country": "DE",
        "device_id": "d1",
        "device_type": "mobile",
    }
    with pytest.raises(InvalidPayment, match="amount_not_positive"):
        to_request({name: value for name, value in payment(1).items() if name != "amount"}, NOON)
    with pytest.raises(InvalidPayment):
        to_request("not a record", NOON)


def test_a_score_has_the_ids_of_its_payment() -> None:
    answer = {"fraud_probability": 0.25, "risk_tier": "medium", "model_version": "7", "feature_source": "stream"}
    score = to_score(to_request(payment(1), NOON), answer | {"latency_ms": 1.0}, NOON)
    ids = {"transaction_id": "t000001", "user_id": "u1", "merchant_id": "m1"}
    undecided = {"decision": None, "queue": False, "rules": [], "ruleset_id": None}
    assert score == answer | ids | {"scored_at": NOON} | undecided


def test_a_score_has_what_was_decided_and_readers_of_the_last_release_can_read_it() -> None:
    own = json.loads(own_schema(SCORED) or "")
    decided = {"decision": "challenge", "queue": True, "rules": ["new-device", "velocity"], "ruleset_id": 12}
    answer = {"fraud_probability": 0.25, "risk_tier": "medium", "model_version": "7", "feature_source": "stream"}
    score = to_score(to_request(payment(1), NOON), answer | decided, NOON)
    before = own | {"fields": [field for field in own["fields"] if field["name"] not in decided]}
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(own), score)
    content = buffer.getvalue()
    assert fastavro.schemaless_reader(io.BytesIO(content), own, None) == score
    assert fastavro.schemaless_reader(io.BytesIO(content), own, before) == {
        name: value for name, value in score.items() if name not in decided
    }
    # And records of the last release are read with the defaults.
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(before), score)
    undecided = {"decision": None, "queue": False, "rules": [], "ruleset_id": None}
    assert fastavro.schemaless_reader(io.BytesIO(buffer.getvalue()), before, own) == score | undecided
