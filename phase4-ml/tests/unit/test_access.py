"""Who may ask the API, and how much."""

import base64
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from api_process import PAYMENT, own_api
from serving.api_keys import INTERNAL, UNKNOWN, ApiKeys, offered_key
from serving.rate_limit import RateLimit, shared_numbers

KEYS = ApiKeys(["new key", "old-schlüssel"], "internal")
PAGES = ("/ready", "/metrics", "/docs", "/openapi.json", "/", "/nothing")


@pytest.mark.parametrize(
    ("offered", "who"),
    [
        ("new key", 0),
        ("old-schlüssel", 1),
        ("internal", INTERNAL),
        ("", UNKNOWN),
        ("new", UNKNOWN),
        ("new key ", UNKNOWN),
        ("new key,old-schlüssel", UNKNOWN),
    ],
)
def test_each_key_has_its_position(offered: str, who: int) -> None:
    assert KEYS.who(offered.encode()) == who


def test_without_keys_for_callers_everybody_may_ask() -> None:
    for nobody in (ApiKeys([], "internal"), ApiKeys([], "")):
        assert nobody.who(b"") == nobody.who(b"anything") == 0
    assert ApiKeys([], "internal").who(b"internal") == INTERNAL


def test_an_empty_internal_key_is_no_key() -> None:
    assert ApiKeys(["key"], "").who(b"") == UNKNOWN


def basic(text: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Basic " + base64.b64encode(text.encode())}


def test_a_page_may_have_its_key_as_a_password() -> None:
    assert offered_key("GET", basic("anybody:new key")) == b"new key"
    assert offered_key("GET", basic(":with:colons")) == b"with:colons"
    assert offered_key("GET", {b"x-api-key": b"a"} | basic(":b")) == b"a"
    for broken in (b"", b"Basic", b"Basic !", b"Basic \xff", b"Bearer " + base64.b64encode(b":key")):
        assert offered_key("GET", {b"authorization": broken}) == b""


def test_a_request_for_a_score_may_not() -> None:
    assert offered_key("POST", basic(":new key")) == b""
    assert offered_key("POST", {b"x-api-key": b"new key"}) == b"new key"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """With two keys and the platform's own, and two payments a second for each of the two."""
    settings = {"api_key": "one, two", "api_internal_key": "internal", "api_rate_limit": "2", "api_workers": "2"}
    with own_api(tmp_path_factory.mktemp("api"), **settings) as client:
        yield client


def test_all_but_health_needs_a_key(api: httpx2.Client) -> None:
    """Field case G2."""
    assert api.get("/health").status_code == 200
    for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": "one, two"}):
        for path in PAGES:
            answer = api.get(path, headers=headers)
            assert answer.status_code == 401, path
            assert "X-API-Key" in answer.json()["detail"]
            assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("key", ["one", "two", "internal"])
def test_every_key_opens_the_pages(api: httpx2.Client, key: str) -> None:
    for path in ("/ready", "/metrics", "/docs", "/openapi.json"):
        assert api.get(path, headers={"X-API-Key": key}).status_code == 200
        assert api.get(path, auth=("prometheus", key)).status_code == 200


def test_a_password_is_no_key_for_a_score(api: httpx2.Client) -> None:
    answer = api.post("/predict", json=PAYMENT, auth=("browser", "one"))
    assert (answer.status_code, "www-authenticate" in answer.headers) == (401, False)


def limited(api: httpx2.Client) -> dict[str, float]:
    """How many requests were refused, by position of the key."""
    lines = api.get("/metrics", headers={"X-API-Key": "internal"}).text.splitlines()
    found = [line.split() for line in lines if line.startswith("fraud_rate_limited_total{")]
    return {name.split('"')[1]: float(value) for name, value in found}


def test_a_key_that_has_used_up_its_rate_waits(api: httpx2.Client) -> None:
    """Each request on its own connection, so that both workers get some."""
    assert limited(api) == {"1": 0, "2": 0}

    def score(key: str, count: int = 1) -> httpx2.Response:
        batch = {"transactions": [PAYMENT] * count}
        return httpx2.post(f"{api.base_url}/predict/batch", json=batch, headers={"X-API-Key": key})

    started = time.monotonic()
    answers = [score("one") for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    # Two a second, and a burst of one second.
    assert 2 <= 20 - len(refused) <= 3 + 2 * (time.monotonic() - started)
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert "2 payments a second" in refused[0].json()["detail"]
    # A batch counts its payments: 20 of them take 10 seconds.
    assert score("two", 20).status_code == 200
    assert 2 < int(score("two").headers["retry-after"]) <= 9
    assert all(score("internal", 20).status_code == 200 for _ in range(10))
    assert limited(api) == {"1": len(refused), "2": 1}


def test_the_rate_is_that_of_the_setting() -> None:
    now = 0.0
    limit = RateLimit(10, [0.0], lambda: now)
    asked = passed = 0
    while now < 10:
        asked += 1
        if not limit.wait_seconds(0):
            limit.charge(0, 1)
            passed += 1
        now += 0.01
    assert asked > 900
    assert 100 <= passed <= 111  # 10 seconds, and a burst of one


def test_waiting_as_long_as_it_says_is_enough() -> None:
    now = 0.0
    limit = RateLimit(0.3, [0.0], lambda: now)
    for payments in (1, 1000, 1, 7):
        limit.charge(0, payments)
        if wait := limit.wait_seconds(0):
            now += wait - 1.001
            assert limit.wait_seconds(0)
            now += 1.001
        assert limit.wait_seconds(0) == 0


def _charge(file: Path) -> None:
    RateLimit(1, shared_numbers(2, file)).charge(1, 100)


def test_processes_share_the_limit(tmp_path: Path) -> None:
    limit = RateLimit(1, shared_numbers(2, tmp_path / "numbers"))
    process = multiprocessing.get_context("spawn").Process(target=_charge, args=(tmp_path / "numbers",))
    process.start()
    process.join(60)
    assert limit.wait_seconds(0) == 0
    assert limit.wait_seconds(1) > 50
