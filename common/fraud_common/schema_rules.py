"""Which versions of a topic's schema may be registered and read: our schema, and any that adds optional fields to it.

The registry checks less than that: it lets a field change from milliseconds to microseconds or from two decimals to
four, after which old amounts and times would be read wrongly. So registration, Bronze and the Python decoder all ask
these functions and take the same decision, whatever the registry holds. They are pure: JSON in, decisions out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALLOWED = 'the only change allowed is to add an optional field with a default, such as ["null", "string"] with null'

# Columns that Bronze adds to the fields of a record, or uses while it checks one. Spark ignores case.
_RESERVED = {"schema_id", "loaded_at", "is_late", "event_date", "reasons", "record", "undecodable"}
_RESERVED_PREFIX = "kafka_"
_NAMED = ("record", "enum", "fixed")
_PRIMITIVE = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


@dataclass(frozen=True)
class UsableVersions:
    """What may be read of the versions that a registry has."""

    by_id: dict[int, str]  # schema id -> the schema that wrote the message, JSON text
    refused: dict[int, str]  # schema id -> why it is not used
    reader: str  # a schema with the fields of all usable versions, JSON text


def usable_versions(own: str, versions: Sequence[tuple[int, str]]) -> UsableVersions:
    """Decide which versions may be read, and make the schema that all of them are read as.

    A version is refused if a field of ours is missing (unless it is optional) or has another type, or if a field that
    it adds can't stand beside those of the earlier versions.

    Args:
        own: the schema that this release of the platform knows.
        versions: id and text of each version, the oldest first.
    """
    own_schema = json.loads(own)
    reader = _Reader(own_schema)
    by_id: dict[int, str] = {}
    refused: dict[int, str] = {}
    for schema_id, text in versions:
        problem = _not_ours(own_schema, text) or reader.add(text)
        if problem:
            refused[schema_id] = problem
        else:
            by_id[schema_id] = text
    return UsableVersions(by_id, refused, reader.text())


def change_problem(before: str, after: str) -> str | None:
    """Why a schema may not follow another one in the registry; None if it may."""
    if (problem := _unreadable(after)) is not None:
        return problem
    old, new = json.loads(before), json.loads(after)
    if (problem := _other_record(old, new)) is not None:
        return problem
    old_fields, new_fields = _fields(old), _fields(new)
    for name, field in old_fields.items():
        if name not in new_fields:
            if "default" not in field:
                return f"{name}: is removed"
        elif (problem := _type_change(old, new, name)) is not None:
            return problem
    for name in new_fields.keys() - old_fields.keys():
        if "default" not in new_fields[name]:
            return f"{name}: is new and has no default"
    return _reserved(new_fields.keys() - old_fields.keys())


def removed_fields(own: str, after: str) -> str | None:
    """Why a schema may not be registered beside ours: it lacks a field, even an optional one. None if it has all."""
    missing = _fields(json.loads(own)).keys() - _fields(json.loads(after)).keys()
    return f"{min(missing)}: is removed" if missing else None


def record_name(text: str) -> str | None:
    """The full name of a record schema; None for any other schema."""
    return None if _unreadable(text) else _full_name(json.loads(text), "")


class _Reader:
    """Grows into the schema with the fields of all usable versions."""

    def __init__(self, own: dict[str, Any]) -> None:
        self._own = own
        self._fields: list[dict[str, Any]] = list(own["fields"])
        self._shapes, self._named = _shapes_and_names(own)
        self._defined = set(self._named)  # the names that the reader's own fields define

    def add(self, text: str) -> str | None:
        """Take over the fields that a version adds; if it can't be done, change nothing and return why."""
        schema = json.loads(text)
        shapes, named = _shapes_and_names(schema)
        new = [field for name, field in _fields(schema).items() if name not in self._shapes]
        for name in shapes.keys() & self._shapes.keys():
            if shapes[name] != self._shapes[name]:
                return f"{name}: has another type than in an earlier version"
        for name in named.keys() & self._named.keys():
            if named[name] != self._named[name]:
                return f"{name}: this type is defined in another way in an earlier version"
        taken = {name.lower() for name in self._shapes}
        for name in (field["name"].lower() for field in new):
            if name in taken:
                return f"{name}: another field has this name in capitals or small letters"
            taken.add(name)
        if (problem := _reserved(field["name"] for field in new)) is not None:
            return problem
        # A field that can only be null has nothing to store.
        for field in (field for field in new if field["type"] not in ("null", ["null"])):
            self._fields.append(self._optional(field))
        self._shapes |= shapes
        self._named |= named
        return None

    def text(self) -> str:
        """The schema as JSON."""
        return json.dumps(self._own | {"fields": self._fields})

    def _optional(self, field: dict[str, Any]) -> dict[str, Any]:
        """A field for readers: messages of other versions lack it. Aliases are dropped, since they rename others."""
        kind = _without_redefinitions(field["type"], self._defined, _namespace(self._own))
        if "default" in field:
            return {"name": field["name"], "type": kind, "default": field["default"]}
        options = [option for option in (kind if isinstance(kind, list) else [kind]) if option != "null"]
        return {"name": field["name"], "type": ["null", *options], "default": None}


