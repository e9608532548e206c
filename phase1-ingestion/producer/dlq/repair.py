"""Encodes dead letters again: records that never became Avro, and those in which a person has changed fields.

A repaired record has every field that it had, also those that only its own schema version has, and is written with the
newest schema of its topic. Fields that were not changed stay the same to the last bit.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, cast

from fastavro.types import Schema
from fraud_common.avro import Encoder, decode, parse_schema, schema_id_of
from fraud_common.dead_letters import DeadLetter
from fraud_common.errors import SerializationError, UserError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.schema_rules import usable_versions
from fraud_common.topics import LABELS, TRANSACTIONS, own_schema

from producer.dlq.values import default_value, is_empty, plain_type, to_avro
from producer.replay.fields import DEFAULTS, LABEL_DELAY_DAYS
from producer.replay.letters import label_of

Record = dict[str, Any]
# Field names and what a person has typed for them; from a JSON object, any JSON value.
Changes = dict[str, Any]


def parse_changes(text: str) -> Changes:
    """What SET says: FIELD=VALUE, or a JSON object for several fields.

    Raises:
        UserError: it is neither.
    """
    if not text.strip():
        return {}
    if text.lstrip().startswith("{"):
        try:
            changes = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"SET={text}: not a JSON object: {error}") from None
        return dict(changes)
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(
            f'SET={text}: must be FIELD=VALUE, or a JSON object: SET=\'{{"amount": "12.50", "city": "Rome"}}\''
        )
    return {name.strip(): value}


@dataclass(frozen=True)
class Repaired:
    """A message that replaces a dead letter."""

    topic: str
    key: bytes
    value: bytes


@dataclass
class RecordSchema:
    """A version of a topic's schema; records are in Avro's own types."""

    topic: str
    schema_id: int
    text: str

    @cached_property
    def fields(self) -> list[dict[str, Any]]:
        """The fields as in an .avsc file."""
        return list(json.loads(self.text)["fields"])

    @cached_property
    def types(self) -> dict[str, Any]:
        """The type of each field."""
        return {entry["name"]: entry["type"] for entry in self.fields}

    @cached_property
    def defaults(self) -> Record:
        """The values of fields that a record may lack; in the schema's own types."""
        declared = {
            entry["name"]: default_value(entry["default"], entry["type"]) for entry in self.fields if "default" in entry
        }
        own = {
            name: to_avro(value, self.types[name], name)
            for name, value in DEFAULTS.items()
            if name in self.types and name not in declared
        }
        return own | declared

    @cached_property
    def encoder(self) -> Encoder:
        """Encodes values of Avro's own types."""
        return Encoder(self.plain, self.schema_id)

    @cached_property
    def plain(self) -> Schema:
        """The schema without logical types."""
        return parse_schema(json.dumps(plain_type(json.loads(self.text))))

    def converted(self, values: Mapping[str, Any]) -> Record:
        """Those of the values that are fields here, in Avro's own types.

        Raises:
            SerializationError: one does not fit; the message names the field.
        """
        return {name: to_avro(value, self.types[name], name) for name, value in values.items() if name in self.types}


