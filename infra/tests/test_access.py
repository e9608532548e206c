"""Who reaches the stack: default passwords are refused once other machines get in, and TLS has all that it needs."""

import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = "\n".join(
    f"{name}=an-own-{name.lower()}"
    for name in re.findall(
        r"^([A-Z][A-Z0-9_]*(?:_PASSWORD|_SECRET|_KEY))=", (ROOT / ".env.example").read_text(), re.MULTILINE
    )
)


def run(function: str, root: Path, env: str = "") -> str:
    """The output of a function of reachable.sh, for a checkout with the real .env.example and this .env."""
    (root / ".env.example").write_text((ROOT / ".env.example").read_text())
    (root / ".env").write_text(env)
    script = f"""
        set -euo pipefail
        ROOT={root}
        source {ROOT}/infra/docker/settings.sh
        source {ROOT}/infra/scripts/reachable.sh
        cd {root}
        {function}
    """
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.2"])
def test_this_machine_only(tmp_path: Path, address: str) -> None:
    assert run("open_settings", tmp_path, f"BIND_ADDRESS={address}\nNO_LOGIN_BIND_ADDRESS={address}\n") == ""


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "", "10.0.0.7", "fd00::7", "192.168.1.20"])
def test_other_machines_get_in(tmp_path: Path, address: str) -> None:
    """An empty address is every address."""
    assert run("open_settings", tmp_path, f"BIND_ADDRESS={address}\n") == f"BIND_ADDRESS={address}\n"
    no_login = f"NO_LOGIN_BIND_ADDRESS={address}\n"
    assert run("open_settings", tmp_path, no_login) == no_login


@pytest.mark.parametrize("address", ["", "127.0.0.1", "0.0.0.0", "10.20.130.255", "[::1]", "[::]", "[fd00::7]"])
def test_addresses_that_docker_takes(tmp_path: Path, address: str) -> None:
    assert run("bind_complaints", tmp_path, f"BIND_ADDRESS={address}\n") == ""


@pytest.mark.parametrize("address", ["localhost", "my-host", "::1", "fd00::7", "10.0.0.999", "127.1", "10.0.0.7:80"])
def test_other_addresses_are_named_with_their_setting(tmp_path: Path, address: str) -> None:
    for name in ("BIND_ADDRESS", "NO_LOGIN_BIND_ADDRESS"):
        assert run("bind_complaints", tmp_path, f"{name}={address}\n").startswith(f"{name}={address} is not an address")


def test_every_default_of_the_example_is_named(tmp_path: Path) -> None:
    """Field case G2."""
    said = run("weak_secrets", tmp_path).splitlines()
    assert "MINIO_ROOT_PASSWORD is the default of .env.example" in said
    assert "GRAFANA_ADMIN_PASSWORD is the default of .env.example" in said
    assert "REDIS_PASSWORD is the default of .env.example" in said
    assert "API_KEY is empty" in said
    named = {line.split()[0] for line in said}
    example = (ROOT / ".env.example").read_text()
    defaults = set(re.findall(r"^([A-Z0-9_]+)=(?:insecure-dev-default|.*admin\d*)$", example, re.MULTILINE))
    assert len(defaults) > 15
    assert {name for name in defaults if not name.endswith("_USER")} < named


def test_own_secrets_are_fine(tmp_path: Path) -> None:
    assert run("weak_secrets", tmp_path, OWN) == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("MINIO_ROOT_PASSWORD=minioadmin123", "MINIO_ROOT_PASSWORD is the default of .env.example"),
        ("export MINIO_ROOT_PASSWORD='minioadmin123' # mine", "MINIO_ROOT_PASSWORD is the default of .env.example"),
        ("MINIO_ROOT_PASSWORD=", "MINIO_ROOT_PASSWORD is empty"),
        ("MINIO_ROOT_PASSWORD=minioadmin", "MINIO_ROOT_PASSWORD is the name of its user"),
        ("SUPERSET_ADMIN_PASSWORD=short", "SUPERSET_ADMIN_PASSWORD has fewer than 8 characters"),
        ("REDIS_PASSWORD=insecure-dev-default", "REDIS_PASSWORD is the default of .env.example"),
        ("AIRFLOW_FERNET_KEY=insecure-dev-default", "AIRFLOW_FERNET_KEY is the default of .env.example"),
        ("API_KEY=", "API_KEY is empty"),
        ("API_KEY=' , '", "API_KEY is empty"),
        ("API_KEY=a-long-key,short", "API_KEY has fewer than 8 characters"),
        ("API_KEY=a-long-key,another-one", ""),
        ("ALERT_SMTP_PASSWORD=", ""),
        ("TLS_KEY=", ""),
    ],
)
def test_what_others_know_or_guess_is_refused(tmp_path: Path, line: str, says: str) -> None:
    said = run("weak_secrets", tmp_path, f"{OWN}\n{line}\n")
    assert said == (f"{says}\n" if says else "")
    assert "minioadmin" not in said


