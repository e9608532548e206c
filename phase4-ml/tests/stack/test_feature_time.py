"""Time in the online store, with real Redis and Kafka: wrong rows, the data clock, and partitions that are behind.

The expected features come from the brute-force oracle of the transforms' tests, which proves there to equal the SQL.
"""

import struct
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import oracle
import pandas as pd
import pytest
from confluent_kafka import Producer
from feature_store import coverage, writer
from feature_store.coverage import Progress, ReadToTheEnd
from feature_store.freshness import partition_of
from feature_store.layout import (
    COMPLETE_KEY,
    DAYS_AT_LEAST,
    DEVICE_USERS,
    EXPIRY_SECONDS,
    KEEP_MS,
    MERCHANT_DAYS,
    NEWEST_USERS_KEY,
    POSITIONS_KEY,
    USER_EVENTS,
    USER_LABELS,
    PaymentEvent,
    device_number,
    device_user,
    event_time_of,
    merchant_number,
)
from feature_store.writer import Applied, Batch
from feature_stream.fill import empty_if_other_layout, find_data_clock
from feature_world import START
from features import DAY_MS, DEVICE_USERS_COUNTED, milliseconds
from kafka_tools import KAFKA
from serving_stack import redis_client, wait_until
from stream_tools import (
    Message,
    RunningStream,
    assert_equal_to_oracle,
    label_message,
    look_up,
    payment_message,
    running_stream,
    small_world,
)

TOPIC = "time-test"
AT = 19_000 * DAY_MS
WRONG_ROWS = 1000


@pytest.fixture
def empty_redis() -> Iterator[None]:
    """Nothing of other tests, and nothing for them."""
    redis_client().flushdb()
    yield
    redis_client().flushdb()


def pay(*payments: tuple[str, int], merchant: str = "m1") -> Applied:
    """Payments of users at these times, in one batch of the stream."""
    store = redis_client()
    offset = coverage.positions(store).get((TOPIC, 0), 0)
    events = [
        PaymentEvent(uuid.uuid4().hex, user, merchant, at, 100, "DE", "d1", is_international=False)
        for user, at in payments
    ]
    progress = Progress({(TOPIC, 0): offset + len(events)}, partitions=1)
    return writer.apply(store, Batch(events, progress=progress), max_payments_per_user=50)


def kept(user: str) -> list[int]:
    """The event times of a user's payments in Redis."""
    return [event_time_of(member) for member in redis_client().zrange(USER_EVENTS.format(user), 0, -1)]


@pytest.mark.usefixtures("empty_redis")
def test_the_data_clock_is_the_third_newest_users_and_never_runs_backwards() -> None:
    rng = np.random.default_rng(1)
    newest: dict[str, int] = {}
    before = 0
    for _ in range(200):
        batch = [(f"u{rng.integers(9)}", AT + int(rng.normal(0, 20) * DAY_MS)) for _ in range(rng.integers(1, 6))]
        pay(*batch)
        for user, at in batch:
            newest[user] = max(at, newest.get(user, 0))
        clock = coverage.clock(redis_client())
        assert clock == sorted(newest.values(), reverse=True)[:3][-1]
        assert clock >= before or len(newest) <= 3
        before = clock if len(newest) >= 3 else 0
    assert redis_client().zcard(NEWEST_USERS_KEY) == 3


@pytest.mark.usefixtures("empty_redis")
def test_two_wrong_rows_do_not_move_the_data_clock() -> None:
    # Not even as the first ones.
    now = round(time.time() * 1000)
    pay(("x", now))
    pay(("y", now + 240_000))
    for number in range(5):
        pay((f"u{number}", AT + number))
    assert coverage.clock(redis_client()) == AT + 4


