"""The starter set: every condition can be read, every list is there, and every rule says why it exists."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rules.catalogue import CATALOGUE
from rules.language import parse

STARTER = Path(__file__).parents[3] / "rules" / "starter.yml"
CONTENT: dict[str, list[dict[str, Any]]] = yaml.safe_load(STARTER.read_text())
RULES = CONTENT["rules"]
IN_FORCE = ("live", "shadow")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_a_rule_can_be_read_and_is_explained(rule: dict[str, Any]) -> None:
    expression = parse(rule["when"])
    assert set(expression.lists) <= {(each["about"], each["name"]) for each in CONTENT["lists"]}
    assert rule["answer"] in ("approve", "challenge", "decline") and rule["state"] in IN_FORCE
    assert len(rule["note"]) > 80, "an analyst who meets the rule in an answer must learn from the note what it means"
    assert ("expires_days" in rule) == (rule.get("lane") == "exception")
    # Only an exception lets a payment through.
    assert (rule["answer"] == "approve") == (rule.get("lane") == "exception")


def test_there_are_ten_rules_and_an_exception() -> None:
    assert [rule.get("lane", "rule") for rule in RULES].count("rule") == 10
    assert len({rule["name"] for rule in RULES}) == len(RULES) == 11


def test_lists_are_about_texts_and_need_approval() -> None:
    for each in CONTENT["lists"]:
        assert CATALOGUE[each["about"]].type == "text"
        assert each["needs_approval"] is True and each["note"]
