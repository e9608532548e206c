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


def parse_limit(text: str) -> int | None:
    """The limit in MiB. Version 2 says `max` where there is none, version 1 a number near 2 ** 63."""
    if not text.strip().isdigit() or int(text) >= 2**62:
        return None
    return int(text) // MIB


def parse_kills(text: str) -> int:
    """The counter `oom_kill` among lines of a name and a number."""
    counters = dict(line.split() for line in text.splitlines())
    return int(counters.get("oom_kill", 0))


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
