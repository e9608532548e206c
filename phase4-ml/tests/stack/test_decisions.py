"""Decisions on the stack: a new ruleset under load, Redis stopped, Postgres stopped, and decisions made again."""

import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from serving_stack import (
    API_HEADERS,
    API_URL,
    KNOWN_MERCHANTS,
    PAYMENT,
    all_workers,
    loaded,
    metric,
    ready,
    select,
    service,
    stream_is_complete,
    wait_until,
)

RATE = 200
VISIBLE_SECONDS = 5.0
# A merchant of the load.
MERCHANT = 7

pytestmark = pytest.mark.usefixtures("healthy")


class Rules:
    """The API of rules, and two people who may use it."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def ask(self, who: str, path: str, body: dict[str, Any]) -> Any:
        """The answer to a POST that must succeed."""
        headers = {"X-API-Key": os.environ[f"RULES_{who}_KEY"]}
        answer = httpx2.post(f"{API_URL}{path}", json=body, headers=headers, timeout=30)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def live(self, when: str, answer: str = "decline") -> tuple[str, int]:
        """A new live rule: its name, and the ruleset in which it is."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        rule = {"name": name, "when": when, "answer": answer, "queue": True, "owner": "tests", "note": "For a test."}
        self.ask("AUTHOR", "/rules", rule)
        self.ask("AUTHOR", f"/rules/{name}/submit", {"version": 1, "reason": "ready"})
        approval = {"version": 1, "to": "live", "reason": "tests"}
        self._names.append(name)
        return name, self.ask("APPROVER", f"/rules/{name}/approve", approval)["ruleset_id"]

    def retire_all(self) -> None:
        """Leave the stack as it was."""
        for name in self._names:
            self.ask("APPROVER", f"/rules/{name}/retire", {"version": 1, "reason": "the test is over"})


@pytest.fixture(scope="module")
def rules() -> Iterator[Rules]:
    rules = Rules()
    yield rules
    rules.retire_all()


def predict(**changes: Any) -> dict[str, Any]:
    body = PAYMENT | {"transaction_id": f"decisions-{uuid.uuid4().hex[:12]}"} | changes
    return httpx2.post(f"{API_URL}/predict", json=body, headers=API_HEADERS, timeout=10).raise_for_status().json()


def in_answers(ruleset_id: int) -> bool:
    """Of twenty answers on new connections: most likely of all workers."""
    return all(predict()["ruleset_id"] == ruleset_id for _ in range(20))


def visible(ruleset_id: int) -> float:
    """Wait until a ruleset decides; how many seconds that took."""
    began = time.monotonic()
    wait_until(lambda: in_answers(ruleset_id), f"ruleset {ruleset_id} in the answers", 30)
    return time.monotonic() - began


def stored(prediction_id: str) -> tuple[Any, ...]:
    """What the audit row says of a decision."""
    columns = "decision, queue, ruleset_id, rule_results, held_out, unknown_features"
    query = f"select {columns} from predictions where prediction_id = %s"
    (row,) = wait_until(lambda: select(query, prediction_id), "the prediction in Postgres")
    return row


def ok_again() -> None:
    wait_until(lambda: all_workers(lambda answer: answer.get("status") == "ok"), "nothing degraded", 90)


