"""What is a rule and what isn't, and what is said of what isn't."""

import pytest
from rules.catalogue import CATALOGUE
from rules.language import MAX_NODES, RuleError, parse
from rules.to_trino import predicate

VALID = {
    "amount > 500": "(amount > 500.0e0)",
    "AMOUNT > 5e2 AND Currency = 'EUR'": "((amount > 500.0e0) and (currency = 'EUR'))",
    "is_new_device_30d": "is_new_device_30d",
    "not is_night": "(not is_night)",
    "is_night = false": "(is_night = false)",
    "amount between 1 and 2 and is_night": "((amount between 1.0e0 and 2.0e0) and is_night)",
    "amount not between 1 and 2": "(not (amount between 1.0e0 and 2.0e0))",
    "country in ('DE', 'O''Neil')": "(country in ('DE', 'O''Neil'))",
    "amount not in (-1, 2.50)": "(not (amount in (-1.0e0, 2.5e0)))",
    "amount_ref is null or amount_ref is not null": "((amount_ref is null) or (not (amount_ref is null)))",
    "amount > 3 * amount_mean_30d - -1": "(amount > ((3.0e0 * amount_mean_30d) - -1.0e0))",
    "abs(amount_zscore_30d) >= 4": "(abs(amount_zscore_30d) >= 4.0e0)",
    "coalesce(amount_ref, amount) <= 1": "(coalesce(amount_ref, amount) <= 1.0e0)",
    "coalesce(is_new_device_30d, false)": "coalesce(is_new_device_30d, false)",
    "in_list(user_id, 'blocked-users')": '"user_id in blocked-users"',
    "1 = 1": "(1.0e0 = 1.0e0)",
    "true or false": "(true or false)",
    "amount > .5 and amount < 1.": "((amount > 0.5e0) and (amount < 1.0e0))",
    "(is_night or is_weekend) and amount\n> 5": "((is_night or is_weekend) and (amount > 5.0e0))",
    "is_night or is_weekend and is_web": "(is_night or (is_weekend and is_web))",
    "not is_night and is_web": "((not is_night) and is_web)",
    "not amount > 5": "(not (amount > 5.0e0))",
    "amount != 5": "(amount <> 5.0e0)",
    "currency = 'Größe 💶 \"; drop table --'": "(currency = 'Größe 💶 \"; drop table --')",
    "amount > +5": "(amount > 5.0e0)",
    "amount_ref > 1e-320": "(amount_ref > 1e-320)",
}


@pytest.mark.parametrize("text", VALID)
def test_a_rule_as_sql(text: str) -> None:
    assert predicate(parse(text)) == VALID[text]


def test_names_and_lists_in_a_fixed_order() -> None:
    expression = parse(
        "in_list(user_id, 'b') and in_list(device_id, 'a') and not in_list(user_id, 'b') and is_night and amount > 5"
    )
    assert expression.names == ("amount", "device_id", "user_id", "is_night")
    assert expression.lists == (("device_id", "a"), ("user_id", "b"))


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_name_can_be_used(name: str) -> None:
    assert parse(f"{name} is not null and coalesce({name}, {name}) is not null").names == (name,)


