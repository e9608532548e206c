"""The feature stream with real Kafka and Redis: late, duplicated, shuffled and killed, and still the same numbers.

The expected ones come from the brute-force oracle of the transforms' tests, which proves there to equal the SQL.
"""

import dataclasses
import os
import time
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pandas as pd
import pytest
from feature_store import coverage
from feature_store.layout import (
    DEVICE_USERS,
    KEEP_DAYS,
    MERCHANT_DAYS,
    POSITIONS_KEY,
    USER_EVENTS,
    USER_LABELS,
    Label,
    device_number,
    merchant_number,
    unpack_user,
)
from feature_stream import fill
from feature_world import DAYS, START
from features import WINDOWS_DAYS, milliseconds
from fraud_common.topics import TRANSACTIONS
from kafka_tools import encoder_of
from redis.exceptions import RedisError
from sample_payments import NOON, payment
from serving_stack import redis_client, service, wait_until
from stream_tools import (
    STREAMED_FEATURES,
    Message,
    all_state,
    assert_equal_to_oracle,
    label_message,
    look_up,
    payment_message,
    running_stream,
    small_world,
    whole_world,
)

CRASH_ROUNDS = int(os.environ.get("CRASH_ROUNDS") or 1)
# The world comes in so many pieces; after each, so many pairs of a user and an instant are compared.
PIECES, PAIRS = 14, 80
# The windows of older payments reach behind what Redis keeps.
STILL_KEPT = pd.Timedelta(days=KEEP_DAYS - max(WINDOWS_DAYS))


@pytest.mark.parametrize("seed", [1])
def test_what_the_stream_keeps_gives_the_training_example_at_any_instant(seed: int, tmp_path: Path) -> None:
    payments, labels, merchants = small_world(seed)
    rng = np.random.default_rng(seed)
    cuts = pd.date_range(START, START + pd.Timedelta(days=DAYS), PIECES + 1)
    # Some come days or weeks late; labels by when they were reported, some of them late, too.
    late = pd.to_timedelta(np.where(rng.random(len(payments)) < 0.03, rng.exponential(6, len(payments)), 0), unit="D")
    arrives = payments["event_time"] + late
    label_late = pd.to_timedelta(np.where(rng.random(len(labels)) < 0.1, rng.exponential(6, len(labels)), 0), unit="D")
    label_arrives = labels["reported_at"] + label_late
    # A label may be there before its payment.
    label_arrives = label_arrives.mask(rng.random(len(labels)) < 0.05, labels["event_time"])
    checked = 0
    with running_stream(tmp_path) as stream:
        for begin, end in pairwise(cuts):
            new = payments[(arrives >= begin) & (arrives < end)]
            copies = payments[arrives < end].sample(10, random_state=1).assign(amount=1.0)
            reports = labels[(label_arrives >= begin) & (label_arrives < end)]
            messages = [payment_message(stream, row) for row in new.itertuples()]
            messages += [label_message(stream, row) for row in reports.itertuples()] * 2
            messages = [messages[number] for number in rng.permutation(len(messages))]
            # A copy claims another amount; the first one counts, as in Silver.
            stream.send([*messages, *(payment_message(stream, row) for row in copies.itertuples())])
            stream.wait_until_current()

            known, reported = payments[arrives < end], labels[label_arrives < end]
            recent = known[known["event_time"] >= end - STILL_KEPT]
            chosen = recent.sample(min(PAIRS, len(recent)), random_state=seed)
            for (_, row), each in zip(chosen.iterrows(), look_up(chosen), strict=True):
                example = oracle.training_example(row, known, reported, merchants)
                assert_equal_to_oracle(each, row, example)
                checked += 1
        assert stream.stop() == 0
    print({"pairs": checked, "features": len(STREAMED_FEATURES) * checked, "different": 0})
    assert checked >= 1000


def test_crashes_and_repetitions_change_nothing(tmp_path: Path) -> None:
    with running_stream(tmp_path) as stream:
        stream.send(whole_world(stream, seed=2))
        stream.wait_until_read()
        expected = all_state()
        assert sum(key.startswith("user_events:") for key in expected) == 30
        # Everything again, from the beginning of the topics.
        stream.kill()
        redis_client().delete(POSITIONS_KEY)
        stream.start()
        stream.wait_until_read()
        assert all_state() == expected

    for crashed in ["stream", "redis"] * CRASH_ROUNDS:
        with running_stream(tmp_path) as stream:
            messages = whole_world(stream, seed=3)
            third = len(messages) // 3
            stream.send(messages[:third])
            wait_until(lambda: redis_client().exists(POSITIONS_KEY), "some are in Redis")
            if crashed == "redis":
                service("redis").kill()
            else:
                stream.kill()
            stream.send(messages[third:])
            if crashed == "redis":
                service("redis").start()
                wait_until(answers, "redis answers")
            else:
                stream.start()
            stream.wait_until_read()
            assert all_state() == expected, f"{crashed} was killed"
            print({"killed": crashed, "messages": len(messages), "keys": len(expected), "different": 0})


def answers() -> bool:
    try:
        return bool(redis_client().ping())
    except RedisError:
        return False


def test_a_redis_that_lost_everything_is_filled_again(tmp_path: Path) -> None:
    with running_stream(tmp_path) as stream:
        stream.send(whole_world(stream, seed=2))
        stream.wait_until_read()
        expected = all_state()
        redis_client().flushdb()
        stream.kill()
        stream.start()
        stream.wait_until_read()
        assert all_state() == expected


