"""What a valid payment and a valid label are: the one definition that every part of the platform uses.

Bronze, the API, the scorer, the feature stream, model-quality and replay take their checks from here, in Python or as
SQL, so what Bronze stores every consumer can read. A rule has a name; it appears in dead letters, metrics and reports.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeIs

# Clocks differ; a payment may seem to come from this far ahead of the time at which it arrived.
CLOCK_SKEW = timedelta(minutes=5)
# Before any payment.
EARLIEST_EVENT_TIME = datetime(2000, 1, 1, tzinfo=UTC)
# An amount has at most 12 digits, two of them after the point.
MAX_AMOUNT_CENTS = 10**12 - 1
MAX_ID_CHARACTERS = 128
MAX_COUNTRY_CHARACTERS = 64
# Another device type counts as unknown; it is no reason to refuse a payment.
DEVICE_TYPES = ("mobile", "web", "atm", "pos")

# Regular expressions for whole strings, in the syntax that Python, Rust, Java and RE2 share. Control characters are
# refused since Postgres stores no NUL and a line break in an id is always a mistake.
_CONTROL = r"\x00-\x1f\x7f-\x9f"
# Blanks at the ends are refused: two ids that look the same would be two users.
ID_PATTERN = rf"[^{_CONTROL} ]([^{_CONTROL}]{{0,{MAX_ID_CHARACTERS - 2}}}[^{_CONTROL} ])?"
CURRENCY_PATTERN = "[A-Z]{3}"
COUNTRY_PATTERN = rf"[^{_CONTROL}]{{0,{MAX_COUNTRY_CHARACTERS}}}"
TEXT_PATTERN = rf"[^{_CONTROL}]{{0,{MAX_ID_CHARACTERS}}}"

Dialect = Literal["spark", "duckdb"]

_PAYMENT_IDS = ("transaction_id", "user_id", "merchant_id")
_LABEL_IDS = ("transaction_id", "user_id")
# Optional texts: null and empty are valid.
_PAYMENT_TEXTS = {"country": COUNTRY_PATTERN, "device_id": TEXT_PATTERN}
_LABEL_TEXTS = {"fraud_type": TEXT_PATTERN}
# Where Avro's own types don't make sure that a text is valid UTF-8, this is checked for these, too.
_PAYMENT_STRINGS = (*_PAYMENT_IDS, "currency", "country", "device_id", "merchant_name", "city")
_LABEL_STRINGS = (*_LABEL_IDS, "fraud_type")

_is_id = re.compile(ID_PATTERN).fullmatch
_is_currency = re.compile(CURRENCY_PATTERN).fullmatch
_is_text: dict[str, Callable[[str], Any]] = {
    name: re.compile(pattern).fullmatch for name, pattern in (_PAYMENT_TEXTS | _LABEL_TEXTS).items()
}


def payment_violations(record: Any, arrived: datetime) -> list[str]:
    """The names of all rules that a payment violates; empty for a valid one. Never raises.

    Args:
        record: the fields of schema Transaction, as the Avro decoder returns them; any other value violates the rules.
        arrived: when Kafka or the API received it.
    """
    record = _fields(record)
    violations = [*_id_violations(record, _PAYMENT_IDS), *_time_violations(record, arrived)]
    amount = record.get("amount")
    if not (isinstance(amount, Decimal) and amount.is_finite() and 1 <= amount * 100 <= MAX_AMOUNT_CENTS):
        violations.append("amount_not_positive")
    currency = record.get("currency")
    if not (isinstance(currency, str) and _is_currency(currency)):
        violations.append("currency_invalid")
    return violations + _text_violations(record, _PAYMENT_TEXTS)


def label_violations(record: Any, arrived: datetime) -> list[str]:
    """The names of all rules that a label violates, as above; the record is one of schema FraudLabel."""
    record = _fields(record)
    violations = [*_id_violations(record, _LABEL_IDS), *_time_violations(record, arrived)]
    event_time, reported_at = record.get("event_time"), record.get("reported_at")
    if not isinstance(record.get("is_fraud"), bool):
        violations.append("is_fraud_missing")
    if not _is_moment(reported_at) or (_is_moment(event_time) and reported_at < event_time):
        violations.append("reported_before_event")
    if _is_moment(reported_at) and reported_at > arrived + CLOCK_SKEW:
        violations.append("reported_in_future")
    return violations + _text_violations(record, _LABEL_TEXTS)


def payment_rules_sql(dialect: Dialect, arrived: str = "kafka_timestamp") -> dict[str, str]:
    """The same rules as SQL conditions by name, true where a row violates the rule, and never null.

    Args:
        dialect: whose functions and literals they use.
        arrived: the column or expression for when the payment arrived.
    """
    return (
        _id_rules(dialect, _PAYMENT_IDS)
        | _time_rules(dialect, arrived)
        | {
            "amount_not_positive": f"amount is null or amount < 0.01 or amount * 100 > {MAX_AMOUNT_CENTS}",
            "currency_invalid": f"currency is null or not {_matches(dialect, 'currency', CURRENCY_PATTERN)}",
        }
        | _text_rules(dialect, _PAYMENT_TEXTS, _PAYMENT_STRINGS)
    )


def label_rules_sql(dialect: Dialect, arrived: str = "kafka_timestamp") -> dict[str, str]:
    """The rules of labels as SQL, as above."""
    return (
        _id_rules(dialect, _LABEL_IDS)
        | _time_rules(dialect, arrived)
        | {
            "is_fraud_missing": "is_fraud is null",
            "reported_before_event": "reported_at is null or coalesce(reported_at < event_time, false)",
            "reported_in_future": f"coalesce(reported_at > {arrived} + {_skew()}, false)",
        }
        | _text_rules(dialect, _LABEL_TEXTS, _LABEL_STRINGS)
    )


def _fields(record: Any) -> Mapping[str, Any]:
    """Some Avro schemas are no records; then every field is missing."""
    return record if isinstance(record, Mapping) else {}


def _id_violations(record: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    violations = []
    for name in names:
        value = record.get(name)
        if not isinstance(value, str) or not value.strip(" "):
            violations.append(f"{name}_missing")
        elif not _is_id(value):
            violations.append(f"{name}_invalid")
    return violations


def _time_violations(record: Mapping[str, Any], arrived: datetime) -> list[str]:
    event_time = record.get("event_time")
    if not _is_moment(event_time) or event_time < EARLIEST_EVENT_TIME:
        return ["event_time_invalid"]
    return ["event_time_in_future"] if event_time > arrived + CLOCK_SKEW else []


def _text_violations(record: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    values = ((name, record.get(name)) for name in names)
    return [f"{name}_invalid" for name, value in values if isinstance(value, str) and not _is_text[name](value)]


def _is_moment(value: Any) -> TypeIs[datetime]:
    return isinstance(value, datetime) and value.tzinfo is not None


def _id_rules(dialect: Dialect, names: tuple[str, ...]) -> dict[str, str]:
    rules = {}
    for name in names:
        missing = f"{name} is null or trim({name}, ' ') = ''" if dialect == "duckdb" else _missing_in_spark(name)
        rules[f"{name}_missing"] = missing
        rules[f"{name}_invalid"] = f"not ({missing}) and not {_matches(dialect, name, ID_PATTERN)}"
    return rules


def _missing_in_spark(name: str) -> str:
    return f"{name} is null or trim(both ' ' from {name}) = ''"


def _time_rules(dialect: Dialect, arrived: str) -> dict[str, str]:
    kind = "timestamptz" if dialect == "duckdb" else "timestamp"
    earliest = f"{kind} '{EARLIEST_EVENT_TIME:%Y-%m-%d %H:%M:%S}+00:00'"
    return {
        "event_time_invalid": f"event_time is null or event_time < {earliest}",
        "event_time_in_future": f"coalesce(event_time > {arrived} + {_skew()}, false)",
    }


def _text_rules(dialect: Dialect, patterns: Mapping[str, str], strings: tuple[str, ...]) -> dict[str, str]:
    rules = {
        f"{name}_invalid": f"{name} is not null and not {_matches(dialect, name, pattern)}"
        for name, pattern in patterns.items()
    }
    if dialect == "spark":  # its Avro reader takes any bytes for a string
        rules["text_invalid"] = " or ".join(f"not coalesce(is_valid_utf8({name}), true)" for name in strings)
    return rules


def _matches(dialect: Dialect, column: str, pattern: str) -> str:
    if dialect == "duckdb":
        return f"regexp_full_match({column}, '{pattern}')"
    # Java's `$` also matches before a line break at the end.
    return rf"{column} rlike r'\A(?:{pattern})\z'"


def _skew() -> str:
    return f"interval '{CLOCK_SKEW.total_seconds():.0f}' second"
