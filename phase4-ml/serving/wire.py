"""Bytes to records and back: Avro in the Confluent wire format (a zero byte, the schema id in four bytes, the body)."""

import io
import json
import struct
from typing import Any

import fastavro
from fastavro.types import AvroMessage, Schema

MAGIC_BYTE = 0
HEADER = struct.Struct(">bI")


class SerializationError(ValueError):
    """Bytes that are not what they should be, or a record that does not fit; the message says which part."""


def parse_schema(text: str) -> Schema:
    """A schema as the registry gives it."""
    return fastavro.parse_schema(json.loads(text))


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
    body = io.BytesIO(value)
    body.seek(HEADER.size)
    try:
        record = fastavro.schemaless_reader(body, schema, None)
    except Exception as error:  # fastavro raises EOFError, IndexError, OverflowError, ... on garbage
        raise SerializationError(f"not Avro of its schema: {type(error).__name__}: {error}") from error
    if body.read(1):
        raise SerializationError("bytes are left over after the last field")
    return record


def encode(record: dict[str, Any], schema: Schema, schema_id: int) -> bytes:
    """The record in the Confluent wire format."""
    buffer = io.BytesIO()
    buffer.write(HEADER.pack(MAGIC_BYTE, schema_id))
    fastavro.schemaless_writer(buffer, schema, record)
    return buffer.getvalue()
