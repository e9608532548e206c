"""What the table of published ports is made of."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ports import ABSENT, CLOSED, OPEN, REFUSED, STATEMENT, Port, Try, ask, examine, judge, read_ports, tries

ROOT = Path(__file__).parents[2]


def published() -> dict[tuple[str, int], str]:
    """The services of docker-compose.yml with the ports in their containers, and the setting of where each listens."""
    found = {}
    for service, text in re.findall(
        r"^  ([a-z0-9-]+):\n((?:    .*\n|\n)+)", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE
    ):
        for address, inside in re.findall(r'"\$\{([A-Z_]+)\}:\$\{[A-Z_]+_PORT\}:(?:\$\{[^}]*\})?(\d+)"', text):
            found[service, int(inside)] = address
    return found


def test_every_published_port_is_tried() -> None:
    assert {("kafka", 9092), ("minio", 9001), ("fraud-api", 8000), ("tls-proxy", 8443)} < set(published())
    assert [each for each in sorted(published()) if not tries(*each, api_has_keys=False)] == []
    assert tries("fraud-api", 18000, api_has_keys=True)


def test_ports_without_a_login_stay_on_this_machine() -> None:
    """Field case G2. Programs elsewhere have no other way in than the first two."""
    has_login = {"airflow-api-server", "fraud-api", "grafana", "minio", "superset", "tls-proxy"}
    opened = {service for (service, _), address in published().items() if address == "BIND_ADDRESS"}
    assert opened == {"kafka", "schema-registry"} | has_login
    assert set(published().values()) == {"BIND_ADDRESS", "NO_LOGIN_BIND_ADDRESS"}


@pytest.mark.parametrize(
    ("status", "location", "outcome"),
    [
        (200, "", OPEN),
        (400, "", OPEN),
        (422, "", OPEN),
        (500, "", OPEN),
        (401, "", REFUSED),
        (403, "", REFUSED),
        (404, "", ABSENT),
        (405, "", ABSENT),
        (302, "/login/", REFUSED),
        (302, "/", OPEN),
    ],
)
def test_what_an_answer_means(status: int, location: str, outcome: str) -> None:
    assert judge(status, location) == outcome


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith(STATEMENT):
            self._trino()
            return
        status = {"/health": 200, "/ready": 401, "/page": 302}.get(self.path.split("?")[0], 403)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://localhost/login/?next=/page")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def _trino(self) -> None:
        """As Trino does: first where to ask again, then what became of it."""
        host, text = self.headers["Host"], self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        errors = {"delete": "ERROR: permission denied for table predictions", "broken": "the server is on fire"}
        state: dict[str, object] = {"stats": {"state": "FINISHED"}}
        if self.command == "POST":
            state["nextUri"] = f"http://{host}{STATEMENT}/executing/{text}"
        elif (word := self.path.rpartition("/")[2]) in errors:
            state["error"] = {"message": errors[word]}
        body = json.dumps(state).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_answers_are_asked_for_over_the_network(port: int) -> None:
    here = Port("fraud-api", 8000, "0.0.0.0", port)
    assert ask(here, Try("", "/health", OPEN)) == (OPEN, "HTTP 200")
    assert ask(here, Try("", "/ready", OPEN)) == (REFUSED, "HTTP 401")
    assert ask(here, Try("", "/page", OPEN)) == (REFUSED, "HTTP 302")
    assert ask(Port("fraud-api", 8000, "127.0.0.1", 1), Try("", "/health", OPEN))[0] == CLOSED


@pytest.mark.parametrize(("word", "outcome"), [("select", OPEN), ("delete", REFUSED), ("broken", CLOSED)])
def test_a_statement_is_followed_to_its_end(port: int, word: str, outcome: str) -> None:
    trino = Port("trino", 8080, "127.0.0.1", port)
    assert ask(trino, Try("", STATEMENT, OPEN, body=word))[0] == outcome


def test_what_is_not_as_it_should_be_is_said(port: int) -> None:
    with_keys = examine(Port("fraud-api", 8000, "0.0.0.0", port), api_has_keys=True)
    assert with_keys.wrong == []
    assert with_keys.text.startswith(f"| {port} | fraud-api | 0.0.0.0 | that it is alive | state; metrics;")
    wrong = examine(Port("fraud-api", 8000, "0.0.0.0", port), api_has_keys=False).wrong
    assert f"{port} (fraud-api): scores should be open, and is refused (HTTP 403)" in wrong
    (unknown,) = examine(Port("new", 1, "0.0.0.0", port), api_has_keys=False).wrong
    assert "is not in ports.py" in unknown


def test_the_ports_of_the_engine() -> None:
    text = "minio 9000/tcp 0.0.0.0 9000\nminio 9000/tcp :: 9000\nkafka 9092/tcp 127.0.0.1 9092\n"
    assert read_ports(text) == [Port("minio", 9000, "0.0.0.0", 9000), Port("kafka", 9092, "127.0.0.1", 9092)]
    assert Port("minio", 9000, "::", 9000).host == "::1"
    assert read_ports("\n") == []
