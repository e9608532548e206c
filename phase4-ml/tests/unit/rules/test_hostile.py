"""Whatever a text is, it is a rule or there is one clear message; and a rule means the same wherever it is used."""

from contextlib import suppress
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st
from rule_expressions import random_rule
from rules.catalogue import CATALOGUE
from rules.language import RuleError, parse
from rules.to_python import compile_rules
from rules.to_trino import predicate

# What a parser could take for something else.
WORDS = """
    and or not between in is null true false abs ( coalesce ( in_list ( ( ) , = <> != < <= > >= + - *
    500 0.5 1e3 1e999 .5 1. 'EUR' '' 'it''s' 'blocked' x'41' u&'' 5amount
    select from where case when then end cast as like exists union all any some distinct interval date
    ; -- /* */ / % || :: . " ` [ ] { } ? @ $ # & | ^ ~ \\ ' := -> => == <=> (+)
"""
PIECES = [*CATALOGUE, *WORDS.split(), "\0", "\n", "\u0430mount", "\u2019", "\u00a0", "\ud800"]
PROGRAMS = st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join)
RULES = st.randoms(use_true_random=False).map(random_rule)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid rule in which a few characters are removed, doubled or replaced by a piece of something."""
    text = draw(RULES)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 5)))
        text = text[:start] + draw(st.sampled_from(["", text[start:end] * 2, *PIECES])) + text[end:]
    return text


def read(text: str) -> None:
    """Whatever is accepted can be used; what isn't is refused in one line that can be shown."""
    try:
        expression = parse(text)
    except RuleError as error:
        assert error.message and error.line >= 1 and error.column >= 1
        assert len(str(error)) < 400
        line = text.split("\n")[error.line - 1]
        assert error.column <= len(line) + 1 and error.excerpt in line
        return
    compile_rules([expression])
    # What Trino gets is a rule of the language again, with the same meaning; so nothing else can be in it.
    if not expression.lists:
        try:
            assert parse(predicate(expression)).tree == expression.tree
        except RuleError as error:
            # It is longer, and has more parentheses.
            assert "at most" in error.message


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=300) | PROGRAMS | mutated())
@example("(" * 1999)
@example("not " * 499)
@example("- " * 999 + "1")
@example("amount" + "+amount" * 284)
@example("amount in (" + "1," * 990 + "1)")
@example("is_night" + " or is_night" * 160)
@example("coalesce(" * 30 + "amount" + ", 1)" * 30 + " > 1")
@example("(" * 30 + "amount in (1)" + ")" * 30)
def test_no_text_gets_through_or_breaks_anything(text: str) -> None:
    read(text)


def test_random_rules_are_rules() -> None:
    accepted = 0
    for seed in range(500):
        with suppress(RuleError):
            parse(random_rule(Random(seed)))
            accepted += 1
    # The others have too many parts.
    assert accepted > 450


def test_a_rule_is_read_the_same_way_from_deep_inside_a_program() -> None:
    text = "abs(" * 30 + "amount" + ")" * 30 + " > 5"

    def deep(levels: int) -> str:
        return deep(levels - 1) if levels else predicate(parse(text))

    assert deep(800) == predicate(parse(text))
