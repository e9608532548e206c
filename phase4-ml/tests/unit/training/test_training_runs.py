"""Field case F7: training runs through server and client, all of them real processes; only the model is missing.

The server starts `python -m training.train`, which here is a program that waits until the test lets it end.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fraud_common.memory import Memory, read_memory

# Says what it was given, waits for the file `end`, and ends as that says.
TRAIN = """
import os, signal, sys, time
from pathlib import Path

world = Path(os.environ["WORLD"])
with (world / "starts").open("a") as starts:
    print(*sys.argv[1:], file=starts)
if (world / "stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("days", os.environ.get("TRAINING_DAYS"), "model", os.environ.get("TRAINING_MODEL"))
print("reading examples", os.getpid())
while not (world / "end").exists():
    time.sleep(0.01)
print("the result", file=sys.stderr)
sys.exit(int((world / "end").read_text()))
"""


class Client:
    """A process of the client, whose output is a file."""

    def __init__(self, output: Path, *arguments: str, **settings: str) -> None:
        self._output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "training_runs.client", *arguments],
                env=os.environ | settings,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return self._output.read_text()

    def sees(self, text: str) -> re.Match[str]:
        """Wait until the output has it."""
        return wait_for(lambda: re.search(text, self.output()), f"{text!r} in the output")

    def ends(self, exit_code: int) -> str:
        """Wait for its end; returns the output."""
        assert self.process.wait(30) == exit_code, self.output()
        return self.output()


class World:
    """A server, the program that it starts, and its clients."""

    def __init__(self, folder: Path, processes: ExitStack) -> None:
        self.folder = folder
        self._processes = processes
        (folder / "training").mkdir()
        (folder / "training/__init__.py").touch()
        (folder / "training/train.py").write_text(TRAIN)
        (folder / "training/score_examples.py").write_text("print('scoring')\n" + TRAIN)
        self.start_server(0)

    def start_server(self, port: int) -> None:
        log = self.folder / "log"
        path = f"{self.folder}:{os.environ['PYTHONPATH']}"
        with log.open("w") as file:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "training_runs.server", "--port", str(port)],
                env=os.environ | {"WORLD": str(self.folder), "PYTHONPATH": path, "TRAINING_MODEL": "extra_trees"},
                stderr=file,
            )
        self._processes.callback(end, self.server)
        self.port = wait_for(lambda: _port(log), "the server is ready")

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(f"http://localhost:{self.port}{path}", body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def client(self, *arguments: str, patience: float = 30, **settings: str) -> Client:
        name = f"client-{len(list(self.folder.glob('client-*')))}"
        url = f"http://localhost:{self.port}"
        client = Client(self.folder / name, "--url", url, "--patience", str(patience), *arguments, **settings)
        self._processes.callback(end, client.process)
        return client

    def let_it_end(self, exit_code: int) -> None:
        # Renamed, since the program may look at any moment.
        (self.folder / "ending").write_text(str(exit_code))
        (self.folder / "ending").rename(self.folder / "end")

    def starts(self) -> list[str]:
        """The arguments of every start of the program."""
        return (self.folder / "starts").read_text().splitlines()

    def is_idle(self) -> bool:
        return self.ask("/health") == (200, {"run": None})


def wait_for[T](condition: Callable[[], T], what: str) -> T:
    deadline = time.monotonic() + 30
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.02)
    return result


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


def _port(log: Path) -> int:
    ready = [json.loads(line) for line in log.read_text().splitlines() if '"ready"' in line and line.endswith("}")]
    return ready[0]["port"] if ready else 0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as processes:
        yield World(tmp_path, processes)


def test_lines_come_while_the_run_is_under_way(world: World) -> None:
    client = world.client("--run", "manual__2026-11-27T04:00:00+00:00/a", "--skip-if-too-few")
    client.sees("reading examples")
    assert world.ask("/health") == (200, {"run": "manual__2026-11-27T04:00:00+00:00/a"})
    world.let_it_end(0)
    assert re.search(r"the result\ntook \d s, at most \d+ MiB of memory\n$", client.ends(0))
    assert world.starts() == ["--skip-if-too-few"]
    assert world.is_idle()


def test_settings_of_the_client_apply_to_its_run_alone(world: World) -> None:
    """As in TRAINING_DAYS=90 make ml-train."""
    world.let_it_end(0)
    assert "days 90 model extra_trees\n" in world.client(TRAINING_DAYS="90").ends(0)
    assert "days None model extra_trees\n" in world.client().ends(0)


@pytest.mark.parametrize("exit_code", [2, 99])
def test_the_exit_code_is_that_of_training(world: World, exit_code: int) -> None:
    """99 is "skipped" to Airflow."""
    world.let_it_end(exit_code)
    output = world.client().ends(exit_code)
    assert "the result\n" in output
    # The program has said why.
    assert "error:" not in output
    assert world.starts() == [""]


def test_a_second_client_follows_the_run_that_is_under_way(world: World) -> None:
    first = world.client("--run", "first")
    first.sees("reading examples")
    second = world.client("--run", "second")
    second.sees(
        "run first has been under way since .* following it instead, with its own settings\n.*\nreading examples"
    )
    # The end of one that only follows stops nothing.
    third = world.client("--run", "third")
    third.sees("reading examples")
    third.process.terminate()
    assert "stopped" not in third.ends(1)
    world.let_it_end(0)
    assert "the result" in first.ends(0)
    assert "the result" in second.ends(0)
    assert len(world.starts()) == 1


def test_a_client_waits_for_a_run_that_another_starts(world: World) -> None:
    watching = world.client("--run", "scheduled", "--watch")
    assert "did not start within 0 s" in world.client("--run", "other", "--watch", "--start-within", "0").ends(2)
    world.let_it_end(0)
    world.client("--run", "scheduled").ends(0)
    assert "the result" in watching.ends(0)
    assert len(world.starts()) == 1


def test_examples_are_scored_by_a_run_of_their_own(world: World) -> None:
    client = world.client("--program", "score", "--run", "scheduled score")
    client.sees("scoring\n")
    world.let_it_end(0)
    assert "the result" in client.ends(0)


def test_scoring_does_not_wait_for_training(world: World) -> None:
    training = world.client("--run", "first")
    training.sees("reading examples")
    assert "skipped: run first is under way" in world.client("--program", "score", "--run", "second").ends(99)
    world.let_it_end(0)
    training.ends(0)
    assert len(world.starts()) == 1


def test_training_waits_for_scoring(world: World) -> None:
    scoring = world.client("--program", "score", "--run", "first")
    scoring.sees("reading examples")
    training = world.client("--run", "second")
    training.sees("run first scores examples since .*; waiting for its end")
    world.let_it_end(0)
    assert "scoring" not in training.ends(0)
    scoring.ends(0)
    assert len(world.starts()) == 2


def test_a_task_that_was_killed_joins_its_run(world: World) -> None:
    killed = world.client("--run", "scheduled")
    killed.sees("reading examples")
    killed.process.kill()
    killed.ends(-signal.SIGKILL)
    retry = world.client("--run", "scheduled")
    retry.sees("back at run scheduled, .*\n.*\nreading examples")
    world.let_it_end(0)
    retry.ends(0)
    assert len(world.starts()) == 1


def test_a_run_that_ended_while_its_task_was_away_is_not_repeated(world: World) -> None:
    killed = world.client("--run", "scheduled")
    killed.sees("reading examples")
    killed.process.kill()
    world.let_it_end(0)
    wait_for(world.is_idle, "the run has ended")
    assert "back at run scheduled" in world.client("--run", "scheduled").ends(0)
    assert len(world.starts()) == 1
    # Now its end is known. If somebody clears the task, a new run is wanted.
    assert "back" not in world.client("--run", "scheduled").ends(0)
    assert len(world.starts()) == 2


def test_a_run_that_failed_while_its_task_was_away_is_repeated(world: World) -> None:
    killed = world.client("--run", "scheduled")
    killed.sees("reading examples")
    killed.process.kill()
    world.let_it_end(1)
    wait_for(world.is_idle, "the run has ended")
    world.let_it_end(0)
    world.client("--run", "scheduled").ends(0)
    assert len(world.starts()) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_task_that_is_stopped_stops_its_run(world: World, number: signal.Signals) -> None:
    client = world.client("--run", "scheduled")
    client.sees("reading examples")
    follower = world.client("--run", "other")
    follower.sees("reading examples")
    client.process.send_signal(number)
    assert f"stopped run scheduled ({number.name})" in client.ends(1)
    assert "error: stopped on request" in follower.ends(1)
    assert world.is_idle()


def test_a_run_that_ignores_sigterm_is_killed(world: World) -> None:
    (world.folder / "stubborn").touch()
    client = world.client("--run", "scheduled")
    client.sees("reading examples")
    assert world.ask("/runs/scheduled", "DELETE") == (200, {})
    assert "error: stopped on request" in client.ends(1)


def test_a_run_that_is_killed_says_so(world: World) -> None:
    client = world.client()
    os.kill(int(client.sees(r"reading examples (\d+)\n")[1]), signal.SIGKILL)
    assert "error: killed by SIGKILL" in client.ends(1)


def test_a_server_that_ends_stops_the_run(world: World) -> None:
    pid = int(world.client().sees(r"reading examples (\d+)\n")[1])
    world.server.terminate()
    assert world.server.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_was_killed_has_lost_the_run(world: World) -> None:
    client = world.client("--run", "scheduled")
    client.sees("reading examples")
    world.server.kill()
    world.server.wait(30)
    world.start_server(world.port)
    assert "error: run scheduled is lost, since its container has been restarted" in client.ends(2)
    # In a container it would be gone, too.
    world.let_it_end(0)


def test_a_server_that_is_away_for_a_moment_is_waited_for(world: World) -> None:
    world.server.terminate()
    world.server.wait(30)
    client = world.client()
    world.let_it_end(0)
    world.start_server(world.port)
    assert "the result" in client.ends(0)


def test_a_server_that_is_away_is_named_with_the_next_step(world: World) -> None:
    world.server.terminate()
    world.server.wait(30)
    output = world.client(patience=0).ends(2)
    assert f"error: training does not answer at http://localhost:{world.port}" in output
    assert "docker compose up -d training" in output


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"id": "a"}',
        b'{"id": "a", "skip_if_too_few": true}',
        b'{"id": 1, "skip_if_too_few": true, "settings": {}}',
        b'{"id": "", "skip_if_too_few": true, "settings": {}}',
        b'{"id": "a\\n", "skip_if_too_few": true, "settings": {}}',
        b'{"id": "a", "skip_if_too_few": 1, "settings": {}}',
        b'{"id": "a", "skip_if_too_few": true, "settings": []}',
        b'{"id": "a", "skip_if_too_few": false, "settings": {}, "program": "os"}',
        b'{"id": "a", "skip_if_too_few": false, "settings": {}, "program": []}',
        b'{"id": "a", "skip_if_too_few": true, "settings": {}, "program": "score"}',
        b'{"id": "a", "skip_if_too_few": true, "settings": {"PATH": "/tmp"}}',
        b'{"id": "a", "skip_if_too_few": true, "settings": {"TRAINING_DAYS": 45}}',
        b'{"id": "a", "skip_if_too_few": true, "settings": {"TRAINING_DAYS": "\\u0000"}}',
        b'{"id": "%s", "skip_if_too_few": true, "settings": {}}' % (b"a" * 251),
        b" " * 10_001,
    ],
)
def test_wrong_requests_start_nothing(world: World, body: bytes) -> None:
    assert world.ask("/runs", "POST", body) == (400, {"error": "this is no run"})
    assert world.is_idle()


def test_unknown_runs_are_not_found(world: World) -> None:
    assert world.ask("/runs/a")[0] == 404
    assert world.ask("/runs/a", "DELETE")[0] == 404
    assert world.ask("/runs/a?first=b")[0] == 400


def test_the_server_loads_no_package_of_training() -> None:
    """The rest of the container's memory is the run's."""
    loaded = "import sys, training_runs.server; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert "training_runs" in done.stdout.split()
    assert not {"mlflow", "sklearn", "numpy", "pandas", "trino", "training"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({"memory.max": "2147483648\n", "memory.events": "low 0\noom 2\noom_kill 1\n"}, Memory(2048, 1)),
        ({"memory.max": "max\n", "memory.events": "oom_kill 0\n"}, Memory(None, 0)),
        (
            {
                "memory/memory.limit_in_bytes": "2147483648\n",
                "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            },
            Memory(2048, 3),
        ),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, Memory(None, 0)),
        ({}, Memory(None, 0)),
    ],
)
def test_memory_is_read_from_control_groups(tmp_path: Path, files: dict[str, str], memory: Memory) -> None:
    """Of version 2, then of version 1."""
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert read_memory(tmp_path) == memory
