"""An API for which no other service answers decides by the rules on its disk."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from api_process import PAYMENT, metric_of, own_api
from rules.lists import ListValues
from rules.ruleset import InForce
from ruleset_world import entry, ruleset
from serving.ruleset_store import pack

NOWHERE = {
    "redis_host": "localhost",
    "redis_port": 1,
    "postgres_host": "localhost",
    "postgres_port": 1,
    "mlflow_tracking_uri": "http://localhost:1",
}
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
IN_FORCE = InForce(
    ruleset(
        entry(1, name="large", when="amount > 5000", queue=True),
        entry(2, name="blocked", when="in_list(user_id, 'blocked-users')", answer="decline"),
        entry(3, name="new-device", when="is_new_device_30d or not is_new_device_30d", answer="decline"),
        entry(4, name="new-user", when="transactions_30d = 0", answer="decline"),
        entry(5, name="watched", when="amount > 1", state="shadow", answer="decline"),
        ruleset_id=12,
    ),
    {"blocked-users": ListValues([("U66", YESTERDAY, None)])},
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """An API with rules on its disk."""
    state_dir = tmp_path_factory.mktemp("api")
    (state_dir / "rules").write_bytes(pack(IN_FORCE))
    with own_api(state_dir, **NOWHERE) as client:
        yield client


def decided(api: httpx2.Client, **changes: object) -> tuple[str, bool, list[str]]:
    answer = api.post("/predict", json=PAYMENT | changes).json()
    assert answer["ruleset_id"] == 12
    return answer["decision"], answer["queue"], answer["rules"]


def test_rules_go_on_from_disk(api: httpx2.Client) -> None:
    assert decided(api) == ("approve", False, [])
    assert decided(api, amount=6000) == ("challenge", True, ["large"])
    assert decided(api, user_id="U66", amount=6000) == ("decline", True, ["large", "blocked"])
    answers = api.post("/predict/batch", json={"transactions": [PAYMENT, PAYMENT | {"amount": 6000}]}).json()
    assert [each["decision"] for each in answers["predictions"]] == ["approve", "challenge"]
    state = api.get("/ready").json()
    assert state["ruleset_id"] == 12
    assert any("postgres does not answer for rules" in each and "ruleset 12" in each for each in state["degraded"])


def test_without_redis_no_rule_about_novelty_or_history_fires(api: httpx2.Client) -> None:
    """What fell back to a default is unknown: neither `new` nor `not new` is true."""
    answer = api.post("/predict", json=PAYMENT | {"device_id": "d1"}).json()
    assert (answer["feature_source"], answer["rules"]) == ("default", [])


def test_decisions_and_hits_are_counted_from_0(api: httpx2.Client) -> None:
    before = metric_of(api, "fraud_rule_hits_total", rule="watched", state="shadow")
    declined = metric_of(api, "fraud_decisions_total", decision="decline", queue="no")
    decided(api, user_id="U66")
    assert metric_of(api, "fraud_rule_hits_total", rule="watched", state="shadow") == before + 1
    assert metric_of(api, "fraud_decisions_total", decision="decline", queue="no") == declined + 1
    assert metric_of(api, "fraud_ruleset_id") == 12
    text = api.get("/metrics").text
    assert 'fraud_rule_hits_total{answer="decline",rule="new-device",state="live"} 0.0' in text
    assert 'fraud_rule_errors_total{rule="large"} 0.0' in text
    assert "fraud_holdout_payments_total 0.0" in text
