"""Writes payments and labels to the online store: all records of a batch, or none of them.

Upstream are the feature stream, the rebuild from Bronze and the repair. Writing the same record twice changes nothing,
in whatever order records arrive. `layout.py` describes the keys and their members.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import WatchError

from feature_store import coverage, merchant_totals
from feature_store.coverage import Progress
from feature_store.layout import (
    EXPIRY_SECONDS,
    KEEP_MS,
    MERCHANT_DAYS,
    USER_EVENTS,
    USER_LABELS,
    Label,
    PaymentEvent,
    counts_payments,
    event_time_of,
    kept_from,
    range_of_key,
)
from feature_store.pipelines import NamedPipeline, load_script

_ADD_PAYMENTS = load_script("add_payments")


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to write, and how far the topics have been read with them."""

    payments: Sequence[PaymentEvent] = ()
    labels: Sequence[Label] = ()
    # Without it the data clock does not move: then these records are not all that exist up to a moment.
    progress: Progress = field(default_factory=Progress)
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

    def may_be_too_old(self, clock: int) -> bool:
        """Whether one of the payments is too old, unless the user's newest one is as old; which Redis knows."""
        return any(payment.event_time < clock - KEEP_MS for payment in self.payments.values())

    def recent(self, newest_members: Sequence[bytes], clock: int) -> dict[int, PaymentEvent]:
        """The payments that are not too old, given the member of the newest payment in Redis, if there is one."""
        if not self.may_be_too_old(clock):
            return self.payments
        times = [payment.event_time for payment in self.payments.values()]
        first = kept_from(max(*times, *map(event_time_of, newest_members), 0), clock)
        return {key: payment for key, payment in self.payments.items() if payment.event_time >= first}


@dataclass(slots=True)
class _New:
    """What Redis lacks of one user's records, and what it has that they refer to."""

    payments: dict[int, PaymentEvent]
    labels: list[bytes]
    known_labels: list[bytes]
    # Members of the payments that labels of the batch are on, by key.
    known_payments: dict[int, bytes]
    too_old: int


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
    clock = coverage.clock(store)
    users = _by_user(batch)
    if users:
        pipeline.watch(*map(USER_EVENTS.format, users), *map(USER_LABELS.format, users))
    new = _what_is_new(store, users, clock)
    totals = _totals(new) if batch.count_for_merchants else Counter()

    pipeline.multi()
    transaction = NamedPipeline(pipeline)
    _add_users(store, transaction, new, clock, max_payments)
    for (merchant, name), number in totals.items():
        if number:
            client = transaction.named("total", merchant, name) if counts_payments(name) else pipeline
            client.hincrby(MERCHANT_DAYS.format(merchant), name, number)
    progress = batch.progress
    if progress.reached:
        coverage.advance(transaction.named("advanced"), progress, coverage.newest_users(batch.payments))
    results = transaction.execute()

    merchant_totals.forget_old_days(store, _merchants_with_a_new_day(totals, results), clock)
    return Applied(
        payments=sum(len(each.payments) for each in new.values()),
        labels=sum(len(each.labels) for each in new.values()),
        too_old=sum(each.too_old for each in new.values()),
        trimmed={user: count for user in new if (count := results.get(("trimmed", user)))},
        emptied=bool(progress.reached) and not results["advanced"],
    )


def _by_user(batch: Batch) -> dict[str, _OfUser]:
    users: dict[str, _OfUser] = defaultdict(_OfUser)
    for payment in batch.payments:
        users[payment.user_id].payments.setdefault(payment.key, payment)
    for label in batch.labels:
        users[label.user_id].labels[label.pack()] = label
    return users


def _what_is_new(store: redis.Redis, users: Mapping[str, _OfUser], clock: int) -> dict[str, _New]:
    lookup = NamedPipeline(store.pipeline(transaction=False))
    for user, records in users.items():
        events_key = USER_EVENTS.format(user)
        lookup.named("labels", user).zrange(USER_LABELS.format(user), 0, -1)
        if records.may_be_too_old(clock):
            lookup.named("newest", user).zrange(events_key, -1, -1)
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
        recent = records.recent(results.get(("newest", user), ()), clock)
        return _New(
            payments={key: each for key, each in recent.items() if not results["count", user, key]},
            labels=[member for member in records.labels if member not in known_labels],
            known_labels=known_labels,
            known_payments=known_payments,
            too_old=len(records.payments) - len(recent),
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
    store: redis.Redis, transaction: NamedPipeline, new: Mapping[str, _New], clock: int, max_payments: int
) -> None:
    add_payments = store.register_script(_ADD_PAYMENTS)
    for user, records in new.items():
        if records.payments:
            members = [payment.pack() for payment in records.payments.values()]
            add_payments(
                [USER_EVENTS.format(user)],
                [clock, KEEP_MS, max_payments, EXPIRY_SECONDS, *members],
                client=transaction.named("trimmed", user),
            )
        if records.labels:
            transaction.pipeline.zadd(USER_LABELS.format(user), dict.fromkeys(records.labels, 0))


def _merchants_with_a_new_day(totals: merchant_totals.Totals, results: Mapping[Any, Any]) -> list[int]:
    """The merchants that had no payment of a day before: the day's new total is what the batch added."""
    return [merchant for (merchant, name), number in totals.items() if results.get(("total", merchant, name)) == number]