@pytest.mark.usefixtures("empty_redis")
def test_a_users_payments_are_pruned_by_the_users_own() -> None:
    """B1: what others have paid, at whatever time, removes nothing of a user."""
    pay(("slow", AT), ("slow", AT + DAY_MS), ("wrong", AT))
    pay(*((f"fast-{number}", AT + 300 * DAY_MS) for number in range(4)))
    assert coverage.clock(redis_client()) == AT + 300 * DAY_MS
    # A user of a partition that is read more slowly.
    assert pay(("slow", AT - 20 * DAY_MS), ("slow", AT + 2 * DAY_MS)).too_old == 0
    assert kept("slow") == [AT - 20 * DAY_MS, AT, AT + DAY_MS, AT + 2 * DAY_MS]
    # Too old for the user, whether the newer one is in Redis or in the same batch.
    assert pay(("slow", AT + 2 * DAY_MS - KEEP_MS - 1)).too_old == 1
    assert pay(("other", AT), ("other", AT + KEEP_MS + 1)).too_old == 1
    assert kept("other") == [AT + KEEP_MS + 1]
    pay(("slow", AT - 20 * DAY_MS + KEEP_MS + 1))
    assert kept("slow") == [AT, AT + DAY_MS, AT + 2 * DAY_MS, AT - 20 * DAY_MS + KEEP_MS + 1]
    # A wrong row in the future removes nothing, not even of its own user.
    pay(("fast-1", AT + 400 * DAY_MS))
    assert kept("fast-1") == [AT + 300 * DAY_MS, AT + 400 * DAY_MS]
    # And memory is bounded nevertheless.
    assert pay(*(("fast-1", AT + 300 * DAY_MS + number) for number in range(1, 70))).trimmed == {"fast-1": 21}


