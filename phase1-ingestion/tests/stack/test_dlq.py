"""Dead letters on the real topics: shown, repaired, sent back."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from fraud_common.avro import Decoder, Encoder, latest_encoder, parse_schema
from fraud_common.dead_letters import Headers, dead_letter_headers
from fraud_common.errors import SerializationError, UserError
from fraud_common.kafka import make_producer, wait_for_broker
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import DEAD_LETTERS, LABELS, MAX_RECORD_BYTES, REDRIVEN, TRANSACTIONS
from ingestion_stack import count_in, messages_in, wait_until, waiting_letters
from producer.delivery import Delivery
from producer.dlq.redrive import redrive
from producer.dlq.selection import Selection, parse_selection
from producer.dlq.show import show
from producer.init import run_init
from producer.settings import Settings

pytestmark = pytest.mark.stack

EVERY = Selection(every=True)
PAYMENT = {
    "transaction_id": "t1",
    "user_id": "u1",
    "amount": Decimal("12.30"),
    "currency": "EUR",
    "merchant_id": "m1",
    "merchant_name": "Corner Bakery",
    "country": "IE",
    "city": "Cork",
    "device_id": "d1",
    "device_type": "web",
    "event_time": datetime(2024, 3, 1, 9, 15, tzinfo=UTC),
    "is_international": False,
    "metadata": {"k": "v"},
}


def registry_of(settings: Settings) -> SchemaRegistry:
    return SchemaRegistry(settings.schema_registry_url)


def decoded(settings: Settings, topic: str) -> list[dict[str, Any]]:
    decoder = Decoder(registry_of(settings))
    return sorted((decoder.decode(m.value()) for m in messages_in(settings, topic)), key=lambda r: r["transaction_id"])


def refuse_json(settings: Settings, record: dict[str, Any], error: str = "amount: why") -> None:
    """A dead letter of a record that never became Avro."""
    delivery = Delivery(settings)
    delivery.dead_letter_record(TRANSACTIONS, b"u1", record, SerializationError(error))
    delivery.flush()


def refuse(settings: Settings, *values: bytes | None, stage: str = "bronze", **context: Any) -> None:
    """Dead letters of messages as Bronze or the scorer writes them."""
    letters = make_producer(settings, MAX_RECORD_BYTES)
    context = {"reasons": ["RuleX"], "error": "why", "topic": TRANSACTIONS} | context
    for value in values:
        letters.produce(DEAD_LETTERS, value, b"key \xfe", headers=dead_letter_headers(stage=stage, **context))
    letters.flush()


def test_dry_run_repair_and_attempts(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_json(settings, PAYMENT | {"amount": "not a number"})
    redrive(settings, EVERY, {}, go=False)
    assert "dry run: nothing was sent" in capsys.readouterr().out
    assert (len(waiting_letters(settings)), count_in(settings, DEAD_LETTERS)) == (1, 1)

    redrive(settings, parse_selection(reason="SerializationError"), {}, go=True)
    assert "sent back: 0; failed again: 1" in capsys.readouterr().out
    (letter,) = waiting_letters(settings)
    assert letter.attempts == 2

    redrive(settings, parse_selection(offset=letter.coordinates), {"amount": "19.99"}, go=True)
    assert "sent back: 1; failed again: 0" in capsys.readouterr().out
    assert waiting_letters(settings) == []
    (repaired,) = decoded(settings, TRANSACTIONS)
    assert {name: repaired[name] for name in PAYMENT} == PAYMENT | {"amount": Decimal("19.99")}
    (message,) = messages_in(settings, TRANSACTIONS)
    assert message.headers() == [("dlq.attempts", b"2")]
    with pytest.raises(UserError, match="no such dead letter, or it was sent back already"):
        redrive(settings, parse_selection(offset=letter.coordinates), {}, go=True)


def test_the_original_bytes_and_headers_go_back(settings: Settings) -> None:
    """A tombstone stays one, an empty value stays empty, and the message's own headers are there beside ours."""
    original = b"\0\0\0\0\x01 not avro at all \xff"
    own: Headers = [("trace", b"1"), ("empty", None), ("trace", b"\xff")]
    refuse(settings, original, None, b"", original=own)
    refuse(settings, b"v", topic="nowhere")
    redrive(settings, EVERY, {}, go=True)
    sent = messages_in(settings, TRANSACTIONS)
    assert [message.value() for message in sent] == [original, None, b""]
    assert {message.key() for message in sent} == {b"key \xfe"}
    assert [message.headers() for message in sent] == [[*own, ("dlq.attempts", b"1")]] * 3
    assert [letter.topic for letter in waiting_letters(settings)] == ["nowhere"]


