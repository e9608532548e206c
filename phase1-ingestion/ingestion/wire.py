"""Records to bytes and back: Avro in the Confluent wire format (a zero byte, the schema id in four bytes, the body)."""

import io
import json
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import fastavro
from fastavro.schema import SchemaParseException, UnknownType
from fastavro.types import AvroMessage, Schema
from fastavro.validation import ValidationError, validate

from ingestion.errors import SerializationError, UserError

MAGIC_BYTE = 0
HEADER = struct.Struct(">bI")
# Amounts travel as a two's complement integer of cents. Eight bytes hold any that the schema allows.
_AMOUNT_LIMIT_CENTS = 10**12


def load_schema(path: Path) -> tuple[str, Schema]:
    """Read an `.avsc` file: its text for the registry, and the parsed schema for the encoder.

    Raises:
        UserError: the file can't be read or is no Avro schema.
    """
    try:
        text = path.read_text()
        return text, load_schema_text(text)
    except OSError as error:
        raise UserError(f"schema {path}: {error.strerror}; restore the file or correct SCHEMA_DIR") from None
    except (json.JSONDecodeError, SchemaParseException, UnknownType, KeyError) as error:
        raise UserError(f"schema {path} is not a valid Avro schema: {error}; correct the file") from None


def load_schema_text(text: str) -> Schema:
    """Parse a schema that the registry gave."""
    return fastavro.parse_schema(json.loads(text))


def cents_to_bytes(cents: int) -> bytes:
    """The Avro decimal of an amount in cents: the shortest big-endian two's complement.

    fastavro passes bytes of a decimal field through as they are, which saves the cost of a `Decimal` for every message.

    Raises:
        SerializationError: the amount has more than 12 digits.
    """
    if not -_AMOUNT_LIMIT_CENTS < cents < _AMOUNT_LIMIT_CENTS:
        raise SerializationError(f"amount: {cents / 100:.2f} has more than 12 digits")
    return cents.to_bytes((cents + (cents < 0)).bit_length() // 8 + 1, "big", signed=True)


class Encoder:
    """Encodes records of one registered schema. The registry is asked once, by the caller, never per message."""

    def __init__(self, schema: Schema, schema_id: int) -> None:
        self.schema = schema
        self._prefix = HEADER.pack(MAGIC_BYTE, schema_id)

    def encode(self, record: dict[str, Any]) -> bytes:
        """Return the record in the Confluent wire format.

        Raises:
            SerializationError: the record doesn't fit the schema; the message names the field.
        """
        buffer = io.BytesIO()
        buffer.write(self._prefix)
        try:
            fastavro.schemaless_writer(buffer, self.schema, record)
        except Exception as error:  # fastavro raises whatever the value's type raises
            raise SerializationError(self._explain(record, error)) from error
        return buffer.getvalue()

    def _explain(self, record: dict[str, Any], error: Exception) -> str:
        """Only after a failure: find the field, which the writer's own error doesn't name."""
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
    """Decode a message by the schema that wrote it.

    Raises:
        SerializationError: the body is not what the schema says, or something follows it.
    """
    body = io.BytesIO(value[HEADER.size :])
    try:
        record = fastavro.schemaless_reader(body, schema, None)
    except Exception as error:  # fastavro raises EOFError, IndexError, UnicodeDecodeError, ... on garbage
        raise SerializationError(f"not Avro of its schema: {type(error).__name__}: {error}") from error
    if body.read(1):
        raise SerializationError("bytes are left over after the last field")
    return record


def to_json(record: Any) -> bytes:
    """The text of a record that can't be serialised: what the dead letter topic keeps of it."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):  # an amount that is encoded already
            return str(Decimal(int.from_bytes(value, "big", signed=True)) / 100)
        return str(value)

    return json.dumps(record, default=plain, ensure_ascii=False).encode()
