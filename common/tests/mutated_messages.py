"""Messages with faults of every kind: what programs, disks and people make of good ones. Seeded, without Hypothesis,
which takes too long for a hundred thousand.
"""

import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence

# How many a test makes of each topic: `make fuzz` takes more.
MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "3000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))

_EDGES = (0x00, 0x01, 0x02, 0x7F, 0x80, 0xFE, 0xFF)
# Lengths and counts that no message can have, as Avro writes them: large, negative, and without an end.
_LENGTHS = (b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x01", b"\xff\xff\xff\xff\x0f", b"\x80" * 12)


def mutated(originals: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """So many messages, each made of a good one by up to four faults; some have none."""
    draw = random.Random(seed)
    for _ in range(count):
        value = draw.choice(originals)
        for _ in range(draw.randrange(5)):
            value = draw.choice(_FAULTS)(value, draw)
        yield value


def _flip(value: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(value) + 1)
    return value[:at] + bytes(byte ^ (1 << draw.randrange(8)) for byte in value[at : at + 1]) + value[at + 1 :]


def _edge(value: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(value) + 1)
    return value[:at] + bytes([draw.choice(_EDGES)]) + value[at + 1 :]


def _length(value: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(value) + 1)
    return value[:at] + draw.choice(_LENGTHS) + value[at + 1 :]


def _insert(value: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(value) + 1)
    return value[:at] + draw.randbytes(draw.randrange(1, 9)) + value[at:]


def _remove(value: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(value) + 1)
    return value[:at] + value[at + draw.randrange(1, 9) :]


def _cut(value: bytes, draw: random.Random) -> bytes:
    return value[: draw.randrange(len(value) + 1)]


def _repeat(value: bytes, draw: random.Random) -> bytes:
    return value + value[draw.randrange(len(value) + 1) :]


def _zeros(value: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(value) + 1)
    size = draw.randrange(1, 40)
    return value[:at] + bytes(size) + value[at + size :]


def _header(value: bytes, draw: random.Random) -> bytes:
    schema_id = draw.choice((0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 1))
    return struct.pack(">BI", draw.choice((0, 0, 0, 1, 255)), schema_id) + value[5:]


def _random(_: bytes, draw: random.Random) -> bytes:
    return draw.choice((b"\0\0\0\0\1", b"")) + draw.randbytes(draw.randrange(80))


# Faults in the body are the more frequent ones.
_FAULTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _edge) * 3,
    *(_length, _insert, _remove, _zeros) * 2,
    *(_cut, _repeat, _header, _random),
)
