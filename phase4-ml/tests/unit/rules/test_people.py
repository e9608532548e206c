"""People who work with rules: their keys, their roles, and an API for them while Postgres does not answer."""

import time
from collections.abc import Iterator

import httpx2
import pytest
from api_process import PAYMENT, own_api
from rules.access import People, Person, Role, RulesSettings, is_for_people
from rules.refusals import ForbiddenError, not_found

KEYS = {"X-API-Key": "key-of-author"}


def test_each_key_is_a_person() -> None:
    settings = RulesSettings(
        rules_author_key="key-1-of-author", rules_approver_key="", rules_keys=" ada:admin:key:with:colons ,, "
    )
    people = People.of(settings)
    assert people.who(b"key-1-of-author") == Person("author", Role.AUTHOR)
    assert people.who(b"key:with:colons") == Person("ada", Role.ADMIN)
    for nobody in (b"", b"key", b"key-1-of-author ", b"ada:admin:key:with:colons", "schlüssel".encode()):
        assert people.who(nobody) is None
    assert People([]).who(b"") is None


def test_a_role_includes_those_before_it() -> None:
    for has in Role:
        for needs in Role:
            person = Person("ada", has)
            if has >= needs:
                person.require(needs)
                continue
            with pytest.raises(ForbiddenError, match=f"ada has the role {has.name.lower()}"):
                person.require(needs)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/rules", True), ("/rules/a/submit", True), ("/lists/", True), ("/replay/1", True), ("/rulesets/1", True),
        ("/rulesx", False), ("/predict", False), ("/predict/rules", False), ("", False), ("*", False), ("/", False),
    ],
)  # fmt: skip
def test_which_paths_are_for_people(path: str, expected: bool) -> None:
    assert is_for_people(path) is expected


def test_similar_names_are_the_nearest_ones() -> None:
    message = str(not_found("rule", "velocty", ["velocity", "card-testing", "velocity-2"]))
    assert message == "there is no rule velocty; similar: velocity, velocity-2"
    assert str(not_found("list", "x", ["blocked-users"])) == "there is no list x"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """Callers have keys of their own; no other service answers."""
    nowhere = {"redis_host": "localhost", "postgres_host": "localhost", "mlflow_tracking_uri": "http://localhost:1"}
    keys = {"api_key": "key-of-caller", "api_internal_key": "internal", "rules_author_key": KEYS["X-API-Key"]}
    with own_api(
        tmp_path_factory.mktemp("api"), redis_port=1, postgres_port=1, request_seconds=1, **nowhere, **keys
    ) as client:
        yield client


def test_callers_and_people_have_different_keys(api: httpx2.Client) -> None:
    for path in ("/rules", "/lists", "/rulesets", "/backtests", "/rules/a/history", "/lists/a/entries"):
        for key in ("", "wrong", "key-of-caller", "internal"):
            answer = api.get(path, headers={"X-API-Key": key})
            assert answer.status_code == 401 and "RULES_AUTHOR_KEY" in answer.json()["detail"]
            assert api.post(path, headers={"X-API-Key": key}, json={}).status_code == 401
    assert api.get("/ready", headers=KEYS).status_code == 401
    assert api.post("/predict", headers=KEYS, json=PAYMENT).status_code == 401


def test_a_browser_may_read_rules_and_change_none(api: httpx2.Client) -> None:
    basic = ("anybody", KEYS["X-API-Key"])
    assert api.get("/rules", auth=basic).status_code == 503
    assert api.post("/rules", auth=basic, json={}).status_code == 401
    challenge = api.get("/rules").headers["www-authenticate"]
    assert challenge.startswith("Basic ")


def test_without_postgres_rules_are_a_503_and_payments_are_scored(api: httpx2.Client) -> None:
    for _ in range(5):
        answer = api.get("/rules", headers=KEYS)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
        assert "Postgres does not answer" in answer.json()["detail"]
        assert "docker compose logs postgres" in answer.json()["detail"]
        scored = api.post("/predict", json=PAYMENT, headers={"X-API-Key": "key-of-caller"})
        assert scored.status_code == 200
    replayed = api.post("/replay/0b54b01e-9a3c-4f0a-bb32-3c5a5f1d7c11", headers=KEYS)
    assert replayed.status_code == 503


def test_the_limits_of_size_and_time_are_those_of_payments(api: httpx2.Client) -> None:
    large = api.post("/rules", content=b"x" * (1 << 20 | 1), headers=KEYS)
    assert large.status_code == 413 and "larger than 1048576 bytes" in large.json()["detail"]

    def slow() -> Iterator[bytes]:
        yield b"{"
        time.sleep(3)
        yield b"}"

    late = api.post("/rules", content=slow(), headers=KEYS)
    assert late.status_code == 408 and "within 1 seconds" in late.json()["detail"]


@pytest.mark.parametrize("path", ["/rules", "/rules/validate", "/lists", "/backtests", "/rules/a/versions"])
def test_a_hostile_body_is_refused_in_a_few_words(api: httpx2.Client, path: str) -> None:
    for body in ({f"k{number}": 1 for number in range(50_000)}, {"x" * 900_000: 1}, [1], "x", None):
        answer = api.post(path, json=body, headers=KEYS)
        assert answer.status_code == 422 and len(answer.content) < 10_000
