"""The schema registry (Confluent's API): register schemas and look them up, with errors that name the next step."""

import logging
import threading
import time
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_when_event_set,
    wait_fixed,
)
from tenacity.nap import sleep_using_event

from fraud_common.errors import Stopping, UserError
from fraud_common.topics import subject_of

log = logging.getLogger("schema-registry")

_SECONDS_BETWEEN_ATTEMPTS = 1.0
_SECONDS_BETWEEN_WARNINGS = 60.0


class RegistryUnavailable(UserError):  # noqa: N818 - a state that callers wait for
    """The registry does not answer, or something that is not a schema registry does."""


class SchemaRegistry:
    """A client whose errors say which address was asked and what to do."""

    def __init__(self, url: str, timeout_seconds: float = 10.0) -> None:
        """Nothing is sent yet.

        Raises:
            UserError: the address is not a URL.
        """
        self.url = url.rstrip("/")
        try:
            self._client = SchemaRegistryClient({"url": self.url, "timeout": timeout_seconds, "max.retries": 0})
        except ValueError as error:
            raise UserError(f"SCHEMA_REGISTRY_URL={url}: {error}; correct it in .env") from None
        # Cached, since the schema of a version never changes.
        self._versions: dict[tuple[str, int], tuple[int, str]] = {}
        self._warned_at = -_SECONDS_BETWEEN_WARNINGS

    def register(self, topic: str, text: str) -> int:
        """Set BACKWARD compatibility for the topic's schemas and register this one.

        Returns:
            The schema's id, the same one each time.

        Raises:
            UserError: the registry refuses the schema, or does not answer.
        """
        subject = subject_of(topic)
        try:
            # First the rule, then the schema, so that an incompatible one is never accepted.
            self._ask(self._client.set_compatibility, None, "BACKWARD")
            self._ask(self._client.set_compatibility, subject, "BACKWARD")
            return self._ask(self._client.register_schema, subject, Schema(text, "AVRO"))
        except SchemaRegistryError as error:
            raise UserError(
                f"{subject}: the registry refuses the schema: {error.error_message}; "
                "a new field needs a default, and no field may change its type"
            ) from None

    def id_of(self, topic: str, text: str) -> int:
        """The id under which this schema is registered for the topic.

        Raises:
            UserError: it is not registered, or the registry does not answer.
        """
        try:
            return self._ask(self._client.lookup_schema, subject_of(topic), Schema(text, "AVRO")).schema_id
        except SchemaRegistryError as error:
            raise UserError(
                f"{subject_of(topic)}: the registry at {self.url} doesn't have this schema ({error.error_message}); "
                "register it: docker compose run --rm ingestion-init"
            ) from None

    def schema(self, schema_id: int) -> str | None:
        """The text of a schema, or None if the registry does not know the id.

        Raises:
            RegistryUnavailable: it does not answer.
        """
        try:
            return self._ask(self._client.get_schema, schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise UserError(f"schema {schema_id} at {self.url}: {error.error_message}") from None

    def versions(self, topic: str) -> list[tuple[int, str]]:
        """Id and text of every version of the topic's schema, the newest last.

        Raises:
            UserError: nothing is registered for the topic, or the registry does not answer.
        """
        subject = subject_of(topic)
        try:
            numbers = sorted(self._ask(self._client.get_versions, subject))
            for number in numbers:
                if (subject, number) not in self._versions:
                    found = self._ask(self._client.get_version, subject, number)
                    # The registry's answer always has both; the client's types don't say so.
                    self._versions[subject, number] = (int(found.schema_id or 0), str(found.schema.schema_str))
        except SchemaRegistryError as error:
            raise UserError(
                f"{subject}: the registry at {self.url} has no schema for it ({error.error_message}); "
                "register it: docker compose run --rm ingestion-init"
            ) from None
        return [self._versions[subject, number] for number in numbers]

    def until_answered[T](self, ask: Callable[[], T], stop: threading.Event | None = None) -> T:
        """Repeat a question while the registry does not answer, with a warning a minute.

        Raises:
            Stopping: the event was set meanwhile.
        """
        stop = stop or threading.Event()
        attempts = Retrying(
            retry=retry_if_exception_type(RegistryUnavailable),
            wait=wait_fixed(_SECONDS_BETWEEN_ATTEMPTS),
            stop=stop_when_event_set(stop),
            sleep=sleep_using_event(stop),
            before_sleep=self._warn_each_minute,
            reraise=True,
        )
        try:
            return attempts(ask)
        except RegistryUnavailable as error:
            raise Stopping(str(error)) from None

    def within[T](self, seconds: float, ask: Callable[[], T]) -> T:
        """Repeat a question for so long while the registry does not answer.

        Raises:
            RegistryUnavailable: it still does not.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(RegistryUnavailable),
            wait=wait_fixed(_SECONDS_BETWEEN_ATTEMPTS),
            stop=stop_after_delay(seconds),
            reraise=True,
        )
        return attempts(ask)

    def _warn_each_minute(self, attempt: RetryCallState) -> None:
        if time.monotonic() - self._warned_at >= _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = time.monotonic()
            error = attempt.outcome.exception() if attempt.outcome else None
            log.warning("%s; messages wait in Kafka until it answers", error)

    def _ask(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call the client.

        Raises:
            SchemaRegistryError: the registry's own refusal.
            RegistryUnavailable: it did not answer.
        """
        try:
            return method(*args)
        except SchemaRegistryError as error:
            if error.http_status_code < 500:
                raise
            reason = f"{error.http_status_code} {error.error_message}"
        except (httpx2.HTTPError, httpx2.InvalidURL, JSONDecodeError) as error:
            reason = type(error).__name__
        raise RegistryUnavailable(
            f"SCHEMA_REGISTRY_URL={self.url}: no schema registry answers ({reason}); "
            "correct the address, or start it: docker compose up -d schema-registry"
        )
