"""The API of rules on a real Postgres: a database of the tests' own, and an API in a process of this container."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg2
import pytest
from api_process import own_api
from fraud_common.errors import UserError
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from fraud_db.migrate import upgrade
from own_database import own_database
from psycopg2 import errors
from rules import starter
from rules.command import table

KEYS = {"ada": "key-of-ada", "ben": "key-of-ben", "viewer": "key-of-viewer", "author": "key-of-author"}
SETTINGS = {
    "rules_author_key": KEYS["author"],
    "rules_keys": "ada:approver:key-of-ada, ben:approver:key-of-ben, viewer:viewer:key-of-viewer",
    "rules_max_list_entries": 1000,
}
PATHS = "^/(rules|lists|rulesets|backtests|replay)(/|$)"
OPERATIONS = 27
RULE = {"when": "amount > 500", "answer": "challenge", "queue": True, "owner": "fraud-ops", "note": "High amounts."}


@dataclass(frozen=True)
class Rules:
    """The API, and the database behind it."""

    client: httpx2.Client
    database: PostgresSettings

    def ask(self, who: str, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """The answer to a person, with the status that it must have."""
        answer = self.client.request(method, path, json=body, headers={"X-API-Key": KEYS[who]})
        assert answer.status_code == status, answer.text
        return answer.json()

    def post(self, who: str, path: str, body: Any = None, status: int = 200) -> Any:
        """The same for a POST."""
        return self.ask(who, "POST", path, {} if body is None else body, status)

    def get(self, path: str, status: int = 200) -> Any:
        """The same for what everybody with a key may read."""
        return self.ask("viewer", "GET", path, status=status)

    def refusal(self, who: str, path: str, body: Any, status: int) -> str:
        """The message of a request that is refused."""
        detail = self.post(who, path, body, status)["detail"]
        return detail if isinstance(detail, str) else " ".join(each["msg"] for each in detail)

    def draft(self, name: str, **changes: Any) -> int:
        """Write a version of a rule, which may be a new one; returns its number."""
        if self.client.get(f"/rules/{name}", headers={"X-API-Key": KEYS["viewer"]}).status_code == 404:
            return self.post("author", "/rules", RULE | {"name": name} | changes, 201)["version"]
        return self.post("author", f"/rules/{name}/versions", RULE | changes, 201)["version"]

    def live(self, name: str, **changes: Any) -> int:
        """Write a version of a rule and have it approved; returns its number."""
        version = self.draft(name, **changes)
        self.post("author", f"/rules/{name}/submit", {"version": version})
        self.post("ada", f"/rules/{name}/approve", {"version": version, "to": "live"})
        return version

    def states(self, name: str) -> dict[int, str]:
        """Of all versions of a rule."""
        return {each["version"]: each["state"] for each in self.get(f"/rules/{name}")["versions"]}

    def in_force(self) -> dict[str, str]:
        """The names and states of the newest ruleset's rules."""
        newest = self.get("/rulesets")["rulesets"][0]["ruleset_id"]
        return {rule["name"]: rule["state"] for rule in self.get(f"/rulesets/{newest}")["document"]["rules"]}

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        connection = connect(self.database, "tests")
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rules]:
    nowhere = {"redis_host": "localhost", "redis_port": 1, "mlflow_tracking_uri": "http://localhost:1"}
    with own_database() as database:
        upgrade(database)
        address = {
            "postgres_host": database.postgres_host,
            "postgres_port": database.postgres_port,
            "fraud_db_name": database.fraud_db_name,
            "fraud_db_password": database.fraud_db_password,
        }
        with own_api(tmp_path_factory.mktemp("api"), **nowhere, **address, **SETTINGS) as client:
            yield Rules(client, database)


