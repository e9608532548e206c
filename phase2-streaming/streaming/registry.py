"""The schemas of a topic, by the ids that its messages carry."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import httpx2
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

log = logging.getLogger("registry")

SECONDS_BETWEEN_TRIALS = 1.0
SECONDS_BETWEEN_LINES = 60.0


@dataclass(frozen=True)
class Schemas:
    """All schemas that were ever registered for a topic."""

    by_id: dict[int, str]  # schema id -> Avro schema, JSON text
    latest: str  # what all of them are read as


class SchemaSource:
    """Asks the registry, and remembers what can't change: the schema of an id."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = SchemaRegistryClient({"url": url, "timeout": 10, "max.retries": 0})
        self._versions: dict[tuple[str, int], tuple[int, str]] = {}

    def schemas(self, topic: str) -> Schemas:
        """The schemas of the topic's values as of now.

        A schema is registered before the first message that has it. So asked after the offsets of a batch are fixed, it
        has all that the batch needs. While the registry does not answer the batch waits: without its schemas every
        message would be refused.
        """
        subject = f"{topic}-value"
        versions = sorted(self._when_answered(partial(self._client.get_versions, subject)))
        for version in versions:
            if (subject, version) not in self._versions:
                registered = self._when_answered(partial(self._client.get_version, subject, version))
                # The registry's answer always has both; the client's types don't say so.
                self._versions[subject, version] = (int(registered.schema_id or 0), str(registered.schema.schema_str))
        found = [self._versions[subject, version] for version in versions]
        return Schemas(dict(found), found[-1][1])

    def _when_answered[T](self, ask: Callable[[], T]) -> T:
        told_at = -SECONDS_BETWEEN_LINES
        while True:
            try:
                return ask()
            except (SchemaRegistryError, httpx2.TransportError) as error:
                if isinstance(error, SchemaRegistryError) and error.http_status_code < 500:
                    raise
                if time.monotonic() - told_at >= SECONDS_BETWEEN_LINES:
                    told_at = time.monotonic()
                    log.warning("SCHEMA_REGISTRY_URL=%s does not answer (%s); messages wait in Kafka", self._url, error)
                time.sleep(SECONDS_BETWEEN_TRIALS)
