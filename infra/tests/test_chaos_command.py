"""make chaos touches a stack that runs here only after a yes."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAKE_DOCKER = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
"compose ps --services --status running") printf '%b' "$RUNNING" ;;
*"config --format json") printf '{\\n  "name": "fraud-platform",\\n' ;;
"create"*) echo of-the-test ;;
"network ls"*) echo fraud-platform_serving ;;
esac
"""


class Command:
    """The command in a copy of the checkout, with a docker that records its calls."""

    def __init__(self, folder: Path) -> None:
        self._checkout, self._calls, self._bin = folder / "checkout", folder / "calls", folder / "bin"
        shutil.copytree(ROOT / "infra", self._checkout / "infra")
        for name in (".env.example", "docker-compose.yml"):
            shutil.copy(ROOT / name, self._checkout / name)
        (self._checkout / ".env").write_text("API_INTERNAL_KEY=the key of this stack\n")
        self._bin.mkdir()
        docker = self._bin / "docker"
        docker.write_text(FAKE_DOCKER)
        docker.chmod(docker.stat().st_mode | stat.S_IXUSR)

    def run(self, answer: str = "", running: str = "kafka\\nfraud-api\\n", **environment: str) -> tuple[int, str]:
        """Its exit code and its messages."""
        self._calls.write_text("")
        done = subprocess.run(
            ["infra/scripts/chaos.sh"],
            cwd=self._checkout,
            env={"PATH": f"{self._bin}:{os.environ['PATH']}", "CALLS": str(self._calls), "RUNNING": running}
            | environment,
            input=answer,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    @property
    def created(self) -> list[str]:
        """The calls that create a container: the rounds run in one."""
        return [call for call in self._calls.read_text().splitlines() if call.startswith("create")]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize("answer", ["", "n\n", "\n", "yesterday\n"])
def test_without_a_yes_nothing_is_touched(command: Command, answer: str) -> None:
    code, said = command.run(answer, STACK="running")
    assert code == 1
    assert "nothing was touched" in said
    assert not command.created


def test_after_a_yes_the_rounds_run_on_the_stack_that_is_here(command: Command) -> None:
    code, said = command.run("y\n", STACK="running", ROUNDS="3", SEED="9")
    assert code == 0, said
    assert "of the running project fraud-platform" in said
    (created,) = command.created
    assert "--env STACK_API_KEY=the key of this stack" in created
    assert created.endswith("python3 infra/e2e/chaos.py --rounds 3 --seed 9")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "your stack runs"),
        ({"STACK": "mine"}, "STACK=mine is not one of: own, running"),
        ({"STACK": "running", "ROUNDS": "0"}, "ROUNDS=0"),
        ({"STACK": "running", "SEED": "x"}, "SEED=x"),
    ],
)
def test_what_can_not_be_done_is_said(command: Command, settings: dict[str, str], said: str) -> None:
    code, answer = command.run("y\n", **settings)
    assert code == 1
    assert said in answer
    assert not command.created


def test_there_must_be_a_stack_to_use(command: Command) -> None:
    code, said = command.run("y\n", running="", STACK="running")
    assert code == 1
    assert "no stack runs here" in said