def test_a_full_redis_makes_the_stream_wait(tmp_path: Path) -> None:
    """Field case E3: nothing is lost or evicted, and the stream does not end."""
    store = redis_client()
    limit = store.config_get("maxmemory")["maxmemory"]
    with running_stream(tmp_path) as stream:
        messages = whole_world(stream, seed=2)
        stream.send(messages[: len(messages) // 2])
        stream.wait_until_read()
        reached = coverage.positions(store)
        try:
            store.config_set("maxmemory", store.info("memory")["used_memory"] // 2)
            stream.send(messages[len(messages) // 2 :])
            wait_until(lambda: "Redis is full" in stream.log, "the stream says that Redis is full")
            assert "raise REDIS_MAXMEMORY in .env" in stream.log
            assert coverage.positions(store) == reached
            assert stream.process.poll() is None
        finally:
            store.config_set("maxmemory", limit)
        stream.wait_until_read()
        assert "redis has room again" in stream.log
        assert store.info("stats")["evicted_keys"] == 0
        kept = all_state()
        # The same without the interruption.
        stream.kill()
        store.flushdb()
        stream.start()
        stream.wait_until_read()
        assert kept == all_state()


def test_a_redis_that_is_emptied_under_a_running_stream_is_filled_again(tmp_path: Path) -> None:
    """What comes after must not make it look as if all before were there."""
    with running_stream(tmp_path) as stream:
        messages = whole_world(stream, seed=2)
        stream.send(messages)
        stream.wait_until_read()
        expected = all_state()
        redis_client().flushdb()
        # One message only, in one partition of twenty: a repetition, which changes nothing.
        stream.send(messages[:1])
        stream.wait_until_read()
        assert all_state() == expected
        assert stream.stop() == 0


def test_a_rebuild_stays_ours_while_trino_takes_longer_than_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "REBUILD_LOCK_SECONDS", 1.0)
    lock = redis_client().lock("slow", timeout=fill.REBUILD_LOCK_SECONDS, thread_local=False)
    renewals = 0
    reacquire = lock.reacquire

    def counted() -> bool:
        nonlocal renewals
        renewals += 1
        return reacquire()

    monkeypatch.setattr(lock, "reacquire", counted)
    assert lock.acquire(blocking=False)
    started = time.monotonic()
    with fill.renewed(lock):
        wait_until(lambda: renewals >= 8, "eight renewals")
        assert lock.owned() and time.monotonic() - started > fill.REBUILD_LOCK_SECONDS
    lock.release()


def test_of_a_user_with_very_many_payments_the_newest_are_kept(tmp_path: Path) -> None:
    with running_stream(tmp_path, FEATURE_STREAM_MAX_PAYMENTS_PER_USER="20") as stream:
        payments, _, _ = small_world(1)
        rows = payments.sort_values("event_time").tail(60).assign(user_id="busy")
        stream.send([payment_message(stream, row) for row in rows.itertuples()])
        stream.wait_until_read()
        members = redis_client().zrange(USER_EVENTS.format("busy"), 0, -1)
        kept = unpack_user(members, [])
        assert kept.event_time.tolist() == [milliseconds(at) for at in rows["event_time"].tail(20)]
        assert stream.stop() == 0
        assert "busy has more than FEATURE_STREAM_MAX_PAYMENTS_PER_USER=20 payments" in stream.log


def test_what_bronze_refuses_or_cant_be_decoded_is_skipped(tmp_path: Path) -> None:
    encode, good = encoder_of(TRANSACTIONS).encode, payment(1)
    changes: list[dict[str, Any]] = [
        {"amount": Decimal("-1.00")},
        {"user_id": " "},
        {"currency": "eur"},
        {"transaction_id": ""},
    ]
    bad = [*(encode(good | change) for change in changes), b"not Avro", b"\x00\x00\x00\x00\x01rubbish", b""]
    with running_stream(tmp_path) as stream:
        stream.send([Message(stream.transactions, "u1", value) for value in [*bad, encode(good), *bad]])
        stream.send([Message(stream.labels, "u1", b"not a label")])
        stream.wait_until_read()
        device_users = DEVICE_USERS.format(device_number("d1"))
        merchant_days = MERCHANT_DAYS.format(merchant_number("m1"))
        assert list(all_state()) == [USER_EVENTS.format("u1"), device_users, merchant_days]


def test_labels_of_earlier_releases_are_kept(tmp_path: Path) -> None:
    """An upgraded stack: the stream of an earlier release called user_labels user_verdicts."""
    with running_stream(tmp_path) as stream:
        stream.send(whole_world(stream, seed=2))
        stream.wait_until_read()
        expected = all_state()
        assert stream.stop() == 0

        store = redis_client()
        labels = [key.decode() for key in store.scan_iter(match=USER_LABELS.format("*"), count=1000)]
        assert labels
        for key in labels:
            store.rename(key, key.replace("user_labels:", "user_verdicts:"))
        # The repair has written a label under the new name before the stream was upgraded, and the old key has more.
        extra_label = Label("extra", "both", milliseconds(NOON), milliseconds(NOON), is_fraud=True)
        other_label = dataclasses.replace(extra_label, transaction_id="other")
        both = USER_LABELS.format("both")
        store.zadd(both, {extra_label.pack(): 0})
        store.zadd("user_verdicts:both", {extra_label.pack(): 0, other_label.pack(): 0})

        stream.start()
        wait_until(lambda: "following" in stream.log.partition("renamed the labels")[-1], "the stream has renamed them")
        assert f"renamed the labels of {len(labels) + 1} users" in stream.log
        assert list(store.scan_iter(match="user_verdicts:*", count=1000)) == []
        assert all_state() == expected | {both: sorted([extra_label.pack(), other_label.pack()])}
        # Again, it finds none.
        assert fill.rename_old_keys(store) == 0
        assert stream.stop() == 0
