"""Amounts in rules, to the cent and in one currency: in Python, and as SQL of Trino over doubles.

Every step is one operation of IEEE 754, so that the two agree on every bit.
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


def to_cents_sql(amount: str) -> str:
    """`to_cents` of an expression of type double. `amount_ref` is this of the product of amount and rate."""
    return f"(floor(({amount}) * 1e2 + 5e-1) / 1e2)"


def is_round_sql(amount: str) -> str:
    """`is_round` of an expression of type double."""
    return f"(mod(floor(({amount}) * 1e2 + 5e-1), 1e3) = 0e0)"
