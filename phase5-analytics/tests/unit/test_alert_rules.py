"""Prometheus's configuration and rules are valid, and every alert is tested, described and in the runbook."""

import base64
import hmac
import json
import os
import re
import shutil
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

PHASE = Path(__file__).parents[2]
PROMETHEUS = PHASE / "prometheus"
RUNBOOK = PHASE.parent / "docs" / "runbook.md"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    """With the files that start-prometheus writes: promtool wants to see them."""
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "prometheus.yml"
    text, count = re.subn(r"(_file: )/tmp/([a-z-]+)", rf"\1{tmp_path}/\2", config.read_text())
    assert count == 2
    config.write_text(text)
    for name in ("api-key", "minio-token"):
        (tmp_path / name).touch()
    promtool("check", "config", "--lint=all", "--lint-fatal", config)


def test_the_token_for_minio_is_signed_with_its_users_secret() -> None:
    """Field case G2: the claims are what MinIO checks; that MinIO takes it, a target that is up shows."""
    secret = 'it\'s a "secret" $HOME'
    start = ["bash", PROMETHEUS / "start-prometheus", "--print-token"]
    environment = {"PATH": os.environ["PATH"], "PROMETHEUS_S3_SECRET": secret}
    token = subprocess.run(start, env=environment, capture_output=True, text=True, check=True).stdout
    header, claims, signature = token.split(".")

    def decoded(part: str) -> bytes:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    assert json.loads(decoded(header)) == {"alg": "HS512", "typ": "JWT"}
    said = json.loads(decoded(claims))
    assert (said["iss"], said["sub"]) == ("prometheus", "prometheus")
    assert said["exp"] > time.time() + 365 * 86_400
    expected = hmac.digest(secret.encode(), f"{header}.{claims}".encode(), "sha512")
    assert decoded(signature) == expected


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_and_stay_silent(file: Path) -> None:
    promtool("test", "rules", file)


def test_every_alert_is_tested_both_ways() -> None:
    fires: dict[str, bool] = defaultdict(bool)
    stays_silent: dict[str, bool] = defaultdict(bool)
    for file in TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case["exp_alerts"] else stays_silent)[case["alertname"]] = True
    names = {rule["alert"] for rule in alerts()}
    assert names - set(fires) == set()
    # One is always on.
    assert names - set(stays_silent) == {"Watchdog"}


def test_a_job_that_is_looked_up_by_name_has_an_alert_on_its_absence() -> None:
    """Field case I6: without an address there is no target, and so no `up` that could be 0."""
    configured = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    looked_up = {job["job_name"] for job in configured if "dns_sd_configs" in job}
    assert looked_up
    recorded = yaml.safe_load((PROMETHEUS / "rules" / "recording.yml").read_text())["groups"]
    (missing,) = [rule for group in recorded for rule in group["rules"] if rule["record"] == "job:up:absent"]
    assert set(re.findall(r'job="([\w-]+)"', missing["expr"])) == looked_up


def test_every_test_evaluates_all_groups_in_order() -> None:
    groups = [
        group["name"]
        for name in ("recording", "alerts")
        for group in yaml.safe_load((PROMETHEUS / "rules" / f"{name}.yml").read_text())["groups"]
    ]
    for file in TESTS:
        assert yaml.safe_load(file.read_text())["group_eval_order"] == groups, file.name


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_has_a_severity_a_description_and_a_runbook_entry(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in (("none",) if rule["alert"] == "Watchdog" else ("critical", "warning"))
    assert rule["annotations"]["summary"] and rule["annotations"]["description"]
    headings = re.findall(r"^#+ (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    assert rule["alert"] in headings
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
