"""Which users are in a share of all: of the rollout of a rule, and of the hold-out.

The same in every process, and in Trino, which has the number of a text as

    from_base(to_hex(substr(sha256(to_utf8(text)), 1, 4)), 16)
"""

from hashlib import sha256

NUMBERS = 1 << 32


def number(text: str) -> int:
    """A number from 0 to NUMBERS - 1 that has nothing to do with the text but is always the same for it."""
    return int.from_bytes(sha256(text.encode()).digest()[:4])


def in_rollout(rule_id: int, percent: int, user_id: str) -> bool:
    """Whether a rule that is rolled out to so many percent of users applies to this one; raising it keeps those."""
    return percent >= 100 or number(f"{rule_id}:{user_id}") * 100 < percent * NUMBERS


def in_holdout(share: float, month: str, user_id: str) -> bool:
    """Whether a user is in the hold-out of a month; each month has others."""
    return number(f"holdout:{month}:{user_id}") < share * NUMBERS
