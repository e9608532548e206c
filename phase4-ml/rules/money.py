"""Amounts in rules: to the cent, and in one currency. The macros in dbt's `macros/money.sql` compute the same doubles.

Every step is one operation of IEEE 754, so that SQL and Python agree on every bit.
"""

from math import floor


def to_cents(amount: float) -> float:
    """An amount rounded to a whole number of cents, half a cent upwards, then divided by 100."""
    return floor(amount * 100 + 0.5) / 100


def is_round(amount: float) -> bool:
    """Whether an amount is a multiple of 10 (of 10.00, in its currency)."""
    return floor(amount * 100 + 0.5) % 1000 == 0


def amount_ref(amount: float, rate: float | None) -> float | None:
    """The amount in euros.

    Args:
        amount: as `to_cents` gives it.
        rate: euros for one unit of the currency on the payment's day, or None if that is unknown.
    """
    return None if rate is None else to_cents(amount * rate)
