"""Merchants' payments and known frauds by day: what a batch of payments and labels changes in their totals."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import redis

from feature_store.layout import (
    EXPIRY_SECONDS,
    MERCHANT_DAYS,
    LabelMember,
    PaymentEvent,
    day_of_field,
    first_day_kept,
    frauds_field,
    key_of,
    merchant_number,
    merchant_of,
    payments_field,
)
from feature_store.pipelines import NamedPipeline

# What to add, by merchant's number and field of its hash.
Totals = Counter[tuple[int, str]]


def count_payments(payments: Iterable[PaymentEvent]) -> Totals:
    """What payments that are new to Redis add to their merchants' days."""
    return Counter((merchant_number(payment.merchant_id), payments_field(payment.event_time)) for payment in payments)


def count_frauds(
    new_payments: Mapping[int, PaymentEvent],
    new_labels: Sequence[bytes],
    known_labels: Sequence[bytes],
    known_payments: Mapping[int, bytes],
) -> Totals:
    """What a batch changes in the frauds of one user's merchants.

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
            merchant = merchant_of(known)
            for name, change in _fraud_changes(labels_before):
                totals[merchant, name] -= change
        elif new := new_payments.get(key):
            merchant = merchant_number(new.merchant_id)
        else:
            # The payment comes later, or is too old.
            continue
        for name, change in _fraud_changes(labels_after):
            totals[merchant, name] += change
    return totals


def old_fields(fields: Sequence[bytes], clock: int) -> list[bytes]:
    """The fields of a merchant's hash that no window reaches any more."""
    if not fields:
        return []
    first = first_day_kept({day_of_field(name) for name in fields}, clock)
    return [name for name in fields if day_of_field(name) < first]


def forget_old_days(store: redis.Redis, merchants: Sequence[int], clock: int) -> None:
    """Remove the days that no window reaches, of merchants for which a new day begins."""
    if not merchants:
        return
    lookup = NamedPipeline(store.pipeline(transaction=False))
    keys = [MERCHANT_DAYS.format(merchant) for merchant in merchants]
    for key in keys:
        lookup.named(key).hkeys(key)
    fields = lookup.execute()
    removal = store.pipeline(transaction=False)
    for key in keys:
        removal.expire(key, EXPIRY_SECONDS)
        if old := old_fields(fields[key], clock):
            removal.hdel(key, *old)
    removal.execute()


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