def test_a_repair_keeps_what_only_the_newest_schema_has(settings: Settings) -> None:
    """Field case D9's kind: the record is written with the newest schema, with all of its fields."""
    registry = registry_of(settings)
    schema = json.loads(registry.versions(TRANSACTIONS)[-1][1])
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "wallet"]
    schema["fields"].append({"name": "wallet", "type": ["null", "string"], "default": None})
    encoder = Encoder(parse_schema(json.dumps(schema)), registry.register(TRANSACTIONS, json.dumps(schema)))
    refuse(settings, encoder.encode(PAYMENT | {"amount": Decimal("-1.00"), "wallet": "phone"}))
    refuse_json(settings, PAYMENT | {"transaction_id": "t2", "amount": "?", "wallet": "watch"})
    redrive(settings, EVERY, {"amount": "19.99"}, go=True)
    sent = decoded(settings, TRANSACTIONS)
    assert [(record["transaction_id"], record["wallet"]) for record in sent] == [("t1", "phone"), ("t2", "watch")]
    for record in sent:
        assert {name: record[name] for name in PAYMENT if name != "transaction_id"} == {
            name: value for name, value in PAYMENT.items() if name != "transaction_id"
        } | {"amount": Decimal("19.99")}


def test_a_row_is_sent_with_its_label(settings: Settings) -> None:
    """Field cases D9, D13."""
    label = {"is_fraud": "true", "fraud_type": "stolen_card", "reported_at": "2024-03-20T00:00:00+00:00"}
    refuse_json(settings, PAYMENT | {"amount": "?", "label": label})
    redrive(settings, EVERY, {"amount": "1"}, go=True)
    assert count_in(settings, TRANSACTIONS) == 1
    (sent,) = decoded(settings, LABELS)
    assert (sent["transaction_id"], sent["is_fraud"], sent["fraud_type"]) == ("t1", True, "stolen_card")
    assert sent["reported_at"] == datetime(2024, 3, 20, tzinfo=UTC)


def test_a_message_that_two_services_refused_goes_back_once(settings: Settings) -> None:
    for stage in ("bronze", "scorer"):
        refuse(settings, b"value", stage=stage, partition=3, offset=17)
    redrive(settings, parse_selection(stage="scorer"), {}, go=True)
    assert count_in(settings, TRANSACTIONS) == 1
    assert waiting_letters(settings) == []


