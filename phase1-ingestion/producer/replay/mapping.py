"""The SQL that makes payments of a file's rows: the map's columns and expressions, converted and checked.

It is a chain of subqueries, each named for what its rows are. Only null says that something is missing or unreadable,
so that one row's fault never ends the query.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
from fraud_common.errors import UserError
from fraud_common.payments import DEVICE_TYPES, label_rules_sql, payment_rules_sql

from producer.replay import conversions
from producer.replay.column_map import ColumnMap
from producer.replay.conversions import Value
from producer.replay.fields import DAY_MS, DEFAULTS, FIELDS, LABEL_FIELDS, REQUIRED
from producer.replay.source import Source, literal, quoted

# Names of ours in the subqueries: no column of a file begins with this.
_OURS = "\x02"
_IDENTITY, _FAULT = quoted(f"{_OURS}identity"), quoted(f"{_OURS}fault")
_TEXTS = (
    "transaction_id",
    "user_id",
    "currency",
    "merchant_id",
    "merchant_name",
    "country",
    "city",
    "device_id",
    "device_type",
    "merchant_category",
    "fraud_type",
)
_TIMES = ("event_time", "reported_at")
_TRUTHS = ("is_international", "is_fraud")


@dataclass(frozen=True)
class Mapping:
    """What a map makes of a file."""

    query: str  # one row for each row of the file, in its order
    stored: tuple[str, ...]  # the fields that the query has; the others are the same for all rows
    constants: dict[str, Any]
    given: frozenset[str]  # fields that the file or the map gives
    ignored: tuple[str, ...]  # columns that nothing uses


def map_source(connection: duckdb.DuckDBPyConnection, source: Source, column_map: ColumnMap, now: datetime) -> Mapping:
    """The query for a file.

    Args:
        connection: for checking expressions; its time zone is set to the map's.
        now: when the payments will have arrived.

    Raises:
        UserError: the map is wrong, or doesn't fit the file; the message names the key and what is allowed.
    """
    return _Mapper(connection, source, column_map, now).mapping()


class _Mapper:
    def __init__(
        self, connection: duckdb.DuckDBPyConnection, source: Source, column_map: ColumnMap, now: datetime
    ) -> None:
        self._connection = connection
        self._source = source
        self._map = column_map
        self._now = now
        self._by_lower = {name.lower(): name for name in source.columns}
        self._check_times()
        self._cells = {name: conversions.trimmed(Value(quoted(name), kind)) for name, kind in source.columns.items()}
        self._table = self._cleaned()
        self._expressions: dict[str, Value] = {}
        self._sources = self._find_sources()
        self._constants = self._find_constants()

    def mapping(self) -> Mapping:
        stored = tuple(field for field in FIELDS if field in self._sources and field != "metadata")
        if self._metadata() is not None:
            stored += ("metadata",)
        required = tuple(field for field in REQUIRED if field not in stored)
        used = {name for field, name in self._columns().items() if field not in self._expressions}
        used |= {name for field in self._expressions for name in self._names_in(self._columns()[field])}
        used |= {self._column(name) for name in self._map.metadata}
        constants = DEFAULTS | {"fraud_type": None} | self._constants
        return Mapping(
            query=self._checked(stored + required),
            stored=stored + required,
            constants={name: value for name, value in constants.items() if name not in stored + required},
            given=frozenset({*self._sources, *self._map.defaults, *(["metadata"] if self._map.metadata else [])}),
            ignored=tuple(name for name in self._source.columns if name not in used),
        )

    # What the map says, checked.

    def _check_times(self) -> None:
        zone = self._map.time_zone
        if not self._ask("select 1 from pg_timezone_names() where name = ?", [zone]):
            raise UserError(f"time_zone: {zone!r} is not the name of a time zone, such as Europe/Berlin or UTC")
        self._connection.execute(f"set timezone = {literal(zone)}")
        origin = self._map.time_origin or "1970-01-01"
        if self._map.time_origin is None:
            self._origin_ms = 0
        else:
            ((value,),) = self._ask("select epoch_ms(try_cast(? as timestamptz))", [origin])
            if value is None:
                raise UserError(f"time_origin: {origin!r} is not an ISO 8601 date or time, such as 2017-12-01")
            self._origin_ms = value
        if self._map.time_format not in ("iso", "s", "ms"):
            try:
                self._ask(f"select try_strptime('', {literal(self._map.time_format)})")
            except duckdb.Error as error:
                raise UserError(
                    f"time_format: {self._map.time_format!r} is none of iso, s, ms and strptime formats: {_line(error)}"
                ) from None

    def _columns(self) -> dict[str, str]:
        """By field: a column's name, or an expression."""
        same_name = {field: field for field in FIELDS if field in self._source.columns}
        return same_name | {
            field: self._by_lower.get(value.lower(), value) if value not in self._source.columns else value
            for field, value in self._map.columns.items()
        }

    def _column(self, name: str) -> str:
        if name in self._source.columns:
            return name
        if name.lower() in self._by_lower:
            return self._by_lower[name.lower()]
        raise UserError(f"{self._source.name}: has no column {name!r} for metadata; {self._column_list()}")

    def _column_list(self) -> str:
        names = list(self._source.columns)
        return f"its columns are {', '.join(names[:50])}{' …' if len(names) > 50 else ''}"

    def _find_sources(self) -> dict[str, Value]:
        sources: dict[str, Value] = {}
        for field, text in self._columns().items():
            if text in self._source.columns:
                value = Value(quoted(text), self._cells[text].kind)
            elif text.isidentifier():
                raise UserError(f"{self._source.name}: has no column {text!r} for {field}; {self._column_list()}")
            else:
                self._expressions[field] = Value(text, self._kind_of(field, text))
                value = self._expressions[field]
            sources[field] = value
        for field in REQUIRED:
            if field not in sources and field not in self._map.defaults:
                raise UserError(
                    f"{self._source.name}: {field} is required; name its column in the map (columns: {{{field}: …}})"
                )
        for field in self._map.values:
            if field not in sources:
                raise UserError(f"values: {field} has no column in {self._source.name}")
        if self._map.fraud_values and "is_fraud" not in sources:
            raise UserError(f"fraud_values: is_fraud has no column in {self._source.name}")
        return sources

    def _kind_of(self, field: str, expression: str) -> str:
        checked = f"select {_tried(expression)} as x, * from {self._table}"
        try:
            ((_, kind, *_),) = self._connection.sql(f"describe select x.v as v from ({checked})").fetchall()
        except duckdb.Error as error:
            raise UserError(
                f"{self._source.name}: columns.{field}: {expression!r} is neither a column nor an SQL expression over"
                f" columns ({_line(error)}); columns of CSV and JSON files are text, so convert numbers:"
                f' "Amount"::double; {self._column_list()}'
            ) from None
        return str(kind)

    def _names_in(self, expression: str) -> set[str]:
        """The columns that an expression refers to."""
        ((tree,),) = self._ask("select json_serialize_sql(?)", [f"select ({expression}\n)"])
        ((names,),) = self._ask("select json_extract(?, '$..column_names[*]')", [tree])
        lower = {str(name).strip('"').lower() for name in names}
        return {name for name in self._source.columns if name.lower() in lower}

    def _find_constants(self) -> dict[str, Any]:
        constants: dict[str, Any] = {}
        for field, default in self._map.defaults.items():
            if field == "metadata":
                if not isinstance(default, dict):
                    raise UserError("defaults.metadata: must be a mapping of names to texts")
                constants[field] = {str(key): str(value) for key, value in default.items()}
                continue
            raw = Value(literal(str(default)), "VARCHAR")
            ((value,),) = self._ask(f"select {self._converted(field, self._measured(field, raw))}")
            if value is None or (field == "device_type" and str(default).lower() not in DEVICE_TYPES):
                allowed = f"; it is one of {', '.join(DEVICE_TYPES)}" if field == "device_type" else ""
                raise UserError(f"defaults.{field}: {default!r} {_MISFITS.get(field, 'does not fit')}{allowed}")
            rule = payment_rules_sql("duckdb").get(f"{field}_invalid")
            if (
                field not in _TIMES
                and rule
                and self._ask(f"select {rule} from (select {literal(value)} as {field})")[0][0]
            ):
                raise UserError(f"defaults.{field}: {default!r} violates the rule {field}_invalid")
            constants[field] = value
        return constants

    # The chain of subqueries.

    def _cleaned(self) -> str:
        """The file's columns without blanks and null words, and under names of ours the row as it is."""
        raw = ", ".join(f"{quoted(name)} as {self._raw(name)}" for name in self._source.original)
        cells = ", ".join(f"{value.sql} as {quoted(name)}" for name, value in self._cells.items())
        cleaned = ", ".join(
            f"{conversions.without_nulls(Value(quoted(name), value.kind), self._map.null_words)} as {quoted(name)}"
            for name, value in self._cells.items()
        )
        kept = ", ".join(self._raw(name) for name in self._source.original)
        identity, fault = f"{self._source.identity} as {_IDENTITY}", f"{self._source.fault} as {_FAULT}"
        trimmed = f"(select {cells}, {raw}, {identity}, {fault} from {self._source.rows})"
        return f"(select {cleaned}, {kept}, {_IDENTITY}, {_FAULT} from {trimmed})"

    def _raw(self, name: str) -> str:
        return quoted(f"{_OURS}raw {name}")

    def _drafts(self) -> str:
        """For each field what the file has, under the field's name; whether an expression failed under f_field."""
        tried = ", ".join(f"{_tried(value.sql)} as {_ours('x', field)}" for field, value in self._expressions.items())
        table = f"(select *{', ' if tried else ''}{tried} from {self._table})"
        trimmed, drafts = [], []
        for field, source in self._sources.items():
            if field in self._expressions:
                cell = conversions.trimmed(Value(f"{_ours('x', field)}.v", source.kind))
                trimmed.append(f"{cell.sql} as {_ours('t', field)}, {_ours('x', field)} is null as {_ours('f', field)}")
                sql = conversions.without_nulls(Value(_ours("t", field), cell.kind), self._map.null_words)
                value = Value(sql, cell.kind)
            else:
                value = source
            drafts.append(f"{self._renamed(field, value).sql} as {_ours('s', field)}")
        if trimmed:
            table = f"(select *, {', '.join(trimmed)} from {table})"
        return f"(select *{''.join(', ' + draft for draft in drafts)} from {table})"

    def _renamed(self, field: str, value: Value) -> Value:
        """By the map's `values`."""
        if field not in self._map.values:
            return value
        text = conversions.text(value)
        cases = " ".join(
            f"when {literal(old.strip())} then {literal(new)}" for old, new in self._map.values[field].items()
        )
        return Value(f"case {text} {cases} else {text} end", "VARCHAR")

    def _draft(self, field: str) -> Value:
        kind = self._sources[field].kind
        if field in self._map.values:
            kind = "VARCHAR"
        elif field in self._expressions:
            kind = conversions.trimmed(self._expressions[field]).kind
        return Value(_ours("s", field), kind)

    def _measured(self, field: str, draft: Value) -> str:
        if field == "amount":
            return f"{conversions.number(draft, self._map)} * 100"
        if field in _TIMES:
            return conversions.millis(draft, self._map, self._origin_ms)
        if field in _TRUTHS:
            return conversions.truth(draft, self._map.fraud_values if field == "is_fraud" else None)
        if field == "metadata":
            return conversions.metadata(draft)
        if field == "currency":
            return f"upper({conversions.text(draft)})"
        return conversions.text(draft)

    def _converted(self, field: str, measured: str) -> str:
        if field == "amount":
            return conversions.to_cents(measured)
        return conversions.to_millis(measured) if field in _TIMES else measured

    def _values(self) -> str:
        """For each field its value, of the right type, under v_field."""
        measured = [f"{self._measured(field, self._draft(field))} as {_ours('m', field)}" for field in self._sources]
        values = [f"{self._converted(field, _ours('m', field))} as {_ours('v', field)}" for field in self._sources]
        table = f"(select *{''.join(', ' + m for m in measured)} from {self._drafts()})"
        return f"(select *{''.join(', ' + v for v in values)} from {table})"

    def _value(self, field: str) -> str:
        """A field's value, or the map's default, or null."""
        default = self._constants.get(field)
        if default is None or field == "metadata":
            return _ours("v", field) if field in self._sources else "null"
        constant = literal(default) if isinstance(default, str) else str(default)
        return f"coalesce({_ours('v', field)}, {constant})" if field in self._sources else constant

    def _metadata(self) -> str | None:
        parts = [_ours("v", "metadata")] if "metadata" in self._sources else []
        if self._map.metadata:
            cells = ", ".join(
                f"{literal(name)}: {conversions.text(Value(quoted(name), self._cells[name].kind))}"
                for name in map(self._column, self._map.metadata)
            )
            parts.append(f"to_json({{{cells}}})")
        if not parts:
            return None
        # A merge leaves out what is null.
        merged = "'{}'::json"
        for part in [_json_literal(self._constants.get("metadata", {})), *parts]:
            merged = f"json_merge_patch({merged}, coalesce({part}, '{{}}')::json)"
        return f"{merged}::varchar"

    def _records(self) -> str:
        """The fields as the rules know them, and what does not fit, under names of ours."""
        now_ms = round(self._now.timestamp() * 1000)
        event_ms, labelled = self._value("event_time"), f"{self._value('is_fraud')} is not null"
        delay = round(self._map.label_delay_days * DAY_MS)
        # A label that a file has is known by now.
        reported = (
            f"case when {event_ms} is not null then greatest({event_ms}, least({event_ms} + {delay}, {now_ms})) end"
        )
        if "reported_at" in self._sources or "reported_at" in self._constants:
            reported = f"coalesce({self._value('reported_at')}, {reported})"
        fields = {
            field: f"coalesce({self._value(field)}, {literal(DEFAULTS[field])})"
            for field in _TEXTS
            if isinstance(DEFAULTS.get(field), str)
        }
        fields["device_type"] = self._device_type()
        fields |= {
            field: f"{self._value(field)}::varchar" for field in ("transaction_id", "user_id", "merchant_category")
        }
        fields |= {
            "is_international": f"coalesce({self._value('is_international')}, false)",
            "is_fraud": f"{self._value('is_fraud')}::boolean",
            "fraud_type": f"case when {self._value('is_fraud')} then {self._value('fraud_type')}::varchar end",
            "metadata": self._metadata() or "null",
            "cents": f"{self._value('amount')}::bigint",
            "event_ms": f"{event_ms}::bigint",
            "reported_ms": f"case when {labelled} then {reported} end::bigint",
            "device_unknown": self._device_unknown(),
            "bad": self._misfits(),
            "draft": self._draft_json(),
        }
        kept = ", ".join([*(self._raw(name) for name in self._source.original), _IDENTITY])
        selected = ", ".join(f"{sql} as {_OURS_NAMES.get(name, name)}" for name, sql in fields.items())
        return f"(select {selected}, {kept} from {self._values()})"

    def _device_type(self) -> str:
        default = literal(str(self._constants.get("device_type", DEFAULTS["device_type"])).lower())
        if "device_type" not in self._sources:
            return default
        value = f"lower({_ours('v', 'device_type')})"
        return f"case when {conversions.one_of(value, DEVICE_TYPES)} then {value} else {default} end"

    def _device_unknown(self) -> str:
        if "device_type" not in self._sources:
            return "false"
        return f"coalesce(not {conversions.one_of(f'lower({_ours("v", "device_type")})', DEVICE_TYPES)}, false)"

    def _misfits(self) -> str:
        """Sentences about values that don't fit their fields; null if all do."""
        texts = []
        for field in self._sources:
            given = f"{_ours('s', field)} is not null"
            shown = f"left({conversions.text(self._draft(field))}, 80)"
            sentence = f"'{field}: ''' || {shown} || ''' ' || {literal(self._why(field))}"
            conditions = [f"when {given} and {_ours('v', field)} is null then {sentence}"]
            if field == "amount":
                conditions.insert(
                    0,
                    f"when {given} and {_ours('v', field)} is null and abs({_ours('m', field)}) < 1e15"
                    f" then 'amount: ''' || {shown} || ''' has a fraction of a cent'",
                )
            if field in self._expressions:
                conditions.append(f"when {_ours('f', field)} then '{field}: the map''s expression fails for this row'")
            case = f"case {' '.join(conditions)} end"
            if field in LABEL_FIELDS[1:]:  # what there is without a label does not matter
                case = f"case when {self._value('is_fraud')} is not null then {case} end"
            texts.append(case)
        every = f"concat_ws('; ', {', '.join(texts)})" if texts else "''"
        return f"coalesce({_FAULT}, nullif({every}, ''))"

    def _why(self, field: str) -> str:
        if field not in _TIMES:
            return _MISFITS.get(field, "does not fit")
        unit = self._map.time_unit or ("seconds" if self._map.time_origin else None)
        if unit:
            return f"is not a time: {unit} since {self._map.time_origin or '1970'}"
        return f"is not a time of the format {self._map.time_format}"

    def _draft_json(self) -> str:
        """What the file has for each field."""
        cells = ", ".join(f"{literal(field)}: {conversions.text(self._draft(field))}" for field in self._sources)
        return f"to_json({{{cells}}})" if cells else "'{}'"

    def _checked(self, stored: tuple[str, ...]) -> str:
        """The rows with the names of the rules that they violate, and the original of those that are refused."""
        arrived = f"timestamptz '{self._now:%Y-%m-%d %H:%M:%S}+00:00'"
        rules = payment_rules_sql("duckdb", arrived)
        label_rules = label_rules_sql("duckdb", arrived)
        for name in ("reported_before_event", "reported_in_future", "fraud_type_invalid"):
            rules[name] = f"is_fraud is not null and event_time is not null and ({label_rules[name]})"
        # A row without an id gets one.
        for name in ("transaction_id_missing", "transaction_id_invalid"):
            rules[name] = f"transaction_id is not null and ({rules[name]})"
        ours = ", ".join(_OURS_NAMES.values())
        typed = (
            f"(select * exclude ({ours}), {ours}, {_OURS_NAMES['cents']}::decimal(18, 0) * 0.01 as amount,"
            f" {_moment(_OURS_NAMES['event_ms'])} as event_time, {_moment(_OURS_NAMES['reported_ms'])} as reported_at"
            f" from {self._records()})"
        )
        broken = ", ".join(f"({rule}) as {_ours('r', name)}" for name, rule in rules.items())
        broken_any = " or ".join(_ours("r", name) for name in rules)
        names = ", ".join(f"case when {_ours('r', name)} then '{name}' end" for name in rules)
        ruled = f"(select *, {broken} from {typed})"
        violated = f"(select *, case when {broken_any} then concat_ws(',', {names}) end as violated from {ruled})"
        columns = {
            "amount": f"{_OURS_NAMES['cents']} as amount",
            "event_time": f"{_OURS_NAMES['event_ms']} as event_time",
            "reported_at": f"{_OURS_NAMES['reported_ms']} as reported_at",
        }
        selected = [columns.get(field, quoted(field)) for field in stored]
        if "is_fraud" in stored and "reported_at" not in stored:
            selected.append(columns["reported_at"])
        refused = f"({_OURS_NAMES['bad']} is not null or violated is not null)"
        original = ", ".join(f"{literal(name)}: {self._raw(name)}::varchar" for name in self._source.original)
        identity = f"md5({_IDENTITY})::uuid"
        if "transaction_id" in stored:
            identity = f"case when transaction_id is null then {identity} end"
        return (
            f"select {', '.join(selected)}, {identity} as content, {_OURS_NAMES['device_unknown']} as device_unknown,"
            f" {_OURS_NAMES['bad']} as bad, violated, case when {refused} then {_OURS_NAMES['draft']} end as draft,"
            f" case when {refused} then to_json({{{original}}}) end as original from {violated}"
        )

    def _ask(self, query: str, parameters: list[Any] | None = None) -> list[Any]:
        return self._connection.execute(query, parameters or []).fetchall()


_MISFITS = {
    "amount": "is not a number",
    "event_time": "is not a time",
    "reported_at": "is not a time",
    "is_fraud": "is neither true nor false",
    "is_international": "is neither true nor false",
}
_OURS_NAMES = {
    name: quoted(f"{_OURS}{name}") for name in ("cents", "event_ms", "reported_ms", "device_unknown", "bad", "draft")
}


def _ours(prefix: str, field: str) -> str:
    return quoted(f"{_OURS}{prefix} {field}")


def _tried(expression: str) -> str:
    """Null instead of an error; the struct distinguishes an error from a null. The line break ends a comment."""
    return f"try({{'v': ({expression}\n)}})"


def _moment(millis: str) -> str:
    return f"make_timestamptz({millis} * 1000)"


def _json_literal(values: dict[str, str]) -> str:
    return literal(json.dumps(values, ensure_ascii=False))


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
