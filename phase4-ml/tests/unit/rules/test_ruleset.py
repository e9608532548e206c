"""Documents of rulesets: compiled, or refused with what is wrong."""

from typing import Any

import pytest
from rules.ruleset import MAX_RULES, Ruleset, RulesetError
from ruleset_world import NOW, entry, ruleset


def test_a_document_is_compiled() -> None:
    compiled = ruleset(
        entry(1, when="in_list(user_id, 'blocked')", answer="decline"),
        entry(2, lane="exception", answer="approve", expires_at="2026-04-01T00:00:00+00:00", rollout_percent=5),
    )
    first, second = compiled.rules
    assert compiled.ruleset_id == 7 and compiled.lists == {"blocked"}
    assert first.declines_by_list and not second.declines_by_list
    assert (second.key, second.rollout_percent) == ([2, 1], 5)
    assert second.expires_at and second.expires_at > NOW


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"when": "amount >"}, "line 1"),
        ({"when": "shoe_size > 40"}, "shoe_size"),
        ({"answer": "shout"}, "'shout' is none of approve, challenge, decline"),
        ({"state": "draft"}, "draft"),
        ({"rollout_percent": None}, "rule 'rule-1'"),
        ({"expires_at": "tomorrow"}, "rule 'rule-1'"),
    ],
)
def test_what_a_newer_release_may_write_is_refused_with_its_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(RulesetError, match=r"ruleset 7: rule 'rule-1'") as caught:
        ruleset(entry(1, **change))
    assert named in str(caught.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(RulesetError, match="'queue' is missing"):
        ruleset({name: value for name, value in entry().items() if name != "queue"})
    with pytest.raises(RulesetError, match="no list of rules"):
        Ruleset.of(7, {})


def test_there_is_an_end_to_rules() -> None:
    assert len(ruleset(*(entry(number) for number in range(MAX_RULES))).rules) == MAX_RULES
    with pytest.raises(RulesetError, match="201 rules; there may be 200"):
        ruleset(*(entry(number) for number in range(MAX_RULES + 1)))
