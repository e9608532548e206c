"""A rule's text as tokens: everything that isn't part of the language is refused here, before a parser sees it."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rules.catalogue import CATALOGUE
from rules.errors import RuleError

MAX_CHARACTERS = 2_000
MAX_TOKENS = 400
# Parentheses, `not` and signs that are open at once.
MAX_DEPTH = 30

KEYWORDS = frozenset({"and", "or", "not", "between", "in", "is", "null", "true", "false"})
FUNCTIONS = frozenset({"abs", "coalesce", "in_list"})

type Kind = Literal["name", "number", "text", "keyword", "function", "sign"]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<refused>--|/\*|==|\|\||::|!(?!=))
    |(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<text>'(?:[^']|'')*')
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign><>|!=|<=|>=|[=<>+*(),-])""",
    re.VERBOSE,
)
_HINTS = {
    "--": "a rule has no comments (write minus a negative number as - (-1)); the rule's note is the place for them",
    "/*": "a rule has no comments; the rule's note is the place for them",
    "==": "write = for 'is equal to'",
    "!": "write not",
    "||": "write or; texts can't be joined",
    "|": "write or",
    "&": "write and",
    "::": "there are no casts",
    ";": "a rule is one expression, without a semicolon",
    '"': "names are written without quotes, texts in single quotes: 'text'",
    "`": "names are written without quotes, texts in single quotes: 'text'",
    "/": "there is no division; multiply the other side: amount > 3 * amount_mean_30d",
    "%": "there is no modulo",
    ".": "a name has no dot",
    "'": "this text has no end; it needs a closing quote",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number, text or sign of a rule. `value` is lower case for words, and without its quotes for texts."""

    kind: Kind
    value: str
    offset: int

    @property
    def is_leaf(self) -> bool:
        """Whether it is a value of its own, in which a branch of the rule's tree ends."""
        return self.kind in ("name", "number", "text") or self.value in ("true", "false", "null")


def tokenize(text: str) -> list[Token]:
    """The tokens of a rule.

    Raises:
        RuleError: the text is empty or too long or too deep, or something in it isn't part of the language.
    """
    if len(text) > MAX_CHARACTERS:
        message = f"the rule has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed"
        raise RuleError(message, text[: MAX_CHARACTERS + 1], MAX_CHARACTERS)
    tokens = list(_scan(text))
    if not tokens:
        raise RuleError("the rule is empty; write a condition such as amount > 500", text, 0)
    if len(tokens) > MAX_TOKENS:
        message = f"the rule has {len(tokens)} words and signs; at most {MAX_TOKENS} are allowed"
        raise RuleError(message, text, tokens[MAX_TOKENS].offset)
    _check_depth(text, tokens)
    _check_order(text, tokens)
    return tokens


def suggest(word: str, known: Iterable[str]) -> str:
    """What a misspelt word could mean, as the end of a message; empty if nothing is similar."""
    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _scan(text: str) -> Iterator[Token]:
    offset, previous_end = 0, -1
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None or match.lastgroup == "refused":
            raise RuleError(_why_not(text, offset, match and match.group()), text, offset)
        kind, value = match.lastgroup, match.group()
        if kind != "space":
            if kind in ("word", "number", "text") and offset == previous_end:
                raise RuleError(f"a space or an operator is missing before {_shown(value)}", text, offset)
            yield _token(text, str(kind), value, offset)
        offset = match.end()
        previous_end = offset if kind in ("word", "number", "text") else -1


def _token(text: str, kind: str, value: str, offset: int) -> Token:
    if kind == "number":
        # A parser adds the zero, too.
        return Token("number", f"0{value}" if value.startswith(".") else value, offset)
    if kind == "text":
        for position, character in enumerate(value):
            if not character.isprintable():
                raise RuleError(f"{_character(character)} can't be part of a text", text, offset + position)
        return Token("text", value[1:-1].replace("''", "'"), offset)
    if kind == "sign":
        return Token("sign", "<>" if value == "!=" else value, offset)
    word = value.lower()
    if word in KEYWORDS:
        return Token("keyword", word, offset)
    called = text[offset + len(value) :].lstrip(" \t\r\n").startswith("(")
    if word in FUNCTIONS:
        if not called:
            raise RuleError(f"{word} is a function: its arguments follow in parentheses", text, offset)
        return Token("function", word, offset)
    if called:
        known = ", ".join(sorted(FUNCTIONS))
        hint = suggest(word, FUNCTIONS)
        raise RuleError(f"{_shown(value)} is no function of rules, which are {known}{hint}", text, offset)
    if word not in CATALOGUE:
        hint = suggest(word, [*CATALOGUE, *KEYWORDS, *FUNCTIONS])
        raise RuleError(f"{_shown(value)} is no name that rules know{hint}", text, offset)
    return Token("name", word, offset)


def _why_not(text: str, offset: int, refused: str | None) -> str:
    """Why what is at the offset isn't part of the language."""
    what = refused or text[offset]
    if hint := _HINTS.get(what):
        return f"{what} can't be used here: {hint}"
    return f"{_character(what)} can't be used in a rule outside of a text"


def _character(character: str) -> str:
    """A character that may not be visible, or that looks like another one."""
    name = unicodedata.name(character, "without a name")
    shown = f"{character} " if character.isprintable() and not character.isspace() else ""
    return f"the character {shown}(U+{ord(character):04X}, {name})"


def _shown(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:40]}…"