@pytest.mark.usefixtures("empty_redis")
def test_a_merchants_days_survive_wrong_rows() -> None:
    days = [AT + number * DAY_MS for number in range(33)]
    for at in days:
        pay(("a", at), ("b", at), ("c", at))
    today = round(time.time() * 1000)
    pay(*((f"wrong-{number}", today) for number in range(5)))
    pay(("wrong-9", today + 60_000), merchant="m2")
    assert coverage.clock(redis_client()) >= today
    found = redis_client().hgetall(MERCHANT_DAYS.format(merchant_number("m1")))
    found = {name: number for name, number in found.items() if name.isdigit()}
    assert found == {b"%d" % (at // DAY_MS): b"3" for at in days} | {b"%d" % (today // DAY_MS): b"5"}


@pytest.mark.usefixtures("empty_redis")
def test_a_device_keeps_the_first_users_of_each_day() -> None:
    """In whatever order their payments arrive; and for as long as a window reaches."""
    key = DEVICE_USERS.format(device_number("d1"))
    store = redis_client()
    users = [(f"u{number}", AT + 1000 * number) for number in range(2 * DEVICE_USERS_COUNTED)]
    later = [(user, at + DAY_MS // 2) for user, at in users]
    order = np.random.default_rng(1).permutation(4 * DEVICE_USERS_COUNTED)
    for number in order:
        pay((users + later)[number])
    found = store.zrange(key, 0, -1, withscores=True)
    assert [score for _, score in found] == [at for _, at in users[:DEVICE_USERS_COUNTED]]
    assert [member for member, _ in found] == [device_user(at, user) for user, at in users[:DEVICE_USERS_COUNTED]]
    assert 0 < store.ttl(key) <= EXPIRY_SECONDS
    # The next day they count again.
    pay(("u0", AT + DAY_MS))
    assert store.zcard(key) == DEVICE_USERS_COUNTED + 1


@pytest.mark.usefixtures("empty_redis")
def test_a_devices_days_survive_wrong_rows() -> None:
    """They are removed when no window reaches them, but the newest ones never, whatever the data clock says."""
    key = DEVICE_USERS.format(device_number("d1"))
    store = redis_client()
    days = [AT + number * DAY_MS for number in range(100)]
    for at in days:
        pay(("a", at), ("b", at), ("c", at))
        found = [round(score) for _, score in store.zrange(key, 0, -1, withscores=True)]
        # Each day has three members, and no window reaches further than 32 days.
        assert len(found) <= 3 * DAYS_AT_LEAST and found[-1] == at
        assert set(found) >= {day for day in days if at - KEEP_MS <= day <= at}
    today = round(time.time() * 1000)
    pay(*((f"wrong-{number}", today) for number in range(5)))
    assert coverage.clock(store) == today
    found = [round(score) for _, score in store.zrange(key, 0, -1, withscores=True)]
    assert set(found) >= {*days[-KEEP_MS // DAY_MS :], today}


@pytest.mark.usefixtures("empty_redis")
def test_what_has_another_layout_is_removed_once() -> None:
    store = redis_client()
    pay(("u1", AT))
    store.zadd(USER_LABELS.format("u1"), {b"a label": 0})
    assert store.exists(COMPLETE_KEY, POSITIONS_KEY, USER_EVENTS.format("u1")) == 3
    empty_if_other_layout(store)
    assert {key.decode() for key in store.scan_iter()} & {POSITIONS_KEY, COMPLETE_KEY} == set()
    assert [key.decode() for key in store.scan_iter(match="*:u1")] == [USER_LABELS.format("u1")]
    assert not list(store.scan_iter(match="merchant_days:*")) and not list(store.scan_iter(match="device_users:*"))
    pay(("u1", AT))
    empty_if_other_layout(store)
    assert store.exists(USER_EVENTS.format("u1"))


@pytest.mark.usefixtures("empty_redis")
def test_a_redis_of_an_earlier_release_gets_a_data_clock_from_its_payments() -> None:
    store = redis_client()
    for number in range(1500):
        pay((f"u{number}", AT + number))
    pay(("x", AT + 365 * DAY_MS))
    expected = store.zrange(NEWEST_USERS_KEY, 0, -1, withscores=True)
    # As it was: a clock that one wrong row has moved, and nothing else.
    store.delete(NEWEST_USERS_KEY, "feature_stream:data_clock")
    store.set("feature_stream:clock", AT + 365 * DAY_MS)
    for _ in range(2):
        find_data_clock(store)
        assert store.zrange(NEWEST_USERS_KEY, 0, -1, withscores=True) == expected
        assert coverage.clock(store) == AT + 1498
    assert not store.exists("feature_stream:clock")


@pytest.mark.usefixtures("empty_redis")
def test_a_partition_is_complete_only_if_redis_has_it() -> None:
    store = redis_client()
    read = ReadToTheEnd((TOPIC, 1), end=7, at=AT)
    # Redis was emptied: it has no position.
    assert not coverage.confirm(store, read, partitions=3)
    coverage.advance(store, Progress({(TOPIC, 1): 6}, {1: AT - 5}, partitions=3), {})
    assert coverage.completeness(store).partitions == (0, AT - 5, 0)
    assert not coverage.confirm(store, read, partitions=3)
    coverage.advance(store, Progress({(TOPIC, 1): 7}, {1: AT - 1}, partitions=3), {})
    assert coverage.confirm(store, read, partitions=3)
    # A partition that has never had a message; one that was added to the topic.
    assert coverage.confirm(store, ReadToTheEnd((TOPIC, 0), end=0, at=AT), partitions=4)
    assert coverage.completeness(store).partitions == (AT, AT, 0, 0)
    coverage.forget_removed_partitions(store, 4)
    assert coverage.completeness(store).partitions == (AT, AT, 0, 0)
    coverage.forget_removed_partitions(store, 3)
    assert coverage.completeness(store).partitions == ()
    # After it was emptied nothing is recorded, not even the clock.
    store.delete(POSITIONS_KEY)
    lost = Progress({(TOPIC, 1): 9}, {1: AT}, partitions=3, required=[(TOPIC, 1)])
    assert coverage.advance(store, lost, {"u": AT}) == 0
    assert (coverage.completeness(store).partitions, coverage.clock(store)) == ((), 0)


def wrong_rows(like: pd.DataFrame) -> pd.DataFrame:
    """Payments of users of their own, at the merchants of the others, with the times that people's clocks have."""
    rng = np.random.default_rng(7)
    now = pd.Timestamp(datetime.now(UTC)).floor("ms")
    times = [
        pd.Timestamp("1970-01-01T00:00:10Z"),
        pd.Timestamp("2024-02-29T12:00:00Z"),
        now,
        now + pd.Timedelta(minutes=4),
    ]
    rows = like.sample(WRONG_ROWS, random_state=7).reset_index(drop=True)
    return rows.assign(
        transaction_id=[f"wrong-{number}" for number in range(WRONG_ROWS)],
        user_id=[f"wrong-{number}" for number in rng.integers(0, 100, WRONG_ROWS)],
        event_time=pd.to_datetime([times[number % 4] for number in range(WRONG_ROWS)], utc=True),
    )


@pytest.mark.parametrize("count", [1, WRONG_ROWS])
def test_rows_of_wrong_dates_change_no_other_users_features(tmp_path: Path, count: int) -> None:
    """B1: one row of today in data of years ago; and a thousand of 1970, 2024, today and in four minutes."""
    payments, labels, merchants = small_world(1)
    # The last of the list: that of today.
    wrong = wrong_rows(payments) if count > 1 else wrong_rows(payments).iloc[[2]]
    half = START + pd.Timedelta(days=35)
    with running_stream(tmp_path) as stream:
        # Live payments before, between and after the wrong rows.
        early, late = payments[payments["event_time"] < half], payments[payments["event_time"] >= half]
        stream.send([payment_message(stream, row) for row in early.itertuples()])
        stream.wait_until_read()
        clock = coverage.clock(redis_client())
        mixed = [payment_message(stream, row) for row in late.head(400).itertuples()]
        mixed += [payment_message(stream, row) for row in wrong.itertuples()]
        order = np.random.default_rng(2).permutation(len(mixed))
        stream.send([mixed[number] for number in order])
        stream.send([payment_message(stream, row) for row in late.iloc[400:].itertuples()])
        stream.send([label_message(stream, row) for row in labels.itertuples()])
        stream.wait_until_current()
        assert coverage.clock(redis_client()) >= clock
        if count == 1:
            newest = payments.groupby("user_id")["event_time"].max().sort_values().tail(2)
            assert coverage.clock(redis_client()) == milliseconds(newest.iloc[0].to_pydatetime())

        in_bronze = wrong[wrong["event_time"].dt.year >= 2000]
        known = pd.concat([payments, in_bronze], ignore_index=True)
        recent = payments[payments["event_time"] >= payments["event_time"].max() - pd.Timedelta(days=1.5)]
        for (_, row), found in zip(recent.iterrows(), look_up(recent), strict=True):
            assert_equal_to_oracle(found, row, oracle.training_example(row, known, labels, merchants))
        print({"wrong rows": count, "payments compared": len(recent), "different": 0})
        assert len(recent) >= 50
        assert stream.stop() == 0


def user_of(partition: int) -> str:
    """A user whose payments are in this partition."""
    return next(f"u{number}" for number in range(1000) if partition_of(f"u{number}", 10) == partition)


def payment_of(stream: RunningStream, user: str) -> Message:
    """A payment of this user."""
    payments, _, _ = small_world(1)
    (row,) = payments.assign(user_id=user, transaction_id=uuid.uuid4().hex).tail(1).itertuples()
    return payment_message(stream, row)


def test_a_quiet_partition_stays_current_and_one_that_is_behind_does_not(tmp_path: Path) -> None:
    with running_stream(tmp_path) as stream:
        stream.send([payment_of(stream, user_of(3))])
        stream.wait_until_current()
        first = coverage.completeness(redis_client())
        # Nothing more is sent, and all ten go on.
        wait_until(
            lambda: all(map(int.__gt__, coverage.completeness(redis_client()).partitions, first.partitions)),
            "all partitions are confirmed again",
        )
        assert not first.scattered
        stream.kill()
        # Down: what was complete stays what it was.
        down = coverage.completeness(redis_client())
        stream.send([payment_of(stream, user_of(3)) for _ in range(3)])
        assert coverage.completeness(redis_client()) == down
        # While the process that has the payments does not run, only their partition is behind.
        begin = round(time.time() * 1000)
        store = redis_client()
        store.setrange(COMPLETE_KEY, 8 * 5, struct.pack(">q", begin))
        assert coverage.completeness(store).of_user(user_of(5)) == begin
        assert coverage.completeness(store).of_user(user_of(3)) == down.partitions[3] < begin
        stream.start()
        stream.wait_until_current()
        assert coverage.completeness(store).of_user(user_of(3)) > begin


def test_payments_in_other_partitions_are_noticed(tmp_path: Path) -> None:
    """Another producer than librdkafka's: each user is as fresh as the slowest partition."""
    with running_stream(tmp_path) as stream:
        message = payment_of(stream, user_of(3))
        producer = Producer({"bootstrap.servers": KAFKA})
        producer.produce(message.topic, message.value, message.key.encode(), partition=8)
        assert producer.flush(30) == 0
        stream.wait_until_current()
        found = coverage.completeness(redis_client())
        assert found.scattered
        assert found.of_user(user_of(3)) == found.slowest
        assert "the slowest partition counts" in stream.log
        assert stream.stop() == 0


@pytest.mark.usefixtures("empty_redis")
def test_the_api_reads_what_the_stream_writes() -> None:
    now = round(time.time() * 1000)
    pay(("a", AT), ("b", AT + 1), ("c", AT + 2))
    redis_client().set(COMPLETE_KEY, struct.pack(">10q", *range(1, 11)))
    (found,) = look_up(pd.DataFrame({"user_id": ["a"], "merchant_id": ["m1"]}))
    assert found.stream.data_clock == AT
    assert found.stream.complete.of_user("a") == 1 + partition_of("a", 10)
    assert (found.stream.complete.slowest, found.stream.complete.scattered, found.stream.pushed_at) == (1, False, 0)
    coverage.note_scattered(redis_client())
    redis_client().set("feature_writer:pushed_at", now)
    (found,) = look_up(pd.DataFrame({"user_id": ["a"], "merchant_id": ["m1"]}))
    assert (found.stream.complete.scattered, found.stream.pushed_at) == (True, now)
