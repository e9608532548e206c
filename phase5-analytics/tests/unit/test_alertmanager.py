"""Where alerts are sent: nowhere by default, to a webhook and by e-mail if .env configures them."""

import os
import re
import subprocess
from pathlib import Path

import yaml

START = Path(__file__).parents[2] / "prometheus" / "start-alertmanager"


def print_configuration(**settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]} | settings
    return subprocess.run(["bash", START, "--print"], env=environment, capture_output=True, text=True, check=False)


def configuration(folder: Path, **settings: str) -> dict:
    done = print_configuration(**settings)
    assert done.returncode == 0, done.stderr
    file = folder / "alertmanager.yml"
    file.write_text(done.stdout)
    checked = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return yaml.safe_load(done.stdout)


def receiver(configured: dict, name: str = "operators") -> dict:
    (one,) = [each for each in configured["receivers"] if each["name"] == name]
    return one


def receives(folder: Path, *labels: str) -> str:
    """The receiver of an alert with these labels, by Alertmanager's own tool."""
    command = ["amtool", "config", "routes", "test", f"--config.file={folder / 'alertmanager.yml'}", *labels]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_nowhere_by_default(tmp_path: Path) -> None:
    assert receiver(configuration(tmp_path)) == {"name": "operators"}


def test_a_webhook(tmp_path: Path) -> None:
    configured = configuration(tmp_path, ALERT_WEBHOOK_URL="http://hook:8080/a?b=c&d=1")
    assert receiver(configured)["webhook_configs"] == [
        {
            "url": "http://hook:8080/a?b=c&d=1",
            "send_resolved": True,
            # It may be outside, behind the proxy that Docker gives containers.
            "http_config": {"proxy_from_environment": True},
        }
    ]


def test_the_watchdog_goes_to_the_dead_mans_switch_alone(tmp_path: Path) -> None:
    """Field case I6."""
    everywhere = {"ALERT_WEBHOOK_URL": "http://hook:8080/", "ALERT_WATCHDOG_URL": 'http://switch/ping?key="1"'}
    configured = configuration(tmp_path, **everywhere)
    (switch,) = receiver(configured, "watchdog")["webhook_configs"]
    assert switch["url"] == 'http://switch/ping?key="1"'
    # A message that all is well again would count as a sign of life.
    assert switch["send_resolved"] is False
    assert receives(tmp_path, "alertname=Watchdog", "severity=none") == "watchdog"
    assert receives(tmp_path, "alertname=ApiDown", "severity=critical") == "operators"
    (route,) = configured["route"]["routes"]
    assert (route["group_interval"], route["repeat_interval"]) == ("1m", "50s")


def test_without_a_switch_nobody_gets_the_watchdog(tmp_path: Path) -> None:
    configured = configuration(tmp_path, ALERT_WEBHOOK_URL="http://hook:8080/")
    assert receiver(configured, "watchdog") == {"name": "watchdog"}
    assert receives(tmp_path, "alertname=Watchdog") == "watchdog"


def test_inhibited_alerts_exist(tmp_path: Path) -> None:
    rules = yaml.safe_load((START.parent / "rules" / "alerts.yml").read_text())
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    for rule in configuration(tmp_path)["inhibit_rules"]:
        named = re.findall(r"[A-Z]\w+", " ".join(rule["source_matchers"] + rule["target_matchers"]))
        assert len(named) >= 2
        assert set(named) <= names


def test_email_with_a_login(tmp_path: Path) -> None:
    login = {"ALERT_SMTP_USER": "fraud", "ALERT_SMTP_PASSWORD": 'pa"ss\\w: #1'}
    configured = configuration(tmp_path, ALERT_EMAIL_TO="ops@bank", ALERT_SMTP_HOST="mail:587", **login)
    (email,) = receiver(configured)["email_configs"]
    assert (email["to"], email["smarthost"], email["auth_password"]) == ("ops@bank", "mail:587", 'pa"ss\\w: #1')
    assert "require_tls" not in email


def test_email_needs_a_mail_server() -> None:
    done = print_configuration(ALERT_EMAIL_TO="ops@bank")
    assert done.returncode != 0
    assert "ALERT_SMTP_HOST" in done.stderr
