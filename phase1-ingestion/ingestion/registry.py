"""The schema registry: which subject holds which schema file, registering them, and asking for them."""

from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import httpx2
from confluent_kafka.schema_registry import Schema as RegistrySchema
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from ingestion import settings as names
from ingestion.errors import UserError
from ingestion.wire import Encoder, load_schema

# Subject names follow the Confluent default, topic + "-value".
SCHEMA_FILES = {
    names.TRANSACTIONS_TOPIC: "transaction.avsc",
    names.LABELS_TOPIC: "fraud_label.avsc",
    names.SCORED_TOPIC: "scored_transaction.avsc",
}


def subject_of(topic: str) -> str:
    """The registry's name for the value schema of a topic."""
    return f"{topic}-value"


@dataclass(frozen=True)
class Registry:
    """A client with the errors of a user: every failure says which address and what to do."""

    url: str
    timeout_seconds: float = 10.0

    def client(self) -> SchemaRegistryClient:
        """A new client, with the library's own retries kept short."""
        try:
            return SchemaRegistryClient({"url": self.url, "timeout": self.timeout_seconds, "max.retries": 2})
        except ValueError as error:
            raise UserError(f"SCHEMA_REGISTRY_URL={self.url}: {error}; correct it in .env") from None

    def _call(self, method: str, *args: Any) -> Any:
        try:
            return getattr(self.client(), method)(*args)
        # Nobody answers, or somebody who is no schema registry.
        except (httpx2.TransportError, httpx2.InvalidURL, JSONDecodeError) as error:
            raise UserError(
                f"SCHEMA_REGISTRY_URL={self.url}: no schema registry answers ({type(error).__name__}); "
                "correct the address, or start it: docker compose up -d schema-registry"
            ) from None

    def register(self, topic: str, text: str) -> int:
        """Make sure that the topic's schemas stay BACKWARD compatible and that this one is registered.

        Returns:
            The schema's id, the same one each time.

        Raises:
            UserError: the registry refuses the schema, or nobody answers.
        """
        subject = subject_of(topic)
        try:
            # First the rule, then the schema: there must be no moment in which an incompatible one is taken.
            self._call("set_compatibility", None, "BACKWARD")
            self._call("set_compatibility", subject, "BACKWARD")
            return self._call("register_schema", subject, RegistrySchema(text, "AVRO"))
        except SchemaRegistryError as error:
            raise UserError(
                f"{subject}: the registry refuses the schema: {error.error_message}; "
                "a new field needs a default, and no field may change its type"
            ) from None

    def id_of(self, topic: str, text: str) -> int:
        """Return the id under which this schema is registered for the topic.

        Raises:
            UserError: it is not registered, or nobody answers.
        """
        try:
            return self._call("lookup_schema", subject_of(topic), RegistrySchema(text, "AVRO")).schema_id
        except SchemaRegistryError as error:
            raise UserError(
                f"{subject_of(topic)}: the registry at {self.url} doesn't have this schema ({error.error_message}); "
                "register it: docker compose run --rm ingestion-init"
            ) from None

    def schema(self, schema_id: int) -> str | None:
        """The text of a schema, or None where the registry doesn't know the id."""
        try:
            return self._call("get_schema", schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise UserError(f"schema {schema_id} at {self.url}: {error.error_message}") from None


def load_encoder(registry: Registry, schema_dir: Path, topic: str) -> Encoder:
    """The encoder of a topic: its schema file, under the id that the registry has for it."""
    text, schema = load_schema(schema_dir / SCHEMA_FILES[topic])
    return Encoder(schema, registry.id_of(topic, text))
