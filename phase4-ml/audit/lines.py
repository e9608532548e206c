"""Whole lines among bytes that a crash may have damaged: what can be stored, and what goes to quarantine.

Pure functions; spool.py reads the files. A line is JSON, which has no raw line break and no zero byte in it, so both
separate lines: after a power cut, a block of a file may be full of zeros.
"""

import json
import re
from dataclasses import dataclass, field

import orjson

# No prediction comes near it. What is longer without a separator is damage.
MAX_LINE_BYTES = 64 << 10

_LINE_BREAK = ord("\n")
_FRAGMENT = re.compile(rb"[^\n\0]+")
# What every prediction has, before any object inside of it.
_KEY = "prediction_id"
_KEY_IN_TEXT = re.compile(f'"{_KEY}"')
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Damage:
    """A range of bytes that is not part of a whole line."""

    start: int
    end: int


@dataclass(slots=True)
class Found:
    """What was found in the first `end` bytes; the rest may be the beginning of a line."""

    end: int
    lines: list[bytes] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)


def find_lines(data: bytes, ended: bool) -> Found:
    """All whole lines, and the ranges between them that are damaged.

    Args:
        data: bytes of a file, from the end of a line on.
        ended: the file has no bytes after these, and gets none.
    """
    found = Found(_complete(data, ended))
    reached = 0
    for fragment in _FRAGMENT.finditer(data, 0, found.end):
        for start, end in _whole(fragment[0]):
            start, end = fragment.start() + start, fragment.start() + end
            _add_damage(found, data, reached, start)
            found.lines.append(data[start:end])
            reached = end
    _add_damage(found, data, reached, found.end)
    return found


def _complete(data: bytes, ended: bool) -> int:
    """Up to where no line can continue behind the data."""
    if ended:
        return len(data)
    separator = max(data.rfind(b"\n"), data.rfind(b"\0")) + 1
    # A line may begin directly behind bytes that are too many for a line.
    return max(separator, len(data) - MAX_LINE_BYTES)


def _add_damage(found: Found, data: bytes, start: int, end: int) -> None:
    # The line break of the line before it is not part of it.
    while start < end and data[start] == _LINE_BREAK:
        start += 1
    if start < end:
        found.damage.append(Damage(start, end))


def _whole(fragment: bytes) -> list[tuple[int, int]]:
    """Where the lines of a fragment are: it is one, or torn ones and whole ones follow each other directly."""
    if _is_prediction(fragment):
        return [(0, len(fragment))]
    # Every byte as one character, so that positions stay the same.
    text = fragment.decode("latin-1")
    lines: list[tuple[int, int]] = []
    reached = 0
    for key in _KEY_IN_TEXT.finditer(text):
        start = text.rfind("{", reached, key.start())
        if start < 0:
            continue
        try:
            _, end = _decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if _is_prediction(fragment[start:end]):
            lines.append((start, end))
            reached = end
    return lines


def _is_prediction(text: bytes) -> bool:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and _KEY in value
