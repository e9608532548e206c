"""The feature stream through real Kafka and Redis: late, doubled, out of order and killed, and still the same numbers.

They come from the brute-force oracle of the transforms' tests, which is proved there to be what the SQL makes.
"""

import asyncio
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pandas as pd
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from features import DAY_MS, EPOCH, MERCHANT_FEATURES, USER_FEATURES, MerchantFeatures, UserFeatures, milliseconds
from kafka_tools import KAFKA, REGISTRY, payment, registered
from redis.exceptions import RedisError
from feature_store import event_store
from feature_stream import __main__ as feature_stream
from feature_store.records import BrokenRule, to_payment, to_verdict
from feature_store.event_store import MERCHANT_DAYS, USER_EVENTS, USER_VERDICTS, merchant_number
from serving.feature_client import FeatureClient, Found
from serving.predictor import choose_merchant, choose_user
from serving.settings import Settings, load_settings
from fraud_common.avro import encode
from stack import REDIS_HOST, redis_client, service, wait_until
from test_feature_parity import DAYS, START, make_world

CRASH_ROUNDS = int(os.environ.get("CRASH_ROUNDS") or 1)
# The world comes in so many pieces; after each, so many pairs of a user and an instant are looked at.
PIECES, PAIRS = 28, 40
QUALITY_CHECKS = Path(__file__).parent / "quality_checks.py"

Message = tuple[str, str, bytes]


class RunningStream:
    """A feature stream in a process of its own, on topics of its own, and what is sent to it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        name = f"stream-test-{uuid.uuid4().hex[:8]}"
        self.transactions, self.labels = f"{name}-raw", f"{name}-labels"
        self._log = folder / "stream.log"
        self._environment = {
            "KAFKA_BOOTSTRAP_SERVERS": KAFKA,
            "SCHEMA_REGISTRY_URL": REGISTRY,
            "REDIS_HOST": REDIS_HOST,
            "TRANSACTIONS_TOPIC": self.transactions,
            "LABELS_TOPIC": self.labels,
            "FEATURE_STREAM_GROUP": name,
            "FEATURE_STREAM_FROM": "kafka",
            "METRICS_PORT": "0",
        } | settings
        admin = AdminClient({"bootstrap.servers": KAFKA})
        topics = (self.transactions, self.labels)
        for future in admin.create_topics([NewTopic(topic, 10, 1) for topic in topics]).values():
            future.result()
        self._producer = Producer({"bootstrap.servers": KAFKA, "linger.ms": 5})
        self.start()

    def start(self) -> None:
        """The process; it finds itself where the last one ended."""
        with self._log.open("a") as log:
            command = [sys.executable, "-m", "feature_stream"]
            self.process = subprocess.Popen(command, env=os.environ | self._environment, stderr=log)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def send(self, messages: Sequence[Message]) -> None:
        """Topic, key and value of each, in this order; returns when the broker has them."""
        for topic, key, value in messages:
            self._producer.produce(topic, value, key.encode())
            self._producer.poll(0)
        assert self._producer.flush(60) == 0

    def sent(self) -> dict[tuple[str, int], int]:
        """The end of each partition that has messages; nothing while a new topic has no leader for one of them."""
        consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": "test-reader"})
        places = [(topic, partition) for topic in (self.transactions, self.labels) for partition in range(10)]
        try:
            ends = {place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=10)[1] for place in places}
        except KafkaException:
            return {}
        finally:
            consumer.close()
        return {place: end for place, end in ends.items() if end}

    def wait_until_read(self) -> None:
        """Redis has everything that was sent."""
        sent = wait_until(self.sent, "the broker knows its topics", 60)

        def is_there() -> bool:
            assert self.process.poll() is None, self._log.read_text()
            try:
                known = event_store.positions(redis_client())
            except RedisError:
                return False
            return all(known.get(place) == end for place, end in sent.items())

        wait_until(is_there, "the stream has read everything", 120)


@contextmanager
def running_stream(folder: Path, **settings: str) -> Iterator[RunningStream]:
    """A stream over an empty Redis; both are as before when the block has ended."""
    redis_client().flushdb()
    stream = RunningStream(folder, **settings)
    try:
        yield stream
    finally:
        if stream.process.poll() is None:
            stream.kill()
        redis_client().flushdb()


def payment_message(stream: RunningStream, row: Any) -> Message:
    """A payment of the world as it comes from Kafka."""
    schema_id, schema = registered("transactions.raw")
    record = payment(0) | {
        name: getattr(row, name)
        for name in ("transaction_id", "user_id", "merchant_id", "country", "device_id", "device_type")
    }
    record |= {
        "amount": Decimal(f"{row.amount:.2f}"),
        "event_time": row.event_time.to_pydatetime(),
        "is_international": bool(row.is_international),
    }
    return stream.transactions, row.user_id, encode(record, schema, schema_id)


def label_message(stream: RunningStream, row: Any) -> Message:
    """A label of the world as it comes from Kafka."""
    schema_id, schema = registered("transactions.labels")
    record = {
        "transaction_id": row.transaction_id,
        "user_id": row.user_id,
        "is_fraud": bool(row.is_fraud),
        "fraud_type": None,
        "event_time": row.event_time.to_pydatetime(),
        "reported_at": row.reported_at.to_pydatetime(),
    }
    return stream.labels, row.user_id, encode(record, schema, schema_id)


def small_world(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Payments, labels and merchants; times in whole milliseconds, as on the topics."""
    payments, labels, merchants = make_world(np.random.default_rng(seed))
    return payments, labels.assign(reported_at=labels["reported_at"].dt.floor("ms")), merchants


