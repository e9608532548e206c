"""Random rules: texts of the rule language, as an author could write them, seeded."""

from random import Random

from rules.catalogue import CATALOGUE

NUMBERS = [name for name in CATALOGUE if CATALOGUE[name].type == "number"]
BOOLEANS = [name for name in CATALOGUE if CATALOGUE[name].type == "boolean"]
TEXTS = [name for name in CATALOGUE if CATALOGUE[name].type == "text"]
LISTS = ("blocked", "trusted-merchants", "missing")
# What is likely to be at an edge, in rules and in payments.
EDGES = (0.0, 1.0, 0.5, 0.1, 3.0, 500.0, 9007199254740992.0, 9007199254740993.0, 1e308, 1e-308, 5e-324, 2.5e15)
WORDS = (
    "",
    "EUR",
    "eur",
    "low",
    "it's",
    "a\\b",
    '"',
    "%",
    "Größe",
    "日本",
    "💶",
    " EUR",
    "EUR ",
    "null",
    "d1",
    "u1",
    "--",
)


def random_rule(random: Random, size: int = 12) -> str:
    """A condition with about `size` comparisons at most."""
    return _condition(random, size)


def _condition(random: Random, size: int) -> str:
    if size > 1 and random.random() < 0.8:
        part = random.randint(1, size - 1)
        left, right = _condition(random, part), _condition(random, size - part)
        joined = f"{left} {random.choice(['and', 'or'])} {right}"
        return random.choice([joined, f"({joined})", f"not ({joined})"])
    condition = random.choice([_compared_numbers, _compared_numbers, _between, _texts, _booleans, _null, _in])(random)
    return random.choice([condition, condition, f"not {condition}"])


def _compared_numbers(random: Random) -> str:
    operator = random.choice(["=", "<>", "!=", "<", "<=", ">", ">="])
    return f"{_number(random, 2)} {operator} {_number(random, 2)}"


def _between(random: Random) -> str:
    return f"{_number(random, 1)} {random.choice(['', 'not '])}between {_number(random, 1)} and {_number(random, 1)}"


def _texts(random: Random) -> str:
    name = random.choice(TEXTS)
    match random.randrange(4):
        case 0:
            return f"{name} {random.choice(['=', '<>'])} {random.choice([_text(random), random.choice(TEXTS)])}"
        case 1:
            values = ", ".join(_text(random) for _ in range(random.randint(1, 6)))
            return f"{name} {random.choice(['', 'not '])}in ({values})"
        case 2:
            return f"coalesce({name}, {_text(random)}) = {random.choice(TEXTS)}"
        case _:
            return f"in_list({name}, '{random.choice(LISTS)}')"


def _booleans(random: Random) -> str:
    name = random.choice(BOOLEANS)
    return random.choice(
        [
            name,
            f"{name} = {random.choice([*BOOLEANS, 'true', 'false'])}",
            f"{name} <> {random.choice(BOOLEANS)}",
            f"coalesce({name}, {random.choice(['true', 'false', *BOOLEANS])})",
            random.choice(["true", "false"]),
        ]
    )


def _null(random: Random) -> str:
    value = random.choice([random.choice(list(CATALOGUE)), f"({_number(random, 2)})"])
    return f"{value} is {random.choice(['', 'not '])}null"


def _in(random: Random) -> str:
    values = ", ".join(random.choice(["", "", "-"]) + repr(random.choice(EDGES)) for _ in range(random.randint(1, 12)))
    return f"{_number(random, 1)} {random.choice(['', 'not '])}in ({values})"


def _number(random: Random, depth: int) -> str:
    if depth == 0 or random.random() < 0.4:
        constant = repr(random.choice([*EDGES, round(random.uniform(0, 1000), 2)]))
        return random.choice([*[random.choice(NUMBERS)] * 3, constant, f"- {constant}"])
    left, right = _number(random, depth - 1), _number(random, depth - 1)
    return random.choice(
        [f"({left} {random.choice('+-*')} {right})", f"abs({left})", f"-({left})", f"coalesce({left}, {right})"]
    )


def _text(random: Random) -> str:
    return "'" + random.choice(WORDS).replace("'", "''") + "'"
