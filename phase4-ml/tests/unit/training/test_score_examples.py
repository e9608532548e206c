"""Scores of training examples, on Delta tables in a folder; the model's score is the amount / 1,000."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arro3.core import Array, DataType, RecordBatch, RecordBatchReader
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from features import FEATURES, TRAINING_COLUMNS
from fraud_common.errors import UserError
from training import score_examples
from training.registry import ServedModel
from training.score_examples import Day, Lake, Learned, Scorer, score_days

FIRST = date(2026, 1, 1)
LEARNED = Learned(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, 12, tzinfo=UTC))


class AmountModel(ServedModel):
    """Scores without ONNX."""

    __slots__ = ()

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        assert matrix.shape[1] == len(FEATURES)
        return matrix[:, FEATURES.index("amount")].astype(float) / 1000


def scorer(version: str) -> Scorer:
    return Scorer(version, AmountModel(b"", list(FEATURES), medium=0.02, high=0.1), LEARNED)


class World:
    """A folder with examples and their scores."""

    def __init__(self, folder: Path) -> None:
        self.examples, self.scores = str(folder / "examples"), str(folder / "scores")

    def add_examples(self, day: int, amounts: dict[str, float]) -> None:
        """Examples of the n-th day by id, at 11:00."""
        rows = len(amounts)
        at = datetime.combine(FIRST, datetime.min.time(), UTC) + timedelta(days=day, hours=11)
        columns: dict[str, Any] = {name: Array.from_numpy(np.zeros(rows)) for name in TRAINING_COLUMNS}
        columns |= {
            "device_type": Array([None] * rows, DataType.string()),
            "amount": Array.from_numpy(np.array(list(amounts.values()))),
            "transaction_id": Array(list(amounts), DataType.string()),
            "event_date": numbers([(at.date() - date(1970, 1, 1)).days] * rows, np.int32).cast(DataType.date32()),
            "event_time": numbers([int(at.timestamp()) * 1_000_000] * rows, np.int64).cast(
                DataType.timestamp("us", tz="UTC")
            ),
        }
        batch = RecordBatch.from_pydict(columns)
        write_deltalake(
            self.examples,
            RecordBatchReader.from_batches(batch.schema, [batch]),
            mode="append",
            partition_by=["event_date"],
        )

    def score(self, version: str, since: date | None = None) -> int:
        lake = Lake(self.examples, self.scores)
        rows = score_days(lake, scorer(version), lake.days_to_score(version, since))
        lake.retire()
        return rows

    def rows(self) -> list[tuple[Any, ...]]:
        sql = "select transaction_id, model_version, fraud_probability, risk_tier, learned from scores order by 1, 2"
        batches = QueryBuilder().register("scores", DeltaTable(self.scores)).execute(sql)
        return [row for batch in batches for row in zip(*(batch.column(i).to_pylist() for i in range(5)), strict=True)]


def numbers(values: list[int], kind: type) -> Array:
    return Array.from_numpy(np.array(values, dtype=kind))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.add_examples(0, {"a": 10.0, "b": 20.0})
    made.add_examples(1, {"c": 500.0})
    made.add_examples(2, {"d": 99.9999})
    return made


def test_every_example_gets_the_answer_that_the_api_would_give(world: World) -> None:
    assert world.score("7") == 4
    # d is rounded to 0.1 like an answer, and its tier is that of the exact score; d was not in the training period.
    assert world.rows() == [
        ("a", "7", 0.01, "low", True),
        ("b", "7", 0.02, "medium", True),
        ("c", "7", 0.5, "high", True),
        ("d", "7", 0.1, "medium", False),
    ]


def test_only_what_has_no_score_is_scored(world: World) -> None:
    world.score("7")
    version = DeltaTable(world.scores).version()
    assert world.score("7") == 0
    assert DeltaTable(world.scores).version() == version
    world.add_examples(1, {"e": 30.0})
    assert world.score("7") == 1
    assert [row[0] for row in world.rows()] == ["a", "b", "c", "d", "e"]


def test_scores_of_another_version_are_replaced(world: World) -> None:
    world.score("7")
    world.add_examples(0, {"e": 30.0})
    assert world.score("8") == 5
    assert {row[:2] for row in world.rows()} == {(name, "8") for name in "abcde"}


def test_older_days_keep_what_they_have(world: World) -> None:
    world.score("7")
    assert world.score("8", since=date(2026, 1, 2)) == 2
    assert [row[:2] for row in world.rows()] == [("a", "7"), ("b", "7"), ("c", "8"), ("d", "8")]


def test_the_newest_day_comes_first(world: World) -> None:
    days = Lake(world.examples, world.scores).days_to_score("7", None)
    assert days == [
        Day(date(2026, 1, 3), 1, replace=False),
        Day(date(2026, 1, 2), 1, replace=False),
        Day(date(2026, 1, 1), 2, replace=False),
    ]


@pytest.mark.parametrize("version_before", [None, "6"])
def test_a_run_that_dies_between_two_chunks_is_continued(
    world: World, monkeypatch: pytest.MonkeyPatch, version_before: str | None
) -> None:
    """A chunk is a commit, so it is there or it is not."""
    monkeypatch.setattr(score_examples, "CHUNK", 1)
    world.add_examples(0, {f"more {i}": 5.0 for i in range(3)})
    if version_before:
        world.score(version_before)

    class Killed(Lake):
        commits = 0

        def unscored(self, *arguments: Any) -> Iterator[RecordBatch]:
            for part in super().unscored(*arguments):
                yield from (part.slice(row, 1) for row in range(part.num_rows))

        def add(self, scores: RecordBatch, day: Day, replace: bool) -> None:
            if self.commits == 3:
                raise KeyboardInterrupt
            super().add(scores, day, replace)
            self.commits += 1

    lake = Killed(world.examples, world.scores)
    with pytest.raises(KeyboardInterrupt):
        score_days(lake, scorer("7"), lake.days_to_score("7", None))
    done = sum(row[1] == "7" for row in world.rows())
    assert 0 < done < 7
    assert world.score("7") == 7 - done
    assert len(world.rows()) == 7
    assert {row[1] for row in world.rows()} == {"7"}


def test_scores_go_with_the_days_of_their_examples(world: World) -> None:
    world.score("7")
    DeltaTable(world.examples).delete("event_date = '2026-01-01'")
    assert world.score("7") == 0
    assert [row[0] for row in world.rows()] == ["c", "d"]


def test_a_model_whose_period_is_unknown_says_nothing_of_it(world: World) -> None:
    lake = Lake(world.examples, world.scores)
    unknown = Scorer("7", scorer("7").model, learned=None)
    score_days(lake, unknown, lake.days_to_score("7", None))
    assert {row[4] for row in world.rows()} == {None}


def test_without_examples_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no training examples at .*make dbt-run"):
        Lake(str(tmp_path / "none"), str(tmp_path / "scores"))