def test_a_rule_from_draft_to_live_to_paused_and_back(rules: Rules) -> None:
    created = rules.post("author", "/rules", RULE | {"name": "life"}, 201)
    assert (created["state"], created["version"], created["author"]) == ("draft", 1, "author")
    submitted = rules.post("author", "/rules/life/submit", {"version": 1, "reason": "please"})
    assert (submitted["version"]["state"], submitted["ruleset_id"]) == ("submitted", None)
    shadow = rules.post("ada", "/rules/life/approve", {"version": 1, "to": "shadow"})
    assert shadow["version"]["state"] == "shadow" and rules.in_force()["life"] == "shadow"
    live = rules.post("ben", "/rules/life/approve", {"version": 1, "to": "live"})
    assert live["ruleset_id"] > shadow["ruleset_id"] and live["version"]["approved_by"] == "ben"
    assert rules.in_force()["life"] == "live"
    rules.post("ada", "/rules/life/pause", {"version": 1, "reason": "too many"})
    assert "life" not in rules.in_force()
    rules.post("author", "/rules/life/submit", {"version": 1})
    rules.post("author", "/rules/life/reject", {"version": 1, "reason": "withdrawn"})
    rules.post("ada", "/rules/life/retire", {"version": 1})
    events = rules.get("/rules/life/history")["events"]
    assert [event["to_state"] for event in reversed(events)] == [
        "draft", "submitted", "shadow", "live", "paused", "submitted", "draft", "retired",
    ]  # fmt: skip
    assert events[3] | {"at": None} == {
        "version": 1, "from_state": "live", "to_state": "paused", "by": "ada", "reason": "too many", "at": None,
    }  # fmt: skip


def test_a_new_live_version_retires_the_old_one(rules: Rules) -> None:
    assert rules.live("twice") == 1
    assert "says the same and is live" in rules.refusal("author", "/rules/twice/versions", RULE, 409)
    assert rules.live("twice", when="amount > 600") == 2
    assert rules.states("twice") == {1: "retired", 2: "live"}
    document = rules.get(f"/rulesets/{rules.get('/rulesets')['rulesets'][0]['ruleset_id']}")["document"]
    assert [rule["when"] for rule in document["rules"] if rule["name"] == "twice"] == ["amount > 600"]


def test_the_same_person_cannot_approve(rules: Rules) -> None:
    rules.post("ada", "/rules", RULE | {"name": "own"}, 201)
    rules.post("ada", "/rules/own/submit", {"version": 1})
    message = rules.refusal("ada", "/rules/own/approve", {"version": 1, "to": "live"}, 403)
    assert message.startswith("ada wrote version 1 of rule own, so another person has to approve it")
    rules.post("ben", "/rules/own/approve", {"version": 1, "to": "live"})


def test_each_role_has_its_requests(rules: Rules) -> None:
    rules.draft("roles")
    assert "role viewer; this needs the role author" in rules.refusal("viewer", "/rules", RULE | {"name": "x"}, 403)
    rules.post("author", "/rules/roles/submit", {"version": 1})
    message = rules.refusal("author", "/rules/roles/approve", {"version": 1, "to": "live"}, 403)
    assert message == "author has the role author; this needs the role approver"
    for action in ("pause", "retire"):
        rules.refusal("author", f"/rules/roles/{action}", {"version": 1}, 403)
    assert rules.refusal("author", "/lists", {"name": "l", "about": "user_id", "needs_approval": False}, 403)


def test_a_forbidden_transition_says_what_is_possible(rules: Rules) -> None:
    rules.draft("stuck")
    message = rules.refusal("ada", "/rules/stuck/approve", {"version": 1, "to": "live"}, 409)
    assert message == (
        "version 1 of rule stuck: approve to live is not possible while it is draft; possible is: "
        "submit (to submitted), retire (to retired)"
    )
    assert "possible is" in rules.refusal("ada", "/rules/stuck/pause", {"version": 1}, 409)
    assert rules.refusal("ada", "/rules/stuck/pause", {"version": 7}, 404) == (
        "rule stuck has no version 7; its newest is 1"
    )


