"""Dead letters on the real topics: shown, repaired, sent back."""

from pathlib import Path

import pytest
from fraud_common.avro import Decoder
from fraud_common.dead_letters import DeadLetter, dead_letter_headers
from fraud_common.errors import UserError
from fraud_common.kafka import make_producer
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import DEAD_LETTERS, MAX_RECORD_BYTES, TRANSACTIONS
from ingestion_stack import count_in, messages_in
from producer.delivery import Delivery
from producer.dlq.backlog import read_backlog
from producer.dlq.redrive import Choice, redrive
from producer.dlq.show import show
from producer.replay.replay import run_replay
from producer.settings import Settings

pytestmark = pytest.mark.stack

EXAMPLES = Path(__file__).parents[2] / "examples"
EVERY = Choice(every=True)


def decoded(settings: Settings, topic: str) -> list[dict]:
    decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
    return sorted((decoder.decode(m.value()) for m in messages_in(settings, topic)), key=lambda r: r["transaction_id"])


def waiting(settings: Settings) -> list[DeadLetter]:
    return read_backlog(settings).letters


def test_redrive_dry_run_repair_and_attempts(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run_replay(settings, EXAMPLES / "payments.csv", EXAMPLES / "payments.yml")
    redrive(settings, EVERY, [], go=False)
    assert "dry run: nothing was sent" in capsys.readouterr().out
    assert (len(waiting(settings)), count_in(settings, DEAD_LETTERS)) == (1, 1)

    redrive(settings, Choice(reasons=["SerializationError"]), [], go=True)
    assert "sent back: 0; failed again: 1" in capsys.readouterr().out
    (letter,) = waiting(settings)
    assert letter.attempts == 2

    redrive(settings, Choice(offsets=[letter.coordinates]), ["amount=19.99"], go=True)
    assert "sent back: 1; failed again: 0" in capsys.readouterr().out
    assert waiting(settings) == []
    repaired = decoded(settings, TRANSACTIONS)[-1]
    assert (repaired["transaction_id"], str(repaired["amount"])) == ("1006", "19.99")
    (message,) = [m for m in messages_in(settings, TRANSACTIONS) if m.headers()]
    assert dict(message.headers() or []) == {"dlq.attempts": b"2"}
    with pytest.raises(UserError, match="no such dead letter, or it was sent back already"):
        redrive(settings, Choice(offsets=[letter.coordinates]), [], go=True)


def test_redrive_keeps_the_original_bytes(settings: Settings) -> None:
    delivery = Delivery(settings)
    original = b"\0\0\0\0\x01 not avro at all \xff"
    delivery.dead_letter(TRANSACTIONS, b"key \xfe", original, reason="RuleX", error="why")
    delivery.dead_letter("nowhere", b"k", b"v", reason="RuleY", error="names no topic of ours")
    delivery.flush()
    redrive(settings, EVERY, [], go=True)
    (message,) = messages_in(settings, TRANSACTIONS)
    assert (message.key(), message.value()) == (b"key \xfe", original)
    assert [letter.topic for letter in waiting(settings)] == ["nowhere"]


def test_a_message_that_two_services_refused_goes_back_once(settings: Settings) -> None:
    letters = make_producer(settings, MAX_RECORD_BYTES)
    for stage in ("bronze", "scorer"):
        headers = dead_letter_headers(
            stage=stage, reasons=["RuleX"], error="why", topic=TRANSACTIONS, partition=3, offset=17
        )
        letters.produce(DEAD_LETTERS, b"value", b"key", headers=headers)
    letters.flush()
    redrive(settings, EVERY, [], go=True)
    assert count_in(settings, TRANSACTIONS) == 1
    assert waiting(settings) == []


@pytest.mark.parametrize(
    ("choice", "changes", "message"),
    [
        (Choice(), [], "say which"),
        (Choice(reasons=["Nothing"]), [], "REASON=Nothing: no dead letter has it; there are SerializationError"),
        (Choice(offsets=["9-9"]), [], "OFFSET=9-9: no such dead letter"),
        (EVERY, ["colour=red"], "SET=colour=red: must be FIELD=VALUE"),
    ],
)
def test_a_wrong_choice_says_what_there_is(
    settings: Settings, choice: Choice, changes: list[str], message: str
) -> None:
    run_replay(settings, EXAMPLES / "payments.csv", EXAMPLES / "payments.yml")
    with pytest.raises(UserError, match=message):
        redrive(settings, choice, changes, go=True)
    assert len(waiting(settings)) == 1


def test_show_counts_and_decodes(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    show(settings, 5)
    assert "transactions.dlq: none" in capsys.readouterr().out
    run_replay(settings, EXAMPLES / "payments.csv", EXAMPLES / "payments.yml")
    capsys.readouterr()
    show(settings, 5)
    text = capsys.readouterr().out
    assert "producer" in text
    assert "amount: 'not a number' is not a number" in text
    assert '"transaction_id": "1006"' in text
