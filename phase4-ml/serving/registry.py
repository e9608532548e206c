"""The schema registry over its REST API: each schema is asked for once, never per message."""

import logging
import threading
import time
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any

import httpx2
from fastavro.types import Schema

from serving.errors import ServiceError, Stopping
from serving.wire import SerializationError, decode, parse_schema, schema_id_of

log = logging.getLogger("registry")

# An id that the registry doesn't know is asked for again after so long, since there may be many such messages.
UNKNOWN_SECONDS = 30.0
WAIT_SECONDS = 5.0
SECONDS_BETWEEN_LINES = 60.0


class RegistryUnavailable(Exception):  # noqa: N818 - waited for, not raised to anybody
    """No answer, or none that a registry gives."""


class Registry:
    """What the services ask of it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._client = httpx2.Client(base_url=self.url, timeout=10.0)

    def _get(self, path: str) -> dict[str, Any] | None:
        """The answer, or None where there is no such thing."""
        try:
            answer = self._client.get(path)
            if answer.status_code == 404:
                return None
            return answer.raise_for_status().json()
        except (httpx2.HTTPError, httpx2.InvalidURL, JSONDecodeError) as error:
            raise RegistryUnavailable(
                f"SCHEMA_REGISTRY_URL={self.url}: no schema registry answers ({type(error).__name__}); "
                "correct the address, or start it: docker compose up -d schema-registry"
            ) from None

    def latest(self, subject: str) -> tuple[int, Schema]:
        """Id and schema of a subject's newest version.

        Raises:
            ServiceError: nothing is registered under that name.
            RegistryUnavailable: nobody answers.
        """
        found = self._get(f"/subjects/{subject}/versions/latest")
        if found is None:
            raise ServiceError(
                f"{subject}: the registry at {self.url} has no schema for it; "
                "register it: docker compose run --rm ingestion-init"
            )
        return found["id"], parse_schema(found["schema"])

    def schema(self, schema_id: int) -> Schema | None:
        """A schema, or None where the registry doesn't know the id.

        Raises:
            RegistryUnavailable: nobody answers.
        """
        found = self._get(f"/schemas/ids/{schema_id}")
        return None if found is None else parse_schema(found["schema"])


class Decoder:
    """Decodes values by the schemas that wrote them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._schemas: dict[int, Schema] = {}
        self._unknown: dict[int, float] = {}

    def decode(self, value: bytes | None) -> Any:
        """The record of a message.

        Raises:
            SerializationError: its schema is unknown, or the bytes are not what the schema says.
            RegistryUnavailable: its schema is a new one, and nobody answers.
        """
        schema_id = schema_id_of(value)
        if (schema := self._schemas.get(schema_id)) is None:
            schema = self._ask(schema_id)
        return decode(value or b"", schema)

    def decode_when_answered(self, value: bytes | None, stop: threading.Event) -> Any:
        """The same; waits where the registry has to be asked and is away.

        Raises:
            SerializationError: as above.
            Stopping: the service is to end while the registry is away.
        """
        told_at = 0.0
        while True:
            try:
                return self.decode(value)
            except RegistryUnavailable as error:
                if time.monotonic() - told_at >= SECONDS_BETWEEN_LINES:
                    told_at = time.monotonic()
                    log.warning("%s; messages wait in Kafka until it answers", error)
                if stop.wait(WAIT_SECONDS):
                    raise Stopping(str(error)) from None

    def _ask(self, schema_id: int) -> Schema:
        if time.monotonic() >= self._unknown.get(schema_id, 0.0):
            schema = self._registry.schema(schema_id)
            if schema is not None:
                self._schemas[schema_id] = schema
                return schema
            if len(self._unknown) > 10_000:  # garbage has many ids
                self._unknown.clear()
            self._unknown[schema_id] = time.monotonic() + UNKNOWN_SECONDS
        raise SerializationError(f"schema {schema_id} is not in the registry at {self._registry.url}")


def within[T](seconds: float, ask: Callable[[], T]) -> T:
    """The registry's answer, once it is up.

    Raises:
        ServiceError: it was not up in so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except RegistryUnavailable as error:
            if time.monotonic() > deadline:
                raise ServiceError(str(error)) from None
            time.sleep(1.0)
