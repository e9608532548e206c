"""Tries every published port as somebody without credentials would, and prints what each gives.

Lines on standard input name the ports: service, port in the container, address and port on the host. Exit code 1:
something is open that should be refused, or the other way round, or a port is not known here. The tries change nothing.

python3 infra/e2e/ports.py [--api-has-keys] <ports
"""

import argparse
import http.client
import json
import re
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

OPEN, REFUSED, ABSENT, CLOSED = "open", "refused", "absent", "closed"
SECONDS = 15.0
STATEMENT_SECONDS = 60.0


@dataclass(frozen=True)
class Try:
    """Something that a stranger asks for, and what should come of it."""

    what: str
    path: str
    should_be: str
    method: str = "GET"
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """A port of a container, and where the host publishes it."""

    service: str
    inside: int
    address: str
    published: int

    @property
    def host(self) -> str:
        """Where this machine reaches it."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)


JSON = {"Content-Type": "application/json"}
STRANGER = {"X-Trino-User": "stranger"}
METRICS = (Try("metrics", "/metrics", OPEN),)
API_PAGES = (("state", "/ready"), ("metrics", "/metrics"), ("documentation", "/docs"), ("its schema", "/openapi.json"))


def tries_of_the_api(keys: bool) -> tuple[Try, ...]:
    """The API asks for a key if it has any. A payment without fields is refused after the key is checked."""
    should_be = REFUSED if keys else OPEN
    pages = [Try(what, path, should_be) for what, path in API_PAGES]
    scores = Try("scores", "/predict", should_be, "POST", "{}", JSON)
    # People have keys of their own, whether callers need one or not.
    rules = [Try(what, f"/{what}", REFUSED) for what in ("rules", "lists", "rulesets", "backtests")]
    return (Try("that it is alive", "/health", OPEN), *pages, scores, *rules)


def tries(service: str, inside: int, api_has_keys: bool) -> tuple[Try, ...] | None:
    """What to try at a port of a container; None if the port is not known."""
    match service, inside:
        case "kafka", 9092:
            return (Try("topics, to read, write and delete", KAFKA, OPEN),)
        case "schema-registry", 8081:
            return (Try("schemas, also new ones", "/subjects", OPEN),)
        case ("producer", 9400) | ("spark-streaming", 9401) | ("scorer", 9402) | ("feature-stream", 9403):
            return METRICS
        case "minio", 9000:
            return (
                Try("that it is alive", "/minio/health/live", OPEN),
                Try("the list of buckets", "/", REFUSED),
                Try("tables", "/lakehouse/?list-type=2", REFUSED),
                Try("models", "/mlflow/?list-type=2", REFUSED),
                Try("metrics", "/minio/v2/metrics/cluster", REFUSED),
                Try("administration", "/minio/admin/v3/info", REFUSED),
            )
        case "minio", 9001:
            return Try("a login page", "/", OPEN), Try("buckets", "/api/v1/buckets", REFUSED)
        case "spark-master", 8090:
            return (
                Try("jobs and workers", "/json/", OPEN),
                Try("ending a job", "/app/kill/?id=none&terminate=true", ABSENT, "POST"),
            )
        case "trino", 8080:
            return (
                Try("its version", "/v1/info", OPEN),
                Try("any query, with any name", STATEMENT, OPEN, body="select 1"),
                # Of no row, in case it is not refused.
                Try("changing predictions", STATEMENT, REFUSED, body=f"delete from {PREDICTIONS} where risk_tier = ''"),
            )
        case "airflow-api-server", 8080:
            return (
                Try("that it is alive", "/api/v2/monitor/health", OPEN),
                Try("pipelines", "/api/v2/dags", REFUSED),
                Try("the documentation of its API", "/docs", OPEN),
                Try("connections", "/api/v2/connections", REFUSED),
                Try("what tasks ask", "/execution/variables/any", REFUSED),
            )
        case "mlflow", 5000:
            return (Try("models, also new ones", "/api/2.0/mlflow/registered-models/search?max_results=1", OPEN),)
        case ("fraud-api", 8000) | ("tls-proxy", 8443):
            return tries_of_the_api(api_has_keys)
        case "fraud-api", 18000:
            return (Try("anything without TLS", "/health", CLOSED),)
        case "prometheus", 9090:
            return Try("all metrics", "/api/v1/query?query=up", OPEN), Try("a reload", "/-/reload", REFUSED, "POST")
        case "alertmanager", 9093:
            return (
                Try("alerts", "/api/v2/alerts", OPEN),
                # One without a time is not valid, so none is made.
                Try("silences, also new ones", "/api/v2/silences", OPEN, "POST", "{}", JSON),
            )
        case "superset", 8088:
            return (
                Try("a login page", "/login/", OPEN),
                Try("dashboards", "/superset/welcome/", REFUSED),
                Try("queries", "/api/v1/query/", REFUSED),
            )
        case "grafana", 3000:
            return Try("that it is alive", "/api/health", OPEN), Try("dashboards", "/api/search", REFUSED)
        case "kafka-ui", 8080:
            return (Try("topics and messages, to read, write and delete", "/api/clusters", OPEN),)
    return None


# Not HTTP.
KAFKA = "kafka"
# SQL, answered in several steps.
STATEMENT = "/v1/statement"
PREDICTIONS = "fraud.public.predictions"
# Without phase 4 there are no predictions that could be changed.
FORBIDDEN = re.compile(
    f"permission denied|read-only transaction|access denied|{PREDICTIONS}' does not exist", re.IGNORECASE
)


def judge(status: int, location: str) -> str:
    """What an answer means: a login page instead of what was asked for is a refusal, too."""
    if status in (401, 403) or (300 <= status < 400 and "login" in location):
        return REFUSED
    return ABSENT if status in (404, 405) else OPEN


def ask(port: Port, attempt: Try) -> tuple[str, str]:
    """What came of a try, and the evidence."""
    if attempt.path == KAFKA:
        return ask_kafka(port)
    if attempt.path == STATEMENT:
        return ask_trino(port, attempt.body)
    tls = port.service == "tls-proxy"
    # Whether the certificate is for this name is not what is tried here.
    connection = (
        http.client.HTTPSConnection(
            port.host, port.published, timeout=SECONDS, context=ssl._create_unverified_context()
        )
        if tls
        else http.client.HTTPConnection(port.host, port.published, timeout=SECONDS)
    )
    try:
        connection.request(attempt.method, attempt.path, attempt.body or None, attempt.headers)
        answer = connection.getresponse()
        return judge(answer.status, urlsplit(answer.headers.get("Location", "")).path), f"HTTP {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return CLOSED, type(error).__name__
    finally:
        connection.close()


def ask_trino(port: Port, statement: str) -> tuple[str, str]:
    """What becomes of a statement: Trino takes it at once, and says later whether it may be run."""
    connection = http.client.HTTPConnection(port.host, port.published, timeout=SECONDS)
    end = time.monotonic() + STATEMENT_SECONDS
    try:
        connection.request("POST", STATEMENT, statement, STRANGER)
        while time.monotonic() < end:
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                return judge(answer.status, ""), f"HTTP {answer.status}"
            state = json.loads(text)
            if error := state.get("error"):
                # Any other error says nothing about rights.
                return (REFUSED if FORBIDDEN.search(error["message"]) else CLOSED), error["message"]
            if "nextUri" not in state:
                return OPEN, state["stats"]["state"]
            connection.request("GET", urlsplit(state["nextUri"]).path, headers=STRANGER)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return CLOSED, type(error).__name__
    finally:
        connection.close()
    return CLOSED, f"no result within {STATEMENT_SECONDS:.0f} s"


def ask_kafka(port: Port) -> tuple[str, str]:
    """The list of topics, which needs every right that a client of this broker has."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    host = f"[{port.host}]" if ":" in port.host else port.host
    try:
        topics = AdminClient({"bootstrap.servers": f"{host}:{port.published}"}).list_topics(timeout=SECONDS).topics
    except KafkaException as error:
        return CLOSED, str(error)
    return OPEN, f"{len(topics)} topics"