def all_state() -> dict[str, Any]:
    """What the stream has made of users and merchants, as far as any window reaches it.

    What is older goes with its user's next payment, so it depends on the order in which partitions are read.
    """
    client = redis_client()
    horizon = event_store.clock(client) - 30 * DAY_MS
    state: dict[str, Any] = {}
    for key in client.scan_iter(match=USER_EVENTS.format("*"), count=1000):
        members = client.zrange(key, 0, -1)
        times = event_store.unpack_user(members, []).event_time.tolist()
        state[key.decode()] = [member for member, at in zip(members, times, strict=True) if at >= horizon]
    for key in client.scan_iter(match=USER_VERDICTS.format("*"), count=1000):
        state[key.decode()] = client.zrange(key, 0, -1)
    for key in client.scan_iter(match=MERCHANT_DAYS.format("*"), count=1000):
        # A fraud that was cleared before it counted leaves a zero.
        state[key.decode()] = {
            name: number
            for name, number in client.hgetall(key).items()
            if number != b"0" and int(name.partition(b":")[0]) > horizon // DAY_MS
        }
    return state


def look_up(pairs: Sequence[tuple[str, str]]) -> list[Found]:
    """As the API does."""

    async def ask() -> list[Found]:
        client = FeatureClient(load_settings(Settings, redis_deadline_ms=5_000))
        try:
            return await client.look_up(pairs)
        finally:
            await client.close()

    return asyncio.run(ask())


def assert_equal_to_oracle(found: Found, row: pd.Series, example: dict[str, Any]) -> None:
    """The states that a prediction would take are those of the training example."""
    as_of = row["event_time"].to_pydatetime()
    user, source = choose_user(found, as_of)
    merchant = choose_merchant(found, as_of)
    # Before the user's first payment there is nothing to be had from the stream.
    assert source == ("stream" if found.events or found.verdicts else "default")
    names = [f.name for f in (*dataclasses.fields(UserFeatures), *dataclasses.fields(MerchantFeatures))]
    expected = {name: example[name] for name in names if name in example}
    expected = {name: value for name, value in expected.items() if not name.startswith("merchant_category")}
    assert expected.keys() == {*USER_FEATURES, *MERCHANT_FEATURES}
    oracle.assert_same(dataclasses.asdict(user) | dataclasses.asdict(merchant), expected, row["transaction_id"])


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
            told = labels[(label_arrives >= begin) & (label_arrives < end)]
            messages = [payment_message(stream, row) for row in new.itertuples()]
            messages += [label_message(stream, row) for row in told.itertuples()] * 2
            rng.shuffle(messages)
            # A copy claims another amount; the first one counts, as in Silver.
            stream.send([*messages, *(payment_message(stream, row) for row in copies.itertuples())])
            stream.wait_until_read()

            known, reported = payments[arrives < end], labels[label_arrives < end]
            recent = known[known["event_time"] >= end - pd.Timedelta(days=1)]
            chosen = recent.sample(min(PAIRS, len(recent)), random_state=seed)
            found = look_up(list(zip(chosen["user_id"], chosen["merchant_id"], strict=True)))
            for (_, row), each in zip(chosen.iterrows(), found, strict=True):
                example = oracle.training_example(row, known, reported, merchants)
                assert_equal_to_oracle(each, row, example)
                checked += 1
        assert stream.stop() == 0
    print({"pairs": checked, "features": 27 * checked, "different": 0})
    assert checked >= 1000


def whole_world(stream: RunningStream, seed: int) -> list[Message]:
    """Everything at once, in an order of its own for each seed."""
    payments, labels, _ = small_world(1)
    messages = [payment_message(stream, row) for row in payments.itertuples()]
    messages += [label_message(stream, row) for row in labels.itertuples()]
    np.random.default_rng(seed).shuffle(messages)
    return messages