def _check_depth(text: str, tokens: list[Token]) -> None:
    """Parsers call themselves for each of these levels."""
    # How many `not` and signs are before each open parenthesis, and before the next value.
    outside: list[int] = []
    prefixes = 0
    previous: Token | None = None
    for token in tokens:
        if token.value == "(" and token.kind == "sign":
            outside.append(prefixes)
            prefixes = 0
        elif token.value == ")" and token.kind == "sign":
            prefixes = 0
            if not outside:
                raise RuleError("this ) closes nothing", text, token.offset)
            outside.pop()
        elif _is_prefix(token, previous):
            prefixes += 1
        elif token.kind != "function":
            prefixes = 0
        if len(outside) + sum(outside) + prefixes > MAX_DEPTH:
            message = f"the rule is nested too deeply; at most {MAX_DEPTH} levels are allowed"
            raise RuleError(message, text, token.offset)
        previous = token
    if outside:
        opened = _last_open(tokens)
        raise RuleError("this ( is never closed", text, opened.offset)


def _last_open(tokens: list[Token]) -> Token:
    opened: list[Token] = []
    for token in tokens:
        if token.kind == "sign" and token.value == "(":
            opened.append(token)
        elif token.kind == "sign" and token.value == ")":
            opened.pop()
    return opened[-1]


def _is_prefix(token: Token, previous: Token | None) -> bool:
    if token.kind == "keyword":
        return token.value == "not"
    return token.kind == "sign" and token.value in "+-" and not (previous and _ends_value(previous))


def _ends_value(token: Token) -> bool:
    return token.is_leaf or (token.kind == "sign" and token.value == ")")


def _begins_value(token: Token) -> bool:
    return token.is_leaf or token.kind == "function" or (token.kind == "sign" and token.value == "(")


def _check_order(text: str, tokens: list[Token]) -> None:
    """Neighbours that can't be: a parser would say less clearly what is missing, or read them as something else."""
    for left, right in pairwise(tokens):
        if _ends_value(left) and _begins_value(right):
            message = f"an operator such as and, = or > is missing before {_shown(right.value)}"
            raise RuleError(message, text, right.offset)
        if left.kind == "function":
            continue
        if left.kind == "keyword" and left.value == "in" and right.value != "(":
            raise RuleError("in needs constants in parentheses: currency in ('EUR', 'USD')", text, right.offset)
        closes = right.kind == "sign" and right.value in ("),")
        if not _ends_value(left) and (closes or _joins(right)):
            message = f"a name or a value is missing before {_shown(right.value)}"
            if left.kind == "keyword" and right.value in ("in", "between", "null"):
                continue
            raise RuleError(message, text, right.offset)
    if _joins(tokens[0]):
        raise RuleError(f"a name or a value is missing before {tokens[0].value}", text, tokens[0].offset)
    if not _ends_value(tokens[-1]):
        end = tokens[-1].offset + len(tokens[-1].value)
        raise RuleError(f"the rule ends too early: something is missing after {tokens[-1].value}", text, end)


def _joins(token: Token) -> bool:
    """Whether a value must be before it."""
    if token.kind == "keyword":
        return token.value in ("and", "or", "between", "in", "is")
    return token.kind == "sign" and token.value in ("=", "<>", "<", "<=", ">", ">=", "*")
