"""The topics as one table."""

import pytest
from fraud_common import topics
from fraud_common.topics import DEAD_LETTERS, LABELS, REDRIVEN, SCHEMA_FILES, SCORED, TOPICS, TRANSACTIONS, subject_of


def test_the_contract() -> None:
    assert {name: topic.partitions for name, topic in TOPICS.items()} == {
        "transactions.raw": 10,
        "transactions.labels": 10,
        "transactions.scored": 10,
        "transactions.dlq": 3,
        "transactions.dlq.redriven": 1,
    }
    assert tuple(SCHEMA_FILES) == (TRANSACTIONS, LABELS, SCORED)


@pytest.mark.parametrize("topic", [TRANSACTIONS, LABELS, SCORED])
def test_what_a_working_topic_refuses_the_dead_letter_topic_accepts(topic: str) -> None:
    limit = int(TOPICS[topic].config["max.message.bytes"])
    assert limit == topics.MAX_RECORD_BYTES
    assert 10 * limit == int(TOPICS[DEAD_LETTERS].config["max.message.bytes"]) == topics.MAX_DEAD_LETTER_BYTES


def test_dead_letters_are_kept_a_month_and_marks_are_compacted() -> None:
    assert TOPICS[DEAD_LETTERS].config["retention.ms"] == str(30 * 24 * 3_600_000)
    assert TOPICS[REDRIVEN].config == {"cleanup.policy": "compact,delete", "retention.ms": str(60 * 24 * 3_600_000)}


def test_subjects() -> None:
    assert subject_of(TRANSACTIONS) == "transactions.raw-value"


@pytest.mark.parametrize("topic", [TRANSACTIONS, LABELS, SCORED, DEAD_LETTERS])
def test_timestamps_are_the_brokers(topic: str) -> None:
    assert TOPICS[topic].config["message.timestamp.type"] == "LogAppendTime"