def test_crashes_and_repetitions_change_nothing(tmp_path: Path) -> None:
    with running_stream(tmp_path) as stream:
        stream.send(whole_world(stream, seed=2))
        stream.wait_until_read()
        expected = all_state()
        assert sum(key.startswith("user_events:") for key in expected) == 30
        # Everything again, from the beginning of the topics.
        stream.kill()
        redis_client().delete(event_store.POSITIONS_KEY)
        stream.start()
        stream.wait_until_read()
        assert all_state() == expected

    for crashed in ["stream", "redis"] * CRASH_ROUNDS:
        with running_stream(tmp_path) as stream:
            messages = whole_world(stream, seed=3)
            third = len(messages) // 3
            stream.send(messages[:third])
            wait_until(lambda: redis_client().exists(event_store.POSITIONS_KEY), "some are in Redis")
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
    monkeypatch.setattr(feature_stream, "REBUILD_LOCK_SECONDS", 1.0)
    lock = redis_client().lock("slow", timeout=feature_stream.REBUILD_LOCK_SECONDS, thread_local=False)
    renewals = 0
    reacquire = lock.reacquire

    def counted() -> bool:
        nonlocal renewals
        renewals += 1
        return reacquire()

    monkeypatch.setattr(lock, "reacquire", counted)
    assert lock.acquire(blocking=False)
    started = time.monotonic()
    with feature_stream.renewed(lock):
        wait_until(lambda: renewals >= 8, "eight renewals")
        assert lock.owned() and time.monotonic() - started > feature_stream.REBUILD_LOCK_SECONDS
    lock.release()


def test_of_a_user_with_very_many_payments_the_newest_are_kept(tmp_path: Path) -> None:
    with running_stream(tmp_path, FEATURE_STREAM_CAP="20") as stream:
        payments, _, _ = small_world(1)
        rows = payments.sort_values("event_time").tail(60).assign(user_id="busy")
        stream.send([payment_message(stream, row) for row in rows.itertuples()])
        stream.wait_until_read()
        members = redis_client().zrange(USER_EVENTS.format("busy"), 0, -1)
        kept = event_store.unpack_user(members, [])
        assert kept.event_time.tolist() == [milliseconds(at) for at in rows["event_time"].tail(20)]
        assert stream.stop() == 0
        assert "busy has more than FEATURE_STREAM_CAP=20 payments" in (tmp_path / "stream.log").read_text()


def test_what_bronze_refuses_and_what_nobody_can_read_is_skipped(tmp_path: Path) -> None:
    schema_id, schema = registered("transactions.raw")
    good = payment(1)
    bad = [
        encode(good | change, schema, schema_id)
        for change in ({"amount": Decimal("-1.00")}, {"user_id": " "}, {"currency": "eur"}, {"transaction_id": ""})
    ]
    bad += [b"no avro", b"\x00\x00\x00\x00\x01rubbish", b""]
    with running_stream(tmp_path) as stream:
        stream.send([(stream.transactions, "u1", value) for value in [*bad, encode(good, schema, schema_id), *bad]])
        stream.send([(stream.labels, "u1", b"no label")])
        stream.wait_until_read()
        assert list(all_state()) == [USER_EVENTS.format("u1"), MERCHANT_DAYS.format(merchant_number("m1"))]


def test_the_rules_are_those_of_bronze() -> None:
    names = set(re.findall(r'^    "([a-z_]+)":', QUALITY_CHECKS.read_text(), re.MULTILINE))
    assert len(names) == 9
    now = milliseconds(datetime.fromisoformat("2024-11-29T12:00:00Z"))
    at = EPOCH + timedelta(milliseconds=now)
    label = {"transaction_id": "t", "user_id": "u", "is_fraud": True, "event_time": at, "reported_at": at}
    broken = {
        "transaction_id_missing": (to_payment, {"transaction_id": " "}),
        "user_id_missing": (to_payment, {"user_id": None}),
        "event_time_invalid": (to_payment, {"event_time": datetime.fromisoformat("1999-12-31T23:59:59Z")}),
        "event_time_in_future": (to_payment, {"event_time": at + timedelta(minutes=5, milliseconds=1)}),
        "amount_not_positive": (to_payment, {"amount": Decimal("0.00")}),
        "merchant_id_missing": (to_payment, {"merchant_id": ""}),
        "currency_invalid": (to_payment, {"currency": "EURO"}),
        "is_fraud_missing": (to_verdict, {"is_fraud": None}),
        "reported_before_event": (to_verdict, {"reported_at": at - timedelta(milliseconds=1)}),
    }
    assert set(broken) == names
    to_payment(payment(1, event_time=at + timedelta(minutes=5)), now)
    to_verdict(label, now)
    for name, (convert, change) in broken.items():
        record = payment(1, event_time=at) if convert is to_payment else label
        with pytest.raises(BrokenRule, match=f"^{name}$"):
            convert(record | change, now)
