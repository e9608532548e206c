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
from fraud_common.schema_rules import ALLOWED, change_problem, removed_fields, usable_versions
from fraud_common.topics import own_schema, subject_of

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
        # Subject and version number -> id and schema.
        self._versions: dict[tuple[str, int], tuple[int, str]] = {}
        self._warned_at = -_SECONDS_BETWEEN_WARNINGS

    def register(self, topic: str, text: str) -> int:
        """Set FULL_TRANSITIVE compatibility for the topic's schemas, never for other subjects, and register this one.

        The registry accepts changes that would make readers misread old values; those are refused here.

        Returns:
            The schema's id, the same one each time.

        Raises:
            UserError: the schema is refused, by the registry or here, or the registry does not answer.
        """
        subject = subject_of(topic)
        try:
            # First the rule, then the schema, so that an incompatible one is never accepted.
            self._ask(self._client.set_compatibility, subject, "FULL_TRANSITIVE")
            schema_id = self._registered_id(subject, text)
            if schema_id is None:
                self._refuse_bad_change(topic, text)
                schema_id = self._ask(self._client.register_schema, subject, Schema(text, "AVRO"))
        except SchemaRegistryError as error:
            raise UserError(f"{subject}: the registry refuses the schema: {error.error_message}; {ALLOWED}") from None
        return schema_id

    def _registered_id(self, subject: str, text: str) -> int | None:
        try:
            return int(self._ask(self._client.lookup_schema, subject, Schema(text, "AVRO")).schema_id)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise

    def _refuse_bad_change(self, topic: str, text: str) -> None:
        subject, own = subject_of(topic), own_schema(topic)
        versions = self.known_versions(topic)
        unusable = usable_versions(own, versions).refused if own else {}
        for schema_id, before in versions:
            if (problem := change_problem(before, text)) is None:
                continue
            if schema_id in unusable:
                raise UserError(
                    f"{subject}: schema {schema_id} in the registry is not one of this platform's "
                    f"({unusable[schema_id]}), and no version can follow it; delete that version, see "
                    "BronzeSchemaRefused in docs/runbook.md"
                )
            raise UserError(f"{subject}: the schema is refused: {problem}; {ALLOWED}")
        if own and (problem := removed_fields(own, text)):
            raise UserError(f"{subject}: the schema is refused: {problem}; {ALLOWED}")

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
        if not (found := self.known_versions(topic)):
            raise UserError(
                f"{subject_of(topic)}: the registry at {self.url} has no schema for it; "
                "register it: docker compose run --rm ingestion-init"
            )
        return found

    def known_versions(self, topic: str) -> list[tuple[int, str]]:
        """The same, but empty if nothing is registered for the topic.

        Raises:
            RegistryUnavailable: the registry does not answer.
        """
        subject = subject_of(topic)
        try:
            numbers = sorted(self._ask(self._client.get_versions, subject))
            self._forget_other_versions(subject, numbers)
            for number in numbers:
                if (subject, number) not in self._versions:
                    self._versions[subject, number] = self._version(subject, number)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:  # the subject, or a version that was deleted meanwhile
                return []
            raise UserError(f"{subject} at {self.url}: {error.error_message}") from None
        return [self._versions[subject, number] for number in numbers]

    def _forget_other_versions(self, subject: str, numbers: list[int]) -> None:
        """A subject that was deleted and registered again begins its version numbers again."""
        cached = {number for name, number in self._versions if name == subject}
        if not numbers or not cached:
            return
        newest = self._version(subject, "latest")
        if not cached <= set(numbers) or self._versions.get((subject, numbers[-1]), newest) != newest:
            self._client.clear_caches()
            for number in cached:
                del self._versions[subject, number]

    def _version(self, subject: str, number: int | str) -> tuple[int, str]:
        found = self._ask(self._client.get_version, subject, number)
        # The registry's answer always has both; the client's types don't say so.
        return int(found.schema_id or 0), str(found.schema.schema_str)

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
