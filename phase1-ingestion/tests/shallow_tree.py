"""How far two questions get: the average precision of a decision tree of depth 2 on what a person would look at first.

Run it for the table in docs/simulator.md: python3 phase1-ingestion/tests/shallow_tree.py
"""

import numpy as np
from producer.simulator.payments import DAY_MS, HOUR_MS, LEGITIMATE, SCENARIOS, Payments
from producer.simulator.stream import Stream
from sklearn.metrics import average_precision_score
from sklearn.tree import DecisionTreeClassifier

START = 20_000
# The tree learns from the days up to the first, and is evaluated on those from the second on.
LEARN_DAYS, FIRST_DAY_OF_TEST, DAYS = 24, 31, 38
FEATURES = ("amount", "hour", "abroad", "online", "amount against the user's mean", "payments of the user in an hour")


def simple_features(stream: Stream, payments: Payments) -> np.ndarray:
    """FEATURES, a row per payment; the payments must be ordered by event time."""
    homes, countries = np.array(stream.world.homes), np.array([shop.country for shop in stream.world.shops])
    log_amount = np.log(payments.cents)
    order = np.argsort(payments.user, kind="stable")
    user, moment = payments.user[order], payments.event_ms[order]
    first = np.searchsorted(user, user)
    # Users one behind another, so that one search finds the payments of the hour before within the same user.
    line = user * (DAYS + 3) * DAY_MS + moment - START * DAY_MS
    place = np.arange(len(user))
    in_hour = place - np.maximum(first, np.searchsorted(line, line - HOUR_MS))
    before = np.concatenate([[0.0], np.cumsum(log_amount[order])])
    known = np.maximum(place - first, 1)
    lift = np.where(place > first, log_amount[order] - (before[place] - before[first]) / known, 0.0)
    per_user = np.empty((len(user), 2))
    per_user[order] = np.column_stack([lift, in_hour])
    return np.column_stack(
        [
            log_amount,
            payments.event_ms // HOUR_MS % 24,
            countries[payments.merchant] != homes[payments.user],
            payments.device_type <= 1,
            per_user,
        ]
    )


def shallow_tree_precision(stream: Stream) -> dict[str, float]:
    """Average precision on a later week: of all fraud, and of each scenario among the legitimate payments.

    The tree learns from the truth, without delayed and missing labels: more than any model of the platform knows.
    """
    payments = Payments.concat([stream.block(day).payments for day in range(START, START + DAYS)])
    payments = payments.take(np.argsort(payments.event_ms, kind="stable"))
    features, fraud = simple_features(stream, payments), payments.scenario != LEGITIMATE
    day = payments.event_ms // DAY_MS - START
    learn, test = day < LEARN_DAYS, day >= FIRST_DAY_OF_TEST
    tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(features[learn], fraud[learn])
    score = tree.predict_proba(features[test])[:, 1]
    scenario = payments.scenario[test]
    found = {"all": float(average_precision_score(scenario != LEGITIMATE, score))}
    for kind in np.unique(scenario[scenario != LEGITIMATE]):
        rest = (scenario == LEGITIMATE) | (scenario == kind)
        found[SCENARIOS[kind]] = float(average_precision_score(scenario[rest] == kind, score[rest]))
    return found


def main() -> None:
    """Print a line per profile and scenario, for the default number of users."""
    for profile in ("cards", "terminal"):
        for scenario, precision in shallow_tree_precision(Stream(42, 20_000, START, profile=profile)).items():
            print(f"{profile} | {scenario} | {precision:.3f}")


if __name__ == "__main__":
    main()
