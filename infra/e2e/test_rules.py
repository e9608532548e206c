"""Rules on a user's stack: a draft becomes live and is rolled back under load; backtest and replay agree with it."""

import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import httpx2
import pytest
from serving_stack import API_HEADERS, API_URL, KNOWN_MERCHANTS, Answer, Load, loaded, select, wait_until

RATE = 500
# A change is in the answers of every worker after so long.
VISIBLE_SECONDS = 5.0
# The merchants of the load at which the rule fires.
MERCHANTS = (7, 8)
# Payments for the backtest, of which every second one matches.
COUNTED = 400
# Their time, so that all of them are of one day.
NOW = datetime.now(UTC)


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
    changes: dict[str, Change] = field(default_factory=dict)
    # The answers to the payments for the backtest.
    counted: list[dict[str, Any]] = field(default_factory=list)


def payment(number: int, **changed: Any) -> dict[str, Any]:
    """A payment of an unknown cardholder, now."""
    return {
        "transaction_id": f"e2e-rules-{uuid.uuid4().hex[:12]}",
        "user_id": f"e2e-rules-{number}",
        "amount": 10,
        "merchant_id": "e2e-nowhere",
        "is_international": False,
        "event_time": NOW.isoformat(),
    } | changed


def in_answers(ruleset_id: int) -> bool:
    """Whether twenty answers in a row, on new connections, are of this ruleset: most likely of all workers."""
    return all(
        httpx2.post(f"{API_URL}/predict", json=payment(0), headers=API_HEADERS, timeout=10).json()["ruleset_id"]
        >= ruleset_id
        for _ in range(20)
    )


def visible(ruleset_id: int) -> Change:
    """Wait until a change that was just confirmed is in the answers."""
    at = time.time()
    wait_until(lambda: in_answers(ruleset_id), f"ruleset {ruleset_id} in the answers", 3 * VISIBLE_SECONDS)
    return Change(ruleset_id, at, time.time() - at)


def draft(person: Person, name: str, when: str) -> int:
    """A new rule that declines; returns its id."""
    rule = person.post(
        "/rules", name=name, when=when, answer="decline", queue=True, owner="e2e", note="For the end-to-end checks."
    )
    return int(rule["rule_id"])


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
        rule_id = draft(author, name, f"merchant_id in ({places}) and amount > 1")
        walk = Walk(name, f"{name}-counted", load, rule_id)
        draft(author, walk.counted_name, f"merchant_id = '{name}' and amount > 20")
        for each in (walk.counted_name, walk.name):
            author.post(f"/rules/{each}/submit", version=1, reason="ready")
            shadow = approver.post(f"/rules/{each}/approve", version=1, to="shadow", reason="looks right")["ruleset_id"]
        walk.changes["shadow"] = visible(shadow)
        for each in (walk.counted_name, walk.name):
            live = approver.post(f"/rules/{each}/approve", version=1, to="live", reason="did well")["ruleset_id"]
        walk.changes["live"] = visible(live)
        batch = [payment(number, merchant_id=name, amount=10 + number % 2 * 20) for number in range(COUNTED)]
        answer = httpx2.post(f"{API_URL}/predict/batch", json={"transactions": batch}, headers=API_HEADERS, timeout=30)
        walk.counted = answer.raise_for_status().json()["predictions"]
        back = approver.post(f"/rulesets/{shadow}/restore", reason="declines too much")["ruleset_id"]
        walk.changes["rolled back"] = visible(back)
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
    assert len(rows) >= len(answers)
    for prediction_id, ruleset_id, decision, queue, results in rows:
        # One that was answered when the load had ended is not among the answers.
        if (answer := answers.get(prediction_id)) is None:
            continue
        body = answer.body
        assert (ruleset_id, decision, queue) == (body["ruleset_id"], body["decision"], body["queue"])
        assert ([walk.rule_id, 1] in results["fired"]) == (walk.name in body["rules"])
        shadow = [walk.rule_id, 1] in results["shadow"]
        assert not shadow or at_merchant(walk, answer)
        in_shadow += shadow
    assert in_shadow > 0
    print(f"| rules | {len(rows):,} audit rows | have the ruleset and the decision of their answer |")


