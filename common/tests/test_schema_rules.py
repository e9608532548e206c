"""Which schemas may be registered and read: what the registry lets pass, and what strangers register."""

import json
from typing import Any

import fastavro
import pytest
from fraud_common.schema_rules import change_problem, record_name, removed_fields, usable_versions
from fraud_common.topics import LABELS, SCHEMA_FILES, SCORED, TRANSACTIONS, own_schema

OWN = own_schema(TRANSACTIONS) or ""
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MODE = {"type": "enum", "name": "Mode", "symbols": ["chip", "swipe"]}


def changed(*without: str, **fields: Any) -> str:
    """Our schema without some fields, with others of the given type; a dict with `default` is a whole field."""
    schema = json.loads(OWN)
    by_name = {field["name"]: field for field in schema["fields"] if field["name"] not in without}
    for name, change in fields.items():
        by_name[name] = {"name": name} | (change if "default" in change else {"type": change})
    return json.dumps(schema | {"fields": list(by_name.values())})


def optional(kind: Any) -> dict[str, Any]:
    """A nullable field of a type."""
    return {"type": ["null", kind], "default": None}


OTHER_ENUM = {"type": "enum", "name": "DeviceType", "symbols": ["mobile", "web", "atm", "pos", "watch"]}
# What is wrong with each of these beside our schema, and the field that the message must name.
WRONG = {
    "micros for millis": (changed(event_time={"type": "long", "logicalType": "timestamp-micros"}), "event_time"),
    "local for UTC": (changed(event_time={"type": "long", "logicalType": "local-timestamp-millis"}), "event_time"),
    "no logical type": (changed(event_time="long"), "event_time"),
    "scale": (
        changed(amount={"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 4}),
        "amount",
    ),
    "precision": (
        changed(amount={"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}),
        "amount",
    ),
    "bytes for decimal": (changed(amount="bytes"), "amount"),
    "bytes for string": (changed(city="bytes"), "city"),
    "nullable": (changed(city=["null", "string"]), "city"),
    "values of a map": (
        changed(metadata={"type": {"type": "map", "values": ["null", "string"]}, "default": {}}),
        "metadata",
    ),
    "new symbol": (changed(device_type=OTHER_ENUM), "device_type"),
    "other record": (json.dumps(json.loads(OWN) | {"name": "Payment"}), "com.fraudplatform.Payment"),
    "column of Bronze": (changed(kafka_offset=optional("long")), "kafka_offset"),
    "column of Bronze in capitals": (changed(Loaded_At=optional("long")), "Loaded_At"),
    "no record": ('"string"', "not a record"),
    "no JSON": ("{", "not an Avro schema"),
    "unknown type": (changed(a=optional("Nothing")), "not an Avro schema"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_be_misread_is_neither_registered_nor_read(name: str) -> None:
    """C1: whatever the registry accepts."""
    text, named = WRONG[name]
    assert named in (change_problem(OWN, text) or "")
    usable = usable_versions(OWN, [(1, OWN), (2, text)])
    assert list(usable.by_id) == [1]
    assert named in usable.refused[2]
    assert json.loads(usable.reader) == json.loads(OWN)


@pytest.mark.parametrize(
    ("before", "after"), [("int", "long"), ("int", "double"), ("float", "double"), ("string", "bytes")]
)
def test_a_widened_field_is_refused(before: str, after: str) -> None:
    old, new = changed(points=optional(before)), changed(points=optional(after))
    assert "points: its type is" in (change_problem(old, new) or "")
    assert list(usable_versions(OWN, [(1, OWN), (2, old), (3, new)]).refused) == [3]


def test_a_removed_required_field_is_refused_and_the_earlier_versions_are_read() -> None:
    """C1."""
    without = changed("currency")
    assert change_problem(OWN, without) == "currency: is removed"
    usable = usable_versions(OWN, [(1, OWN), (2, without)])
    assert (list(usable.by_id), usable.refused) == ([1], {2: "currency: is missing"})


def test_a_version_without_an_optional_field_is_read_but_not_registered() -> None:
    without = changed("metadata", "merchant_category")
    usable = usable_versions(OWN, [(1, without), (2, OWN)])
    assert (list(usable.by_id), usable.refused) == ([1, 2], {})
    assert change_problem(without, OWN) is None
    assert removed_fields(OWN, without) == "merchant_category: is removed"
    assert removed_fields(OWN, changed(channel=optional("string"))) is None


def test_optional_fields_of_all_versions_are_read() -> None:
    versions = [changed(a=optional("string")), changed(b=optional(MILLIS)), changed(c={"type": "int", "default": 7})]
    usable = usable_versions(OWN, list(enumerate(versions)))
    assert usable.refused == {}
    fields = {field["name"]: field for field in json.loads(usable.reader)["fields"]}
    assert [fields[name].get("default", "none") for name in "abc"] == [None, None, 7]
    assert all(change_problem(OWN, text) is None for text in versions)
    fastavro.parse_schema(json.loads(usable.reader))


def test_a_field_without_a_default_is_not_registered_but_read_as_an_optional_one() -> None:
    text = changed(channel="string")
    assert change_problem(OWN, text) == "channel: is new and has no default"
    usable = usable_versions(OWN, [(1, OWN), (2, text)])
    assert usable.refused == {}
    assert json.loads(usable.reader)["fields"][-1] == {"name": "channel", "type": ["null", "string"], "default": None}


def test_two_meanings_of_a_new_field_the_first_one_counts() -> None:
    versions = [(1, OWN), (2, changed(a=optional("string"))), (3, changed(a=optional("long")))]
    assert usable_versions(OWN, versions).refused == {3: "a: has another type than in an earlier version"}
    versions[2] = (3, changed(A=optional("string")))
    assert usable_versions(OWN, versions).refused == {3: "a: another field has this name in capitals or small letters"}


def test_a_type_that_several_versions_define_is_defined_once() -> None:
    """Avro allows one definition of each name."""
    versions = [(1, changed(a=optional(MODE))), (2, changed(b=optional(MODE), a=optional("Mode")))]
    usable = usable_versions(OWN, versions)
    assert usable.refused == {}
    fastavro.parse_schema(json.loads(usable.reader))
    other = changed(c=optional(MODE | {"symbols": ["chip"]}))
    assert "com.fraudplatform.Mode" in usable_versions(OWN, [*versions, (3, other)]).refused[3]


def test_a_field_that_is_always_null_has_no_column() -> None:
    usable = usable_versions(OWN, [(1, changed(nothing={"type": "null", "default": None}))])
    assert (list(usable.by_id), json.loads(usable.reader)) == ([1], json.loads(OWN))


def test_comments_properties_and_defaults_change_nothing() -> None:
    text = changed(
        city={"type": {"type": "string", "avro.java.string": "String"}, "doc": "Where.", "default": ""},
        event_time={"type": MILLIS | {"doc": "When."}, "default": 0},
    )
    assert change_problem(OWN, text) is None
    assert usable_versions(OWN, [(1, text)]).refused == {}


def test_without_any_version_messages_are_read_as_our_schema() -> None:
    usable = usable_versions(OWN, [])
    assert (usable.by_id, usable.refused, json.loads(usable.reader)) == ({}, {}, json.loads(OWN))


def test_every_topic_has_a_schema_with_a_name_of_its_own() -> None:
    names = [record_name(own_schema(topic) or "") for topic in SCHEMA_FILES]
    assert names == [
        "com.fraudplatform.Transaction",
        "com.fraudplatform.FraudLabel",
        "com.fraudplatform.ScoredTransaction",
    ]
    assert own_schema("other") is None
    assert list(SCHEMA_FILES) == [TRANSACTIONS, LABELS, SCORED]
