"""SQL that converts a column, whatever its type, to what a field needs; null where a value doesn't fit."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from producer.replay.column_map import UNIT_MS, ColumnMap
from producer.replay.source import literal

# From year 1 to 9999: what every part of the platform can represent.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
# A float32 column shows 12.3 as 12.30000019: if a whole cent is nearer than this, the amount is that cent.
_CENT_TOLERANCE = 0.001
_TRUE = ("true", "t", "1", "1.0", "yes", "y")
_FALSE = ("false", "f", "0", "0.0", "no", "n")
_BLANKS = "' \t\r\n'"
# What DuckDB's cast doesn't take.
_MORE_ISO = "['%Y%m%dT%H%M%S', '%Y%m%dT%H%M%SZ', '%Y%m%d%H%M%S', '%Y%m%d']"
_FLOATS = ("FLOAT", "DOUBLE")
_NUMBER = re.compile(r"FLOAT|DOUBLE|DECIMAL|U?(TINY|SMALL|BIG|HUGE)?INT|U?INTEGER")


@dataclass(frozen=True)
class Value:
    """An expression and its type in DuckDB."""

    sql: str
    kind: str

    @property
    def is_number(self) -> bool:
        """Whether it is of a numeric type."""
        return _NUMBER.match(self.kind) is not None

    @property
    def is_nested(self) -> bool:
        """Whether it is a list, struct or map."""
        return self.kind.startswith(("STRUCT", "MAP")) or self.kind.endswith("]")


def trimmed(value: Value) -> Value:
    """Text without blanks at its ends, of bytes and enumerations, too; other types as they are."""
    if value.kind == "BLOB":
        return Value(f"trim(coalesce(try(decode({value.sql})), {value.sql}::varchar), {_BLANKS})", "VARCHAR")
    if value.kind in ("VARCHAR", "JSON") or value.kind.startswith("ENUM"):
        return Value(f"trim({value.sql}::varchar, {_BLANKS})", "VARCHAR")
    return value


def without_nulls(value: Value, null_words: list[str]) -> str:
    """The trimmed value; null for the words that mean it, and for what is not a finite number."""
    if value.kind in _FLOATS:
        return f"case when isfinite({value.sql}) then {value.sql} end"
    if value.kind != "VARCHAR":
        return value.sql
    words = sorted({"", *(word.strip().lower() for word in null_words)})
    longest = max(map(len, words))
    return (
        f"case when length({value.sql}) > {longest} or not {one_of(f'lower({value.sql})', words)} then {value.sql} end"
    )


def one_of(text: str, words: Iterable[str]) -> str:
    """Whether a text is one of these. DuckDB turns a long IN into a join, which keeps whole rows in memory."""
    return f"list_contains([{', '.join(map(literal, words))}], {text})"


def text(value: Value) -> str:
    """Text; whole numbers without a decimal point, whatever type they were stored as."""
    sql = value.sql
    if value.kind in _FLOATS:
        return (
            f"case when {sql} = trunc({sql}) and abs({sql}) < 1e18 then {sql}::bigint::varchar else {sql}::varchar end"
        )
    if value.kind.startswith("DECIMAL"):
        return f"case when {sql} = trunc({sql}) then {sql}::hugeint::varchar else {sql}::varchar end"
    return f"to_json({sql})::varchar" if value.is_nested else f"{sql}::varchar"


def number(value: Value, column_map: ColumnMap) -> str:
    """A double; text as the map says that numbers are written."""
    if value.is_number:
        return f"{value.sql}::double"
    if value.kind != "VARCHAR":
        return "null::double"
    point = column_map.decimal
    thousands = column_map.thousands or ("." if point == "," else None)
    if thousands is None and point == ".":
        # The cast also takes 1_000.
        return f"case when not contains({value.sql}, '_') then try_cast({value.sql} as double) end"
    group = "[ \u00a0\u202f]" if thousands == " " else re.escape(thousands or "")
    digits = rf"(\d+|\d{{1,3}}({group}\d{{3}})+)" if thousands else r"\d+"
    pattern = literal(rf"[+-]?{digits}({re.escape(point)}\d*)?([eE][+-]?\d+)?")
    plain = f"regexp_replace({value.sql}, {literal(group)}, '', 'g')" if thousands else value.sql
    return (
        f"case when regexp_full_match({value.sql}, {pattern})"
        f" then try_cast(replace({plain}, {literal(point)}, '.') as double) end"
    )


def to_cents(hundredths: str) -> str:
    """An amount in hundredths, of a double; null for a fraction of a cent. Up to twelve digits that is exact."""
    return (
        f"case when abs({hundredths}) < 1e15 and abs({hundredths} - round({hundredths})) <= {_CENT_TOLERANCE}"
        f" then round({hundredths})::bigint end"
    )


def to_millis(millis: str) -> str:
    """A time that the platform can represent; null for others."""
    return f"case when {millis} between {_FIRST_MS} and {_LAST_MS} then {millis} end"


def millis(value: Value, column_map: ColumnMap, origin_ms: int) -> str:
    """A time in milliseconds since 1970 UTC.

    Args:
        origin_ms: what numbers count from, if the map has a time_origin or a time_unit.
    """
    kind, time_format = value.kind, column_map.time_format
    unit = {"s": "seconds", "ms": "milliseconds"}.get(time_format) or column_map.time_unit
    if column_map.time_origin is not None:
        unit = unit or "seconds"
    if kind in ("TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_S", "TIMESTAMP_MS", "DATE"):
        result = _moment_ms(f"{value.sql}::timestamp", column_map.time_zone)
    elif kind.startswith("TIMESTAMP"):
        result = f"epoch_ms({value.sql}::timestamptz)"
    elif unit:
        result = f"(round({number(value, column_map)} * {UNIT_MS[unit]} + {origin_ms}))::bigint"
    elif value.is_number:
        result = f"{value.sql}::bigint"
    elif kind != "VARCHAR":
        return "null::bigint"
    elif time_format == "iso":
        # DuckDB's session has the map's time zone.
        fallback = _moment_ms(f"try_strptime({value.sql}, {_MORE_ISO})", column_map.time_zone)
        result = f"coalesce(epoch_ms(try_cast({value.sql} as timestamptz)), {fallback})"
    elif "%z" in time_format:
        result = f"epoch_ms(try_strptime({value.sql}, {literal(time_format)}))"
    else:
        result = _moment_ms(f"try_strptime({value.sql}, {literal(time_format)})", column_map.time_zone)
    return f"try({result})"


def _moment_ms(timestamp: str, time_zone: str) -> str:
    """Of a timestamp without a zone."""
    if time_zone == "UTC":
        return f"epoch_ms({timestamp})"
    return f"epoch_ms(timezone({literal(time_zone)}, {timestamp}))"


def truth(value: Value, true_values: list[str] | None = None) -> str:
    """A truth value, from the usual spellings, or true for these values and false for all others."""
    if value.kind == "BOOLEAN" and not true_values:
        return value.sql
    lower = f"lower({text(value)})"
    if true_values:
        return one_of(lower, [word.strip().lower() for word in true_values])
    return f"case when {one_of(lower, _TRUE)} then true when {one_of(lower, _FALSE)} then false end"


def metadata(value: Value) -> str:
    """A JSON object, as text: of a map, a struct or such a text; any other text under the key metadata."""
    if value.kind.startswith(("STRUCT", "MAP")):
        return f"to_json({value.sql})::varchar"
    as_text = text(value)
    return (
        f"case when json_valid({as_text}) and starts_with({as_text}, '{{') then {as_text}"
        f" else to_json({{'metadata': {as_text}}})::varchar end"
    )
