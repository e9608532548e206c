"""What the init service corrects in topics of earlier releases."""

import pytest
from fraud_common.topics import DEAD_LETTERS, REDRIVEN, TOPICS, TRANSACTIONS
from producer.create_topics import corrections

MARKS = TOPICS[REDRIVEN].config


@pytest.mark.parametrize(
    ("topic", "now", "changes"),
    [
        (TRANSACTIONS, {"message.timestamp.type": "CreateTime"}, {"message.timestamp.type": "LogAppendTime"}),
        (TRANSACTIONS, {"message.timestamp.type": "LogAppendTime", "retention.ms": "1"}, {}),
        # How long dead letters are kept may have been chosen by somebody.
        (DEAD_LETTERS, {"message.timestamp.type": "LogAppendTime", "retention.ms": "1"}, {}),
        # The marks were kept for ever; with the broker's default some would go before their letters.
        (REDRIVEN, {"cleanup.policy": "compact", "retention.ms": "604800000"}, MARKS),
        (REDRIVEN, {"cleanup.policy": "delete,compact", "retention.ms": "1"}, {}),
    ],
)
def test_what_is_corrected(topic: str, now: dict[str, str], changes: dict[str, str]) -> None:
    assert corrections(TOPICS[topic].config, now) == changes
