"""The names that rules know: what is known of a payment both when it is scored and later, in history.

This is their only definition. `facts` has their values for a live payment; a backtest reads a relation that has a
column for each of them, of the same name and type.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from features import ALL_FEATURES, Feature

type Type = Literal["number", "boolean", "text"]
type Group = Literal["payment", "score", "user", "merchant", "novelty", "device"]


@dataclass(frozen=True, slots=True)
class Name:
    """One name of the rule language.

    name      as rules write it
    type      number (a double), boolean or text
    group     what it depends on; where this is unknown, because features fell back to their defaults, it is NULL
    nullable  whether it is NULL for some payments
    meaning   for people
    """

    name: str
    type: Type
    group: Group
    nullable: bool
    meaning: str


# What is no feature, or has another value in rules than in the model's input: there, the amount is a float32.
_OF_THE_PAYMENT = (
    Name("amount", "number", "payment", False, "Amount in the payment's own currency, to the cent."),
    Name(
        "amount_ref",
        "number",
        "payment",
        True,
        "Amount in euros, to the cent, by the exchange rate of the payment's day; NULL without a known currency.",
    ),
    Name("is_round_amount", "boolean", "payment", False, "The amount is a multiple of 10, such as 50.00."),
    Name("currency", "text", "payment", True, "ISO 4217, such as 'EUR'; NULL if it is not given, or XXX."),
    Name("country", "text", "payment", True, "Where the payment takes place, ISO 3166-1, such as 'DE'."),
    Name("device_id", "text", "payment", True, "The device, as the sender names it."),
    Name("device_type", "text", "payment", True, "'mobile', 'web', 'atm' or 'pos'."),
    Name("merchant_category", "text", "payment", True, "The merchant's category, as the payment gives it."),
    Name("merchant_id", "text", "payment", False, "The merchant."),
    Name("user_id", "text", "payment", False, "The cardholder."),
    Name("is_international", "boolean", "payment", False, "The payment crosses a border, as its sender says."),
)
_OF_THE_SCORE = (
    Name("fraud_probability", "number", "score", False, "The model's score, 0 to 1, as the answer has it."),
    Name("risk_tier", "text", "score", False, "The model's tier: 'low', 'medium' or 'high'."),
)


def _type(feature: Feature) -> Type:
    """Features that are 1 or 0 are booleans; `is_local_currency` has a third value, -1."""
    return "boolean" if feature.name.startswith("is_") and feature.default == 0 else "number"


def _group(feature: Feature) -> Group:
    """A habit compares the payment with the past of the user, or with that of the merchant."""
    if feature.source == "habit":
        return "merchant" if "merchant." in feature.formula else "user"
    return feature.source


def _names() -> dict[str, Name]:
    names = {name.name: name for name in (*_OF_THE_PAYMENT, *_OF_THE_SCORE)}
    for feature in ALL_FEATURES:
        if feature.name not in names:
            group = _group(feature)
            names[feature.name] = Name(feature.name, _type(feature), group, group != "payment", feature.meaning)
    return names


# In the order of `facts.facts_of` and of the columns of a backtest.
CATALOGUE: Mapping[str, Name] = MappingProxyType(_names())
