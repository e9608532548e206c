"""Writes payments and labels to the online store: all records of a batch, or none of them.

Upstream are the feature stream, the rebuild from Bronze and the repair. Writing the same record twice changes nothing,
in whatever order records arrive. `layout.py` describes the keys and their members.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from features import DAY_MS
from redis.client import Pipeline
from redis.exceptions import WatchError

from feature_store import coverage, merchant_totals
from feature_store.coverage import Partition
from feature_store.layout import (
    EXPIRY_SECONDS,
    KEEP_DAYS,
    MERCHANT_DAYS,
    USER_EVENTS,
    USER_LABELS,
    Label,
    PaymentEvent,
    counts_payments,
    range_of_key,
    range_start,
)
from feature_store.pipelines import NamedPipeline, load_script

_ADD_PAYMENTS = load_script("add_payments")


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to write, and how far the topics have been read with them."""

    payments: Sequence[PaymentEvent] = ()
    labels: Sequence[Label] = ()
    # The offset of the first message that is neither among these records nor among earlier ones. If there are none,
    # the clock does not move: then these records are not all that exist up to a moment.
    reached: Mapping[Partition, int] = field(default_factory=dict)
    # Partitions whose position was in Redis before; if one of them is gone, no position is written.
    required: Collection[Partition] = ()
    # Whether to add them to the merchants' totals; False if only the users' payments were lost.
    count_for_merchants: bool = True


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch has changed."""

    payments: int = 0
    labels: int = 0
    # Payments too old for any window.
    too_old: int = 0
    # Payments that were removed because their user has too many, by user.
    trimmed: dict[str, int] = field(default_factory=dict)
    # Redis was emptied since its positions were last read: it has these records and lacks what came before.
    emptied: bool = False


@dataclass(slots=True)
class _OfUser:
    """The records of one user in a batch."""

    # The same payment twice is the one that came first, even if the second has another amount: as in Silver.
    payments: dict[int, PaymentEvent] = field(default_factory=dict)
    labels: dict[bytes, Label] = field(default_factory=dict)


@dataclass(slots=True)
class _New:
    """What Redis lacks of one user's records, and what it has that they refer to."""

    payments: dict[int, PaymentEvent]
    labels: list[bytes]
    known_labels: list[bytes]
    # Members of the payments that labels of the batch are on, by key.
    known_payments: dict[int, bytes]


def apply(store: redis.Redis, batch: Batch, max_payments_per_user: int) -> Applied:
    """Write a batch in one transaction, after one request for what is there already.

    Starts again if another process wrote one of the users in between.

    Raises:
        RedisError: Redis does not answer, or refuses; then it is unknown whether the records are written.
    """
    while True:
        try:
            with store.pipeline(transaction=True) as pipeline:
                return _apply(store, pipeline, batch, max_payments_per_user)
        except WatchError:
            continue


def _apply(store: redis.Redis, pipeline: Pipeline, batch: Batch, max_payments: int) -> Applied:
    newest = max([coverage.clock(store), *(payment.event_time for payment in batch.payments)])
    horizon = newest - KEEP_DAYS * DAY_MS
    users = _by_user(batch, horizon)
    if users:
        pipeline.watch(*map(USER_EVENTS.format, users), *map(USER_LABELS.format, users))
    new = _what_is_new(store, users)
    totals = _totals(new) if batch.count_for_merchants else Counter()

    pipeline.multi()
    transaction = NamedPipeline(pipeline)
    _add_users(store, transaction, new, range_start(horizon), max_payments)
    for (merchant, name), number in totals.items():
        if number:
            client = transaction.named("total", merchant, name) if counts_payments(name) else pipeline
            client.hincrby(MERCHANT_DAYS.format(merchant), name, number)
    if batch.reached:
        coverage.advance(transaction.named("advanced"), batch.reached, newest, batch.required)
    results = transaction.execute()

    merchant_totals.forget_old_days(store, _merchants_with_a_new_day(totals, results), horizon // DAY_MS)
    return Applied(
        payments=sum(len(each.payments) for each in new.values()),
        labels=sum(len(each.labels) for each in new.values()),
        too_old=sum(payment.event_time < horizon for payment in batch.payments),
        trimmed={user: count for user in new if (count := results.get(("trimmed", user)))},
        emptied=bool(batch.reached) and not results["advanced"],
    )


def _by_user(batch: Batch, horizon: int) -> dict[str, _OfUser]:
    """The records by user, without payments that are too old."""
    users: dict[str, _OfUser] = defaultdict(_OfUser)
    for payment in batch.payments:
        if payment.event_time >= horizon:
            users[payment.user_id].payments.setdefault(payment.key, payment)
    for label in batch.labels:
        users[label.user_id].labels[label.pack()] = label
    return users


def _what_is_new(store: redis.Redis, users: Mapping[str, _OfUser]) -> dict[str, _New]:
    lookup = NamedPipeline(store.pipeline(transaction=False))
    for user, records in users.items():
        events_key = USER_EVENTS.format(user)
        lookup.named("labels", user).zrange(USER_LABELS.format(user), 0, -1)
        for key in records.payments:
            lookup.named("count", user, key).zlexcount(events_key, *range_of_key(key))
        for key in _labelled(records):
            lookup.named("payment", user, key).zrangebylex(events_key, *range_of_key(key))
    results = lookup.execute()

    def of(user: str, records: _OfUser) -> _New:
        known_labels: list[bytes] = results["labels", user]
        known_payments: dict[int, bytes] = {}
        for key in _labelled(records):
            for member in results["payment", user, key]:
                known_payments.setdefault(key, member)
        return _New(
            payments={key: each for key, each in records.payments.items() if not results["count", user, key]},
            labels=[member for member in records.labels if member not in known_labels],
            known_labels=known_labels,
            known_payments=known_payments,
        )

    return {user: of(user, records) for user, records in users.items()}


def _labelled(records: _OfUser) -> set[int]:
    """The keys of the payments that the labels are on."""
    return {label.key for label in records.labels.values()} if records.labels else set()


def _totals(new: Mapping[str, _New]) -> merchant_totals.Totals:
    totals = merchant_totals.count_payments(
        payment for of_user in new.values() for payment in of_user.payments.values()
    )
    for of_user in new.values():
        if of_user.labels or of_user.known_labels:
            changes = merchant_totals.count_frauds(
                of_user.payments,
                of_user.labels,
                known_labels=of_user.known_labels,
                known_payments=of_user.known_payments,
            )
            # Not `+=`, which drops negative numbers.
            totals.update(changes)
    return totals


def _add_users(
    store: redis.Redis, transaction: NamedPipeline, new: Mapping[str, _New], first_kept: bytes, max_payments: int
) -> None:
    add_payments = store.register_script(_ADD_PAYMENTS)
    for user, records in new.items():
        if records.payments:
            members = [payment.pack() for payment in records.payments.values()]
            add_payments(
                [USER_EVENTS.format(user)],
                [first_kept, max_payments, EXPIRY_SECONDS, *members],
                client=transaction.named("trimmed", user),
            )
        if records.labels:
            transaction.pipeline.zadd(USER_LABELS.format(user), dict.fromkeys(records.labels, 0))


def _merchants_with_a_new_day(totals: merchant_totals.Totals, results: Mapping[Any, Any]) -> list[int]:
    """The merchants that had no payment of a day before: the day's new total is what the batch added."""
    return [merchant for (merchant, name), number in totals.items() if results.get(("total", merchant, name)) == number]
