"""Records to bytes and back: Avro in the Confluent wire format (a zero byte, the schema id in four bytes, the body)."""

import io
import json
import struct
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import fastavro
from fastavro.schema import SchemaParseException, UnknownType
from fastavro.types import AvroMessage, Schema
from fastavro.validation import ValidationError, validate

from fraud_common.errors import SerializationError, UserError
from fraud_common.payments import MAX_AMOUNT_CENTS
from fraud_common.schema_registry import RegistryUnavailable, SchemaRegistry
from fraud_common.schema_rules import record_name, usable_versions
from fraud_common.topics import SCHEMA_FILES, own_schema

MAGIC_BYTE = 0
HEADER = struct.Struct(">bI")
# How long until an unknown or refused id is asked for again: garbage may repeat it in every message.
_REFUSED_SECONDS = 30.0
_MAX_REFUSED_IDS = 10_000


def load_schema(path: Path) -> tuple[str, Schema]:
    """Read an `.avsc` file: its text for the registry, and the parsed schema for the encoder.

    Raises:
        UserError: the file can't be read or is not an Avro schema.
    """
    try:
        text = path.read_text()
        return text, parse_schema(text)
    except OSError as error:
        raise UserError(f"schema {path}: {error.strerror}; restore the file or correct SCHEMA_DIR") from None
    except (json.JSONDecodeError, SchemaParseException, UnknownType, KeyError) as error:
        raise UserError(f"schema {path} is not a valid Avro schema: {error}; correct the file") from None


def parse_schema(text: str) -> Schema:
    """Parse a schema as the registry returns it."""
    return fastavro.parse_schema(json.loads(text))


