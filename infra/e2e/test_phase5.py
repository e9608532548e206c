"""Phase 5 on the stack as a user has it: everything is scraped, dashboards have data, and alerts fire and clear."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import httpx2
from docker.models.containers import Container
from stack import service, wait_until

PROMETHEUS = "http://prometheus:9090"
ALERTMANAGER = "http://alertmanager:9093"
SUPERSET = "http://superset:8088"
CHARTS_AT_ONCE = 4


def targets() -> dict[str, str]:
    """Health of each job's target, with what is wrong."""
    answer = httpx2.get(f"{PROMETHEUS}/api/v1/targets", params={"state": "active"}).raise_for_status()
    return {
        each["labels"]["job"]: each["health"] + each["lastError"] for each in answer.json()["data"]["activeTargets"]
    }


def firing() -> set[str]:
    """The alerts that have reached Alertmanager and stand."""
    alerts: list[dict[str, Any]] = httpx2.get(f"{ALERTMANAGER}/api/v2/alerts").raise_for_status().json()
    return {alert["labels"]["alertname"] for alert in alerts if alert["status"]["state"] == "active"}


def containers() -> list[Container]:
    """All of the stack, also those that have ended."""
    project = f"com.docker.compose.project={os.environ['COMPOSE_PROJECT_NAME']}"
    return docker.from_env().containers.list(all=True, filters={"label": project})


def test_everything_is_scraped() -> None:
    wait_until(lambda: set(targets().values()) == {"up"}, f"all targets up: {targets()}", 180)
    assert len(targets()) == 18
    print(f"| targets | {len(targets())} up |")


def superset() -> httpx2.Client:
    """A client that is logged in as the administrator."""
    login = {
        "username": os.environ["SUPERSET_ADMIN_USER"],
        "password": os.environ["SUPERSET_ADMIN_PASSWORD"],
        "provider": "db",
    }
    answer = httpx2.post(f"{SUPERSET}/api/v1/security/login", json=login, timeout=60).raise_for_status()
    return httpx2.Client(
        base_url=SUPERSET, headers={"Authorization": f"Bearer {answer.json()['access_token']}"}, timeout=120
    )


def query_of(params: dict[str, Any]) -> dict[str, Any]:
    """What the browser asks for to draw a chart with these settings."""
    columns: list[Any] = [*params.get("all_columns", [])]
    if axis := params.get("x_axis"):
        grain = (
            {"timeGrain": params["time_grain_sqla"], "columnType": "BASE_AXIS"} if "time_grain_sqla" in params else {}
        )
        columns.append({"label": axis, "sqlExpression": axis, "expressionType": "SQL", **grain})
    groupby = params.get("groupby", [])
    metrics = [*params.get("metrics", []), *([params["metric"]] if "metric" in params else [])]
    return {
        "columns": columns + ([groupby] if isinstance(groupby, str) else groupby),
        "metrics": metrics or None,
        "filters": [
            {"col": each["subject"], "op": each["operator"], "val": each["comparator"]}
            for each in params["adhoc_filters"]
        ],
        "orderby": [json.loads(order) for order in params.get("order_by_cols", [])],
        "row_limit": params.get("row_limit", 100),
    }


def ask_for_chart(client: httpx2.Client, number: int) -> tuple[float, str, str]:
    """Seconds that a chart's data took, its name, and what is wrong with it: an error, or no rows."""
    chart = client.get(f"/api/v1/chart/{number}").raise_for_status().json()["result"]
    params = json.loads(chart["params"])
    source, kind = params["datasource"].split("__")
    context = {"datasource": {"id": int(source), "type": kind}, "force": True, "queries": [query_of(params)]}
    started = time.monotonic()
    answer = client.post("/api/v1/chart/data", json=context)
    if answer.is_error:
        wrong = answer.text
    else:
        result = answer.json()["result"][0]
        wrong = result["error"] or ("" if result["rowcount"] else "no rows")
    return time.monotonic() - started, chart["slice_name"], wrong


def test_every_chart_of_superset_has_data() -> None:
    with superset() as client:
        boards = client.get("/api/v1/dashboard/").raise_for_status().json()["result"]
        titles = {board["dashboard_title"] for board in boards}
        assert titles == {"Transaction Overview", "Fraud Analytics", "Real-Time Risk Feed"}
        for board in boards:
            charts = client.get(f"/api/v1/dashboard/{board['id']}/charts").raise_for_status().json()["result"]
            # Several at once, as a browser asks for them.
            with ThreadPoolExecutor(CHARTS_AT_ONCE) as pool:
                answers = list(pool.map(lambda chart: ask_for_chart(client, chart["id"]), charts))
            empty = [f"{name}: {wrong}" for _, name, wrong in answers if wrong]
            assert not empty, f"{board['dashboard_title']}: " + "; ".join(empty)
            seconds, name, _ = max(answers)
            print(f"| {board['dashboard_title']} | {len(charts)} charts, slowest {name} {seconds:.1f} s |")


def test_dead_letters_raise_an_alert() -> None:
    """This stack's producer sends bad messages all the time."""
    wait_until(lambda: "DeadLetters" in firing(), "the alert on dead letters fires", 300)


def test_a_burst_of_fraud_raises_an_alert() -> None:
    """It has been on since the checks of phase 4."""
    wait_until(lambda: "FraudRateHigh" in firing(), "the alert on the fraud rate fires", 420)


def test_memory_limits_hold() -> None:
    """Their sum fits the machine that the README asks for, and nobody has met his."""
    running = [container for container in containers() if container.status == "running"]
    limits = {container.name: container.attrs["HostConfig"]["Memory"] for container in running}
    assert all(limits.values()), limits
    print(f"| memory limits of {len(limits)} services | {sum(limits.values()) / 2**30:.1f} GiB |")
    assert sum(limits.values()) <= 14 * 2**30
    assert not [container.name for container in containers() if container.attrs["State"]["OOMKilled"]]


def test_services_are_confined() -> None:
    """Nobody is root or has a capability, nothing is reachable from elsewhere, and nothing writes to the repository."""
    for container in containers():
        config, host = container.attrs["Config"], container.attrs["HostConfig"]
        assert config["User"] not in ("", "0", "root"), container.name
        assert host["CapDrop"] == ["ALL"], container.name
        assert "no-new-privileges:true" in host["SecurityOpt"], container.name
        published = [binding["HostIp"] for bindings in (host["PortBindings"] or {}).values() for binding in bindings]
        assert set(published) <= {"127.0.0.1"}, container.name
        writable = [mount for mount in container.attrs["Mounts"] if mount["Type"] == "bind" and mount["RW"]]
        assert not writable, container.name
    print(f"| services confined | {len(containers())} |")


def test_the_api_stopped_raises_an_alert_that_clears() -> None:
    wait_until(lambda: "ApiDown" not in firing(), "the API is up", 120)
    service("fraud-api").stop(timeout=30)
    stopped = time.monotonic()
    wait_until(lambda: "ApiDown" in firing(), "the alert fires", 180)
    fired = time.monotonic()
    service("fraud-api").start()
    wait_until(lambda: "ApiDown" not in firing(), "the alert clears", 180)
    print(f"| ApiDown | fires after {fired - stopped:.0f} s | clears after {time.monotonic() - fired:.0f} s |")