def _not_ours(own: dict[str, Any], text: str) -> str | None:
    if (problem := _unreadable(text)) is not None:
        return problem
    schema = json.loads(text)
    if (problem := _other_record(own, schema)) is not None:
        return problem
    fields = _fields(schema)
    for name, field in _fields(own).items():
        if name in fields:
            if (problem := _type_change(own, schema, name)) is not None:
                return problem
        elif "default" not in field:
            return f"{name}: is missing"
    return None


def _unreadable(text: str) -> str | None:
    """Whether a text is no record schema, by the few things that the rest of this module relies on."""
    try:
        schema = json.loads(text)
        if not isinstance(schema, dict) or schema.get("type") != "record":
            return "is not a record"
        _shapes(schema)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"is not an Avro schema ({type(error).__name__}: {error})"
    return None


def _other_record(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    old, new = _full_name(before, ""), _full_name(after, "")
    return None if old == new else f"the record is {new}, not {old}"


def _type_change(before: dict[str, Any], after: dict[str, Any], name: str) -> str | None:
    if _shapes(before)[name] == _shapes(after)[name]:
        return None
    old, new = (json.dumps(_fields(schema)[name]["type"]) for schema in (before, after))
    return f"{name}: its type is {new:.200}, not {old:.200}"


def _reserved(names: Any) -> str | None:
    for name in sorted(names):
        if name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIX):
            return f"{name}: Bronze has a column of this name"
    return None


def _fields(schema: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {field["name"]: field for field in schema["fields"]}


def _namespace(schema: Mapping[str, Any]) -> str:
    return _full_name(schema, "").rpartition(".")[0]


def _full_name(schema: Mapping[str, Any], namespace: str) -> str:
    name, own = str(schema["name"]), schema.get("namespace", namespace)
    return name if "." in name or not own else f"{own}.{name}"


def _shapes(schema: dict[str, Any]) -> dict[str, Any]:
    """What decides how the bytes of each field are read: types, logical types, names and symbols; no comments."""
    shapes, _ = _shapes_and_names(schema)
    return shapes


def _shapes_and_names(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The shape of each field, and of each named type that the fields define."""
    record = _full_name(schema, "")
    names: dict[str, Any] = {record: record}  # a record may contain itself
    shapes = {field["name"]: _shape(field["type"], names, _namespace(schema)) for field in schema["fields"]}
    del names[record]
    return shapes, names


def _shape(kind: Any, names: dict[str, Any], namespace: str) -> Any:
    if isinstance(kind, list):
        return ("union", *(_shape(option, names, namespace) for option in kind))
    if isinstance(kind, str):
        full_name = kind if "." in kind or not namespace else f"{namespace}.{kind}"
        return kind if kind in _PRIMITIVE else names[full_name]
    inner = kind["type"]
    logical = (kind["logicalType"], kind.get("precision"), kind.get("scale", 0)) if "logicalType" in kind else ()
    if inner in _NAMED:
        full_name = _full_name(kind, namespace)
        names[full_name] = full_name  # a record may contain itself
        names[full_name] = (inner, full_name, _inside(kind, names, full_name.rpartition(".")[0]), *logical)
        return names[full_name]
    if inner in ("array", "map"):
        return (inner, _shape(kind["items" if inner == "array" else "values"], names, namespace))
    shape = _shape(inner, names, namespace)
    return (shape, *logical) if logical else shape


def _inside(kind: Mapping[str, Any], names: dict[str, Any], namespace: str) -> Any:
    if kind["type"] == "enum":
        return tuple(kind["symbols"])
    if kind["type"] == "fixed":
        return kind["size"]
    return tuple((field["name"], _shape(field["type"], names, namespace)) for field in kind["fields"])


def _without_redefinitions(kind: Any, defined: set[str], namespace: str) -> Any:
    """A type in which a name that is defined already is only referred to: Avro allows one definition of each name."""
    if isinstance(kind, list):
        return [_without_redefinitions(option, defined, namespace) for option in kind]
    if isinstance(kind, str):
        return kind
    inner = kind["type"]
    if inner in ("array", "map"):
        key = "items" if inner == "array" else "values"
        return kind | {key: _without_redefinitions(kind[key], defined, namespace)}
    if inner not in _NAMED:
        return kind
    full_name = _full_name(kind, namespace)
    if full_name in defined:
        return full_name
    defined.add(full_name)
    if inner == "record":
        inner_namespace = full_name.rpartition(".")[0]
        fields = [
            field | {"type": _without_redefinitions(field["type"], defined, inner_namespace)}
            for field in kind["fields"]
        ]
        return kind | {"fields": fields}
    return kind
