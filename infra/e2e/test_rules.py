"""Rules on a user's stack: a draft becomes live and is rolled back under load, and backtest and replay agree with it."""

import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from serving_stack import API_HEADERS, API_URL, KNOWN_MERCHANTS, Answer, Load, loaded, ready, select, wait_until

RATE = 500
# A change is in the answers of every worker after so long.
VISIBLE_SECONDS = 5.0
# The merchants of the load at which the rule fires.
MERCHANTS = (7, 8)
# Payments for the backtest, of which every second one matches.
COUNTED = 400


class Person:
    """Somebody with a key for rules."""

    def __init__(self, variable: str) -> None:
        self._client = httpx2.Client(base_url=API_URL, headers={"X-API-Key": os.environ[variable]}, timeout=30)

    def get(self, path: str) -> Any:
        """The answer to a request that must succeed."""
        return self._client.get(path).raise_for_status().json()

    def post(self, path: str, **body: Any) -> Any:
        """The answer to a change that must succeed."""
        answer = self._client.post(path, json=body)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def refused(self, path: str, **body: Any) -> httpx2.Response:
        """The answer to a change that must not."""
        answer = self._client.post(path, json=body)
        assert answer.is_client_error, f"{path}: {answer.status_code} {answer.text}"
        return answer


@dataclass(frozen=True, slots=True)
class Change:
    """A new ruleset, and when the API had confirmed the change that made it."""

    ruleset_id: int
    at: float
    visible_after: float


@dataclass(slots=True)
class Walk:
    """What happened to the rules under load."""

    name: str
    counted_name: str
    load: Load
    rule_id: int
    counted_rule_id: int
    changes: dict[str, Change] = field(default_factory=dict)
    # The answers to the payments for the backtest.
    counted: list[dict[str, Any]] = field(default_factory=list)


def newest(person: Person) -> int:
    """The id of the ruleset in force."""
    return max(ruleset["ruleset_id"] for ruleset in person.get("/rulesets")["rulesets"])


def payment(number: int, **changed: Any) -> dict[str, Any]:
    """A payment of an unknown cardholder, now."""
    return {
        "transaction_id": f"e2e-rules-{uuid.uuid4().hex[:12]}",
        "user_id": f"e2e-rules-{number}",
        "amount": 10,
        "merchant_id": "e2e-nowhere",
        "is_international": False,
        "event_time": datetime.now(UTC).isoformat(),
    } | changed


def in_answers(ruleset_id: int) -> bool:
    """Whether twenty answers in a row, on new connections, are of this ruleset: most likely of all workers."""
    return all(
        httpx2.post(f"{API_URL}/predict", json=payment(0), headers=API_HEADERS, timeout=10).json()["ruleset_id"]
        >= ruleset_id
        for _ in range(20)
    )


def changed(person: Person) -> Change:
    """Wait until a change that was just confirmed is in the answers."""
    at, ruleset_id = time.time(), newest(person)
    wait_until(lambda: in_answers(ruleset_id), f"ruleset {ruleset_id} in the answers", 3 * VISIBLE_SECONDS)
    return Change(ruleset_id, at, time.time() - at)


def draft(person: Person, name: str, when: str) -> int:
    """A new rule that declines; returns its id."""
    rule = person.post(
        "/rules", name=name, when=when, answer="decline", queue=True, owner="e2e", note="For the end-to-end checks."
    )
    return int(rule["rule_id"])


def hits_of(walk: Walk, answers: list[dict[str, Any]]) -> int:
    """How many answers name the rule for the backtest."""
    return sum(walk.counted_name in answer["rules"] for answer in answers)


@pytest.fixture(scope="module")
def author() -> Person:
    return Person("RULES_AUTHOR_KEY")


@pytest.fixture(scope="module")
def approver() -> Person:
    return Person("RULES_APPROVER_KEY")


