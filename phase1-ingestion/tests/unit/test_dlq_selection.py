"""Which dead letters a person asks for, and what a plan says of them."""

import pytest
from fraud_common.dead_letters import ATTEMPTS, OFFSET, PARTITION, REASONS, STAGE, TOPIC, DeadLetter, Position
from fraud_common.errors import UserError
from fraud_common.topics import LABELS, TRANSACTIONS
from producer.dlq.selection import Plan, Selection, parse_selection


def letter(offset: int, headers: dict[str, str] | None = None) -> DeadLetter:
    ours = {REASONS: "RuleX", STAGE: "bronze", TOPIC: TRANSACTIONS}
    return DeadLetter(2, offset, b"key", b"", ours | (headers or {}))


LETTERS = [letter(1), letter(2, {REASONS: "RuleX,RuleY"}), letter(3, {REASONS: "RuleZ", STAGE: "scorer"})]


def planned(selection: Selection, *letters: DeadLetter) -> Plan:
    plan = Plan(selection, max_attempts=5)
    for each in letters or LETTERS:
        plan.add(each)
    plan.check()
    return plan


@pytest.mark.parametrize(
    ("typed", "offsets"),
    [
        ({"every": True}, [1, 2, 3]),
        ({"reason": "RuleY"}, [2]),
        ({"reason": "RuleY, RuleZ"}, [2, 3]),
        ({"stage": "scorer"}, [3]),
        ({"stage": "bronze", "reason": "RuleY"}, [2]),
        ({"every": True, "stage": "bronze"}, [1, 2]),
        ({"offset": "2-3"}, [3]),
        ({"offset": "2-3,2-1"}, [1, 3]),
        ({"reason": "RuleY", "offset": "2-3"}, [2, 3]),
    ],
)
def test_selections(typed: dict, offsets: list[int]) -> None:
    selection = parse_selection(**typed)
    assert [each.offset for each in LETTERS if selection.includes(each)] == offsets


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({}, "say which: REASON="),
        ({"reason": " , "}, "say which"),
        ({"offset": "117"}, "OFFSET=117: must be PARTITION-OFFSET as make dlq-show prints it"),
        ({"offset": "2--1"}, "OFFSET=2--1: must be"),
        ({"offset": "٢-1"}, "OFFSET=٢-1: must be"),
        ({"every": True, "force": True}, "FORCE=1 needs OFFSET="),
    ],
)
def test_what_is_typed_wrong_is_explained(typed: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_selection(**typed)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"reason": "Nothing"}, "REASON=Nothing: no dead letter has it; there are RuleX, RuleY, RuleZ"),
        ({"reason": "a;id"}, "REASON=a;id: no dead letter has it"),
        ({"reason": "RuleX,bronze"}, "REASON=bronze: no dead letter has it"),
        ({"stage": "producer"}, "STAGE=producer: no dead letter has it; there are bronze, scorer"),
        ({"offset": "9-9"}, "OFFSET=9-9: no such dead letter, or it was sent back already"),
    ],
)
def test_what_does_not_exist_is_explained(typed: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        planned(parse_selection(**typed))


def test_a_message_is_sent_once_however_many_refused_it() -> None:
    twice = {PARTITION: "3", OFFSET: "17"}
    plan = planned(parse_selection(every=True), letter(1, twice), letter(2, twice), letter(3))
    assert list(plan.lines(go=True)) == ["2 from stage bronze: sending back to transactions.raw"]
    assert Position(TRANSACTIONS, 3, 17) in plan.sources
    assert len(plan.sources) == 2


def test_a_message_that_failed_too_often_is_sent_only_by_name_and_force() -> None:
    """Field case D11."""
    letters = [letter(offset, {ATTEMPTS: "5"}) for offset in range(4)] + [letter(9, {ATTEMPTS: "4"})]
    plan = planned(parse_selection(reason="RuleX"), *letters)
    assert list(plan.lines(go=False)) == [
        "1 from stage bronze: would send back to transactions.raw",
        "4 skipped: they failed 5 times or more (DLQ_MAX_ATTEMPTS): 2-0, 2-1, 2-2, …; "
        "to send one all the same: OFFSET=2-0 FORCE=1",
    ]
    assert len(planned(parse_selection(offset="2-0"), *letters).sources) == 0
    forced = planned(parse_selection(offset="2-0", every=True, force=True), *letters)
    assert [each.offset for each in letters if each.source in forced.sources] == [0, 9]


def test_what_names_no_topic_of_ours_is_skipped() -> None:
    letters = [letter(offset, {TOPIC: topic}) for offset, topic in enumerate(["nowhere", "transactions.dlq", LABELS])]
    assert list(planned(parse_selection(every=True), *letters).lines(go=False)) == [
        "1 from stage bronze: would send back to transactions.labels",
        "2 skipped: they name no topic of this platform",
    ]
