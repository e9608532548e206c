"""How a start chooses services, images and ports."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMON = "source infra/docker/common.sh"
# What Compose prints, shortened.
CONFIG = """name: fraud-platform
services:
  kafka:
    build:
      context: /repo
    image: fraud-platform/kafka:local
  kafka-ui:
    depends_on:
      kafka:
        condition: service_healthy
    image: kafbat/kafka-ui:v1.3.0
  minio:
    image: fraud-platform/minio:local
    build:
      context: /repo
  scorer:
    build:
      context: /repo
    environment:
      image: none
    image: fraud-platform/fraud-api:local
  fraud-api:
    build:
      context: /repo
    image: fraud-platform/fraud-api:local
networks:
  kafka:
    image: none
"""
DOCKER = f"docker() {{ cat <<'YAML'\n{CONFIG}YAML\n}}"


def bash(script: str, **environment: str) -> str:
    """The output of a script that runs in the checkout; without its .env, since that differs between machines."""
    environment = {"PATH": os.environ["PATH"], "IMAGE_REGISTRY": "fraud-platform"} | environment
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; cd {ROOT}; {script}"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def phases() -> dict[str, list[str]]:
    """The services of each phase, from the Makefile."""
    listed: dict[str, list[str]] = {}
    for name, services in re.findall(r"^(PHASE\d) := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE):
        before, _, more = services.rpartition(") ")
        listed[name] = listed.get(before.removeprefix("$("), []) + more.split()
    return listed


def published_ports() -> set[str]:
    names = (line.partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines())
    # dbt's documentation is served by a command, not by a service.
    return {name for name in names if name.endswith("_PORT")} - {"DBT_DOCS_PORT"}


def test_common_functions_have_no_output() -> None:
    assert bash(COMMON) == ""


def test_what_shows_results_starts_last() -> None:
    steps = f"{COMMON}; source infra/scripts/up_steps.sh; services=(kafka scorer trino superset fraud-api prometheus)"
    assert bash(f"{steps}; split_services first").split() == ["kafka", "trino", "fraud-api"]
    assert bash(f"{steps}; split_services last").split() == ["scorer", "superset", "prometheus"]


@pytest.mark.parametrize("phase", ["PHASE1", "PHASE2", "PHASE3", "PHASE4", "PHASE5"])
def test_every_service_of_a_phase_is_started_once(phase: str) -> None:
    services = phases()[phase]
    steps = f"{COMMON}; source infra/scripts/up_steps.sh; services=({' '.join(services)})"
    started = bash(f"{steps}; split_services first; split_services last").split()
    assert sorted(started) == sorted(set(services))
    optional = ["kafka-ui", "grafana"] if phase == "PHASE5" else ["kafka-ui"]
    assert bash(f"{steps}; optional_services").split() == optional


def test_a_step_that_took_long_is_in_the_last_line() -> None:
    steps = f"{COMMON}; source infra/scripts/up_steps.sh; step quick true; SECONDS=0; step slow eval SECONDS=125"
    assert bash(f'{steps}; echo "${{took[*]}}"') == "slow 2 min 5 s\n"


def test_an_image_is_built_once_and_pulled_ones_never() -> None:
    images = f"source infra/docker/compose_file.sh; {DOCKER}; one_per_image kafka kafka-ui scorer fraud-api"
    assert bash(images).splitlines() == ["kafka fraud-platform/kafka:local", "scorer fraud-platform/fraud-api:local"]


def test_the_image_of_a_service_is_not_that_of_its_dependency() -> None:
    images = f"source infra/docker/compose_file.sh; {DOCKER}; images_of kafka-ui minio"
    assert bash(images).splitlines() == [
        "kafka-ui kafbat/kafka-ui:v1.3.0 pulled",
        "minio fraud-platform/minio:local built",
    ]


def test_images_are_named_as_in_docker_compose_yml() -> None:
    assert bash(f"{COMMON}; image kafka") == "fraud-platform/kafka:local"
    assert (
        bash(f"{COMMON}; image kafka", IMAGE_REGISTRY="localhost:5000/x", IMAGE_TAG="1") == "localhost:5000/x/kafka:1"
    )


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
    assert set(bash(f"source infra/docker/compose_file.sh; ports_of {services}").split()) == ports


def test_without_services_all_ports() -> None:
    assert set(bash("source infra/docker/compose_file.sh; ports_of").split()) == published_ports()


def test_a_proxy_becomes_arguments_of_a_build() -> None:
    """Field case H9."""
    images = "source infra/docker/images.sh; proxy_build_arguments"
    assert bash(images) == ""
    assert bash(images, HTTPS_PROXY="http://p:3128", no_proxy="a,b").splitlines() == [
        "--build-arg",
        "HTTPS_PROXY=http://p:3128",
        "--build-arg",
        "no_proxy=a,b",
    ]


def test_no_service_is_asked_for_through_a_proxy() -> None:
    """Field case H9."""
    compose = (ROOT / "docker-compose.yml").read_text().partition("\nservices:\n")[2]
    services = set(re.findall(r"^  ([a-z0-9-]+):$", compose, re.MULTILINE))
    lines = (ROOT / "infra/docker/no_proxy.env").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert set(values) == {"NO_PROXY", "no_proxy"}
    for value in values.values():
        assert services <= set(value.split(","))


@pytest.mark.parametrize(
    ("host", "socket"),
    [("unix:///run/user/1000/docker.sock", "/run/user/1000/docker.sock"), ("", "/var/run/docker.sock")],
)
def test_the_engine_socket_is_where_the_engine_is(host: str, socket: str) -> None:
    """Field case H5."""
    assert bash(f"{COMMON}; docker() {{ return 1; }}; docker_socket", DOCKER_HOST=host) == socket


def test_the_disk_of_an_engine_elsewhere_is_not_measured_here() -> None:
    """Field case H5."""
    script = f"{COMMON}; docker() {{ echo /; }}; docker_disk_gib"
    assert bash(script, DOCKER_HOST="ssh://elsewhere") == ""
    assert int(bash(script, DOCKER_HOST="unix:///var/run/docker.sock")) >= 0