@dataclass
class Repairer:
    """Makes messages of dead letters, with the same changes for all."""

    registry: SchemaRegistry
    changes: Changes
    _versions: dict[str, list[RecordSchema]] = field(default_factory=dict)  # by topic, the newest first
    _writers: dict[tuple[str, int], RecordSchema | str] = field(default_factory=dict)  # or why it can't be used

    def check(self) -> None:
        """Check the changes before anything is sent.

        Raises:
            UserError: a change names no field of any topic, or its value does not fit; or the registry does not answer.
        """
        if not self.changes:
            return
        targets = [self._target(topic, self.changes.keys()) for topic in (TRANSACTIONS, LABELS)]
        known = list(dict.fromkeys(name for target in targets for name in target.types))
        for name in self.changes:
            if name not in known:
                raise UserError(f"SET={name}=…: must be FIELD=VALUE with one of {', '.join(known)}")
        try:
            for target in targets:
                target.converted(self.changes)
        except SerializationError as error:
            raise UserError(f"SET: {error}") from None

    def applies_to(self, letter: DeadLetter) -> bool:
        """Whether the message must be encoded again; others are sent as they are."""
        return letter.is_json or not self.changes.keys().isdisjoint(self._fields(letter.topic))

    def repair(self, letter: DeadLetter) -> list[Repaired]:
        """The messages to be sent instead: the record, and the label that a JSON record has with it.

        Raises:
            SerializationError: the letter can't be read, or a field does not fit; the message names it.
            UserError: the registry does not answer.
        """
        if not letter.is_json:
            record = self._decode(letter)
            target = self._target(letter.topic, record.keys() | self.changes.keys())
            return [_message(target, record | target.converted(self.changes))]
        draft = _parse(letter.value)
        target = self._target(letter.topic, draft.keys() | self.changes.keys())
        record = target.defaults | target.converted(_given(draft | self.changes))
        messages = [_message(target, record)]
        if letter.topic == TRANSACTIONS and (label := self._label(draft, record)):
            messages.append(label)
        return messages

    def _label(self, draft: Record, transaction: Record) -> Repaired | None:
        # Its own fields are under the key `label`; letters of earlier versions have them among the transaction's.
        nested = draft.get("label")
        values = {**(nested if isinstance(nested, Mapping) else draft), **self.changes}
        target = self._target(LABELS, values.keys())
        shared = {name: transaction[name] for name in target.types if name in transaction}
        given = _given({name: value for name, value in values.items() if name not in shared})
        if "is_fraud" not in given:
            return None
        if "reported_at" not in given:
            letter = {"label": {"label_delay_days": LABEL_DELAY_DAYS} | given}
            given |= label_of(letter, _moment(transaction["event_time"])) or {}
        return _message(target, shared | target.converted(_given(given)))

    def _decode(self, letter: DeadLetter) -> Record:
        place = letter.topic, schema_id_of(letter.value)
        if place not in self._writers:
            self._writers[place] = self._writer(*place)
        writer = self._writers[place]
        if isinstance(writer, str):
            raise SerializationError(writer)
        return cast(Record, decode(letter.value or b"", writer.plain))

    def _writer(self, topic: str, schema_id: int) -> RecordSchema | str:
        text = self.registry.schema(schema_id)
        if text is None:
            return f"schema {schema_id} is not in the registry at {self.registry.url}"
        versions = [version for version in self.registry.versions(topic) if version[0] != schema_id]
        refused = usable_versions(own_schema(topic) or "", [*versions, (schema_id, text)]).refused
        if schema_id in refused:
            return f"schema {schema_id} is refused: {refused[schema_id]}"
        return RecordSchema(topic, schema_id, text)

    def _target(self, topic: str, names: Iterable[str]) -> RecordSchema:
        """The newest version that has all of these fields, as far as any version has them."""
        wanted = self._fields(topic).intersection(names)
        versions = self._usable(topic)
        return next((version for version in versions if wanted <= version.types.keys()), versions[0])

    def _fields(self, topic: str) -> set[str]:
        return {name for version in self._usable(topic) for name in version.types}

    def _usable(self, topic: str) -> list[RecordSchema]:
        if topic not in self._versions:
            usable = usable_versions(own_schema(topic) or "", self.registry.versions(topic)).by_id
            if not usable:
                raise UserError(
                    f"{topic}: the registry at {self.registry.url} has no schema that this platform can use; "
                    "register it: docker compose run --rm ingestion-init"
                )
            self._versions[topic] = [RecordSchema(topic, *version) for version in reversed(usable.items())]
        return self._versions[topic]


def _parse(value: bytes | None) -> Record:
    try:
        return dict(json.loads(value or b""))
    except (ValueError, TypeError, RecursionError) as error:
        raise SerializationError(f"not a JSON object: {error}") from None


def _moment(milliseconds: int) -> datetime:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise SerializationError(f"event_time: {milliseconds} ms are beyond any calendar") from None


def _given(values: Mapping[str, Any]) -> Record:
    return {name: value for name, value in values.items() if not is_empty(value)}


def _message(target: RecordSchema, record: Record) -> Repaired:
    record = target.defaults | record
    value = target.encoder.encode(record)
    return Repaired(target.topic, str(record.get("user_id", "")).encode(), value)