def test_what_is_not_there_has_similar_names(rules: Rules) -> None:
    rules.draft("new-device-high-amount")
    answer = rules.get("/rules/new-device-high-amounts", 404)
    assert answer["detail"] == "there is no rule new-device-high-amounts; similar: new-device-high-amount"
    rules.post("author", "/lists", {"name": "blocked-people", "about": "user_id"}, 201)
    body = RULE | {"name": "typo", "when": "in_list(user_id, 'blocked-peple')"}
    assert "similar: blocked-people" in rules.refusal("author", "/rules", body, 422)
    assert rules.get("/rulesets/999999", 404)["detail"].startswith("there is no ruleset 999999; ")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"when": "amount >"}, "when", "line 1"),
        ({"when": "amount > 1 and\n colour = 'red'"}, "when", "line 2, column 2"),
        ({"when": "amount > 5; drop table rules"}, "when", "line 1, column 11"),
        ({"answer": "refuse"}, "answer", "'approve', 'challenge' or 'decline'"),
        ({"rollout_percent": 0}, "rollout_percent", "greater than or equal to 1"),
        ({"rollout_percent": True}, "rollout_percent", "integer"),
        ({"owner": "a\nb"}, "owner", "pattern"),
        ({"name": "Upper"}, "name", "pattern"),
        ({"lane": "exception", "answer": "approve"}, "expires_at", "an exception needs the time when it ends"),
        ({"lane": "exception", "answer": "decline", "expires_at": "2099-01-01T00:00:00Z"}, "answer", "lowers"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "in the past"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at", "time zone"),
        ({"colour": "red"}, "colour", "not permitted"),
    ],
)
def test_a_wrong_field_is_named(rules: Rules, changes: dict[str, Any], field: str, words: str) -> None:
    (wrong,) = rules.post("author", "/rules", RULE | {"name": "wrong"} | changes, 422)["detail"]
    assert wrong["loc"] == ["body", field] and words in wrong["msg"], wrong
    if field == "when":
        assert wrong["line"] and wrong["column"]
    rules.get("/rules/wrong", 404)


def test_conditions_are_validated_as_they_would_be_written(rules: Rules) -> None:
    answer = rules.post("viewer", "/rules/validate", {"when": "amount > 5 and is_night"})
    assert answer == {"names": ["amount", "is_night"], "lists": []}
    (wrong,) = rules.post("viewer", "/rules/validate", {"when": "amount > 5 and is_nigt"}, 422)["detail"]
    assert (wrong["type"], wrong["line"], wrong["column"]) == ("rule_error", 1, 16)


def at_once(*asks: Callable[[], Any]) -> list[int]:
    """The statuses of requests that are sent at the same time."""
    gate = threading.Barrier(len(asks))

    def ask(one: Callable[[], httpx2.Response]) -> int:
        gate.wait()
        return one().status_code

    with ThreadPoolExecutor(len(asks)) as threads:
        return sorted(threads.map(ask, asks))


def test_of_two_requests_at_once_one_wins(rules: Rules) -> None:
    def request(who: str, path: str, body: dict[str, Any]) -> Callable[[], httpx2.Response]:
        return lambda: httpx2.post(
            f"{rules.client.base_url}/{path}", json=body, headers={"X-API-Key": KEYS[who]}, timeout=30
        )

    before = len(rules.get("/rulesets?limit=1000")["rulesets"])
    for number in range(5):
        name = f"race-{number}"
        rules.draft(name)
        rules.post("author", f"/rules/{name}/submit", {"version": 1})
        approval = {"version": 1, "to": "live"}
        asks = [request(who, f"rules/{name}/approve", approval) for who in ("ada", "ben")]
        assert at_once(*asks) == [200, 409]
        assert at_once(*[request("ada", f"rules/{name}/pause", {"version": 1})] * 3) == [200, 409, 409]
    versions = [RULE | {"when": f"amount > {number}"} for number in range(4)]
    assert at_once(*[request("author", "rules/race-0/versions", version) for version in versions]) == [201] * 4
    assert set(rules.states("race-0")) == {1, 2, 3, 4, 5}
    new = request("author", "rules", RULE | {"name": "race-new"})
    assert at_once(new, new, new) == [201, 409, 409]
    assert len(rules.get("/rulesets?limit=1000")["rulesets"]) == before + 10