# The text, what is said of it, and at which line and column.
INVALID = [
    ("", "the rule is empty", 1, 1),
    (" \n ", "the rule is empty", 1, 1),
    ("amuont > 5", "amuont is no name that rules know; did you mean amount", 1, 1),
    ("amount > 5 and\n  is_nigth", "is_nigth is no name that rules know; did you mean is_night", 2, 3),
    ("amount > 500 amount", "an operator such as and, = or > is missing before amount", 1, 14),
    ("amount > 500amount", "a space or an operator is missing before amount", 1, 13),
    ("amount > 5; drop table predictions", "; can't be used here: a rule is one expression", 1, 11),
    ("amount > 5 -- comment", "-- can't be used here: a rule has no comments", 1, 12),
    ("amount /* x */ > 5", "/* can't be used here: a rule has no comments", 1, 8),
    ("amount / 2 > 5", "/ can't be used here: there is no division", 1, 8),
    ("amount % 2 = 0", "% can't be used here: there is no modulo", 1, 8),
    ("amount == 5", "== can't be used here: write =", 1, 8),
    ("not !is_night", "! can't be used here: write not", 1, 5),
    ('"amount" > 5', "names are written without quotes", 1, 1),
    ("`amount` > 5", "names are written without quotes", 1, 1),
    ("currency = 'EUR", "this text has no end", 1, 12),
    ("amount > (select max(amount) from predictions)", "select is no name", 1, 11),
    ("exists (select 1)", "exists is no function of rules, which are abs, coalesce, in_list", 1, 1),
    ("sleep(10) = 1", "sleep is no function", 1, 1),
    ("coalesc(amount, 1) > 1", "did you mean coalesce", 1, 1),
    ("cast(amount as varchar) = '5'", "cast is no function", 1, 1),
    ("amount::varchar = '5'", ":: can't be used here: there are no casts", 1, 7),
    ("amount as x", "as is no name", 1, 8),
    ("case when is_night then true end", "case is no name", 1, 1),
    ("\u0430mount > 5", "(U+0430, CYRILLIC SMALL LETTER A) can't be used", 1, 1),
    ("amount >\u00a05", "(U+00A0, NO-BREAK SPACE) can't be used", 1, 9),
    ("amount > 5\0", "(U+0000, without a name) can't be used", 1, 11),
    ("currency = 'E\0R'", "(U+0000, without a name) can't be part of a text", 1, 14),
    ("currency = 'E\u202eR'", "(U+202E, RIGHT-TO-LEFT OVERRIDE) can't be part of a text", 1, 14),
    ("currency = '\ud800'", "(U+D800, without a name) can't be part of a text", 1, 13),
    ("amount = '5'", "amount is a number and '5' is a text, which can't be compared", 1, 1),
    ("is_night = 1", "can't be compared; write is_night, or not is_night", 1, 1),
    ("amount > null", "null can follow is or is not only", 1, 10),
    ("amount = null", "null can follow is or is not only", 1, 10),
    ("null", "null can follow is or is not only", 1, 1),
    ("coalesce(amount, null) > 1", "null can follow is or is not only", 1, 18),
    ("amount between 5", "between needs two values", 1, 16),
    ("amount between 5 or is_night", "between needs two values", 1, 18),
    ("amount between 'a' and 'b'", "between compares numbers only", 1, 1),
    ("amount > 1e999", "this number is too large", 1, 10),
    ("amount > 1e-999", "this number is too small", 1, 10),
    ("amount", "amount is a number, where a condition is needed, such as amount = …", 1, 1),
    ("is_night and user_id", "user_id is a text, where a condition is needed", 1, 14),
    ("amount + user_id > 5", "a number is needed here, and user_id is a text", 1, 10),
    ("-currency = 'a'", "a number is needed here, and currency is a text", 1, 2),
    ("currency > 'EUR'", "a text can be compared by = and <> only, not by >", 1, 1),
    ("is_night < true", "a boolean can be compared by = and <> only", 1, 1),
    ("currency = 'a' = true", "a value is needed here, and this is a condition", 1, 1),
    ("(amount > 5) is null", "a value is needed here, and this is a condition", 1, 2),
    ("is_night is true", "is can be followed by null or not null only", 1, 13),
    ("amount in ()", "a name or a value is missing before )", 1, 12),
    ("amount in (1,)", "a name or a value is missing before )", 1, 14),
    ("amount in (amount_ref)", "in compares with constants only", 1, 12),
    ("amount in (1, 'a')", "amount is a number and 'a' is a text", 1, 15),
    ("amount in 5", "in needs constants in parentheses", 1, 11),
    ("is_night in (true)", "a boolean can't be compared by in", 1, 1),
    ("coalesce(amount) > 1", "coalesce has at least two arguments", 1, 10),
    ("coalesce(amount, 'a') > 1", "amount is a number and 'a' is a text", 1, 18),
    ("coalesce > 1", "coalesce is a function: its arguments follow in parentheses", 1, 1),
    ("abs() > 1", "a name or a value is missing before )", 1, 5),
    ("abs(amount, 1) > 1", "can't be read at )", 1, 14),
    ("in_list(user_id)", "in_list has two arguments", 1, 9),
    ("in_list('a', 'b')", "the first argument of in_list is a name of a text", 1, 9),
    ("in_list(amount, 'b')", "the first argument of in_list is a name of a text", 1, 9),
    ("in_list(user_id, user_id)", "the second argument of in_list is a list's name in quotes", 1, 18),
    ("in_list(user_id, 'x\"; drop')", "the name of a list has at most 64", 1, 18),
    ("amount >", "the rule ends too early: something is missing after >", 1, 9),
    ("> 5", "a name or a value is missing before >", 1, 1),
    ("amount > and is_night", "a name or a value is missing before and", 1, 10),
    ("amount > 5)", "this ) closes nothing", 1, 11),
    ("(amount > 5", "this ( is never closed", 1, 1),
    ("user_id.amount > 5", ". can't be used here: a name has no dot", 1, 8),
    ("amount > 5 and not", "the rule ends too early", 1, 19),
    ("is_night, is_web", "can't be read", 1, 9),
    ("*", "a name or a value is missing before *", 1, 1),
    ("amount <=> 5", "", 1, 10),
    ("amount -> 5", "", 1, 9),
    ("'a' 'b' = currency", "an operator such as and, = or > is missing before b", 1, 5),
]


@pytest.mark.parametrize(("text", "message", "line", "column"), INVALID)
def test_what_is_wrong_and_where(text: str, message: str, line: int, column: int) -> None:
    with pytest.raises(RuleError) as error:
        parse(text)
    assert message in error.value.message
    assert (error.value.line, error.value.column) == (line, column)
    assert str(error.value).startswith(f"line {line}, column {column}")
    assert len(error.value.excerpt) <= 60


def test_the_limits() -> None:
    parse(" or ".join(["is_night"] * (MAX_NODES // 2)))
    with pytest.raises(RuleError, match="the rule has 101 parts; at most 100 are allowed"):
        parse(" or ".join(["is_night"] * 51))
    parse("(" * 30 + "is_night" + ")" * 30)
    parse("not " * 30 + "is_night")
    parse("abs(" * 30 + "amount" + ")" * 30 + "> 5")
    parse("-(" * 15 + "amount" + ")" * 15 + "> 5")
    for text in (
        "(" * 31 + "is_night" + ")" * 31,
        "not " * 31 + "is_night",
        "- " * 31 + "amount > 5",
        "-(" * 16 + "amount" + ")" * 16 + " > 5",
        "not(" * 16 + "is_night" + ")" * 16,
    ):
        with pytest.raises(RuleError, match="nested too deeply; at most 30"):
            parse(text)
    with pytest.raises(RuleError, match="10,000,000 characters; at most 2,000") as error:
        parse("a" * 10_000_000)
    assert len(str(error.value)) < 200
    with pytest.raises(RuleError, match="words and signs; at most 400"):
        parse("1" + "+1" * 900 + ">1")