def test_the_same_person_can_not_approve(author: Person, approver: Person) -> None:
    """By role, and with the role: four eyes."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    draft(approver, name, "amount > 1000000")
    approver.post(f"/rules/{name}/submit", version=1, reason="mine")
    refused = approver.refused(f"/rules/{name}/approve", version=1, to="live", reason="mine, too")
    assert refused.status_code == 403 and "another person has to approve it" in refused.text
    refused = author.refused(f"/rules/{name}/approve", version=1, to="live", reason="not my role")
    assert refused.status_code == 403 and "this needs the role approver" in refused.text
    approver.post(f"/rules/{name}/retire", version=1, reason="done")
    assert not select("select 1 from rule_versions join rules using (rule_id) where name = %s and state = 'live'", name)


def backtest(person: Person, day: date, **what: Any) -> dict[str, Any]:
    """The report of a backtest over one day."""
    started = time.monotonic()
    asked = person.post("/backtests", **what, **{"from": str(day), "to": str(day)})
    job = asked["backtest"]["backtest_id"]

    def ended() -> Any:
        found = person.get(f"/backtests/{job}")
        return found if found["backtest"]["state"] in ("done", "failed", "cancelled") else None

    found = wait_until(ended, f"backtest {job} has ended", 60)
    assert found["backtest"]["state"] == "done", found
    report: dict[str, Any] = found["report"]
    payments, hits = report["payments"]["total"], report["hits"]["payments"]
    print(f"| backtest | {what} | {payments:,} payments | {hits:,} hits | {time.monotonic() - started:.1f} s |")
    return report


def test_a_backtest_has_the_hits_of_the_live_rule(walk: Walk, author: Person) -> None:
    """The payments of the rule were sent while it was live, so what it would hit is what it has hit."""
    fired = sum(walk.counted_name in answer["rules"] for answer in walk.counted)
    assert fired == COUNTED // 2
    ids = [answer["prediction_id"] for answer in walk.counted]
    stored = "select count(*) from predictions where prediction_id = any(%s::uuid[])"
    wait_until(lambda: select(stored, ids) == [(COUNTED,)], "the payments are in Postgres")
    report = backtest(author, NOW.date(), rule=walk.counted_name, version=1)
    assert report["hits"]["payments"] == fired
    assert report["recorded"] == {"hits": fired, "hits_here": fired}


def test_a_backtest_has_the_hits_of_a_starter_rule_in_the_stream(author: Person) -> None:
    """Of a day that was scored while it was simulated, with all the kills; starter rules are live from the start."""
    ((day,),) = select(
        "select (max(event_time) at time zone 'UTC')::date - 2 from predictions where transaction_id like %s", "tx-%"
    )
    ((rule_id, when, fired),) = select(
        """
        with first as (
            select distinct on (transaction_id) rule_results from predictions
            where (event_time at time zone 'UTC')::date = %s
            order by transaction_id, predicted_at
        )
        select rule_id, "when", (
            select count(*) from first, jsonb_array_elements(rule_results -> 'fired') as hit
            where hit = jsonb_build_array(rule_id, 1)
        ) as fired
        from rule_versions
        where author = 'starter' and state = 'live' and version = 1 order by fired desc limit 1
        """,
        day,
    )
    assert fired > 0, (rule_id, day)
    # By its condition: a backtest of the rule itself would set what the guard against runaways expects of it.
    assert backtest(author, day, when=when)["hits"]["payments"] == fired


def test_a_replay_gives_the_same_decision(walk: Walk, author: Person) -> None:
    """One payment of each ruleset, and one that the rule declined."""
    walk.load.wait_until_stored()
    chosen = {answer.body["ruleset_id"]: answer.body for answer in walk.load.answers}
    declined = next(answer for answer in walk.counted if walk.counted_name in answer["rules"])
    for body in (*chosen.values(), declined):
        replayed = author.post(f"/replay/{body['prediction_id']}")
        assert replayed["same"] is True, replayed
        assert replayed["ruleset_id"] == body["ruleset_id"]
