"""Phase 5 on the whole stack: every target is scraped, dashboards have data, and alerts fire and clear."""

import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import docker
import httpx2
from docker.models.containers import Container
from oom import LOG, PROBE, oom_kills
from serving_stack import service, wait_until

PROMETHEUS = "http://prometheus:9090"
ALERTMANAGER = "http://alertmanager:9093"
SUPERSET = "http://superset:8088"
CHARTS_AT_ONCE = 4

PROJECT_LABEL = "com.docker.compose.project"


def targets() -> dict[str, str]:
    """Health of each job's target, with its error."""
    answer = httpx2.get(f"{PROMETHEUS}/api/v1/targets", params={"state": "active"}).raise_for_status()
    return {
        each["labels"]["job"]: each["health"] + each["lastError"] for each in answer.json()["data"]["activeTargets"]
    }


def firing() -> set[str]:
    """The active alerts in Alertmanager."""
    alerts: list[dict[str, Any]] = httpx2.get(f"{ALERTMANAGER}/api/v2/alerts").raise_for_status().json()
    return {alert["labels"]["alertname"] for alert in alerts if alert["status"]["state"] == "active"}


def containers() -> list[Container]:
    """All containers of the stack, also those that have exited."""
    project = f"{PROJECT_LABEL}={os.environ['COMPOSE_PROJECT_NAME']}"
    return docker.from_env().containers.list(all=True, filters={"label": project})


def test_everything_is_scraped() -> None:
    wait_until(lambda: set(targets().values()) == {"up"}, f"all targets up: {targets()}", 180)
    # A job whose service is gone from the network has no target at all.
    jobs = httpx2.get(f"{PROMETHEUS}/api/v1/scrape_pools").raise_for_status().json()["data"]["scrapePools"]
    assert set(targets()) == set(jobs)
    print(f"| targets | {len(targets())} up |")


def values(expr: str) -> dict[str, float]:
    """The values of a query by what distinguishes its series."""
    answer = httpx2.get(f"{PROMETHEUS}/api/v1/query", params={"query": expr}).raise_for_status()
    return {
        next(
            (series["metric"][name] for name in ("service", "job_type", "dag_id") if name in series["metric"]), ""
        ): float(series["value"][1])
        for series in answer.json()["data"]["result"]
    }


def test_what_exports_no_metrics_is_watched() -> None:
    """Field cases I2 and I6: services are asked, and Airflow's runs are read from its database."""
    asked = {"mlflow", "schema-registry", "superset", "airflow-api-server", "training"}
    wait_until(
        lambda: values("probe_success") == dict.fromkeys(asked, 1.0), f"all answer: {values('probe_success')}", 90
    )
    jobs = {"SchedulerJob", "DagProcessorJob", "TriggererJob"}
    assert jobs <= set(values("time() - airflow_heartbeat_timestamp_seconds < 120"))
    assert "fraud_pipeline" in values("time() - airflow_dag_last_success_timestamp_seconds < 7200")
    assert firing().isdisjoint(
        {"ServiceDown", "AirflowDown", "AirflowUnwatched", "PostgresDown", "RedisDown", "RulesFail"}
    )
    assert "Watchdog" in firing()


def superset() -> httpx2.Client:
    """A client with an administrator's session."""
    login = {
        "username": os.environ["SUPERSET_ADMIN_USER"],
        "password": os.environ["SUPERSET_ADMIN_PASSWORD"],
        "provider": "db",
    }
    answer = httpx2.post(f"{SUPERSET}/api/v1/security/login", json=login, timeout=60).raise_for_status()
    return httpx2.Client(
        base_url=SUPERSET, headers={"Authorization": f"Bearer {answer.json()['access_token']}"}, timeout=120
    )


def guess(client: httpx2.Client) -> tuple[int, int]:
    """The status of a wrong password on the login page, and through the API."""
    field = re.search(r'id="csrf_token"\s+value="([^"]+)"', client.get("/login/").text)
    assert field, "the login page has no csrf_token"
    wrong = {"username": os.environ["SUPERSET_ADMIN_USER"], "password": "a guess"}
    page = client.post("/login/", data=wrong | {"csrf_token": field[1]})
    return page.status_code, client.post("/api/v1/security/login", json=wrong | {"provider": "db"}).status_code


