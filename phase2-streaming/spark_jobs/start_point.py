"""Where a stream starts: at its checkpoint, or, where that can't be used, behind what Bronze already has.

Spark itself would read a topic again from its beginning after the loss of a checkpoint, and would mix up the offsets of
two topics of the same name. The decision is pure; what it is based on is read by the functions below it.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fraud_common.errors import UserError
from pyspark.sql import SparkSession

from spark_jobs.kafka_topic import TopicState

log = logging.getLogger("start")

Offsets = dict[int, int]  # partition -> offset of the next message


class TopicRecreated(UserError):  # noqa: N818 - a state that only a person can resolve
    """The topic is not the one that Bronze has read so far."""


@dataclass(frozen=True)
class Found:
    """What is there when a stream starts."""

    checkpoint: Offsets | None  # where its next batch begins; None without a checkpoint
    table: Offsets  # behind the rows that Bronze has; only asked for where the checkpoint can't be used
    topic_id: str | None  # the topic that the table's rows came from; None if that was never recorded


@dataclass(frozen=True)
class StartPoint:
    """Where a stream starts."""

    offsets: Offsets | None  # empty: at the topic's beginning; None: at the checkpoint
    expired: int = 0  # messages that Kafka had deleted before Bronze read them


def start_point(topic: str, found: Found, now: TopicState) -> StartPoint:
    """Decide where to start.

    Raises:
        TopicRecreated: the topic was deleted and created again: its offsets begin again, so they say nothing about
            what Bronze has.
    """
    known = _later(found.checkpoint or {}, found.table)
    if evidence := _another_topic(known, found.topic_id, now):
        if found.table:
            raise TopicRecreated(
                f"{topic}: the topic was deleted and created again ({evidence}). Bronze does not read it, since its "
                "offsets would repeat those that Bronze has; see BronzeTopicRecreated in docs/runbook.md"
            )
        return StartPoint({})  # nothing of the other topic was stored
    if not known:
        return StartPoint({} if found.checkpoint is None else None)
    first = {partition: begin for partition, (begin, _) in now.available.items()}
    expired = sum(max(0, first[partition] - offset) for partition, offset in known.items())
    if found.checkpoint is not None and not expired:
        return StartPoint(None)
    return StartPoint(_later(first, known), expired)


def needs_table(checkpoint: Offsets | None, topic_id: str | None, now: TopicState) -> bool:
    """Whether `start_point` must know what is in the table; otherwise the checkpoint says all of it."""
    return checkpoint is None or _another_topic(checkpoint, topic_id, now) is not None


def _another_topic(known: Offsets, topic_id: str | None, now: TopicState) -> str | None:
    """What shows that offsets are not of the topic that is there now."""
    if topic_id not in (None, now.topic_id):
        return f"its id is {now.topic_id}, not {topic_id}"
    for partition, offset in sorted(known.items()):
        _, end = now.available.get(partition, (0, 0))
        if offset > end:
            return f"partition {partition} ends at {end}, Bronze has read to {offset}"
    return None


def starting_offsets(topic: str, offsets: Offsets) -> str:
    """Offsets as the option of Spark's Kafka source."""
    if not offsets:
        return "earliest"
    return json.dumps({topic: {str(partition): offset for partition, offset in sorted(offsets.items())}})


def _later(one: Mapping[int, int], other: Mapping[int, int]) -> Offsets:
    return {partition: max(one.get(partition, 0), other.get(partition, 0)) for partition in {*one, *other}}


class Checkpoint:
    """The directory in which Spark keeps how far a stream is."""

    def __init__(self, spark: SparkSession, path: str) -> None:
        self._jvm = spark._jvm
        self._path = path
        self._files = self._at(path).getFileSystem(spark._jsc.hadoopConfiguration())

    def next_offsets(self, topic: str) -> Offsets | None:
        """The offsets behind the last finished batch, or where the first one begins; None without a checkpoint."""
        started, finished = self._numbers("offsets"), self._numbers("commits")
        if not started:
            return None
        last = max(started & finished, default=None)
        return parse_offsets(topic, self._text("sources/0/0" if last is None else f"offsets/{last}"))

    def set_aside(self) -> None:
        """Rename it, so that the stream starts without one."""
        number = 1
        while self._files.exists(self._at(f"{self._path}.old-{number}")):
            number += 1
        self._files.rename(self._at(self._path), self._at(f"{self._path}.old-{number}"))
        log.warning("%s is now %s.old-%d", self._path, self._path, number)

    def _at(self, path: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(path)

    def _numbers(self, folder: str) -> set[int]:
        path = self._at(f"{self._path}/{folder}")
        if not self._files.exists(path):
            return set()
        return {int(name) for file in self._files.listStatus(path) if (name := file.getPath().getName()).isdecimal()}

    def _text(self, name: str) -> str:
        stream = self._files.open(self._at(f"{self._path}/{name}"))
        try:
            return str(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()


def parse_offsets(topic: str, text: str) -> Offsets:
    """The offsets in a file of Spark's offset log: a version, metadata, and a line of JSON for each source."""
    for line in text.splitlines():
        start = line.find("{")
        content = json.loads(line[start:]) if start >= 0 else {}
        if topic in content:
            return {int(partition): int(offset) for partition, offset in content[topic].items()}
    raise UserError(
        f"{topic}: its checkpoint can't be read ({text[:200]!r}); see BronzeCheckpointLost in docs/runbook.md"
    )
