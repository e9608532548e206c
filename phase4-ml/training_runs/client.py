"""A training run in the container `training`: start it, show its output as it comes, and end with its exit code.

python -m training_runs.client [--program score] [--skip-if-too-few] [--run ID] [--watch]

Settings of training (TRAINING_…) in this program's environment win over those of the container. If another run is under
way, it is followed instead; if it is of another program, this one waits for its end (train), or leaves it for the next
time with exit code 99 (score). The same id joins a run that its client has left: after a restart, a task of Airflow
continues where it was. SIGTERM and Ctrl-C stop the run of this id, but none that is followed instead.
"""

import argparse
import http.client
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

from fraud_common.errors import EXIT_SKIPPED, UserError, one_line_errors

ANSWER_SECONDS = 30
RETRY_SECONDS = 0.5
STOP_SECONDS = 3


class Stopped(Exception):  # noqa: N818 - not an error
    """A signal asked this program to end."""


@dataclass(frozen=True)
class Service:
    """The address of the service, and for how many seconds it may be away."""

    url: str
    patience: float

    def ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """The status and the content of an answer; waits while the service is away.

        Raises:
            UserError: it is away for too long.
        """
        end = time.monotonic() + self.patience
        while True:
            try:
                status, answer = self._ask_once(method, path, content)
                if status != http.client.SERVICE_UNAVAILABLE:
                    return status, answer
                problem = answer["error"]
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = str(error) or type(error).__name__
            if time.monotonic() > end:
                raise UserError(
                    f"training does not answer at {self.url} ({problem}):"
                    " docker compose up -d training; if that is no help: docker compose logs training"
                )
            time.sleep(RETRY_SECONDS)

    def _ask_once(self, method: str, path: str, content: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        # No proxy is asked, whatever the environment says.
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, None if content is None else json.dumps(content))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


class Busy(Exception):  # noqa: N818 - not an error
    """Another program runs, and this one can wait until the next time."""


def start(service: Service, run_id: str, program: str, skip_if_too_few: bool) -> str:
    """Start the run, or join what is under way; returns the id of the run to follow.

    Raises:
        Busy: another program is under way, and examples can be scored later.
    """
    settings = {name: value for name, value in os.environ.items() if name.startswith("TRAINING_")}
    wanted = {"id": run_id, "program": program, "skip_if_too_few": skip_if_too_few, "settings": settings}
    told = False
    while True:
        status, run = service.ask("POST", "/runs", wanted)
        if "id" not in run:
            raise UserError(f"training refuses the run {run_id!r} ({status}: {run.get('error')})")
        # A container of an earlier release knows one program only.
        if run.get("program", "train") == program:
            break
        if program == "score":
            raise Busy(
                f"run {run['id']} is under way; examples are scored after it, or by the next run of the pipeline"
            )
        if not told:
            say(f"run {run['id']} scores examples since {run['started_at']}; waiting for its end")
            told = True
        # The answer comes when there is news, or after ten seconds.
        service.ask("GET", f"{_path(run['id'])}?first={10**9}")
    limit = f"{run['limit_mib']:,} MiB of memory" if run["limit_mib"] else "no memory limit"
    where = f"container {run['container']}, {limit}"
    if run["started"]:
        say(f"run {run_id} in {where}")
    elif run["id"] == run_id:
        say(f"back at run {run_id}, which started at {run['started_at']}, in {where}")
    else:
        since = f"under way since {run['started_at']}, in {where}"
        say(f"run {run['id']} has been {since}; following it instead, with its own settings")
    return run["id"]


def wait_for(service: Service, run_id: str, seconds: float) -> None:
    """Wait until somebody else has started the run.

    Raises:
        UserError: it has not been started.
    """
    end = time.monotonic() + seconds
    while service.ask("GET", _path(run_id))[0] == http.client.NOT_FOUND:
        if time.monotonic() > end:
            raise UserError(f"run {run_id} did not start within {seconds:.0f} s; look at who was to start it")
        time.sleep(RETRY_SECONDS)


def follow(service: Service, run_id: str) -> int:
    """Print the run's lines as they come, and how it ended; returns the exit code for this program.

    Raises:
        UserError: the service has forgotten the run, or is away.
    """
    first = 0
    while True:
        status, news = service.ask("GET", f"{_path(run_id)}?first={first}")
        if status != http.client.OK:
            raise UserError(
                f"run {run_id} is lost, since its container has been restarted; if that was not on purpose:"
                " docker compose logs training"
            )
        for line in news["lines"]:
            say(line)
        first = news["next"]
        if outcome := news["outcome"]:
            say(f"took {outcome['seconds']:,.0f} s, at most {outcome['peak_mib']:,} MiB of memory")
            if outcome["reason"]:
                say(f"error: {outcome['reason']}")
            # A process that a signal has ended has a negative one.
            return max(outcome["exit_code"], 1) if outcome["exit_code"] else 0


def say(text: str) -> None:
    """A line for the person who waits, or for the log of the task."""
    print(text, flush=True)


def _path(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"


def run_and_follow(service: Service, run_id: str, program: str, skip_if_too_few: bool) -> int:
    """Start or join a run, and see it through; returns the exit code for this program."""
    try:
        exit_code = follow(service, start(service, run_id, program, skip_if_too_few))
    except Stopped as reason:
        # The sender of the signal does not wait for long. The service knows no such run if another one is followed.
        if replace(service, patience=STOP_SECONDS).ask("DELETE", _path(run_id))[0] == http.client.OK:
            say(f"stopped run {run_id} ({reason})")
        raise
    service.ask("DELETE", _path(run_id))
    return exit_code


def _stop(number: int, _: Any) -> NoReturn:
    # A second one must not interrupt the request that stops the run.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(signal.Signals(number).name)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training_runs.client", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://training:8070", help="the service (default: %(default)s)")
    parser.add_argument("--run", metavar="ID", help="the name of the run (default: the time)")
    parser.add_argument("--program", choices=("train", "score"), default="train", help="what to run (default: train)")
    parser.add_argument("--watch", action="store_true", help="start nothing; wait for the run ID, and follow it")
    parser.add_argument("--skip-if-too-few", action="store_true", help="end with 99 if there are too few examples")
    parser.add_argument(
        "--patience", type=float, default=60, help="for how many seconds the service may be away (default: %(default)s)"
    )
    parser.add_argument(
        "--start-within", type=float, default=300, help="for how many seconds --watch waits (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.watch and not arguments.run:
        parser.error("--watch needs --run")
    service = Service(arguments.url, arguments.patience)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with one_line_errors():
        try:
            if arguments.watch:
                wait_for(service, arguments.run, arguments.start_within)
                sys.exit(follow(service, arguments.run))
            run_id = arguments.run or f"by-hand {datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
            sys.exit(run_and_follow(service, run_id, arguments.program, arguments.skip_if_too_few))
        except Busy as reason:
            say(f"skipped: {reason}")
            sys.exit(EXIT_SKIPPED)
        except Stopped:
            sys.exit(1)


if __name__ == "__main__":
    main()
