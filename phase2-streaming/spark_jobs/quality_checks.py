"""The quality rules of Bronze: one table of named expressions for each topic.

Each expression is true where a row violates the rule. Such a row goes to the dead letter topic with the names of all
rules that it violates, so that its sender can fix them at once.
"""

from fraud_common.payments import CLOCK_SKEW, EARLIEST_EVENT_TIME
from pyspark.sql import Column
from pyspark.sql import functions as F

_EARLIEST = f"timestamp '{EARLIEST_EVENT_TIME:%Y-%m-%d %H:%M:%S}+00:00'"
_SKEW = f"interval {CLOCK_SKEW.total_seconds():.0f} seconds"

_IDENTITY = {
    "transaction_id_missing": "transaction_id is null or trim(transaction_id) = ''",
    "user_id_missing": "user_id is null or trim(user_id) = ''",
    "event_time_invalid": f"event_time is null or event_time < {_EARLIEST}",
    "event_time_in_future": f"event_time > kafka_timestamp + {_SKEW}",
}

TRANSACTION_RULES: dict[str, str] = _IDENTITY | {
    "amount_not_positive": "amount is null or amount <= 0",
    "merchant_id_missing": "merchant_id is null or trim(merchant_id) = ''",
    "currency_invalid": "currency is null or not currency rlike '^[A-Z]{3}$'",
}

LABEL_RULES: dict[str, str] = _IDENTITY | {
    "is_fraud_missing": "is_fraud is null",
    "reported_before_event": "reported_at is null or reported_at < event_time",
}


def rule_violations(rules: dict[str, str]) -> Column:
    """The names of all rules that a decoded row violates, as an array; empty for a good row."""
    return F.array_compact(F.array(*[F.when(F.expr(condition), F.lit(name)) for name, condition in rules.items()]))
