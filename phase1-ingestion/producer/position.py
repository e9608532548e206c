"""How far the simulator is, on its own volume: for partitions in which Kafka has none of its messages any more.

Kafka alone says where the stream resumes as long as it has the end of every partition (`resume`). After retention, or
after topics were deleted and made again, it does not, and the whole history would be sent again.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from fraud_common.errors import UserError

from producer.resume import NOTHING_SENT, Resume
from producer.simulation import Simulation, read_simulation, write_atomically

START_OVER = (
    "docker compose stop producer; docker compose run --rm --no-deps producer rm -f /var/lib/producer/position.json; "
    "docker compose start producer"
)
_COLUMNS = ("payments", "label_reported", "label_position")


def save_position(path: Path, simulation: Simulation, acknowledged: Resume) -> None:
    """Keep what Kafka has acknowledged.

    Raises:
        OSError: the file can't be written.
    """
    columns = {name: getattr(acknowledged, name).tolist() for name in _COLUMNS}
    write_atomically(path, {"simulation": asdict(simulation), **columns})


def load_position(path: Path, simulation: Simulation, partitions: int) -> Resume:
    """What was acknowledged before; nothing if there is no file, or if it is of another simulation.

    Raises:
        UserError: the file can't be read, or is of another number of partitions.
    """
    if not path.exists():
        return Resume.nothing(partitions)
    try:
        content = json.loads(path.read_text())
        saved = Resume(*(np.array(content[name], np.int64) for name in _COLUMNS))
        same_simulation = read_simulation(content["simulation"]) == simulation
    except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: {error!r}; to resume from what Kafka has, delete it: {START_OVER}") from None
    if not same_simulation:
        return Resume.nothing(partitions)
    if {len(getattr(saved, name)) for name in _COLUMNS} != {partitions}:
        raise UserError(
            f"{path}: is of {saved.partitions} partitions, the topics have {partitions}; "
            f"give them as many again, or send the history again: {START_OVER}"
        )
    return saved


def combine(in_kafka: Resume, saved: Resume) -> Resume:
    """Where the stream resumes: what Kafka has wins, the file counts where Kafka has nothing."""
    no_payments, no_labels = in_kafka.payments == NOTHING_SENT, in_kafka.label_reported == NOTHING_SENT
    return Resume(
        payments=np.where(no_payments, saved.payments, in_kafka.payments),
        label_reported=np.where(no_labels, saved.label_reported, in_kafka.label_reported),
        label_position=np.where(no_labels, saved.label_position, in_kafka.label_position),
    )


def missing_in_kafka(in_kafka: Resume, saved: Resume) -> list[int]:
    """The partitions of which Kafka has no payment any more, although some were acknowledged."""
    return np.flatnonzero((in_kafka.payments == NOTHING_SENT) & (saved.payments != NOTHING_SENT)).tolist()