def test_a_message_that_always_fails_is_not_sent_for_ever(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Field case D11."""
    refuse_json(settings, PAYMENT | {"amount": "not a number"})
    for _ in range(settings.dlq_max_attempts + 2):
        redrive(settings, EVERY, {}, go=True)
    (letter,) = waiting_letters(settings)
    assert letter.attempts == settings.dlq_max_attempts == count_in(settings, DEAD_LETTERS)
    capsys.readouterr()
    named = letter.coordinates
    redrive(settings, parse_selection(offset=named), {"amount": "1"}, go=True)
    assert f"1 skipped: they failed 5 times or more (DLQ_MAX_ATTEMPTS): {named}; " in (out := capsys.readouterr().out)
    assert f"OFFSET={named} FORCE=1" in out
    redrive(settings, parse_selection(offset=named, force=True), {"amount": "1"}, go=True)
    assert (count_in(settings, TRANSACTIONS), waiting_letters(settings)) == (1, [])


@pytest.mark.parametrize(
    ("typed", "changes", "message"),
    [
        ({"reason": "Nothing"}, {}, "REASON=Nothing: no dead letter has it; there are SerializationError"),
        ({"offset": "9-9"}, {}, "OFFSET=9-9: no such dead letter"),
        ({"every": True}, {"colour": "red"}, "SET=colour=…: must be FIELD=VALUE"),
        ({"every": True}, {"amount": "red"}, "SET: amount: 'red' is not a number"),
    ],
)
def test_a_wrong_command_sends_nothing(
    settings: Settings, typed: dict[str, Any], changes: dict[str, str], message: str
) -> None:
    refuse_json(settings, PAYMENT | {"amount": "?"})
    with pytest.raises(UserError, match=message):
        redrive(settings, parse_selection(**typed), changes, go=True)
    assert (len(waiting_letters(settings)), count_in(settings, DEAD_LETTERS)) == (1, 1)


def test_ctrl_c_loses_nothing_and_doubles_nothing(settings: Settings) -> None:
    """What was sent is delivered and marked; the same command then sends the rest."""
    total = 60_000
    values = [str(number).encode() for number in range(total)]
    refuse(settings, *values)
    command = [sys.executable, "-m", "producer.cli", "dlq-redrive", "--all", "--go"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: count_in(settings, TRANSACTIONS), "the first message sent back")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "interrupted; the rest is still there: run the same command again" in out
    sent = count_in(settings, TRANSACTIONS)
    assert f"sent back: {sent:,}; failed again: 0" in out
    assert 0 < sent < total
    assert len(waiting_letters(settings)) == total - sent
    redrive(settings, EVERY, {}, go=True)
    assert sorted(message.value() or b"" for message in messages_in(settings, TRANSACTIONS)) == sorted(values)
    assert count_in(settings, REDRIVEN) == total


def test_marks_of_a_topic_that_was_deleted_hide_nothing(settings: Settings) -> None:
    """A new topic begins at offset 0 again, where letters of the old one were marked as sent back."""
    refuse(settings, *[b"old"] * 20)
    redrive(settings, EVERY, {}, go=True)
    admin = wait_for_broker(settings)
    admin.delete_topics([DEAD_LETTERS])[DEAD_LETTERS].result()
    wait_until(lambda: DEAD_LETTERS not in admin.list_topics(timeout=10).topics, "topic deleted")
    run_init(settings)
    refuse(settings, *[b"new"] * 20)
    assert [letter.value for letter in waiting_letters(settings)] == [b"new"] * 20
    redrive(settings, EVERY, {}, go=True)
    assert waiting_letters(settings) == []


def test_show_counts_and_decodes(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    show(settings, 5)
    assert "transactions.dlq: none" in capsys.readouterr().out
    encoder = latest_encoder(registry_of(settings), TRANSACTIONS)
    refuse(settings, *[b"garbage %d" % number for number in range(7)], None)
    refuse(settings, encoder.encode(PAYMENT), stage="scorer", reasons=["RuleX", "RuleY"])
    refuse_json(settings, PAYMENT | {"amount": "not a number"}, "amount: 'not a number' is not a number")
    show(settings, 3)
    text = capsys.readouterr().out
    assert "transactions.dlq: 10 (and 0 sent back)" in text
    for stage, reason, count in (("bronze", "RuleX", 8), ("scorer", "RuleY", 1), ("producer", "SerializationError", 1)):
        assert any({stage, reason, str(count)} <= set(line.split()) for line in text.splitlines()), text
    shown = [line.strip() for line in text.splitlines() if line.strip().startswith("what:")]
    assert len(shown) == 3
    assert shown[0] == "what: a tombstone: it has no value"
    assert '"merchant_name": "Corner Bakery"' in shown[1]
    assert '"amount": "not a number"' in text
    show(settings, 0)
    assert "what:" not in capsys.readouterr().out
