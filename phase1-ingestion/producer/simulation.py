"""Which simulated history this stack has: decided at its first start, and kept in the volume producer-state."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fraud_common.errors import UserError

from producer.settings import Settings
from producer.simulator.payments import DAY_MS
from producer.simulator.stream import Stream
from producer.simulator.world import FIRST_SCHEME, SCHEME


@dataclass(frozen=True)
class Simulation:
    """What determines a history. It is stored beside the data, since a change half-way would break both."""

    sim_seed: int
    sim_users: int
    label_delay_scale: float
    start_day: int  # days since 1970, UTC
    live_day: int
    sim_profile: str
    scheme: int

    def stream(self) -> Stream:
        """The stream with this history."""
        return Stream(
            self.sim_seed,
            self.sim_users,
            self.start_day,
            self.live_day,
            self.label_delay_scale,
            profile=self.sim_profile,
            scheme=self.scheme,
        )


# What a simulation of an earlier release, which did not write it down, is.
_UNWRITTEN: dict[str, Any] = {"sim_profile": "cards", "scheme": FIRST_SCHEME}


def read_simulation(content: dict[str, Any]) -> Simulation:
    """The simulation that a state file describes.

    Raises:
        TypeError: a field is missing, or unknown.
    """
    return Simulation(**(_UNWRITTEN | content))


def new_simulation(settings: Settings, now_ms: int) -> Simulation:
    """The simulation of a fresh stack: a backfill, then a runway until the simulated clock meets the real one."""
    today = now_ms // DAY_MS
    live_day = today if settings.producer_tps == "natural" else today - settings.runway_days
    return Simulation(
        sim_seed=settings.sim_seed,
        sim_users=settings.sim_users,
        label_delay_scale=settings.label_delay_scale,
        start_day=live_day - settings.backfill_days,
        live_day=live_day,
        sim_profile=settings.sim_profile,
        scheme=SCHEME,
    )


def load_or_start(path: Path, new: Simulation) -> Simulation:
    """Return the simulation that this stack already has, or start the new one. An existing one keeps its scheme.

    Raises:
        UserError: the settings no longer fit the history that is in Kafka, or the file can't be read or written.
    """
    try:
        if not path.exists():
            write_atomically(path, asdict(new))
            return new
        existing = read_simulation(json.loads(path.read_text()))
    except (OSError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: {error}; the volume producer-state must be writable and keep that file") from None
    for name in ("sim_profile", "sim_seed", "sim_users", "label_delay_scale"):
        before, now = getattr(existing, name), getattr(new, name)
        if before != now:
            raise UserError(
                f"{name.upper()}={now}: this stack's history was made with {before}; "
                "set it back in .env, or start over with: make clean"
            )
    return existing


def write_atomically(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file; after a crash or a power cut it has the old content or the new one.

    Raises:
        OSError: it can't be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
