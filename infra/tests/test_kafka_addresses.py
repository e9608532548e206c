"""Kafka's address and the retention of offsets: what the broker's properties say, and what make doctor says."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def properties(**settings: str) -> dict[str, str]:
    """The broker's properties for these settings."""
    done = subprocess.run(
        ["bash", ROOT / "infra/kafka/bin/start-broker", "--print"],
        env={"PATH": os.environ["PATH"]} | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "localhost:9092"),
        ({"KAFKA_ADVERTISED_HOST": ""}, "localhost:9092"),
        ({"KAFKA_ADVERTISED_HOST": "kafka.example.com", "KAFKA_PORT": "19092"}, "kafka.example.com:19092"),
        ({"KAFKA_ADVERTISED_HOST": "10.0.0.7"}, "10.0.0.7:9092"),
        ({"KAFKA_ADVERTISED_HOST": "fd00::7"}, "[fd00::7]:9092"),
        ({"KAFKA_ADVERTISED_HOST": "[fd00::7]"}, "[fd00::7]:9092"),
    ],
)
def test_clients_outside_the_stack_get_the_advertised_host(settings: dict[str, str], address: str) -> None:
    """G2: services of the stack keep theirs."""
    assert properties(**settings)["advertised.listeners"] == f"INTERNAL://kafka:29092,EXTERNAL://{address}"


@pytest.mark.parametrize("hours", ["1", "168", "720", "2000", "999999999", "-1"])
def test_offsets_outlive_messages(hours: str) -> None:
    """I4: dead letters are kept for 30 days, other messages for KAFKA_RETENTION_HOURS; -1 is for ever."""
    minutes = int(properties(KAFKA_RETENTION_HOURS=hours)["offsets.retention.minutes"])
    most = 2**31 - 1
    assert 30 * 24 * 60 < minutes <= most
    assert minutes == most if hours in ("-1", "999999999") else minutes > int(hours) * 60


def complaint(folder: Path, bind: str, advertised: str | None) -> str:
    """What make doctor says about these two settings in .env."""
    host = "" if advertised is None else f"KAFKA_ADVERTISED_HOST={advertised}\n"
    (folder / ".env").write_text(f"BIND_ADDRESS={bind}\n{host}")
    script = f"""
        set -euo pipefail
        ROOT={folder}
        source {ROOT}/infra/docker/settings.sh
        source {ROOT}/infra/scripts/reachable.sh
        kafka_address_complaint
    """
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("bind", "advertised", "says"),
    [
        ("127.0.0.1", "localhost", ""),
        ("127.0.0.1", None, ""),
        ("127.0.0.1", "127.0.0.1", ""),
        ("0.0.0.0", "10.0.0.7", ""),
        ("10.0.0.7", "kafka.example.com", ""),
        ("0.0.0.0", "localhost", "BIND_ADDRESS=0.0.0.0 lets other machines in, but Kafka sends them to"),
        ("10.0.0.7", None, "KAFKA_ADVERTISED_HOST=localhost, which is themselves; set it in .env"),
        ("10.0.0.7", "127.0.1.1", "KAFKA_ADVERTISED_HOST=127.0.1.1, which is themselves"),
        ("127.0.0.1", "10.0.0.7", "BIND_ADDRESS=127.0.0.1 listens on this machine only"),
    ],
)
def test_doctor_says_when_the_addresses_do_not_fit(
    tmp_path: Path, bind: str, advertised: str | None, says: str
) -> None:
    """G2."""
    said = complaint(tmp_path, bind, advertised)
    assert says in said
    assert bool(says) == bool(said)


def test_compose_gives_the_setting_to_the_broker() -> None:
    """G2: by the file, since Compose is not where the unit tests are."""
    compose = (ROOT / "docker-compose.yml").read_text()
    assert "KAFKA_ADVERTISED_HOST: ${KAFKA_ADVERTISED_HOST}" in compose
    assert "KAFKA_ADVERTISED_HOST=localhost" in (ROOT / ".env.example").read_text().splitlines()
