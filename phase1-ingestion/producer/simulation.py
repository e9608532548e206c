"""Which simulated history this stack has: decided at its first start, and kept in the volume producer-state."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fraud_common.errors import UserError

from producer.settings import Settings
from producer.simulator.payments import DAY_MS


@dataclass(frozen=True)
class Simulation:
    """What determines a history. It is stored beside the data, since a change half-way would break both."""

    sim_seed: int
    sim_users: int
    label_delay_scale: float
    start_day: int  # days since 1970, UTC
    live_day: int


def new_simulation(settings: Settings, now_ms: int) -> Simulation:
    """The simulation of a fresh stack: a backfill, then a runway until the simulated clock meets the real one."""
    today = now_ms // DAY_MS
    live_day = today if settings.producer_tps == "natural" else today - settings.runway_days
    return Simulation(
        settings.sim_seed, settings.sim_users, settings.label_delay_scale, live_day - settings.backfill_days, live_day
    )


def load_or_start(path: Path, new: Simulation) -> Simulation:
    """Return the simulation that this stack already has, or start the new one.

    Raises:
        UserError: the settings no longer fit the history that is in Kafka, or the file can't be read or written.
    """
    try:
        if not path.exists():
            write_atomically(path, asdict(new))
            return new
        existing = Simulation(**json.loads(path.read_text()))
    except (OSError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: {error}; the volume producer-state must be writable and keep that file") from None
    for name in ("sim_seed", "sim_users", "label_delay_scale"):
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
