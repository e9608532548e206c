"""Kills, stops, freezes and network cuts of random services under load, and then the count of everything.

Beside what the producer sends, the API gets payments of its own, so that every answer is known. Prints Markdown: the
rounds, then where each message, label, answer and dead letter is. Exit code 1 if anything is lost or doubled. Run by
`make chaos`; the end-to-end checks use a shorter one.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from confluent_kafka import Message
from faults import Fault, Hit, bring_about, is_running, plan, running_victims, unhealthy
from feature_store.lakehouse import gold_cursor
from fraud_common.avro import decode
from fraud_common.errors import SerializationError
from fraud_common.settings import TrinoSettings
from fraud_common.topics import DEAD_LETTERS, LABELS, SCORED, TRANSACTIONS
from kafka_tools import read_topic, schema_of
from lags import behind, bronze_lag, ends, scorer_lag, stream_lag
from serving_stack import Answer, Load, loaded, metric, select, service, wait_until

BRONZE = {TRANSACTIONS: "transactions", LABELS: "labels"}
# Requests a second to the API, beside those of the scorer.
RATE = 20
HEAL_SECONDS = 600

# Partition and offset.
type Coordinates = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Begin:
    """Where the topics ended before the first round, and when that was (seconds since 1970)."""

    offsets: Mapping[str, Mapping[int, int]]
    time: float


@dataclass(frozen=True, slots=True)
class Count:
    """What is in one place: how much should be, and of that what is missing and what is there twice."""

    place: str
    expected: int
    missing: int
    doubled: int
    # Why what is doubled may be.
    remark: str = ""

    @property
    def is_right(self) -> bool:
        """Whether nothing is lost or doubled."""
        return not self.missing and (not self.doubled or bool(self.remark))


@dataclass(slots=True)
class Outage:
    """A time in which the API may fail, since it was hit itself: from the hit to its first answer after it."""

    began: float
    ended: float
    failed: list[Answer] = field(default_factory=list)


def counted(place: str, expected: Collection[Any], found: Counter[Any], remark: str = "") -> Count:
    """Compare what a place has with what it should have; what else it has is not looked at."""
    missing = sum(1 for each in expected if not found[each])
    doubled = sum(found[each] - 1 for each in expected if found[each] > 1)
    return Count(place, len(expected), missing, doubled, remark)


def outages(hits: Iterable[Hit], answers: Sequence[Answer]) -> list[Outage]:
    """Those of the API: what it answers after a hit says that it is back."""
    found = []
    for hit in hits:
        if hit.fault.service == "fraud-api":
            back = (answer.sent for answer in answers if answer.status == 200 and answer.sent > hit.ended)
            found.append(Outage(hit.began, min(back, default=float("inf"))))
    return found


def without_excuse(answers: Iterable[Answer], excuses: Sequence[Outage]) -> list[Answer]:
    """Answers other than 200 to requests that were under way in none of these times; notes the others there."""
    unexcused = []
    for answer in answers:
        if answer.status == 200:
            continue
        ended = answer.sent + answer.latency_ms / 1000
        excuse = next((each for each in excuses if answer.sent <= each.ended and ended >= each.began), None)
        if excuse:
            excuse.failed.append(answer)
        else:
            unexcused.append(answer)
    return unexcused


def begin() -> Begin:
    """What is there before the first round; what is predicted a little earlier belongs to it."""
    # Against the flow, so that what comes of a payment after the beginning is after the beginning, too.
    return Begin({topic: ends(topic) for topic in (DEAD_LETTERS, SCORED, LABELS, TRANSACTIONS)}, time.time() - 60)


def coordinates(message: Message) -> Coordinates:
    """Where a message is in its topic."""
    return message.partition() or 0, message.offset() or 0


def decoded(messages: Iterable[Message], topic: str) -> dict[Coordinates, str]:
    """The transaction ids of the messages that can be decoded."""
    schema = schema_of(topic)
    found = {}
    for message in messages:
        try:
            found[coordinates(message)] = str(decode(message.value() or b"", schema)["transaction_id"])
        except SerializationError:
            continue
    return found


def refused(letters: Iterable[Message]) -> dict[str, set[tuple[str, Coordinates]]]:
    """What each stage has refused: topic and coordinates."""
    found: dict[str, set[tuple[str, Coordinates]]] = defaultdict(set)
    for letter in letters:
        headers = {name: bytes(value or b"").decode(errors="replace") for name, value in letter.headers() or []}
        if headers["dlq.stage"] != "producer":
            where = int(headers["dlq.partition"]), int(headers["dlq.offset"])
            found[headers["dlq.stage"]].add((headers["dlq.topic"], where))
    return found


def in_bronze(topic: str, offsets: Mapping[int, int]) -> Counter[Coordinates]:
    """How often Bronze has each message from these offsets on."""
    since = " or ".join(f"(kafka_partition = {each} and kafka_offset >= {offset})" for each, offset in offsets.items())
    with gold_cursor(TrinoSettings()) as trino:
        trino.execute(f"select kafka_partition, kafka_offset from bronze.{BRONZE[topic]} where {since}")
        return Counter((partition, offset) for partition, offset in trino)


def predicted(since: float) -> Counter[str]:
    """How many predictions each payment has since then."""
    query = "select transaction_id, count(*) from predictions where predicted_at >= to_timestamp(%s) group by 1"
    return Counter(dict(select(query, since)))


def bad_messages_are_sent() -> bool:
    """Whether the simulator sends them on purpose."""
    environment = dict(line.split("=", 1) for line in service("producer").attrs["Config"]["Env"])
    return float(environment.get("INVALID_RATE") or 0) > 0


def everything(start: Begin, load: Load) -> list[Count]:
    """Count all messages since the beginning and all answers, with nothing under way any more."""
    raw = {topic: read_topic(topic, start.offsets[topic]) for topic in BRONZE}
    letters = read_topic(DEAD_LETTERS, start.offsets[DEAD_LETTERS])
    refusals = refused(letters)
    payments = decoded(raw[TRANSACTIONS], TRANSACTIONS)
    on_purpose = "bad messages are sent on purpose" if bad_messages_are_sent() else ""

    counts = [counted(TRANSACTIONS, set(payments.values()), Counter(payments.values()), on_purpose)]
    for topic, messages in raw.items():
        wanted = {each for each in map(coordinates, messages) if (topic, each) not in refusals["bronze"]}
        counts.append(counted(f"bronze.{BRONZE[topic]}", wanted, in_bronze(topic, start.offsets[topic])))
    again = "a batch is scored again after a crash"
    wanted_scores = {name for where, name in payments.items() if (TRANSACTIONS, where) not in refusals["scorer"]}
    scores = Counter(decoded(read_topic(SCORED, start.offsets[SCORED]), SCORED).values())
    counts.append(counted(SCORED, wanted_scores, scores, again))
    counts.append(counted("predictions of payments", wanted_scores, predicted(start.time), again))
    counts.append(counted("predictions of answers", load.answered(), Counter(load.stored())))
    counts.append(Count("dead letters, which should be none", 0, 0, len(letters), on_purpose))
    return counts


def run_rounds(faults: Sequence[Fault]) -> list[Hit]:
    """Bring about all faults one after the other, and print each."""
    print_head("round", "at", "fault", "took")
    started, hits = time.time(), []
    for number, fault in enumerate(faults, 1):
        hit = bring_about(fault)
        hits.append(hit)
        print_row(str(number), f"{hit.began - started:.0f} s", str(fault), f"{hit.ended - hit.began:.1f} s")
        time.sleep(fault.pause)  # the next fault may come before the platform has recovered from this one
    return hits


def wait_until_still() -> None:
    """Stop the producer, and wait until all services are well and no consumer has anything left."""
    wait_until(lambda: not unhealthy(), "all services are healthy", HEAL_SECONDS)
    service("producer").stop(timeout=60)
    for reader, lag in {
        "Bronze": bronze_lag,
        "the scorer": scorer_lag,
        "the feature stream": stream_lag,
        "model-quality": lambda: behind("model-quality", LABELS),
        "the log of predictions": lambda: metric("fraud_prediction_backlog"),
    }.items():
        wait_until(lambda lag=lag: lag() == 0, f"{reader} has caught up", HEAL_SECONDS)  # type: ignore[misc]


def print_row(*cells: str) -> None:
    """A row of a Markdown table, at once."""
    print("| " + " | ".join(cells) + " |", flush=True)


def print_head(*cells: str) -> None:
    """The head of a Markdown table."""
    print()
    print_row(*cells)
    print("|" + "---|" * len(cells), flush=True)


def print_counts(counts: Iterable[Count]) -> None:
    """The table of what is where."""
    print_head("place", "expected", "missing", "doubled", "")
    for count in counts:
        print_row(
            count.place if count.is_right else f"**{count.place}**",
            f"{count.expected:,}",
            f"{count.missing:,}",
            f"{count.doubled:,}",
            count.remark if count.doubled else "",
        )


def print_answers(load: Load, excuses: Sequence[Outage], unexcused: Sequence[Answer]) -> None:
    """What the API has answered, and when it could not."""
    print(f"\n{len(load.answers):,} requests to the API; {len(load.failed()):,} were not answered with 200.")
    for each in excuses:
        print(
            f"The API was hit and was away for {each.ended - each.began:.1f} s: {len(each.failed):,} requests failed."
        )
    for answer in unexcused[:10]:
        sent = time.strftime("%X", time.gmtime(answer.sent))
        print(f"Without such a reason: {answer.status} {answer.error}, sent at {sent}")


def run(faults: Sequence[Fault]) -> bool:
    """All rounds under load, then the count; returns whether nothing is lost or doubled.

    The producer is left stopped.

    Raises:
        AssertionError: a service did not come back, or a consumer did not catch up; what, is in the message.
    """
    start = begin()
    with loaded(RATE) as load:
        hits = run_rounds(faults)
        healed = time.time()
        wait_until(lambda: not unhealthy(), "all services are healthy", HEAL_SECONDS)
        print(f"\nAll services are healthy {time.time() - healed:.0f} s after the last round.")
        load.more(5 * RATE)
        load.stop()
    wait_until_still()
    counts = everything(start, load)
    excuses = outages(hits, load.answers)
    unexcused = without_excuse(load.answers, excuses)
    print_counts(counts)
    print_answers(load, excuses, unexcused)
    return all(count.is_right for count in counts) and not unexcused


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How many faults.")] = 24,
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults.")] = 1,
) -> None:
    """Run the rounds on this stack, print the tables, and let the producer run again."""
    faults = plan(seed, rounds, running_victims())
    print(f"{rounds} rounds with seed {seed}: at least {sum(f.seconds + f.pause for f in faults) / 60:.0f} minutes")
    produced = is_running("producer")
    try:
        complete = run(faults)
    except AssertionError as error:
        print(f"\nNOT RECOVERED: {error}; not as they should be: {unhealthy() or 'none'}")
        complete = False
    finally:
        if produced:
            service("producer").start()
    print(f"\nNothing is lost or doubled: {'yes' if complete else 'NO'}.")
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    typer.run(main)
