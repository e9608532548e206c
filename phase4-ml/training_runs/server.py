"""The service `training`: starts training runs when it is asked to, one at a time, and serves their output.

python -m training_runs.server

    POST   /runs             {"id": …, "skip_if_too_few": false, "settings": {"TRAINING_…": "…"}}: start it; if a run is
                             under way, the answer names that one. With "program": "score", examples are scored
    GET    /runs/ID?first=N  lines from number N on and, in the end, the outcome; waits up to ten seconds for news
    DELETE /runs/ID          stop it; after its end: its outcome is known
    GET    /health

Requests and answers are JSON. Training has the rest of the container's memory, so this program imports as little as it
can. It can be reached from the internal networks only.
"""

import argparse
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fraud_common.logs import set_up_logging
from fraud_common.memory import read_memory

from training_runs.runs import PROGRAMS, Runs

PORT = 8070
NEWS_SECONDS = 10
BODY_BYTES = 10_000
ID_CHARACTERS = 250
SETTING = re.compile(r"TRAINING_[A-Z_]+")

log = logging.getLogger("training")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    # Of a connection without a request.
    timeout = 60

    @property
    def runs(self) -> Runs:
        """The server's runs."""
        assert isinstance(self.server, Server)
        return self.server.runs

    def do_GET(self) -> None:
        """The state of the server, or news of a run."""
        if self.path == "/health":
            self._answer(HTTPStatus.OK, {"run": self.runs.under_way()})
            return
        first = parse_qs(urlsplit(self.path).query).get("first", ["0"])[0]
        if not first.isdecimal():
            self._answer(HTTPStatus.BAD_REQUEST, {"error": "first must be the number of a line"})
            return
        news = self.runs.read(self._run_id(), int(first), NEWS_SECONDS)
        self._answer(HTTPStatus.OK if news else HTTPStatus.NOT_FOUND, news or {"error": "no such run"})

    def do_POST(self) -> None:
        """Start a run."""
        wanted = self._body()
        if self.path != "/runs" or not wanted:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": "this is no run"})
            return
        try:
            arguments = ["--skip-if-too-few"] if wanted["skip_if_too_few"] else []
            program = wanted.get("program", "train")
            run, started = self.runs.start(wanted["id"], program, arguments, wanted["settings"])
        except RuntimeError as reason:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(reason)})
            return
        answer = {
            "id": run.id,
            "program": run.program,
            "started": started,
            "started_at": run.started_at.isoformat(timespec="seconds"),
            "container": socket.gethostname(),
            "limit_mib": read_memory().limit_mib,
        }
        self._answer(HTTPStatus.CREATED if started else HTTPStatus.OK, answer)

    def do_DELETE(self) -> None:
        """Stop a run, or note that its outcome is known."""
        found = self.runs.release(self._run_id())
        self._answer(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND, {})

    def _run_id(self) -> str:
        return unquote(urlsplit(self.path).path.removeprefix("/runs/"))

    def _body(self) -> dict[str, Any] | None:
        """What the request says, None if it is not a run."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES:
            # The rest of the connection can't be understood.
            self.close_connection = True
            return None
        try:
            wanted = json.loads(self.rfile.read(int(length)))
            return wanted if _is_run(wanted) else None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Requests are not logged; runs are."""


def _is_run(wanted: dict[str, Any]) -> bool:
    """Whether a request has all that a run needs, and nothing but settings of training goes into its environment."""
    return (
        0 < len(wanted["id"]) <= ID_CHARACTERS
        and wanted["id"].isprintable()
        and isinstance(wanted["skip_if_too_few"], bool)
        and wanted.get("program", "train") in PROGRAMS
        and not (wanted["skip_if_too_few"] and wanted.get("program", "train") != "train")
        and all(SETTING.fullmatch(name) and "\0" not in value for name, value in wanted["settings"].items())
    )


class Server(ThreadingHTTPServer):
    """The server and its runs."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("", port), Handler)
        self.runs = Runs()

    def handle_error(self, *_: Any) -> None:
        """A client that no longer waits for its answer is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            log.exception("a request was not answered")


def main() -> None:
    """The command line: serve until SIGTERM, which stops the run under way, too."""
    parser = argparse.ArgumentParser(prog="python -m training_runs.server", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=PORT, help="where to listen (default: %(default)s)")
    arguments = parser.parse_args()
    set_up_logging()
    # Not an Event: this thread, which waits for it, would run its `set` in the middle of `wait`, and wait for itself.
    stop, stopped = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(stopped, b"."))
    with Server(arguments.port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        log.info("ready", extra={"port": server.server_port})
        os.read(stop, 1)
        log.info("stopping")
        server.runs.close()
        server.shutdown()


if __name__ == "__main__":
    main()