def test_rulesets_are_seen_in_the_order_of_their_ids(rules: Rules) -> None:
    """A reader that asks for what is newer than the newest one it has seen never misses one."""
    for number in range(6):
        rules.draft(f"order-{number}")
        rules.post("author", f"/rules/order-{number}/submit", {"version": 1})
    seen: list[int] = []
    stop = threading.Event()

    def follow() -> None:
        connection = connect(rules.database, "tests")
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("select ruleset_id from rulesets where ruleset_id > %s order by 1", (max(seen or [0]),))
                seen.extend(ruleset_id for (ruleset_id,) in cursor.fetchall())
        connection.close()

    follower = threading.Thread(target=follow)
    follower.start()

    def approve(number: int) -> int:
        body = {"version": 1, "to": "shadow"}
        headers = {"X-API-Key": KEYS["ada"]}
        return httpx2.post(
            f"{rules.client.base_url}/rules/order-{number}/approve", json=body, headers=headers, timeout=30
        ).status_code

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(approve, range(6))) == {200}
    newest = rules.get("/rulesets")["rulesets"][0]["ruleset_id"]
    while newest not in seen:
        assert follower.is_alive()
    stop.set()
    follower.join()
    assert seen == sorted(seen)
    assert seen == [ruleset_id for (ruleset_id,) in rules.execute("select ruleset_id from rulesets order by 1")]


def test_an_older_ruleset_comes_back(rules: Rules) -> None:
    rules.live("back-a")
    rules.live("back-b", when="amount > 7")
    old = rules.get("/rulesets")["rulesets"][0]["ruleset_id"]
    rules.live("back-a", when="amount > 501")
    rules.post("ada", "/rules/back-b/retire", {"version": 1})
    rules.live("back-c")
    before = rules.get(f"/rulesets/{old}")
    restored = rules.post("ben", f"/rulesets/{old}/restore", {"reason": "too strict"})["ruleset_id"]
    after = rules.get(f"/rulesets/{restored}")
    assert after["document"] == before["document"] and after["ruleset"]["in_force"]
    assert after["ruleset"]["document_hash"] == before["ruleset"]["document_hash"]
    assert rules.states("back-a") == {1: "live", 2: "paused"}
    assert rules.states("back-b") == {1: "live"} and rules.states("back-c") == {1: "paused"}
    assert rules.get("/rules/back-c/history")["events"][0]["reason"] == f"ruleset {old} restored: too strict"
    assert "in force as they were in it" in rules.refusal("ben", f"/rulesets/{old}/restore", {}, 409)
    rules.refusal("author", f"/rulesets/{old}/restore", {}, 403)


