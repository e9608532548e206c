"""Writes payments and labels to the online store: all records of a batch, or none of them.

Upstream are the feature stream, the rebuild from Bronze and the repair. Writing the same record twice changes nothing,
in whatever order records arrive. `layout.py` describes the keys and their members.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched

import redis
from features import DEVICE_USERS_COUNTED
from redis.client import Pipeline
from redis.exceptions import WatchError

from feature_store import coverage, totals
from feature_store.coverage import Progress
from feature_store.layout import (
    DAYS_AT_LEAST,
    EXPIRY_SECONDS,
    KEEP_MS,
    USER_EVENTS,
    USER_LABELS,
    WRITES,
    Label,
    PaymentEvent,
    event_time_of,
    kept_from,
    key_bytes,
    writes_number,
)
from feature_store.pipelines import NamedPipeline, load_script

_LOOK_UP, _ADD_RECORDS, _COUNT, _NOTE_USERS = map(load_script, ("look_up", "add_records", "count", "note_users"))

# A command costs the client more than a key in it, and one with too many keys makes other clients of Redis wait.
_USERS_PER_COMMAND = 100
_TOTALS_PER_COMMAND = 200

type _Key = tuple[str, int]  # the user of a payment, and its key


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to write, and how far the topics have been read with them."""

    payments: Sequence[PaymentEvent] = ()
    labels: Sequence[Label] = ()
    # Without it the data clock does not move: then these records are not all that exist up to a moment.
    progress: Progress = field(default_factory=Progress)
    # Whether to add them to the totals of merchants and devices; False if only the users' payments were lost.
    add_to_totals: bool = True


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

    def keys(self) -> set[int]:
        """The keys of the payments, and of those that the labels are on."""
        return {*self.payments, *(label.key for label in self.labels.values())}

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
    # Members of the labels on the batch's payments, and on those that the batch's labels are on.
    known_labels: list[bytes]
    # Members of these payments, by key.
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
    # Redis compares each watched key with all others, so these are few, and not the users' own.
    writes = [WRITES.format(number) for number in {*map(writes_number, users)}]
    if writes:
        pipeline.watch(*writes)
    new = _what_is_new(store, users, clock)
    changes = _totals(new) if batch.add_to_totals else Counter()

    pipeline.multi()
    transaction = NamedPipeline(pipeline)
    for key in writes:
        pipeline.incr(key)
    chunks = _add_users(store, transaction, new, clock, max_payments)
    counted = _count_totals(store, transaction, changes)
    _note_users_of_devices(store, transaction, new, clock)
    progress = batch.progress
    if progress.reached:
        coverage.advance(transaction.named("advanced"), progress, coverage.newest_users(batch.payments))
    results = transaction.execute()

    new_fields = {chunk[index - 1] for number, chunk in enumerate(counted) for index in results["count", number]}
    with_new_days = {key for key, name in new_fields if totals.begins_a_day(key, name)}
    totals.forget_old_days(store, sorted(with_new_days), clock)
    trimmed = {
        chunk[index - 1]: count
        for number, chunk in enumerate(chunks)
        for index, count in batched(results["add", number], 2, strict=True)
    }
    return Applied(
        payments=sum(len(each.payments) for each in new.values()),
        labels=sum(len(each.labels) for each in new.values()),
        too_old=sum(each.too_old for each in new.values()),
        trimmed=trimmed,
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
    script = store.register_script(_LOOK_UP)
    chunks = list(batched(users, _USERS_PER_COMMAND, strict=False))
    asked: list[list[_Key]] = []
    for number, chunk in enumerate(chunks):
        keys = {user: users[user].keys() for user in chunk}
        asked.append([(user, key) for user in chunk for key in keys[user]])
        arguments = [item for each in keys.values() for item in (len(each), *map(key_bytes, each))]
        script(_keys_of(chunk), arguments, client=lookup.named("known", number))
    for user, records in users.items():
        if records.may_be_too_old(clock):
            lookup.named("newest", user).zrange(USER_EVENTS.format(user), -1, -1)
    results = lookup.execute()

    known: dict[_Key, tuple[list[bytes], list[bytes]]] = {
        asked_keys[index - 1]: (events, labels)
        for number, asked_keys in enumerate(asked)
        for index, events, labels in results["known", number]
    }
    known_of: dict[str, list[_Key]] = defaultdict(list)
    for user, key in known:
        known_of[user].append((user, key))

    def of(user: str, records: _OfUser) -> _New:
        recent = records.recent(results.get(("newest", user), ()), clock)
        too_old = len(records.payments) - len(recent)
        if user not in known_of:  # most users of most batches
            return _New(recent, list(records.labels), [], {}, too_old)
        known_payments = {key: known[user, key][0][0] for _, key in known_of[user] if known[user, key][0]}
        known_labels = [member for each in known_of[user] for member in known[each][1]]
        return _New(
            payments={key: each for key, each in recent.items() if key not in known_payments},
            labels=[member for member in records.labels if member not in known_labels],
            known_labels=known_labels,
            known_payments=known_payments,
            too_old=too_old,
        )

    return {user: of(user, records) for user, records in users.items()}


def _keys_of(users: Iterable[str]) -> list[str]:
    return [key for user in users for key in (USER_EVENTS.format(user), USER_LABELS.format(user))]


def _payments(new: Mapping[str, _New]) -> Iterator[PaymentEvent]:
    return (payment for of_user in new.values() for payment in of_user.payments.values())


def _totals(new: Mapping[str, _New]) -> totals.Totals:
    changes = totals.count_payments(_payments(new))
    for of_user in new.values():
        if of_user.labels or of_user.known_labels:
            frauds = totals.count_frauds(
                of_user.payments,
                of_user.labels,
                known_labels=of_user.known_labels,
                known_payments=of_user.known_payments,
            )
            # Not `+=`, which drops negative numbers.
            changes.update(frauds)
    return changes


def _add_users(
    store: redis.Redis, transaction: NamedPipeline, new: Mapping[str, _New], clock: int, max_payments: int
) -> list[tuple[str, ...]]:
    """Queue commands named ("add", number); the users of each."""
    script = store.register_script(_ADD_RECORDS)
    changed = [user for user, records in new.items() if records.payments or records.labels]
    chunks = list(batched(changed, _USERS_PER_COMMAND, strict=False))
    for number, chunk in enumerate(chunks):
        arguments: list[bytes | int] = [clock, KEEP_MS, max_payments, EXPIRY_SECONDS]
        for user in chunk:
            members = [payment.pack() for payment in new[user].payments.values()]
            arguments += [len(members), *members, len(new[user].labels), *new[user].labels]
        script(_keys_of(chunk), arguments, client=transaction.named("add", number))
    return chunks


def _count_totals(
    store: redis.Redis, transaction: NamedPipeline, changes: totals.Totals
) -> list[tuple[tuple[str, str], ...]]:
    """Queue commands named ("count", number); the totals of each."""
    script = store.register_script(_COUNT)
    changed = [total for total, number in changes.items() if number]
    chunks = list(batched(changed, _TOTALS_PER_COMMAND, strict=False))
    for number, chunk in enumerate(chunks):
        arguments = [item for total in chunk for item in (total[1], changes[total])]
        script([key for key, _ in chunk], arguments, client=transaction.named("count", number))
    return chunks


def _note_users_of_devices(store: redis.Redis, transaction: NamedPipeline, new: Mapping[str, _New], clock: int) -> None:
    script = store.register_script(_NOTE_USERS)
    first = totals.first_payments(_payments(new))
    for chunk in batched(first, _TOTALS_PER_COMMAND, strict=False):
        arguments: list[bytes | int] = [clock, KEEP_MS, DAYS_AT_LEAST, DEVICE_USERS_COUNTED, EXPIRY_SECONDS]
        for each in chunk:
            arguments += [each[1], first[each]]
        script([key for key, _ in chunk], arguments, client=transaction.pipeline)
