"""What the kernel says about the memory of this container; upstream is its control group, version 1 or 2."""

from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """The limit in MiB, None without one, and how many processes the kernel has killed because of it."""

    limit_mib: int | None
    kills: int


def read_memory(root: Path = ROOT) -> Memory:
    """Read both from the file system of control groups; without one there is no limit."""
    limit = _text(root / "memory.max") or _text(root / "memory/memory.limit_in_bytes")
    events = _text(root / "memory.events") or _text(root / "memory/memory.oom_control")
    return Memory(parse_limit(limit), parse_kills(events))


def read_working_set(root: Path = ROOT) -> int | None:
    """The bytes in use, without file caches that can go; None without control groups.

    Raises:
        ValueError: a file is not as the kernel writes it.
    """
    used = _text(root / "memory.current") or _text(root / "memory/memory.usage_in_bytes")
    if not used:
        return None
    counters = _counters(_text(root / "memory.stat") or _text(root / "memory/memory.stat"))
    # Version 1 has both: its own, and that with all groups below it.
    return int(used) - counters.get("total_inactive_file", counters.get("inactive_file", 0))


def parse_limit(text: str) -> int | None:
    """The limit in MiB. Version 2 says `max` where there is none, version 1 a number near 2 ** 63."""
    if not text.strip().isdigit() or int(text) >= 2**62:
        return None
    return int(text) // MIB


def parse_kills(text: str) -> int:
    """The counter `oom_kill` among lines of a name and a number."""
    return _counters(text).get("oom_kill", 0)


def _counters(text: str) -> dict[str, int]:
    return {name: int(number) for name, number in (line.split() for line in text.splitlines())}


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