def test_lists_and_their_entries(rules: Rules) -> None:
    rules.post("author", "/lists", {"name": "blocked", "about": "user_id", "note": "Stolen cards."}, 201)
    assert "already" in rules.refusal("author", "/lists", {"name": "blocked", "about": "user_id"}, 409)
    assert "user_id" in rules.refusal("author", "/lists", {"name": "other", "about": "amount"}, 422)
    added = rules.post("author", "/lists/blocked/entries", {"values": ["u1", "u2"], "reason": "stolen"}, 201)["entries"]
    assert [(entry["value"], entry["in_force"]) for entry in added] == [("u1", False), ("u2", False)]
    ids = [entry["entry_id"] for entry in added]
    again = rules.post("author", "/lists/blocked/entries", {"values": ["u3", "u1"]}, 422)["detail"][0]
    assert again["loc"] == ["body", "values", 1] and f"entry {ids[0]}" in again["msg"]
    rules.refusal("author", "/lists/blocked/entries/approve", {"entry_ids": ids}, 403)
    approved = rules.post("ada", "/lists/blocked/entries/approve", {"entry_ids": ids})["entries"]
    assert all(entry["in_force"] and entry["approved_by"] == "ada" for entry in approved)
    assert "approved by ada" in rules.refusal("ben", "/lists/blocked/entries/approve", {"entry_ids": ids}, 409)
    rules.refusal("author", "/lists/blocked/entries/end", {"entry_ids": ids[:1]}, 403)
    ended = rules.post("ben", "/lists/blocked/entries/end", {"entry_ids": ids[:1], "reason": "new card"})["entries"]
    assert (ended[0]["in_force"], ended[0]["ended_by"], ended[0]["ended_reason"]) == (False, "ben", "new card")
    assert rules.refusal("ben", "/lists/blocked/entries/end", {"entry_ids": ids}, 409).endswith("has ended")
    assert rules.refusal("ben", "/lists/blocked/entries/end", {"entry_ids": [999999]}, 404)
    assert rules.execute("select value from list_members where list_name = 'blocked' and valid_to is null") == [("u2",)]
    # What has ended can be added again, and its history stays.
    rules.post("author", "/lists/blocked/entries", {"values": ["u1"], "valid_to": "2099-01-01T00:00:00Z"}, 201)
    assert len(rules.get("/lists/blocked/entries?value=u1")["entries"]) == 2
    (found,) = [each for each in rules.get("/lists")["lists"] if each["name"] == "blocked"]
    assert (found["values"], found["waiting"]) == (1, 1)
    page = rules.get(f"/lists/blocked/entries?limit=1&before={ids[1]}")["entries"]
    assert [entry["entry_id"] for entry in page] == ids[:1]


def test_entries_are_refused_with_the_reason(rules: Rules) -> None:
    rules.post("ada", "/lists", {"name": "watched", "about": "user_id", "needs_approval": False}, 201)
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    for body, place in (
        ({"values": ["u1", "u1"]}, ["values", 1]),
        ({"values": ["a\0b"]}, ["values", 0]),
        ({"values": [" u1"]}, ["values", 0]),
        ({"values": ["x" * 257]}, ["values", 0]),
        ({"values": []}, ["values"]),
        ({"values": ["u1"], "valid_from": past}, ["valid_from"]),
        ({"values": ["u1"], "valid_to": past}, ["valid_to"]),
    ):
        detail = rules.post("author", "/lists/watched/entries", body, 422)["detail"]
        assert detail[0]["loc"] == ["body", *place]
    many = {"values": [f"u{number}" for number in range(1000)]}
    rules.post("author", "/lists/watched/entries", {"values": ["one"]}, 201)
    assert "RULES_MAX_LIST_ENTRIES=1,000" in rules.refusal("author", "/lists/watched/entries", many, 409)
    assert "need no approval" in rules.refusal("ada", "/lists/watched/entries/approve", {"entry_ids": [1]}, 409)


def test_what_declines_or_excepts_uses_lists_that_need_approval(rules: Rules) -> None:
    rules.post("ada", "/lists", {"name": "loose", "about": "user_id", "needs_approval": False}, 201)
    body = RULE | {"name": "by-list", "when": "in_list(user_id, 'loose')"}
    assert "one person alone" in rules.refusal("author", "/rules", body | {"answer": "decline"}, 422)
    exception = {"lane": "exception", "answer": "approve", "expires_at": "2099-01-01T00:00:00Z"}
    assert "one person alone" in rules.refusal("author", "/rules", body | exception, 422)
    wrong = body | {"when": "in_list(merchant_id, 'loose')"}
    assert "values of user_id, not of merchant_id" in rules.refusal("author", "/rules", wrong, 422)
    rules.post("author", "/rules", body, 201)


