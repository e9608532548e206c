"""Field case E2: the memory limits of containers follow the settings that they belong to."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from settings_shell import ROOT, bash

LIMITS = f"source {ROOT}/infra/docker/memory_limits.sh; ROOT={ROOT};"
DEFAULTS = """REDIS_MAXMEMORY=256mb
REDIS_MEM_LIMIT=352m
API_WORKERS=2
API_MEM_LIMIT=448m
SPARK_EXECUTOR_MEMORY=1g
SPARK_WORKER_MEM_LIMIT=2g
"""


@pytest.mark.parametrize(
    ("setting", "value", "mib"),
    [
        ("REDIS_MAXMEMORY", "256mb", "352"),
        ("REDIS_MAXMEMORY", "1GB", "1312"),
        ("REDIS_MAXMEMORY", "1g", "1224"),
        ("REDIS_MAXMEMORY", "268435456", "352"),
        ("REDIS_MAXMEMORY", "0", ""),
        ("REDIS_MAXMEMORY", "256", ""),
        ("REDIS_MAXMEMORY", "much", ""),
        ("REDIS_MAXMEMORY", "1.5gb", ""),
        ("API_WORKERS", "1", "288"),
        ("API_WORKERS", "6", "1408"),
        ("API_WORKERS", "0", ""),
        ("API_WORKERS", "65", ""),
        ("API_WORKERS", "two", ""),
        ("SPARK_EXECUTOR_MEMORY", "1g", "1664"),
        ("SPARK_EXECUTOR_MEMORY", "8192m", "9267"),
        ("SPARK_EXECUTOR_MEMORY", "", ""),
    ],
)
def test_what_a_setting_needs(tmp_path: Path, setting: str, value: str, mib: str) -> None:
    assert bash(f"{LIMITS} mib_needed {setting} '{value}'", tmp_path).strip() == mib


def test_limits_follow_settings(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text(DEFAULTS.replace("=256mb", "=1gb").replace("=2\n", "=6\n"))
    env.chmod(0o600)
    script = f"{LIMITS} ROOT={tmp_path}; raise_memory_limits .env"
    # The script reads the API's figures from the checkout.
    (tmp_path / "phase4-ml").symlink_to(ROOT / "phase4-ml")
    said = bash(script, tmp_path).splitlines()
    assert said == [
        "say: REDIS_MEM_LIMIT is now 1312m in .env: REDIS_MAXMEMORY=1gb needs it",
        "say: API_MEM_LIMIT is now 1408m in .env: API_WORKERS=6 needs it",
    ]
    assert bash('echo "$(env_value REDIS_MEM_LIMIT) $(env_value API_MEM_LIMIT)"', tmp_path) == "1312m 1408m\n"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert bash(script, tmp_path) == ""


def test_a_higher_limit_is_a_choice(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(DEFAULTS.replace("352m", "2g"))
    assert bash(f"{LIMITS} raise_memory_limits .env; memory_complaints", tmp_path) == ""
    assert bash("env_value REDIS_MEM_LIMIT", tmp_path) == "2g"


def test_the_defaults_fit_each_other() -> None:
    assert bash(f"{LIMITS} memory_complaints", ROOT) == ""


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"REDIS_MAXMEMORY": "1gb"}, "REDIS_MAXMEMORY=1gb needs 1312 MiB, and REDIS_MEM_LIMIT has 352; set REDIS_MEM"),
        ({"API_WORKERS": "6"}, "API_WORKERS=6 needs 1408 MiB, and API_MEM_LIMIT has 512; set API_MEM_LIMIT=1408m"),
        ({"SPARK_EXECUTOR_MEMORY": "2g"}, "needs 2688 MiB, and SPARK_WORKER_MEM_LIMIT has 2048"),
        ({"REDIS_MAXMEMORY": "256"}, "REDIS_MAXMEMORY=256 is not a size of 16mb or more, such as 256mb or 1gb"),
        ({"REDIS_MEM_LIMIT": "some"}, "REDIS_MEM_LIMIT=some is not a size such as 352m"),
    ],
)
def test_doctor_says_what_does_not_fit(tmp_path: Path, change: dict[str, str], complaint: str) -> None:
    (tmp_path / ".env").write_text(DEFAULTS)
    (line,) = bash(f"{LIMITS} memory_complaints", tmp_path, **change).splitlines()
    assert complaint in line


def start_redis(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The start of the container, with a redis-server that prints its settings."""
    server = folder / "redis-server"
    server.write_text("#!/bin/sh\ncat\n")
    server.chmod(0o755)
    return subprocess.run(
        ["bash", ROOT / "infra/redis/start-redis"],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "REDIS_PASSWORD": 'p"w'} | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_redis_evicts_nothing(tmp_path: Path) -> None:
    """Field case E3."""
    configured = start_redis(tmp_path, REDIS_MAXMEMORY="64mb").stdout.splitlines()
    assert {"maxmemory 64mb", "maxmemory-policy noeviction", 'requirepass "p\\"w"'} <= set(configured)


@pytest.mark.parametrize("size", ["256", "0", "lots"])
def test_redis_refuses_a_size_that_is_none(tmp_path: Path, size: str) -> None:
    done = start_redis(tmp_path, REDIS_MAXMEMORY=size)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: REDIS_MAXMEMORY={size} is no size of 16mb or more" in done.stderr
