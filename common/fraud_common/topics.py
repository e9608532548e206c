"""The topics of the platform: names, partitions, limits, and the schema of each."""

from dataclasses import dataclass, field

TRANSACTIONS = "transactions.raw"
LABELS = "transactions.labels"
SCORED = "transactions.scored"
DEAD_LETTERS = "transactions.dlq"
REDRIVEN = "transactions.dlq.redriven"

# Larger records of the working topics are refused and become dead letters, whose topic takes ten times as much.
MAX_RECORD_BYTES = 1_000_000
MAX_DEAD_LETTER_BYTES = 10_000_000

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Topic:
    """How a topic is created."""

    partitions: int
    config: dict[str, str] = field(default_factory=dict)


_WORKING = Topic(10, {"max.message.bytes": str(MAX_RECORD_BYTES)})

TOPICS: dict[str, Topic] = {
    TRANSACTIONS: _WORKING,
    LABELS: _WORKING,
    SCORED: _WORKING,
    # Dead letters are kept longer than the messages that they came from.
    DEAD_LETTERS: Topic(3, {"max.message.bytes": str(MAX_DEAD_LETTER_BYTES), "retention.ms": str(30 * _DAY_MS)}),
    # Which dead letters were sent back, so that none is sent back twice: the latest record of each is enough.
    REDRIVEN: Topic(1, {"cleanup.policy": "compact"}),
}

# The file of each topic's Avro schema, in phase1-ingestion/producer/schemas.
SCHEMA_FILES = {
    TRANSACTIONS: "transaction.avsc",
    LABELS: "fraud_label.avsc",
    SCORED: "scored_transaction.avsc",
}


def subject_of(topic: str) -> str:
    """The registry's name for the value schema of a topic, by Confluent's default."""
    return f"{topic}-value"
