"""Totals by day of merchants and devices: what a batch of payments and labels changes in them.

Merchants have payments, logarithms of amounts and known frauds, devices known frauds and users.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import redis
from features import log_steps

from feature_store.layout import (
    DEVICE_FRAUDS,
    DEVICE_USERS,
    EXPIRY_SECONDS,
    MERCHANT_DAYS,
    NO_DEVICE,
    LabelMember,
    PaymentEvent,
    amounts_fields,
    counts_payments,
    day_of_field,
    device_number,
    device_of,
    device_user,
    first_day_kept,
    frauds_field,
    key_of,
    merchant_number,
    merchant_of,
    payments_field,
)
from feature_store.pipelines import NamedPipeline

# What to add, by hash and field.
Totals = Counter[tuple[str, str]]

# The first payment, in milliseconds, by sorted set of a device and member of a user and day.
FirstPayments = dict[tuple[str, bytes], int]


def count_payments(payments: Iterable[PaymentEvent]) -> Totals:
    """What payments that are new to Redis add to their merchants' days."""
    totals: Totals = Counter()
    for payment in payments:
        days = MERCHANT_DAYS.format(merchant_number(payment.merchant_id))
        log_amount = log_steps(payment.cents / 100)
        sums, squares = amounts_fields(payment.event_time)
        totals[days, payments_field(payment.event_time)] += 1
        totals[days, sums] += log_amount
        totals[days, squares] += log_amount * log_amount
    return totals


def first_payments(payments: Iterable[PaymentEvent]) -> FirstPayments:
    """The users of devices by day."""
    found: FirstPayments = {}
    for payment in payments:
        if not payment.device_id:
            continue
        users = DEVICE_USERS.format(device_number(payment.device_id))
        user = users, device_user(payment.event_time, payment.user_id)
        found[user] = min(payment.event_time, found.get(user, payment.event_time))
    return found


def count_frauds(
    new_payments: Mapping[int, PaymentEvent],
    new_labels: Sequence[bytes],
    known_labels: Sequence[bytes],
    known_payments: Mapping[int, bytes],
) -> Totals:
    """What a batch changes in the frauds of one user's merchants and devices.

    They change with a label on a payment, and with a payment whose label came first.

    Args:
        new_payments: of the user, new to Redis, by key.
        new_labels: members that are new to Redis.
        known_labels: members that Redis had before.
        known_payments: members that Redis had before of the payments that labels of the batch are on, by key.
    """
    totals: Totals = Counter()
    for key in {*new_payments, *map(key_of, new_labels)}:
        labels_before = [member for member in known_labels if key_of(member) == key]
        labels_after = labels_before + [member for member in new_labels if key_of(member) == key]
        if not labels_after:
            continue
        if known := known_payments.get(key):
            hashes = _hashes_of_frauds(merchant_of(known), device_of(known))
            for name, change in _fraud_changes(labels_before):
                for each in hashes:
                    totals[each, name] -= change
        elif new := new_payments.get(key):
            hashes = _hashes_of_frauds(merchant_number(new.merchant_id), device_number(new.device_id))
        else:
            # The payment comes later, or is too old.
            continue
        for name, change in _fraud_changes(labels_after):
            for each in hashes:
                totals[each, name] += change
    return totals


def begins_a_day(hash_key: str, field: str) -> bool:
    """Whether a field that is new to a hash may be the first one of a day: then it is time to forget an old one."""
    return counts_payments(field) or hash_key.startswith(DEVICE_FRAUDS.format(""))


def old_fields(fields: Sequence[bytes], clock: int) -> list[bytes]:
    """The fields of a hash that no window reaches any more."""
    if not fields:
        return []
    first = first_day_kept({day_of_field(name) for name in fields}, clock)
    return [name for name in fields if day_of_field(name) < first]


def forget_old_days(store: redis.Redis, keys: Sequence[str], clock: int) -> None:
    """Remove the days that no window reaches, of hashes in which a new day begins."""
    if not keys:
        return
    lookup = NamedPipeline(store.pipeline(transaction=False))
    for key in keys:
        lookup.named(key).hkeys(key)
    fields = lookup.execute()
    removal = store.pipeline(transaction=False)
    for key in keys:
        removal.expire(key, EXPIRY_SECONDS)
        if old := old_fields(fields[key], clock):
            removal.hdel(key, *old)
    removal.execute()


def _hashes_of_frauds(merchant: int, device: int) -> list[str]:
    """The hashes that count the frauds of a payment."""
    hashes = [MERCHANT_DAYS.format(merchant)]
    return hashes if device == NO_DEVICE else [*hashes, DEVICE_FRAUDS.format(device)]


def _fraud_changes(labels: Iterable[bytes]) -> list[tuple[str, int]]:
    """The changes of fields by the labels on one payment, in the order of their reports.

    The payment is a known fraud from the first midnight after a report of fraud to the first one after the next report.
    """
    changes: list[tuple[str, int]] = []
    was_fraud = False
    for label in map(LabelMember.unpack, sorted(labels)):
        if label.is_fraud != was_fraud:
            changes.append((frauds_field(label.event_time, label.reported_at), 1 if label.is_fraud else -1))
        was_fraud = label.is_fraud
    return changes
