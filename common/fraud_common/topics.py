"""The topics of the platform: names, partitions, limits, and the schema of each."""

from dataclasses import dataclass, field
from pathlib import Path

TRANSACTIONS = "transactions.raw"
LABELS = "transactions.labels"
SCORED = "transactions.scored"
DEAD_LETTERS = "transactions.dlq"
REDRIVEN = "transactions.dlq.redriven"

# The consumer group under which the Bronze writer publishes how far it is.
BRONZE_GROUP = "bronze-writer"

# Larger records of the working topics are refused and become dead letters, whose topic takes ten times as much.
MAX_RECORD_BYTES = 1_000_000
MAX_DEAD_LETTER_BYTES = 10_000_000

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Topic:
    """How a topic is created."""

    partitions: int
    config: dict[str, str] = field(default_factory=dict)


# The record's timestamp is the broker's clock: bounds on event times, lag and retention depend on it, so it is never
# the producer's choice.
_BROKER_CLOCK = {"message.timestamp.type": "LogAppendTime"}
_WORKING = Topic(10, {"max.message.bytes": str(MAX_RECORD_BYTES), **_BROKER_CLOCK})

TOPICS: dict[str, Topic] = {
    TRANSACTIONS: _WORKING,
    LABELS: _WORKING,
    SCORED: _WORKING,
    # Dead letters are kept longer than the messages that they came from.
    DEAD_LETTERS: Topic(
        3, {"max.message.bytes": str(MAX_DEAD_LETTER_BYTES), "retention.ms": str(30 * _DAY_MS), **_BROKER_CLOCK}
    ),
    # Which dead letters were sent back, so that none is sent back twice: the latest record of each is enough, and none
    # is needed once its letter is gone.
    REDRIVEN: Topic(1, {"cleanup.policy": "compact,delete", "retention.ms": str(60 * _DAY_MS)}),
}

# The file of each topic's Avro schema.
SCHEMA_FILES = {
    TRANSACTIONS: "transaction.avsc",
    LABELS: "fraud_label.avsc",
    SCORED: "scored_transaction.avsc",
}
_HERE = Path(__file__).resolve().parents
# Where the files are: beside this package in an image, in the folder of phase 1 in a checkout.
SCHEMA_DIRS = (_HERE[1] / "producer" / "schemas", _HERE[2] / "phase1-ingestion" / "producer" / "schemas")


def own_schema(topic: str) -> str | None:
    """The schema of a topic's values that this release knows, as text; None for a topic that is not the platform's."""
    if topic not in SCHEMA_FILES:
        return None
    files = [directory / SCHEMA_FILES[topic] for directory in SCHEMA_DIRS]
    return next(file for file in files if file.is_file()).read_text()


def subject_of(topic: str) -> str:
    """The registry's name for the value schema of a topic, by Confluent's default."""
    return f"{topic}-value"