@pytest.mark.parametrize(
    ("address", "host"),
    [("0.0.0.0", "localhost"), ("127.0.0.1", "localhost"), ("10.0.0.7", "10.0.0.7"), ("fd00::7", "[fd00::7]")],
)
def test_addresses_are_where_the_ports_listen(tmp_path: Path, address: str, host: str) -> None:
    assert run("api_url", tmp_path, f"BIND_ADDRESS={address}\n") == f"http://{host}:8000"
    tls = "TLS_CERTIFICATE=a.pem\nTLS_KEY=b.pem\n"
    assert run("api_url", tmp_path, f"BIND_ADDRESS={address}\n{tls}") == f"https://{host}:8443"


def test_make_doctor_refuses_an_open_stack_with_defaults(tmp_path: Path) -> None:
    """Field case G2: by exit code, and so does `make up`, which asks it."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)

    def doctor(**settings: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | settings
        script = [ROOT / "infra/scripts/doctor.sh", "redis"]
        return subprocess.run(script, env=environment, capture_output=True, text=True, check=False)

    own = dict(line.split("=") for line in OWN.splitlines() if not line.startswith("TLS_"))
    assert "secrets" not in doctor(**own, BIND_ADDRESS="0.0.0.0").stdout
    refused = doctor(**own | {"SUPERSET_ADMIN_PASSWORD": "admin123"}, BIND_ADDRESS="0.0.0.0")
    assert refused.returncode == 1
    assert "SUPERSET_ADMIN_PASSWORD is the default of .env.example, and BIND_ADDRESS=0.0.0.0 lets" in refused.stdout
    assert "secrets" not in doctor(SUPERSET_ADMIN_PASSWORD="admin123").stdout
    up_steps = (ROOT / "infra/scripts/up_steps.sh").read_text()
    assert "infra/scripts/doctor.sh" in up_steps


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("", ""),
        ("TLS_CERTIFICATE=a.pem\nTLS_KEY=a.pem\n", ""),
        ("TLS_CERTIFICATE=a.pem\n", "TLS_CERTIFICATE is set, but TLS_KEY is not; set both in .env, or none\n"),
        ("TLS_KEY=a.pem\n", "TLS_KEY is set, but TLS_CERTIFICATE is not; set both in .env, or none\n"),
        ("TLS_CERTIFICATE=a.pem\nTLS_KEY=b.pem\n", "TLS_KEY=b.pem: there is no such file; correct it in .env\n"),
    ],
)
def test_tls_has_two_files(tmp_path: Path, env: str, says: str) -> None:
    (tmp_path / "a.pem").touch()
    assert run("tls_complaint", tmp_path, env) == says


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three certificates with their keys: of a year, for a week, and one that has expired."""
    folder = tmp_path_factory.mktemp("pairs")
    now = datetime.now(UTC)
    for name, days in (("year", 365), ("week", 7), ("expired", -1)):
        begin, end = (f"{moment:%Y%m%d%H%M%SZ}" for moment in (now - timedelta(days=30), now + timedelta(days=days)))
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", folder / "request")
        dates = ["-not_before", begin, "-not_after", end]
        openssl("x509", "-req", "-in", folder / "request", "-signkey", key, *dates, "-out", certificate)
    openssl("pkey", "-in", folder / "year.key", "-aes256", "-passout", "pass:secret", "-out", folder / "locked.key")
    (folder / "empty.pem").touch()
    return folder


@pytest.mark.parametrize(
    ("certificate", "key", "says"),
    [
        ("year.pem", "year.key", ""),
        ("week.pem", "week.key", "warning: TLS_CERTIFICATE expires soon: notAfter="),
        ("expired.pem", "expired.key", "error: TLS_CERTIFICATE has expired: notAfter="),
        ("year.pem", "week.key", "error: TLS_KEY is not the key of the first certificate"),
        ("year.key", "year.key", "error: TLS_CERTIFICATE: the file does not begin with a certificate"),
        ("year.pem", "year.pem", "error: TLS_KEY: the file has no private key"),
        ("year.pem", "locked.key", "error: TLS_KEY: the file has no private key in PEM form, or a passphrase"),
        ("year.pem", "empty.pem", "error: TLS_KEY: the file is empty"),
        ("year.pem", "none.key", "error: TLS_KEY: user "),
    ],
)
def test_certificate_and_key_are_checked_before_the_start(
    pairs: Path, tmp_path: Path, certificate: str, key: str, says: str
) -> None:
    (tmp_path / "certificate.pem").symlink_to(pairs / certificate)
    (tmp_path / "key.pem").symlink_to(pairs / key)
    start = ["bash", ROOT / "infra/tls-proxy/start-tls-proxy", "--check"]
    environment = {"PATH": os.environ["PATH"], "TLS_FOLDER": str(tmp_path)}
    done = subprocess.run(start, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if says.startswith("error") else 0), done.stderr
    assert done.stderr.startswith(says) and bool(done.stderr) == bool(says), done.stderr