@dataclass(frozen=True)
class Row:
    """A line of the table, and what is not as it should be."""

    text: str
    wrong: list[str]


def examine(port: Port, api_has_keys: bool, ask: Callable[[Port, Try], tuple[str, str]] = ask) -> Row:
    """Try all that is known about a port."""
    attempts = tries(port.service, port.inside, api_has_keys)
    name = f"{port.published} ({port.service})"
    if attempts is None:
        return Row(f"| {port.published} | {port.service} | {port.address} | ? | ? |", [f"{name} is not in ports.py"])
    given, refused, wrong = [], [], []
    for attempt in attempts:
        outcome, evidence = ask(port, attempt)
        (given if outcome == OPEN else refused).append(attempt.what)
        if outcome != attempt.should_be:
            wrong.append(f"{name}: {attempt.what} should be {attempt.should_be}, and is {outcome} ({evidence})")
    cells = (port.published, port.service, port.address, "; ".join(given) or "–", "; ".join(refused) or "–")
    return Row(f"| {' | '.join(map(str, cells))} |", wrong)


def read_ports(text: str) -> list[Port]:
    """The ports of all lines, once each: an address of IPv6 may repeat one of IPv4."""
    ports: dict[int, Port] = {}
    for line in filter(str.strip, text.splitlines()):
        service, inside, address, published = line.split()
        ports.setdefault(int(published), Port(service, int(inside.split("/")[0]), address, int(published)))
    return sorted(ports.values(), key=lambda port: port.published)


def main() -> int:
    """The table, then what is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--api-has-keys", action="store_true", help="API_KEY is set")
    arguments = parser.parse_args()
    ports = read_ports(sys.stdin.read())
    if not ports:
        print("no port is published; is the stack up? make up", file=sys.stderr)
        return 1
    print("| port | service | listens at | without credentials | refused without |\n|---|---|---|---|---|")
    wrong = []
    for port in ports:
        row = examine(port, arguments.api_has_keys)
        print(row.text, flush=True)
        wrong += row.wrong
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
