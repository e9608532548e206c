"""What rules are worth: the tables on payments whose answer is known, and all of it on a small simulated world."""

import numpy as np
import pytest
from rule_value import STARTER, Rule, print_tables, read_rules, recall_at, rule_table
from rules.language import parse
from simulated_history import make_history
from training.examples import Examples
from training_world import UNWEIGHTED

DAYS = 2.0


def rule(name: str, state: str = "live", queue: bool = True) -> Rule:
    return Rule(name, parse("amount > 1"), "challenge", queue, state)


def examples(is_fraud: list[bool]) -> Examples:
    n = len(is_fraud)
    moments = np.zeros(n, dtype="datetime64[ms]")
    return Examples(
        matrix=np.zeros((n, 1), dtype=np.float32),
        is_fraud=np.array(is_fraud),
        event_time=moments,
        known_at=moments,
        user_id=np.array([f"u{number}" for number in range(n)], dtype=object),
        fraud_type=np.array([""] * n, dtype=object),
        weight=np.ones(n),
    )


def mask(text: str) -> np.ndarray:
    return np.array([character == "x" for character in text])


def test_marginal_is_what_neither_tier_high_nor_another_live_rule_of_the_queue_finds() -> None:
    rules = [rule("first"), rule("second"), rule("shadow", state="shadow"), rule("silent", queue=False)]
    found = {
        "first": mask("xxxx...."),
        "second": mask("..xx...."),
        "shadow": mask(".xxxx..."),
        "silent": mask("xxxxxxxx"),
    }
    table = rule_table(rules, found, is_high=mask("x......."), is_fraud=mask("xx..x..."), days=DAYS).splitlines()
    assert table[2] == "| `first` | live | yes | 2.0 | 2 | 50.0% | 0.5 | 1 | 100.0% |"
    assert table[3] == "| `second` | live | yes | 1.0 | 0 | 0.0% | 0.0 | 0 | – |"
    assert table[4] == "| `shadow` | shadow | yes | 2.0 | 2 | 50.0% | 0.5 | 1 | 100.0% |"
    assert table[5] == "| `silent` | live | no | 4.0 | 3 | 37.5% | 2.0 | 1 | 25.0% |"


def test_recall_is_at_the_same_number_of_payments() -> None:
    """A rule has the fraud that the model puts last; the queue of three is filled up by score."""
    holdout = examples([True, False, False, False, True])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    found = recall_at(3, mask("x...x"), scores, holdout, seed=1)
    assert (found.reviewed, found.model, found.with_rules) == (3, 0.5, 1.0)
    # With both cards drawn, or only one of them.
    assert 0 <= found.low <= 0.5 <= found.high <= 1


def test_rules_that_find_what_the_model_finds_change_nothing() -> None:
    holdout = examples([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    found = recall_at(3, mask("xxx."), scores, holdout, seed=1)
    assert (found.model, found.with_rules, found.low, found.high) == (1.0, 1.0, 0.0, 0.0)


def test_the_starter_set_on_a_small_world(capsys: pytest.CaptureFixture[str]) -> None:
    settings = UNWEIGHTED.model_copy(
        update={"training_model": "hist_gradient_boosting", "training_minimum_frauds": 1, "training_jobs": 1}
    )
    rules = read_rules(STARTER)
    print_tables(settings, rules, make_history(3, 200, 45, "cards"))
    lines = capsys.readouterr().out.splitlines()
    for each in rules:
        assert any(line.startswith(f"| `{each.name}` | {each.state} |") for line in lines)
    # Lists are empty.
    (blocked,) = (line for line in lines if line.startswith("| `blocked-lists`"))
    assert "| 0.0 | 0 | – | 0.0 | 0 | – |" in blocked
    assert sum(line.endswith(")|") or line.endswith(") |") for line in lines) == 4