def query_of(params: dict[str, Any]) -> dict[str, Any]:
    """The query that the browser sends to draw a chart with these settings."""
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
    """The seconds that a chart's data took, the chart's name, and its fault: an error, or no rows."""
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
        assert titles == {"Transaction Overview", "Fraud Analytics", "Real-Time Risk Feed", "Decisions and Rules"}
        for board in boards:
            charts = client.get(f"/api/v1/dashboard/{board['id']}/charts").raise_for_status().json()["result"]
            # Several at once, as a browser does.
            with ThreadPoolExecutor(CHARTS_AT_ONCE) as pool:
                answers = list(pool.map(lambda chart: ask_for_chart(client, chart["id"]), charts))
            empty = [f"{name}: {wrong}" for _, name, wrong in answers if wrong]
            assert not empty, f"{board['dashboard_title']}: " + "; ".join(empty)
            seconds, name, _ = max(answers)
            print(f"| {board['dashboard_title']} | {len(charts)} charts, slowest {name} {seconds:.1f} s |")


def test_passwords_of_superset_can_not_be_guessed_at_speed() -> None:
    """Field case I10: by the page, and by the API. The charts above have logged in once in this minute."""
    with httpx2.Client(base_url=SUPERSET, timeout=60) as client:
        statuses = [guess(client) for _ in range(12)]
    assert statuses[0] == (302, 401), statuses
    assert statuses[-1] == (429, 429), statuses
    print(f"| wrong passwords of Superset in a minute | {sum(page == 302 for page, _ in statuses)} |")


def test_dead_letters_raise_an_alert() -> None:
    """The producer of this stack sends invalid messages all the time."""
    wait_until(lambda: "DeadLetters" in firing(), "the alert on dead letters fires", 300)


def test_a_burst_of_fraud_raises_an_alert() -> None:
    """The burst has been running since the checks of phase 4."""
    wait_until(lambda: "FraudRateHigh" in firing(), "the alert on the fraud rate fires", 420)


def test_memory_limits_fit_the_machine() -> None:
    """Every container has a limit, and their sum fits the machine that the README requires.

    Training does not count: it uses its own for some minutes a week, and next to nothing in between.
    """
    running = {each.labels["com.docker.compose.service"]: each for each in containers() if each.status == "running"}
    limits = {name: container.attrs["HostConfig"]["Memory"] for name, container in running.items()}
    assert all(limits.values()), limits
    always = sum(limits.values()) - limits["training"]
    print(f"| memory limits of {len(limits) - 1} services | {always / 2**30:.1f} GiB |")
    assert always <= 14.5 * 2**30
    # A scheduled run may be under way.
    wait_until(lambda: anonymous_memory(running["training"]) < 48 * 2**20, "training holds little between runs", 420)
    print(f"| training between runs | {anonymous_memory(running['training']) / 2**20:.0f} MiB |")


def anonymous_memory(container: Container) -> int:
    """The bytes that a container's processes have allocated, without files in the page cache."""
    used: dict[str, int] = container.stats(stream=False)["memory_stats"]["stats"]
    # Of control groups version 2, or 1.
    return used["anon"] if "anon" in used else used["total_rss"]


@contextmanager
def out_of_memory_on_purpose() -> Iterator[str]:
    """The name of a container of this stack that exceeds its memory limit again and again, until the block ends."""
    name = f"{PROBE}{uuid.uuid4().hex[:8]}"
    container = docker.from_env().containers.run(
        service("fraud-api").attrs["Image"],
        ["python3", "-c", "b'x' * 2**28"],
        name=name,
        labels={PROJECT_LABEL: os.environ["COMPOSE_PROJECT_NAME"]},
        mem_limit="24m",
        memswap_limit="24m",
        network_mode="none",
        restart_policy={"Name": "always"},
        detach=True,
    )
    try:
        yield name
    finally:
        container.remove(force=True)


def test_no_container_has_run_out_of_memory() -> None:
    """Field case I8: also none that the engine has restarted since; the probe proves that kills are recorded."""

    def kills() -> dict[str, int]:
        return oom_kills(LOG.read_text(), os.environ["COMPOSE_PROJECT_NAME"])

    with out_of_memory_on_purpose() as probe:
        wait_until(lambda: probe in kills(), "the kill of the probe is recorded", 60)
    # Drills restart services on purpose.
    restarts = {each.name: each.attrs["RestartCount"] for each in containers() if each.attrs["RestartCount"]}
    print(f"| containers restarted by the engine | {restarts} |")
    services = {name: count for name, count in kills().items() if not name.startswith(PROBE)}
    assert not services, f"killed for lack of memory: {services}; restarts: {restarts}"


def test_services_are_confined() -> None:
    """No container runs as root, has a capability, listens beyond localhost or writes to the repository."""
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
