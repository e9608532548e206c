"""What rules cost a prediction: `facts_of`, and one function for 50 and for 100 rules, in µs of processor time.

In the test image of the API:  python3 phase4-ml/bench/rule_cost.py
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from time import process_time
from timeit import repeat

from features import FEATURES
from rules.catalogue import CATALOGUE
from rules.facts import RulePayment, facts_of
from rules.language import parse
from rules.to_python import compile_rules

# Such as analysts write: two to five conditions, most of which the usual payment does not meet.
RULES = (
    "is_new_device_30d and amount > 500 and fraud_probability > 0.05",
    "transactions_10m >= 5 and small_transactions_1h >= 4",
    "amount_zscore_30d > 6 and amount_ref > 1000 and not is_local_currency = 1",
    "is_new_country_30d and is_international and seconds_since_last < 3600",
    "is_round_amount and amount_ref between 500 and 5000 and is_new_merchant_30d and risk_tier <> 'low'",
    "device_users_today >= 4 and is_new_device_30d",
    "merchant_category in ('gambling', 'crypto', 'gift cards') and amount_1d_to_30d > 0.5",
    "in_list(user_id, 'blocked-users') or in_list(device_id, 'blocked-devices')",
    "amount > 3 * amount_mean_30d and transactions_30d > 10",
    "coalesce(amount_ref, amount) > 2000 and is_night and (is_web or is_mobile)",
)
AT = datetime(2026, 1, 1, tzinfo=UTC)
PAYMENT = RulePayment("u1", "m1", 42.5, False, AT, "EUR", "DE", "d1", "web", "groceries")
VECTOR = [0.0 if name.startswith("is_") else 3.0 for name in FEATURES]


class NobodyIsListed:
    """A list without entries."""

    def has(self, value: str, at: datetime) -> bool:
        """Never."""
        return False


def microseconds(call: Callable[[], object], number: int = 2_000) -> float:
    """The median of 15 measurements of the mean of many calls, in processor time: other programs don't count."""
    return median(repeat(call, repeat=15, number=number, timer=process_time)) / number * 1e6


def main() -> None:
    """Measure, and print one line of JSON."""
    facts = facts_of(PAYMENT, VECTOR, 0.01, "low", ())
    lists = {"blocked-users": NobodyIsListed(), "blocked-devices": NobodyIsListed()}
    results = {"names": len(CATALOGUE), "facts_of": microseconds(lambda: facts_of(PAYMENT, VECTOR, 0.01, "low", ()))}
    results["parse"] = microseconds(lambda: parse(RULES[4]), number=50)
    for count in (0, 50, 100):
        expressions = [parse(RULES[number % len(RULES)]) for number in range(count)]
        evaluate = compile_rules(expressions)
        results[f"rules_{count}"] = microseconds(lambda evaluate=evaluate: evaluate(facts, lists, AT))
        results[f"compile_{count}"] = microseconds(lambda expressions=expressions: compile_rules(expressions), number=2)
    print(json.dumps({name: round(value, 3) for name, value in results.items()}))


if __name__ == "__main__":
    main()