@pytest.fixture(scope="module")
def walk(author: Person, approver: Person) -> Iterator[Walk]:
    """Draft, submitted, shadow, live, rolled back, while RATE payments a second are scored."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    places = ", ".join(f"'known-{number}'" for number in MERCHANTS)
    with loaded(RATE) as load:
        walk = Walk(name, f"{name}-counted", load, 0, 0)
        walk.rule_id = draft(author, walk.name, f"merchant_id in ({places}) and amount > 1")
        walk.counted_rule_id = draft(author, walk.counted_name, f"merchant_id = '{name}' and amount > 20")
        for each in (walk.name, walk.counted_name):
            author.post(f"/rules/{each}/submit", version=1, reason="ready")
            approver.post(f"/rules/{each}/approve", version=1, to="shadow", reason="looks right")
        walk.changes["shadow"] = changed(author)
        for each in (walk.counted_name, walk.name):
            approver.post(f"/rules/{each}/approve", version=1, to="live", reason="did well in shadow")
        walk.changes["live"] = changed(author)
        batch = [payment(number, merchant_id=name, amount=10 + number % 2 * 20) for number in range(COUNTED)]
        answer = httpx2.post(f"{API_URL}/predict/batch", json={"transactions": batch}, headers=API_HEADERS, timeout=30)
        walk.counted = answer.raise_for_status().json()["predictions"]
        shadow = walk.changes["shadow"].ruleset_id
        approver.post(f"/rulesets/{shadow}/restore", reason="declines too much")
        walk.changes["rolled back"] = changed(author)
        # The next ones are of the restored ruleset.
        load.more(RATE)
    yield walk


def at_merchant(walk: Walk, answer: Answer) -> bool:
    """Whether a payment of the load was at a merchant of the rule; the load takes one after the other."""
    number = int(answer.body["transaction_id"].removeprefix(f"{walk.load.run}-"))
    return number % KNOWN_MERCHANTS in MERCHANTS


def test_no_request_fails_and_every_change_is_visible_in_time(walk: Walk) -> None:
    assert not walk.load.failed(), walk.load.failed()[:5]
    assert len(walk.load.answers) > 5 * RATE
    for what, change in walk.changes.items():
        late = [
            answer
            for answer in walk.load.answers
            if answer.sent > change.at + VISIBLE_SECONDS and answer.body["ruleset_id"] < change.ruleset_id
        ]
        assert not late, f"{what}: {len(late)} answers of an older ruleset, such as {late[0]}"
        print(f"| rules | {what} | in all answers after {change.visible_after:.1f} s, at {RATE} requests/s |")


def test_the_rule_decides_while_it_is_live_and_never_else(walk: Walk) -> None:
    live, back = walk.changes["live"].ruleset_id, walk.changes["rolled back"].ruleset_id
    fired = 0
    for answer in walk.load.answers:
        # Each approval makes a ruleset: the last one of them has both rules live.
        is_live = live <= answer.body["ruleset_id"] < back
        expected = is_live and at_merchant(walk, answer)
        assert (walk.name in answer.body["rules"]) == expected, answer
        assert not expected or (answer.body["decision"], answer.body["queue"]) == ("decline", True)
        fired += expected
    assert fired > 0


def test_the_audit_row_names_the_ruleset_that_decided(walk: Walk) -> None:
    walk.load.wait_until_stored()
    rows = select(
        "select prediction_id::text, ruleset_id, decision, queue, rule_results from predictions"
        " where transaction_id like %s",
        f"{walk.load.run}-%",
    )
    answers = {answer.body["prediction_id"]: answer for answer in walk.load.answers}
    in_shadow = 0
    for prediction_id, ruleset_id, decision, queue, results in rows:
        answer = answers[prediction_id]
        body = answer.body
        assert (ruleset_id, decision, queue) == (body["ruleset_id"], body["decision"], body["queue"])
        assert ([walk.rule_id, 1] in results["fired"]) == (walk.name in body["rules"])
        shadow = [walk.rule_id, 1] in results["shadow"]
        assert not shadow or at_merchant(walk, answer)
        in_shadow += shadow
    assert len(rows) >= len(answers) and in_shadow > 0
    print(f"| rules | {len(rows):,} audit rows | have the ruleset and the decision of their answer |")


def test_the_same_person_can_not_approve(author: Person, approver: Person) -> None:
    """By role, and with the role: four eyes."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    draft(approver, name, "amount > 1000000")
    approver.post(f"/rules/{name}/submit", version=1, reason="mine")
    refused = approver.refused(f"/rules/{name}/approve", version=1, to="live", reason="mine, too")
    assert "author" in refused.text or "another person" in refused.text, refused.text
    assert author.refused(f"/rules/{name}/approve", version=1, to="live", reason="not my role").status_code == 403
    approver.post(f"/rules/{name}/retire", version=1, reason="done")
    assert not select("select 1 from rule_versions join rules using (rule_id) where name = %s and state = 'live'", name)


def test_a_backtest_has_the_hits_of_the_live_rule(walk: Walk, author: Person) -> None:
    hits = hits_of(walk, walk.counted)
    assert hits == COUNTED // 2
    ids = [answer["prediction_id"] for answer in walk.counted]
    stored = "select count(*) from predictions where prediction_id = any(%s::uuid[])"
    wait_until(lambda: select(stored, ids) == [(COUNTED,)], "the payments are in Postgres")
    started = time.monotonic()
    job = author.post("/backtests", rule=walk.counted_name, version=1, days=30)["backtest_id"]

    def ended() -> Any:
        found = author.get(f"/backtests/{job}")
        return found if found["state"] in ("done", "failed", "cancelled") else None

    backtest = wait_until(ended, f"backtest {job} has ended", 60)
    assert backtest["state"] == "done", backtest
    assert backtest["report"]["hits"] == hits, backtest["report"]
    print(f"| backtest | 30 days | {hits} hits, as the live rule | {time.monotonic() - started:.1f} s |")


def test_a_replay_gives_the_same_decision(walk: Walk, author: Person) -> None:
    """One payment of each ruleset, and one that the rule declined."""
    walk.load.wait_until_stored()
    chosen = {answer.body["ruleset_id"]: answer.body for answer in walk.load.answers}
    declined = next(answer for answer in walk.counted if walk.counted_name in answer["rules"])
    for body in (*chosen.values(), declined):
        replayed = author.post(f"/replay/{body['prediction_id']}")
        assert replayed["same"] is True, replayed
