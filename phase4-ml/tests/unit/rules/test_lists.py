"""Lists with validity."""

import tracemalloc
from datetime import timedelta

from rules.lists import ListValues
from ruleset_world import NOW

HOUR = timedelta(hours=1)


def test_a_value_is_on_a_list_from_its_begin_until_before_its_end() -> None:
    values = ListValues(
        [("a", NOW, NOW + HOUR), ("a", NOW + 2 * HOUR, None), ("b", NOW - HOUR, None), ("c", NOW - HOUR, NOW)]
    )
    assert [values.has("a", NOW + number * HOUR / 2) for number in range(-1, 6)] == [
        False,
        True,
        True,
        False,
        False,
        True,
        True,
    ]
    assert values.has("b", NOW) and not values.has("c", NOW) and not values.has("d", NOW)
    assert len(values) == 3
    again = ListValues(values.entries())
    assert sorted(map(str, again.entries())) == sorted(map(str, values.entries()))


def test_rows_are_grouped_by_their_list() -> None:
    lists = ListValues.by_name([("x", "a", NOW, None), ("y", "a", NOW, NOW), ("x", "b", NOW, None)])
    assert (len(lists["x"]), len(lists["y"])) == (2, 1)
    assert lists["x"].has("b", NOW) and not lists["y"].has("a", NOW)


def test_an_entry_takes_as_much_memory_as_the_settings_say() -> None:
    entries = 50_000
    tracemalloc.start()
    values = ListValues(
        (f"user-{number:06d}", NOW + number * timedelta(seconds=1), NOW + number * timedelta(seconds=2))
        for number in range(entries)
    )
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(values) == entries
    assert size / entries < 380
