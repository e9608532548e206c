"""Which dead letters a person asks for, and what a dead letter shows."""

import pytest
from fraud_common.avro import Decoder
from fraud_common.dead_letters import REASONS, STAGE, DeadLetter
from fraud_common.errors import UserError
from fraud_common.schema_registry import SchemaRegistry
from producer.dlq.redrive import Choice, parse_changes
from producer.dlq.show import describe


def letter(offset: int, reasons: str, value: bytes = b"", stage: str = "bronze") -> DeadLetter:
    return DeadLetter(2, offset, b"key", value, {REASONS: reasons, STAGE: stage})


LETTERS = [letter(1, "RuleX"), letter(2, "RuleX,RuleY"), letter(3, "RuleZ")]


@pytest.mark.parametrize(
    ("choice", "offsets"),
    [
        (Choice(every=True), [1, 2, 3]),
        (Choice(reasons=["RuleY"]), [2]),
        (Choice(offsets=["2-3"]), [3]),
        (Choice(reasons=["RuleX"], offsets=["2-3"]), [1, 2, 3]),
    ],
)
def test_choices(choice: Choice, offsets: list[int]) -> None:
    assert [chosen.offset for chosen in choice.of(LETTERS)] == offsets


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(), "say which"),
        (Choice(reasons=["Nothing"]), "REASON=Nothing: no dead letter has it; there are RuleX, RuleY, RuleZ"),
        (Choice(offsets=["9-9"]), "OFFSET=9-9: no such dead letter"),
    ],
)
def test_a_wrong_choice_says_what_there_is(choice: Choice, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choice.of(LETTERS)


def test_changes() -> None:
    assert parse_changes(["amount=19.99", "city=a=b"]) == {"amount": "19.99", "city": "a=b"}
    for wrong in ("colour=red", "amount"):
        with pytest.raises(UserError, match=f"SET={wrong}: must be FIELD=VALUE with one of transaction_id, "):
            parse_changes([wrong])


def test_what_a_dead_letter_shows() -> None:
    decoder = Decoder(SchemaRegistry("http://localhost:1"))
    assert describe(letter(1, "SerializationError", b'{"a": 1}', stage="producer"), decoder) == '{"a": 1}'
    assert describe(letter(1, "NotAvro", b"\1\0\0\0\7abc"), decoder).startswith("8 bytes (first byte is 1, ")
