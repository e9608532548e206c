"""What the dead letter tools keep in memory, which must not grow with the number of dead letters (field case D10)."""

import random
import tracemalloc

import pytest
from fraud_common.dead_letters import FAILED_AT, REASONS, STAGE, TOPIC, DeadLetter, Position
from fraud_common.topics import TRANSACTIONS
from producer.dlq.kinds import MAX_KINDS, KindCounts
from producer.dlq.positions import PositionSet, parse_coordinates
from producer.dlq.selection import Plan, parse_selection
from producer.dlq.show import Overview


def some_positions(count: int, seed: int) -> list[Position]:
    """Neighbours and far ones, with some twice."""
    rng = random.Random(seed)
    return [
        Position(
            rng.choice("ab"), rng.randrange(4), rng.randrange(1_000) if rng.random() < 0.5 else rng.getrandbits(63)
        )
        for _ in range(count)
    ]


def test_positions_are_a_set() -> None:
    added, others = some_positions(5_000, seed=1), some_positions(5_000, seed=2)
    positions = PositionSet(added)
    expected = set(added)
    assert len(positions) == len(expected) < len(added)
    for position in (*added, *others):
        assert (position in positions) == (position in expected)


@pytest.mark.parametrize(("partition", "offset"), [(0, 0), (2, 117), (2**31 - 1, 10**18 - 1)])
def test_coordinates_are_read_as_they_are_printed(partition: int, offset: int) -> None:
    letter = DeadLetter(partition, offset, None, None, {})
    assert parse_coordinates(letter.coordinates) == letter.position


def test_anything_else_is_no_coordinates() -> None:
    for text in ("", "1", "1-", "-1", "a-1", "1-2-3", "1 2", "²-1", "1-" + "9" * 5000):
        assert parse_coordinates(text) is None


def test_many_kinds_are_counted_together() -> None:
    counts: KindCounts[str] = KindCounts()
    for number in range(3 * MAX_KINDS):
        counts.add(f"kind {number % (2 * MAX_KINDS)}")
    assert len(counts.most_common()) == MAX_KINDS
    assert sum(count for _, count in counts.most_common()) + counts.others == 3 * MAX_KINDS


def letter(number: int) -> DeadLetter:
    headers = {
        STAGE: "bronze",
        REASONS: f"Reason{number % 1000}",
        TOPIC: TRANSACTIONS,
        FAILED_AT: f"{number:09d}",
        "dlq.partition": str(number % 10),
        "dlq.offset": str(1_000_000_000 + number),
    }
    return DeadLetter(number % 3, number // 3, b"key", b"value" * 100, headers)


def test_memory_does_not_grow_with_the_number_of_letters() -> None:
    overview, plan = Overview(last=10), Plan(parse_selection(every=True), max_attempts=5)
    for number in range(1_000):
        overview.add(letter(number))
        plan.add(letter(number))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(1_000, 100_000):
        overview.add(letter(number))
        plan.add(letter(number))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A letter takes a kilobyte; of each a few bits are kept.
    assert after - before < 1_000_000
    assert (overview.total, len(plan.sources)) == (100_000, 100_000)


def test_the_newest_letters_are_those_that_failed_last() -> None:
    letters = [letter(number) for number in range(1_000)]
    random.Random(1).shuffle(letters)
    overview = Overview(last=3)
    for each in letters:
        overview.add(each)
    assert overview.newest == [(number % 3, number // 3) for number in (997, 998, 999)]
    assert Overview(last=0).newest == []