def cents_to_bytes(cents: int) -> bytes:
    """The Avro decimal of an amount in cents: the shortest big-endian two's complement.

    fastavro passes bytes of a decimal field through as they are, which saves a `Decimal` for every message.

    Raises:
        SerializationError: the amount has more than 12 digits.
    """
    if abs(cents) > MAX_AMOUNT_CENTS:
        raise SerializationError(f"amount: {cents / 100:.2f} has more than 12 digits")
    return cents.to_bytes((cents + (cents < 0)).bit_length() // 8 + 1, "big", signed=True)


class Encoder:
    """Encodes records of one registered schema. The caller asks the registry once, never per message."""

    def __init__(self, schema: Schema, schema_id: int) -> None:
        self.schema = schema
        self.schema_id = schema_id
        self._prefix = HEADER.pack(MAGIC_BYTE, schema_id)

    def encode(self, record: dict[str, Any]) -> bytes:
        """Return the record in the Confluent wire format.

        Raises:
            SerializationError: the record does not fit the schema; the message names the field.
        """
        buffer = io.BytesIO()
        buffer.write(self._prefix)
        try:
            fastavro.schemaless_writer(buffer, self.schema, record)
        except Exception as error:  # fastavro raises whatever the value's type raises
            raise SerializationError(self._explain(record, error)) from error
        return buffer.getvalue()

    def _explain(self, record: dict[str, Any], error: Exception) -> str:
        """Find the field after a failure, since the writer's own error does not name it."""
        for field in cast(dict[str, Any], self.schema)["fields"]:
            name = field["name"]
            if name not in record and "default" not in field:
                return f"{name}: missing"
            try:
                value = record.get(name, field.get("default"))
                validate(value, field["type"], raise_errors=True)
                fastavro.schemaless_writer(io.BytesIO(), field["type"], value)
            except (ValidationError, ValueError, TypeError, OverflowError) as cause:
                detail = (
                    f" ({cause})" if isinstance(cause, ValueError) and not isinstance(cause, ValidationError) else ""
                )
                return f"{name}: {value!r:.80} does not fit {_type_name(field['type'])}{detail}"
        return f"{type(error).__name__}: {error}"


def load_encoder(registry: SchemaRegistry, schema_dir: Path, topic: str) -> Encoder:
    """The encoder of a topic: its schema file, under the id that the registry has for it.

    Raises:
        UserError: the schema is not registered, or nothing answers.
    """
    text, schema = load_schema(schema_dir / SCHEMA_FILES[topic])
    return Encoder(schema, registry.id_of(topic, text))


def latest_encoder(registry: SchemaRegistry, topic: str) -> Encoder:
    """An encoder of the newest usable schema that is registered for a topic.

    Raises:
        UserError: nothing usable is registered for the topic, or the registry does not answer.
    """
    versions = registry.versions(topic)
    own = own_schema(topic)
    usable = usable_versions(own, versions).by_id if own else dict(versions)
    if not usable:
        raise UserError(
            f"{topic}: no schema in the registry at {registry.url} is one of this platform's; "
            "register it: docker compose run --rm ingestion-init"
        )
    *_, (schema_id, text) = usable.items()
    return Encoder(parse_schema(text), schema_id)


def _type_name(schema: Schema) -> str:
    if isinstance(schema, dict):
        return str(schema.get("logicalType", schema.get("name", schema["type"])))
    return str(schema)


def schema_id_of(value: bytes | None) -> int:
    """Return the schema id of a message.

    Raises:
        SerializationError: the bytes are not in the Confluent wire format.
    """
    if value is None or len(value) < HEADER.size:
        raise SerializationError("shorter than the 5 bytes of the Confluent wire format")
    magic, schema_id = HEADER.unpack_from(value)
    if magic != MAGIC_BYTE:
        raise SerializationError(f"first byte is {magic}, not the 0 of the Confluent wire format")
    return schema_id


def decode(value: bytes, schema: Schema) -> AvroMessage:
    """Decode a message by the schema that wrote it. Bytes after the last field are ignored, as Spark does in Bronze.

    Raises:
        SerializationError: the body is not what the schema says.
    """
    body = io.BytesIO(value)
    body.seek(HEADER.size)
    try:
        return fastavro.schemaless_reader(body, schema, None)
    except Exception as error:  # fastavro raises EOFError, IndexError, UnicodeDecodeError, ... on garbage
        raise SerializationError(f"not Avro of its schema: {type(error).__name__}: {error}") from error


class Decoder:
    """Decodes values by the schemas that wrote them; the registry is asked once for each schema.

    It uses the same schemas as Bronze: ours, and those that add optional fields to it (`schema_rules`).
    """

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._schemas: dict[int, Schema] = {}
        self._refused: dict[int, tuple[float, str]] = {}  # schema id -> when to ask again, and why it is refused

    def decode(self, value: bytes | None) -> Any:
        """The record of a message.

        Raises:
            SerializationError: its schema is unknown or refused, or the bytes are not what the schema says.
            RegistryUnavailable: its schema is a new one, and the registry does not answer.
        """
        schema_id = schema_id_of(value)
        if (schema := self._schemas.get(schema_id)) is None:
            schema = self._look_up(schema_id)
        return decode(value or b"", schema)

    def decode_when_answered(self, value: bytes | None, stop: threading.Event) -> Any:
        """Like `decode`, but wait while the registry does not answer.

        Raises:
            SerializationError: as in `decode`.
            Stopping: the event was set while the registry did not answer.
        """
        try:
            return self.decode(value)
        except RegistryUnavailable:  # outside of it, tenacity would cost more than the decoding of each message
            return self._registry.until_answered(lambda: self.decode(value), stop)

    def _look_up(self, schema_id: int) -> Schema:
        ask_again, problem = self._refused.get(schema_id, (0.0, ""))
        if time.monotonic() >= ask_again:
            text, problem = self._ask(schema_id)
            if not problem:
                schema = self._schemas[schema_id] = parse_schema(text)
                return schema
            if len(self._refused) > _MAX_REFUSED_IDS:
                self._refused.clear()
            self._refused[schema_id] = (time.monotonic() + _REFUSED_SECONDS, problem)
        raise SerializationError(problem)

    def _ask(self, schema_id: int) -> tuple[str, str]:
        """The text of a schema, and why it can't be used; the second is empty if it can."""
        text = self._registry.schema(schema_id)
        if text is None:
            return "", f"schema {schema_id} is not in the registry at {self._registry.url}"
        topic = _topic_of(text)
        if topic is None:
            return "", f"schema {schema_id} is refused: it is no record of this platform"
        versions = self._registry.known_versions(topic)
        if schema_id not in dict(versions):
            versions = [*versions, (schema_id, text)]
        refused = usable_versions(own_schema(topic) or "", versions).refused
        if schema_id in refused:
            return "", f"schema {schema_id} is refused: {refused[schema_id]}"
        try:
            parse_schema(text)
        except (SchemaParseException, UnknownType, ValueError, KeyError, TypeError) as error:
            return "", f"schema {schema_id} is refused: {type(error).__name__}: {error}"
        return text, ""


def _topic_of(text: str) -> str | None:
    """The topic whose records have the name of this schema's."""
    name = record_name(text)
    return next((topic for topic in SCHEMA_FILES if record_name(own_schema(topic) or "") == name), None)


def to_json(record: Any) -> bytes:
    """The text of a record that can't be serialised: what the dead letter topic keeps of it."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):  # an amount that is encoded already
            return str(Decimal(int.from_bytes(value, "big", signed=True)) / 100)
        return str(value)

    return json.dumps(record, default=plain, ensure_ascii=False).encode()
