"""How a start chooses services, images and ports."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bash(script: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; cd {ROOT}; {script}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_what_shows_results_starts_last() -> None:
    steps = "source infra/scripts/up_steps.sh; services=(kafka scorer trino superset fraud-api prometheus)"
    assert bash(f"{steps}; split_services first") == ["kafka", "trino", "fraud-api"]
    assert bash(f"{steps}; split_services last") == ["scorer", "superset", "prometheus"]


def test_a_step_that_took_long_is_in_the_last_line() -> None:
    steps = "source infra/scripts/up_steps.sh; step quick true; SECONDS=0; step slow eval SECONDS=125"
    assert " ".join(bash(f"{steps}; echo ${{took[*]}}")) == "slow 2 min 5 s"


@pytest.mark.parametrize(
    ("services", "ports"),
    [
        ("kafka schema-registry", {"KAFKA_PORT", "SCHEMA_REGISTRY_PORT"}),
        ("minio", {"MINIO_PORT", "MINIO_CONSOLE_PORT"}),
        ("redis", set()),
    ],
)
def test_only_ports_of_the_services_asked_for(services: str, ports: set[str]) -> None:
    """Field case H7."""
    doctor = "sed -n '/^ports_of()/,/^}/p' infra/scripts/doctor.sh"
    assert set(bash(f'eval "$({doctor})"; ports_of {services}')) == ports


def test_without_services_all_ports() -> None:
    doctor = "sed -n '/^ports_of()/,/^}/p' infra/scripts/doctor.sh"
    found = set(bash(f'eval "$({doctor})"; ports_of'))
    example = (ROOT / ".env.example").read_text().splitlines()
    published = {line.partition("=")[0] for line in example if line.partition("=")[0].endswith("_PORT")}
    # dbt's documentation is served by a command, not by a service.
    assert found == published - {"DBT_DOCS_PORT"}


def test_a_proxy_becomes_arguments_of_a_build() -> None:
    images = "source infra/docker/images.sh"
    assert (
        bash(f"unset HTTPS_PROXY https_proxy HTTP_PROXY http_proxy NO_PROXY no_proxy; {images}; proxy_build_arguments")
        == []
    )
    assert bash(f"export HTTPS_PROXY=http://p:3128; {images}; proxy_build_arguments")[:2] == [
        "--build-arg",
        "HTTPS_PROXY=http://p:3128",
    ]
