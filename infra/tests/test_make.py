"""Field case D12: what a person passes to make reaches the program as it is. Nothing expands it, no shell runs it."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Writes its arguments and its environment; `docker context` and the like get an empty answer.
FAKE_DOCKER = """#!/usr/bin/env python3
import json, os, sys
if "run" in sys.argv or "exec" in sys.argv:
    with open(os.environ["RECORD"], "w") as record:
        json.dump({"arguments": sys.argv[1:], "environment": dict(os.environ)}, record)
"""
UGLY = [
    "merchant_name=O'Brien",
    'city="Cork"',
    "a;id",
    "$(touch $RECORD.ran) `touch $RECORD.ran` $HOME $$ ${HOME}",
    "two\nlines",
    "#hash: and %s * ? [a] ~ ! \\ & | < > (b)",
    "--help",
    "Łódź, naïve",
]


class Called:
    """What docker was called with."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.arguments = arguments
        self._environment = environment

    def given(self, name: str) -> str | None:
        """The value of a variable in the container, if `--env NAME` passes it."""
        passed = [value for option, value in zip(self.arguments, self.arguments[1:], strict=False) if option == "--env"]
        return self._environment.get(name) if name in passed else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(FAKE_DOCKER)
    docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def make(folder: Path, target: str, *arguments: str, **environment: str) -> Called:
    """Run a target with the fake docker."""
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    record = folder / "record.json"
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), target, *arguments],
        env={"PATH": path, "HOME": str(folder), "RECORD": str(record)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Called(**json.loads(record.read_text()))


@pytest.mark.parametrize("text", UGLY)
@pytest.mark.parametrize("name", ["SET", "REASON", "STAGE", "OFFSET"])
def test_a_redrives_arguments_are_not_interpreted(folder: Path, name: str, text: str) -> None:
    on_the_command_line = make(folder, "dlq-redrive", f"{name}={text}", "GO=1")
    in_the_environment = make(folder, "dlq-redrive", **{name: text, "GO": "1"})
    for called in (on_the_command_line, in_the_environment):
        assert called.given(name) == text
        assert called.given("GO") == "1"
        assert called.arguments[-3:] == ["ingestion-init", "ingestion", "dlq-redrive"]
    assert not (folder / "record.json.ran").exists()


def test_only_what_is_given_is_passed_on(folder: Path) -> None:
    called = make(folder, "dlq-show")
    assert "--env" not in called.arguments
    assert make(folder, "dlq-show", "LAST=3").given("LAST") == "3"
    assert make(folder, "dlq-redrive", "OFFSET=2-1", "FORCE=1").given("FORCE") == "1"


@pytest.mark.parametrize("text", UGLY)
def test_other_commands_pass_one_argument_as_it_is(folder: Path, text: str) -> None:
    assert text in make(folder, "dbt-run", f"SELECT={text}").arguments
    assert text in make(folder, "redis-features", f"USER_ID={text}").arguments
    assert f"--when={text}" in make(folder, "rules-backtest", f"WHEN={text}").arguments
    assert not (folder / "record.json.ran").exists()
