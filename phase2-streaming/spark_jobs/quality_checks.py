"""The quality rules of Bronze: the platform's definition of a valid payment and label, as expressions over a row.

Each expression is true where a row violates the rule. Such a row goes to the dead letter topic with the names of all
rules that it violates, so that its sender can fix them at once.
"""

from functools import reduce
from operator import or_

from fraud_common.payments import label_rules_sql, payment_rules_sql
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StringType, StructType

TRANSACTION_RULES: dict[str, str] = payment_rules_sql("spark")
LABEL_RULES: dict[str, str] = label_rules_sql("spark")

# Spark's Avro reader takes any bytes for a string; other readers refuse the message.
TEXT_INVALID = "text_invalid"


def rule_violations(rules: dict[str, str], more: dict[str, Column] | None = None) -> Column:
    """The names of all rules that a decoded row violates, as an array; empty for a good row.

    Args:
        rules: conditions as SQL, by name.
        more: conditions as columns, by name.
    """
    conditions = {name: F.expr(condition) for name, condition in rules.items()} | (more or {})
    return F.array_compact(F.array(*[F.when(condition, F.lit(name)) for name, condition in conditions.items()]))


def is_text_invalid(column: Column, kind: DataType) -> Column | None:
    """Whether a text in a column, or within it, is not UTF-8; None for a type without texts."""
    if isinstance(kind, StringType):
        return F.coalesce(~F.is_valid_utf8(column), F.lit(False))
    if isinstance(kind, StructType):
        parts = [is_text_invalid(column[field.name], field.dataType) for field in kind]
    elif isinstance(kind, MapType):
        lists = ((F.map_keys(column), kind.keyType), (F.map_values(column), kind.valueType))
        parts = [is_text_invalid(values, ArrayType(inside)) for values, inside in lists]
    elif isinstance(kind, ArrayType):
        inside = kind.elementType
        if is_text_invalid(column, inside) is None:
            return None
        return F.coalesce(F.exists(column, lambda item: is_text_invalid(item, inside)), F.lit(False))
    else:
        return None
    return any_of([part for part in parts if part is not None])


def any_of(conditions: list[Column]) -> Column | None:
    """Whether one of the conditions is true; None without conditions."""
    return reduce(or_, conditions) if conditions else None
