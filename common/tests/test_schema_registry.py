"""The schema registry when it does not answer, or something else does; no registry is needed."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fraud_common.avro import latest_encoder
from fraud_common.errors import Stopping, UserError
from fraud_common.schema_registry import RegistryUnavailable, SchemaRegistry

CLOSED = "http://localhost:1"
WAY_OUT = "; correct the address, or start it: docker compose up -d schema-registry"

QUESTIONS: dict[str, Callable[[SchemaRegistry], object]] = {
    "register": lambda registry: registry.register("t", '"string"'),
    "id_of": lambda registry: registry.id_of("t", '"string"'),
    "schema": lambda registry: registry.schema(1),
    "versions": lambda registry: registry.versions("t"),
    "known_versions": lambda registry: registry.known_versions("t"),
    "latest_encoder": lambda registry: latest_encoder(registry, "t"),
}


# By the first part of the path: the status and the body of every answer.
ANSWERS = {
    "web-page": (200, "<html>"),
    "broken": (500, "<html>"),
    "starting": (503, '{"error_code": 50302, "message": "starting"}'),
    "empty": (404, '{"error_code": 40401, "message": "not found"}'),
    "strict": (409, '{"error_code": 409, "message": "incompatible"}'),
}


class Answering(BaseHTTPRequestHandler):
    """A server that gives one answer to every request."""

    def do_GET(self) -> None:
        _, name, *_ = self.path.split("/")
        status, body = ANSWERS[name]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_PUT = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_closed_port_is_one_line_with_the_address_and_the_next_step(question: str) -> None:
    with pytest.raises(RegistryUnavailable) as error:
        QUESTIONS[question](SchemaRegistry(CLOSED))
    assert str(error.value) == f"SCHEMA_REGISTRY_URL={CLOSED}: no schema registry answers (ConnectError){WAY_OUT}"


@pytest.mark.parametrize("url", ["not a url", "kafka:29092", ""])
def test_an_address_that_is_not_a_url_is_one_line(url: str) -> None:
    with pytest.raises(UserError, match=rf"^SCHEMA_REGISTRY_URL={url}: .*; correct it in \.env$") as error:
        SchemaRegistry(url)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("answer", ["web-page", "broken", "starting"])
def test_what_answers_is_no_working_registry(server: str, answer: str, question: str) -> None:
    with pytest.raises(RegistryUnavailable, match="no schema registry answers"):
        QUESTIONS[question](SchemaRegistry(f"{server}/{answer}"))


def test_an_unknown_id_is_none_and_an_unknown_subject_says_how_to_register_it(server: str) -> None:
    registry = SchemaRegistry(f"{server}/empty")
    assert registry.schema(7) is None
    for question in ("id_of", "versions"):
        with pytest.raises(UserError, match="register it: docker compose run --rm ingestion-init") as error:
            QUESTIONS[question](registry)
        assert not isinstance(error.value, RegistryUnavailable)


def test_a_refusal_is_passed_on(server: str) -> None:
    registry = SchemaRegistry(f"{server}/strict")
    with pytest.raises(UserError, match=r"^t-value: the registry refuses the schema: incompatible; the only change"):
        registry.register("t", '"string"')


def test_until_answered_returns_the_answer_after_failures() -> None:
    registry, answers = SchemaRegistry(CLOSED), iter([False, True])

    def ask() -> str:
        if not next(answers):
            raise RegistryUnavailable("down")
        return "schema"

    assert registry.until_answered(ask) == "schema"


def test_until_answered_stops_at_once_when_it_is_asked_to() -> None:
    registry, stop = SchemaRegistry(CLOSED), threading.Event()
    asked = threading.Event()

    def ask() -> object:
        asked.set()
        return registry.schema(1)

    threading.Thread(target=lambda: (asked.wait(30), stop.set()), daemon=True).start()
    started = time.monotonic()
    with pytest.raises(Stopping, match="no schema registry answers"):
        registry.until_answered(ask, stop)
    assert time.monotonic() - started < 10


def test_until_answered_warns_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    registry, stop, calls = SchemaRegistry(CLOSED), threading.Event(), iter(range(3))

    def ask() -> object:
        if next(calls) == 2:
            stop.set()
        return registry.schema(1)

    with pytest.raises(Stopping):
        registry.until_answered(ask, stop)
    assert [record.getMessage() for record in caplog.records if record.name == "schema-registry"] == [
        f"SCHEMA_REGISTRY_URL={CLOSED}: no schema registry answers (ConnectError){WAY_OUT}; "
        "messages wait in Kafka until it answers"
    ]


def test_other_errors_are_not_repeated() -> None:
    calls = []

    def ask() -> None:
        calls.append(1)
        raise UserError("not registered")

    for repeat in (SchemaRegistry(CLOSED).until_answered, lambda question: SchemaRegistry(CLOSED).within(30, question)):
        with pytest.raises(UserError, match="not registered"):
            repeat(ask)
    assert len(calls) == 2


def test_within_gives_up_with_the_reason() -> None:
    registry = SchemaRegistry(CLOSED)
    with pytest.raises(RegistryUnavailable, match="no schema registry answers"):
        registry.within(0.1, lambda: registry.schema(1))
