"""The plan of make chaos, and what it counts as lost, doubled or excused."""

from collections import Counter
from dataclasses import dataclass

import pytest
from chaos import Count, Outage, counted, outages, refused, without_excuse
from faults import KINDS, VICTIMS, Fault, Hit, plan
from serving_stack import Answer


def test_the_same_seed_gives_the_same_faults() -> None:
    assert plan(7, 24, VICTIMS) == plan(7, 24, VICTIMS[::-1])
    assert plan(7, 24, VICTIMS) != plan(8, 24, VICTIMS)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_is_used_equally_often_and_every_service_before_one_is_hit_again(seed: int) -> None:
    faults = plan(seed, 24, VICTIMS)
    assert set(Counter(fault.kind for fault in faults).values()) == {24 // len(KINDS)}
    assert {fault.service for fault in faults[: len(VICTIMS)]} == set(VICTIMS)
    assert all(3 <= fault.seconds <= 15 and 2 <= fault.pause <= 8 for fault in faults)


def test_only_the_kinds_that_are_wanted_are_drawn() -> None:
    assert {fault.kind for fault in plan(1, 4, VICTIMS, ("freeze", "cut"))} == {"freeze", "cut"}


def test_what_is_missing_and_what_is_there_twice_is_counted() -> None:
    count = counted("a place", {"a", "b", "c", "d"}, Counter({"a": 1, "b": 3, "d": 1, "of earlier": 2}))
    assert count == Count("a place", expected=4, missing=1, doubled=2)
    assert not count.is_right


def test_only_a_remark_excuses_what_is_doubled_and_nothing_what_is_missing() -> None:
    assert Count("a place", 2, 0, 0).is_right
    assert not Count("a place", 2, 0, 1).is_right
    assert Count("a place", 2, 0, 1, "that is so").is_right
    assert not Count("a place", 2, 1, 0, "that is so").is_right


def answer(sent: float, status: int, seconds: float = 0.01) -> Answer:
    return Answer(sent, status, seconds * 1000, {}, "")


ANSWERS = [
    answer(1, 200),
    answer(9, 0, seconds=10),  # under way when the API was frozen
    answer(11, 0),
    answer(19.5, 200),  # another worker, before the fault was over
    answer(21, 0),  # it is not back yet
    answer(22, 200),
    answer(23, 503),
]


def test_failures_are_excused_from_a_hit_of_the_api_to_its_first_answer_after_it() -> None:
    freeze = Hit(Fault("freeze", "fraud-api", 10, 2), began=10, ended=20)
    excuses = outages([Hit(Fault("kill", "redis", 0, 2), 0, 1), freeze], ANSWERS)
    assert [(each.began, each.ended) for each in excuses] == [(10, 22)]
    assert [each.sent for each in without_excuse(ANSWERS, excuses)] == [23]
    assert [each.sent for each in excuses[0].failed] == [9, 11, 21]


def test_nothing_excuses_a_failure_while_something_else_was_hit() -> None:
    excuses = outages([Hit(Fault("kill", "redis", 0, 2), 10, 22)], ANSWERS)
    assert excuses == []
    assert len(without_excuse(ANSWERS, excuses)) == 4


def test_an_api_that_does_not_come_back_is_away_for_good() -> None:
    (outage,) = outages([Hit(Fault("cut", "fraud-api", 5, 2), 30, 35)], ANSWERS)
    assert outage == Outage(30, float("inf"))


@dataclass(frozen=True)
class Letter:
    """A dead letter with its headers, as the client gives them."""

    stage: bytes
    topic: bytes
    partition: bytes
    offset: bytes

    def headers(self) -> list[tuple[str, bytes]]:
        names = ("stage", "topic", "partition", "offset")
        return [(f"dlq.{name}", getattr(self, name)) for name in names]


def test_what_a_stage_has_refused_is_not_missing_there() -> None:
    letters = [
        Letter(b"bronze", b"transactions.raw", b"3", b"70"),
        Letter(b"bronze", b"transactions.labels", b"3", b"70"),
        Letter(b"bronze", b"transactions.raw", b"3", b"70"),  # once more after a crash
        Letter(b"scorer", b"transactions.raw", b"0", b"1"),
        Letter(b"producer", b"transactions.raw", b"", b""),  # was never in the topic
    ]
    assert refused(letters) == {  # type: ignore[arg-type]
        "bronze": {("transactions.raw", (3, 70)), ("transactions.labels", (3, 70))},
        "scorer": {("transactions.raw", (0, 1))},
    }