def test_a_rule_is_suppressed_for_a_user(rules: Rules) -> None:
    rules.live("hushed")
    body = {"user_id": "U1234", "valid_to": "2099-01-01T00:00:00Z", "reason": "called"}
    rules.refusal("author", "/rules/hushed/suppressions", body, 403)
    made = rules.post("ada", "/rules/hushed/suppressions", body, 201)
    assert made["in_force"] and rules.get("/rules/hushed")["suppressions"] == [made]
    assert "until 2099-01-01" in rules.refusal("ada", "/rules/hushed/suppressions", body, 409)
    assert "past" in rules.refusal(
        "ada", "/rules/hushed/suppressions", body | {"valid_to": "2020-01-01T00:00:00Z"}, 422
    )
    end = f"/rules/hushed/suppressions/{made['suppression_id']}/end"
    assert rules.post("ada", end)["in_force"] is False
    assert "has ended" in rules.refusal("ada", end, {}, 409)


def test_backtests_are_asked_for_and_cancelled(rules: Rules) -> None:
    rules.draft("tried")
    asked = rules.post("author", "/backtests", {"rule": "tried", "days": 7}, 201)["backtest"]
    assert asked["request"] == {"rule": "tried", "version": 1, "days": 7} and asked["state"] == "waiting"
    assert rules.post("author", "/backtests", {"threshold": 0.5, "from": "2026-01-01", "to": "2026-01-31"}, 201)
    for body in ({}, {"rule": "tried", "when": "amount > 1"}, {"when": "", "days": 1}, {"threshold": 1, "days": 0}):
        assert rules.refusal("author", "/backtests", body, 422)
    assert rules.refusal("author", "/backtests", {"when": "amount >"}, 422).startswith("line 1")
    assert rules.refusal("author", "/backtests", {"rule": "trid"}, 404) == "there is no rule trid; similar: tried"
    path = f"/backtests/{asked['backtest_id']}"
    assert rules.post("author", f"{path}/cancel")["backtest"]["state"] == "cancelled"
    assert "is cancelled" in rules.refusal("author", f"{path}/cancel", {}, 409)
    assert rules.get(path)["report"] is None
    for _ in range(30):
        last = rules.client.post("/backtests", json={"threshold": 0.1}, headers={"X-API-Key": KEYS["author"]})
    assert last.status_code == 409 and "are waiting" in last.json()["detail"]


def test_the_examples_of_the_documentation_work_as_they_are(rules: Rules) -> None:
    document = rules.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]

    def examples(schema: str) -> list[dict[str, Any]]:
        return schemas[schema]["examples"]

    for path in ("/lists", "/rules"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for example in examples(body.rpartition("/")[2]):
            rules.post("author", path, example, 201)
    name = examples("RuleRequest")[0]["name"]
    for example in examples("VersionRequest"):
        rules.post("author", f"/rules/{name}/versions", example, 201)
    for example in examples("ValidateRequest"):
        rules.post("author", "/rules/validate", example)
    rules.post("author", f"/rules/{name}/submit", examples("ActionRequest")[0])
    rules.post("ada", f"/rules/{name}/approve", examples("ApproveRequest")[0])
    rules.post("ada", f"/rules/{name}/suppressions", examples("SuppressionRequest")[0], 201)
    rules.post("author", f"/lists/{examples('ListRequest')[0]['name']}/entries", examples("EntriesRequest")[0], 201)
    rules.execute("update backtests set state = 'cancelled' where state = 'waiting'")
    for example in examples("BacktestRequest"):
        rules.post("author", "/backtests", example, 201)


def test_whatever_is_sent_the_answer_is_documented(rules: Rules) -> None:
    """Each request of the document, with the key of an approver."""
    command = ["schemathesis", "run", f"{rules.client.base_url}/openapi.json", "--max-examples", "3", "--no-color"]
    # Whether there is such a rule, or a condition means something, is not in the document.
    command += ["--phases", "examples,coverage", "--exclude-checks", "positive_data_acceptance"]
    command += ["--include-path-regex", PATHS, "--header", f"X-API-Key: {KEYS['ada']}"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_formats"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:]
    assert f"{OPERATIONS} selected" in result.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "update rule_versions set \"when\" = 'true'",
        "update rule_versions set author = 'somebody'",
        "update rule_versions set state = 'live' where state = 'draft'",
        "update rule_versions set state = 'draft' where state = 'retired'",
        "update rule_versions set approved_by = author, approved_at = now(), four_eyes = true",
        "delete from rule_versions",
        "delete from rule_events",
        "update rule_events set reason = ''",
        "update rulesets set document = document",
        "delete from rulesets",
        "truncate rules cascade",
        "delete from list_entries",
        "update list_entries set value = 'x'",
        "update list_entries set valid_to = now() - interval '1 day'",
        "update list_entries set approved_by = added_by, approved_at = now() where approved_by is null",
        "update suppressions set valid_to = '2999-01-01'",
        'insert into rule_versions (rule_id, version, "when", answer, owner, author, state) '
        "select rule_id, 1000, 'true', 'decline', 'o', 'a', 'live' from rules",
        'insert into rule_versions (rule_id, version, lane, "when", answer, owner, author) '
        "select rule_id, 1000, 'exception', 'true', 'approve', 'o', 'a' from rules",
    ],
)
def test_the_database_refuses_what_the_api_would_not_do(rules: Rules, statement: str) -> None:
    rules.live("kept") if "kept" not in rules.in_force() else None
    with pytest.raises((errors.RestrictViolation, errors.CheckViolation)):
        rules.execute(statement)


