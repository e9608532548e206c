"""Phase 5 on the stack as a user has it: everything is scraped, and alerts fire and clear."""

import time
from typing import Any

import httpx2
from stack import service, wait_until

PROMETHEUS = "http://prometheus:9090"
ALERTMANAGER = "http://alertmanager:9093"


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


def test_everything_is_scraped() -> None:
    wait_until(lambda: set(targets().values()) == {"up"}, f"all targets up: {targets()}", 180)
    assert len(targets()) == 18
    print(f"| targets | {len(targets())} up |")


def test_dead_letters_raise_an_alert() -> None:
    """This stack's producer sends bad messages all the time."""
    wait_until(lambda: "DeadLetters" in firing(), "the alert on dead letters fires", 300)


def test_the_api_stopped_raises_an_alert_that_clears() -> None:
    wait_until(lambda: "ApiDown" not in firing(), "the API is up", 120)
    service("fraud-api").stop(timeout=30)
    stopped = time.monotonic()
    wait_until(lambda: "ApiDown" in firing(), "the alert fires", 180)
    fired = time.monotonic()
    service("fraud-api").start()
    wait_until(lambda: "ApiDown" not in firing(), "the alert clears", 180)
    print(f"| ApiDown | fires after {fired - stopped:.0f} s | clears after {time.monotonic() - fired:.0f} s |")
