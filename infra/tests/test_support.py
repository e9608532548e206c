"""What make support collects, and that no secret leaves with it.

The script runs in a copy of the checkout, with a `docker` that prints every secret in every form that logs have.
"""

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest
from settings_shell import bash

ROOT = Path(__file__).parents[2]
# One of each kind that breaks naive replacements: characters of patterns, of JSON, of URLs; one within another.
SECRETS = {
    "API_KEY": "k.y*[a]\\d+$HOME&x",
    "REDIS_PASSWORD": 'quo"te\\back/slash@host:6379?#%',
    "FRAUD_DB_PASSWORD": "Pässwörd-mit-Umlaut",
    "MLFLOW_DB_PASSWORD": "abcd",
    "SUPERSET_DB_PASSWORD": "abcdefghijkl",
    "GRAFANA_ADMIN_PASSWORD": "[API_KEY]x",
    "ALERT_WEBHOOK_URL": "https://hooks.example.com/services/T000/B000/XXXX",
    "ALERT_EMAIL_TO": "ann@example.com",
    "AIRFLOW_FERNET_KEY": "first line of a key\nsecond line of a key",
    "A_SETTING_OF_THEIR_OWN": "of their own, unknown here",
}
FAKE_DOCKER = """#!/usr/bin/env bash
case "$*" in
"compose ps --all --format {{.Name}}") printf '%s\\n' kafka fraud-api ;;
*"label/job/values"*) echo '{"status":"success","data":["fraud-api","kafka"]}' ;;
"compose config"*) exit 1 ;;
*) cat "$SAID" ;;
esac
"""


def plain_forms(value: str) -> list[str]:
    """A value as it may be in a log, other than in base64."""
    found = [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(value), quote(value, safe="")]
    return [*value.split("\n"), *found]


def in_base64(value: str) -> list[str]:
    """A login as in a header: the value begins at each place of a group of three bytes."""
    return [base64.b64encode(f"{user}:{value}@there".encode()).decode() for user in ("u", "us", "use")]


def decoded(text: str) -> list[bytes]:
    """What every run of base64 in a text says, from each of its first four characters on."""
    runs = re.findall(r"[A-Za-z0-9+/]{4,}", text)
    return [base64.b64decode(run[i : i + (len(run) - i) // 4 * 4]) for run in set(runs) for i in range(4)]


def lines_with_secrets() -> str:
    logged = [
        f"before {form}, twice {form} after"
        for value in SECRETS.values()
        for form in (*plain_forms(value), *in_base64(value))
    ]
    return "\n".join([*logged, "an innocent line"]) + "\n"


def new_checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "infra", folder / "infra")
    for name in (".env.example", "docker-compose.yml"):
        shutil.copy(ROOT / name, folder / name)
    quoted = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") for name, value in SECRETS.items()
    }
    (folder / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in quoted.items()))
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(FAKE_DOCKER)
    docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "said").write_text(lines_with_secrets())
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return new_checkout(tmp_path)


def support(checkout: Path) -> subprocess.CompletedProcess[str]:
    path = f"{checkout.parent / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["infra/scripts/support.sh"],
        cwd=checkout,
        env={"PATH": path, "HOME": str(checkout.parent), "SAID": str(checkout.parent / "said"), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of the archive, by name."""
    tmp_path = tmp_path_factory.mktemp("support")
    checkout = new_checkout(tmp_path)
    done = support(checkout)
    assert done.returncode == 0, done.stderr
    (archive,) = (checkout / "reports").glob("support-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    (folder,) = (tmp_path / "out").iterdir()
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_no_secret_is_in_the_archive_in_any_form(collected: dict[str, str]) -> None:
    assert "before" in collected["logs/kafka.log"]
    everything = "\n".join(collected.values())
    logins = decoded(everything)
    for value in SECRETS.values():
        for form in plain_forms(value):
            assert form not in everything
        assert not [login for login in logins if value.encode() in login], value


def test_the_test_finds_secrets_in_base64() -> None:
    for value in SECRETS.values():
        for form in in_base64(value):
            assert any(value.encode() in each for each in decoded(f"Basic {form} {value}")), form


def test_the_rest_of_a_line_stays(collected: dict[str, str]) -> None:
    log = collected["logs/fraud-api.log"]
    assert "before [API_KEY], twice [API_KEY] after" in log
    assert "before [ALERT_WEBHOOK_URL], twice [ALERT_WEBHOOK_URL] after" in log
    assert "an innocent line" in log


def test_settings_are_there_without_their_secrets(collected: dict[str, str]) -> None:
    settings = dict(line.split("=", 1) for line in collected["settings.txt"].splitlines())
    assert settings["PRODUCER_TPS"] == "100"
    assert settings["MINIO_ROOT_PASSWORD"] == "(hidden; the default)"
    assert settings["SUPERSET_DB_PASSWORD"] == "(hidden; 12 characters)"
    assert settings["ALERT_SMTP_PASSWORD"] == ""


def test_versions_states_logs_and_metrics_are_there(collected: dict[str, str]) -> None:
    assert "kafka 4." in collected["versions.txt"]
    wanted = {"services.txt", "containers.txt", "health.txt", "lag.txt", "logs/kafka.log", "metrics/kafka.json"}
    assert wanted <= collected.keys()


def test_a_secret_that_can_not_be_hidden_is_refused(checkout: Path) -> None:
    (checkout / ".env").write_text("API_KEY=abc\n")
    done = support(checkout)
    assert done.returncode == 1
    assert "API_KEY has fewer than 4 characters" in done.stderr
    assert not list((checkout / "reports").glob("support-*"))


def test_each_of_several_keys_is_hidden(tmp_path: Path) -> None:
    """A request has one of them."""
    (tmp_path / ".env.example").write_text("API_KEY=\nREDIS_PASSWORD=\nRULES_KEYS=\n")
    (tmp_path / ".env").write_text(
        "API_KEY=the-new-one, the-old-one,x\nREDIS_PASSWORD=one,with a comma\n"
        "RULES_KEYS=ada:author:key:of-ada, ben:admin:key-of-ben\n"
    )
    script = f"source {ROOT}/infra/scripts/hide_secrets.sh; read_values; secret_values"
    hidden = {tuple(line.split("\t")) for line in bash(script, tmp_path).splitlines()}
    assert hidden == {
        ("API_KEY", "the-new-one, the-old-one,x"),
        ("API_KEY", "the-new-one"),
        ("API_KEY", "the-old-one"),
        ("REDIS_PASSWORD", "one,with a comma"),
        ("RULES_KEYS", "ada:author:key:of-ada, ben:admin:key-of-ben"),
        ("RULES_KEYS", "key:of-ada"),
        ("RULES_KEYS", "key-of-ben"),
    }


def test_what_does_not_answer_is_said(checkout: Path) -> None:
    (checkout.parent / "bin/docker").write_text("#!/usr/bin/env bash\necho the engine is down >&2\nexit 1\n")
    done = support(checkout)
    assert done.returncode == 0, done.stderr
    (archive,) = (checkout / "reports").glob("support-*.tar.gz")
    with tarfile.open(archive) as tar:
        (missing,) = (each for each in tar.getnames() if each.endswith("missing.txt"))
        text = tar.extractfile(missing).read().decode()  # type: ignore[union-attr]
    assert "the engine is down" in text