STARTER = """
lists:
  - {name: trusted, about: merchant_id, note: Shops that we know.}
rules:
  - {name: first, when: amount > 900, answer: decline, queue: true, state: live, owner: fraud-ops}
  - {name: second, when: amount > 90, answer: challenge, state: shadow, owner: fraud-ops}
  - {name: third, when: amount > 9, answer: challenge, state: draft, owner: fraud-ops}
  - name: fourth
    lane: exception
    when: in_list(merchant_id, 'trusted')
    answer: approve
    state: live
    owner: fraud-ops
    expires_days: 30
"""


def test_the_starter_set_fills_an_empty_database_once(tmp_path: Path) -> None:
    file = tmp_path / "starter.yml"
    file.write_text(STARTER)
    with own_database() as database:
        upgrade(database)
        assert starter.load(database, file) is True
        assert starter.load(database, file) is False
        lines = table(database).splitlines()
    assert [line.split()[:3] for line in lines[1:5]] == [
        ["first", "live", "1"], ["fourth", "live", "1"], ["second", "shadow", "1"], ["third", "draft", "1"],
    ]  # fmt: skip
    assert "approve (exception)" in lines[2] and lines[-1].startswith("ruleset 1 is in force since")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("answer: decline", "answer: refuse", "rule first, answer: Input should be"),
        ("amount > 90,", "amount >,", "rule second, when: line 1"),
        ("owner: fraud-ops\n    expires_days: 30", "owner: fraud-ops", "rule fourth, expires_at: an exception needs"),
        ("about: merchant_id", "about: amount", "list trusted, about: must be one of"),
        ("lists:", "list:", "list: Extra inputs are not permitted"),
        ("rules:", "rules: [", "while parsing"),
    ],
)
def test_a_wrong_starter_file_is_named_and_stores_nothing(
    tmp_path: Path, rules: Rules, old: str, new: str, words: str
) -> None:
    file = tmp_path / "starter.yml"
    assert old in STARTER
    file.write_text(STARTER.replace(old, new))
    with own_database() as database:
        upgrade(database)
        with pytest.raises(UserError, match=words.replace("(", r"\(")) as raised:
            starter.load(database, file)
        assert str(file) in str(raised.value)
        file.write_text(STARTER)
        assert starter.load(database, file) is True


def test_the_command_names_what_is_missing() -> None:
    with pytest.raises(UserError, match="docker compose logs postgres"):
        table(PostgresSettings(postgres_host="localhost", postgres_port=1))
    with own_database() as database, pytest.raises(UserError, match="docker compose logs fraud-db-init"):
        table(database)
    assert issubclass(psycopg2.errors.UndefinedTable, psycopg2.Error)