def test_a_new_rule_decides_within_five_seconds_and_no_request_fails(rules: Rules) -> None:
    with loaded(RATE) as load:
        load.more(RATE)
        name, ruleset_id = rules.live(f"merchant_id = 'known-{MERCHANT}'")
        took = visible(ruleset_id)
        hits = metric("fraud_rule_hits_total", rule=name, state="live")
        load.more(2 * RATE)
    load.wait_until_stored()
    print({"visible_after_s": round(took, 2), "requests": len(load.answers), "not_200": len(load.failed())})
    assert not load.failed()
    assert took < VISIBLE_SECONDS
    assert metric("fraud_rule_hits_total", rule=name, state="live") > hits
    decided = [answer.body for answer in load.answers if answer.body["ruleset_id"] == ruleset_id]
    at_merchant = [
        body for body in decided if int(body["transaction_id"].rpartition("-")[2]) % KNOWN_MERCHANTS == MERCHANT
    ]
    assert at_merchant
    for body in decided:
        assert (name in body["rules"]) is (body in at_merchant)
    for body in at_merchant:
        assert (body["decision"], body["queue"]) == ("decline", True)
    decision, queue, of_ruleset, results, held_out, _ = stored(at_merchant[0]["prediction_id"])
    assert (decision, queue, of_ruleset, held_out) == ("decline", True, ruleset_id, False)
    ((rule_id,),) = select("select rule_id from rules where name = %s", name)
    assert [rule_id, 1] in results["fired"]
    # The audit rows name the ruleset that the answers name.
    rows = select(
        "select prediction_id::text, ruleset_id, decision from predictions where transaction_id like %s",
        f"{load.run}-%",
    )
    answers = {each.body["prediction_id"]: (each.body["ruleset_id"], each.body["decision"]) for each in load.answers}
    assert {prediction_id: tuple(row) for prediction_id, *row in rows} == answers


def test_redis_stopped_no_rule_about_novelty_fires(rules: Rules) -> None:
    merchant = f"novelty-{uuid.uuid4().hex[:8]}"
    # True whatever it is, as soon as it is known.
    name, ruleset_id = rules.live(
        f"merchant_id = '{merchant}' and (is_new_device_30d or not is_new_device_30d)", "challenge"
    )
    visible(ruleset_id)
    payment = {"user_id": f"new-{merchant}", "merchant_id": merchant, "device_id": "d1"}

    def fires() -> bool:
        # A user whom a stream does not know that is current is new.
        stream_is_complete(time.time())
        return name in predict(**payment)["rules"]

    wait_until(fires, "the rule fires while the stream is current", 30)
    redis = service("redis")
    redis.stop()
    try:
        answers = [predict(**payment) for _ in range(20)]
    finally:
        redis.start()
    for answer in answers:
        assert answer["feature_source"] == "default" and name not in answer["rules"]
    *_, unknown = stored(answers[-1]["prediction_id"])
    assert unknown == "user,merchant,novelty,device"
    ok_again()
    wait_until(fires, "the rule fires again", 60)


def test_postgres_stopped_rules_come_from_disk_also_after_a_restart(rules: Rules) -> None:
    merchant = f"disk-{uuid.uuid4().hex[:8]}"
    name, ruleset_id = rules.live(f"merchant_id = '{merchant}'")
    visible(ruleset_id)
    postgres = service("postgres")
    postgres.stop()
    try:
        service("fraud-api").restart()
        state = wait_until(ready, "the API answers again", 60)
        answers = [predict(merchant_id=merchant) for _ in range(20)]
    finally:
        postgres.start()
    assert state["status"] == "degraded" and state["ruleset_id"] == ruleset_id
    assert any("postgres does not answer for rules" in each for each in state["degraded"])
    for answer in answers:
        assert (answer["ruleset_id"], answer["decision"]) == (ruleset_id, "decline") and name in answer["rules"]
    ok_again()
    assert stored(answers[0]["prediction_id"])[:3] == ("decline", True, ruleset_id)


def test_decisions_are_the_same_when_they_are_made_again(rules: Rules) -> None:
    """Of known and unknown users, with fields and without, by whatever rules are in force."""
    rules.live("amount > 100 and merchant_amount_zscore_30d is null", "challenge")
    full = {"currency": "USD", "country": "US", "device_id": "d1", "device_type": "web", "merchant_category": "gaming"}
    payments: list[dict[str, Any]] = [
        {"user_id": f"known-{number}", "merchant_id": f"known-{number}", "amount": 0.1 + 333.3 * number} | fields
        for number in range(5)
        for fields in ({}, full)
    ]
    payments += [{"user_id": "nobody-ever", "amount": 19.99}, {"user_id": "nobody-ever", "amount": 4999.0} | full]
    for payment in payments:
        prediction_id = predict(**payment)["prediction_id"]
        stored(prediction_id)
        again = rules.ask("AUTHOR", f"/replay/{prediction_id}", {})
        assert again["same"], again
        assert not any("can't be had" in note for note in again["notes"]), again
