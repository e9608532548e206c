"""Where a stream starts, for everything that may have happened to checkpoint, table and topic."""

from pathlib import Path

import pytest
from fraud_common.errors import UserError
from pyspark.sql import SparkSession
from spark_jobs.kafka_topic import TopicState
from spark_jobs.start_point import (
    Checkpoint,
    Found,
    StartPoint,
    TopicRecreated,
    needs_table,
    parse_offsets,
    start_point,
    starting_offsets,
)

NOW = TopicState("id-1", {0: (0, 100), 1: (50, 200), 2: (0, 0)})


@pytest.mark.parametrize("topic_id", ["id-1", None])
@pytest.mark.parametrize(
    ("checkpoint", "table", "expected"),
    [
        (None, {}, StartPoint({})),  # the first start
        ({0: 10, 1: 60, 2: 0}, {}, StartPoint(None)),
        ({0: 100, 1: 200, 2: 0}, {}, StartPoint(None)),
        (None, {0: 10, 1: 60}, StartPoint({0: 10, 1: 60, 2: 0})),  # a lost checkpoint
        (None, {0: 100}, StartPoint({0: 100, 1: 50, 2: 0})),  # retention alone: partition 1 was never read
        ({0: 10, 1: 20, 2: 0}, {}, StartPoint({0: 10, 1: 50, 2: 0}, 30)),
        (None, {0: 10, 1: 20}, StartPoint({0: 10, 1: 50, 2: 0}, 30)),
    ],
)
def test_start_points(checkpoint: dict | None, table: dict, topic_id: str | None, expected: StartPoint) -> None:
    """A6."""
    assert start_point("t", Found(checkpoint, table, topic_id), NOW) == expected
    assert needs_table(checkpoint, topic_id, NOW) == (checkpoint is None)


@pytest.mark.parametrize(
    ("found", "evidence"),
    [
        (Found({0: 10}, {0: 10}, "id-0"), "its id is id-1, not id-0"),
        (Found(None, {0: 10}, "id-0"), "its id is id-1, not id-0"),
        (Found({0: 101}, {0: 90}, None), "partition 0 ends at 100, Bronze has read to 101"),
        (Found(None, {3: 1}, "id-1"), "partition 3 ends at 0, Bronze has read to 1"),
    ],
)
def test_a_recreated_topic_is_not_read(found: Found, evidence: str) -> None:
    """A6."""
    assert needs_table(found.checkpoint, found.topic_id, NOW)
    with pytest.raises(TopicRecreated, match=f"{evidence}.*BronzeTopicRecreated in docs/runbook.md") as error:
        start_point("t", found, NOW)
    assert "\n" not in str(error.value)


def test_a_recreated_topic_is_read_where_nothing_of_the_old_one_was_stored() -> None:
    for found in (Found({0: 101}, {}, None), Found({0: 10}, {}, "id-0"), Found(None, {}, "id-0")):
        assert start_point("t", found, NOW) == StartPoint({})


def test_offsets_as_sparks_option() -> None:
    assert starting_offsets("t", {}) == "earliest"
    assert starting_offsets("t", {1: 5, 0: 3}) == '{"t": {"0": 3, "1": 5}}'


def write_checkpoint(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


def offset_file(offset: int) -> str:
    metadata = '{"batchWatermarkMs":0,"batchTimestampMs":1,"conf":{"a":"b"}}'
    return f'v1\n{metadata}\n{{"t":{{"0":{offset}}}}}'


def test_a_checkpoint_begins_behind_its_last_finished_batch(spark: SparkSession, tmp_path: Path) -> None:
    assert Checkpoint(spark, str(tmp_path / "none")).next_offsets("t") is None
    files = {"sources/0/0": '\0v1\n{"t":{"0":7}}', "offsets/0": offset_file(10), "metadata": "{}"}
    path = write_checkpoint(tmp_path / "c", files)
    assert Checkpoint(spark, path).next_offsets("t") == {0: 7}
    write_checkpoint(tmp_path / "c", {"offsets/9": offset_file(20), "commits/9": "v1", "offsets/10": offset_file(30)})
    assert Checkpoint(spark, path).next_offsets("t") == {0: 20}


def test_a_checkpoint_set_aside_is_kept(spark: SparkSession, tmp_path: Path) -> None:
    for number in (1, 2):
        path = write_checkpoint(tmp_path / "c", {"offsets/0": offset_file(number)})
        checkpoint = Checkpoint(spark, path)
        checkpoint.set_aside()
        assert checkpoint.next_offsets("t") is None
        assert (tmp_path / f"c.old-{number}" / "offsets" / "0").read_text() == offset_file(number)


def test_an_unreadable_checkpoint_says_so() -> None:
    with pytest.raises(UserError, match=r"checkpoint can't be read .*BronzeCheckpointLost in docs/runbook.md"):
        parse_offsets("t", "v9")
