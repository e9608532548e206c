"""Where alerts are sent: nowhere by default, to a webhook and by e-mail if .env configures them."""

import os
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


def receiver(configured: dict) -> dict:
    (only,) = configured["receivers"]
    return only


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
