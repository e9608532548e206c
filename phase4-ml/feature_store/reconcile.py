"""Compares the stream's features of some users with those of Gold, and writes what Redis lacks from Bronze.

python -m feature_store.reconcile

Upstream are mart_fraud_features and the events in Redis; downstream are the stream's metrics. The pipeline runs it
after each push. Some users are compared feature by feature, and of all users the number of payments, so that a history
that is gone from Redis is back after the next run. Payments that arrived late are in Redis before they are in Gold:
those users are ahead, not wrong.
"""

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from math import isclose
from typing import Any

import redis
from features import DAY_MS, WINDOWS_DAYS, UserFeatures, milliseconds
from fraud_common.errors import EXIT_SKIPPED, UserError, one_line_errors
from fraud_common.redis import redis_client
from fraud_common.settings import load_settings
from pydantic import Field
from trino.dbapi import Cursor

from feature_store import coverage, writer
from feature_store.history import window_to_compare
from feature_store.lakehouse import gold_cursor
from feature_store.layout import (
    KEEP_MS,
    USER_EVENTS,
    USER_LABELS,
    Label,
    PaymentEvent,
    first_member_of,
    unpack_user,
)
from feature_store.pipelines import NamedPipeline
from feature_store.rebuild import read_labels, read_payments
from feature_store.settings import StoreSettings
from feature_store.writer import Batch

REPORT_KEY = "feature_stream:reconciliation"
TOLERANCE = 1e-6
_USERS_PER_LOOKUP = 5000


class NothingToCompare(Exception):  # noqa: N818 - not an error
    """There is no stream yet."""


class ReconciliationSettings(StoreSettings):
    """How many users each comparison takes."""

    reconciled_users: int = Field(default=500, ge=1)
    # Of users who lack payments, so many are repaired in one run; the next one repairs more.
    repaired_users: int = Field(default=2000, ge=1)


def sample(trino: Cursor, users: int) -> dict[str, UserFeatures]:
    """Some users, others every time, as Gold has them."""
    names = [field.name for field in fields(UserFeatures)]
    trino.execute(f"select user_id, {', '.join(names)} from mart_fraud_features order by random() limit {users}")
    rows = [dict(zip(["user_id", *names], row, strict=True)) for row in trino.fetchall()]
    return {row["user_id"]: UserFeatures.from_row(row) for row in rows}


def incomplete_users(trino: Cursor, store: redis.Redis, settings: ReconciliationSettings) -> list[str]:
    """The users of whom Redis has fewer payments than Gold."""
    found: list[str] = []
    counts = ", ".join(f"transactions_{days}d" for days in WINDOWS_DAYS)
    trino.execute(f"select user_id, as_of, {counts} from mart_fraud_features where last_event_time is not null")
    kept = coverage.clock(store) - KEEP_MS
    while rows := trino.fetchmany(_USERS_PER_LOOKUP):
        lookup = NamedPipeline(store.pipeline(transaction=False))
        expected: dict[str, int] = {}
        for user, as_of, *numbers in rows:
            moment = milliseconds(as_of)
            days = window_to_compare(moment, kept)
            if wanted := dict(zip(WINDOWS_DAYS, numbers, strict=True)).get(days, 0):
                expected[user] = min(wanted, settings.feature_stream_max_payments_per_user)
                begin, end = (first_member_of(each) for each in (moment - days * DAY_MS, moment + 1))
                lookup.named(user).zlexcount(USER_EVENTS.format(user), b"[" + begin, b"(" + end)
        kept_now = lookup.execute()
        found += [user for user, wanted in expected.items() if kept_now[user] < wanted]
    return found


def streamed(store: redis.Redis, gold_rows: dict[str, UserFeatures]) -> dict[str, UserFeatures]:
    """The same users at the same moment from their events in Redis."""
    pipeline = NamedPipeline(store.pipeline(transaction=False))
    for user in gold_rows:
        pipeline.named("events", user).zrange(USER_EVENTS.format(user), 0, -1)
        pipeline.named("labels", user).zrange(USER_LABELS.format(user), 0, -1)
    results = pipeline.execute()
    return {
        user: UserFeatures.from_events(
            unpack_user(results["events", user], results["labels", user]), row.as_of, including=True
        )
        for user, row in gold_rows.items()
        if row.as_of
    }


def differences(ours: UserFeatures, theirs: UserFeatures) -> list[str]:
    """Features that differ by more than the tolerance, each with both values."""
    found = []
    for field in fields(UserFeatures):
        left, right = getattr(ours, field.name), getattr(theirs, field.name)
        same = (
            isclose(left, right, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            if isinstance(left, (int, float)) and isinstance(right, (int, float))
            else left == right
        )
        if not same:
            found.append(f"{field.name} {left}, in Gold {right}")
    return found


def repair(trino: Cursor, store: redis.Redis, settings: ReconciliationSettings, users: Sequence[str]) -> int:
    """Write what Bronze has of these users and Redis lacks; returns for how many users that was anything.

    Bronze is read once for all of them: a query for each would take minutes if many are ahead of Gold.
    """
    if not users:
        return 0
    payments: dict[str, list[PaymentEvent]] = defaultdict(list)
    labels: dict[str, list[Label]] = defaultdict(list)
    for payment in read_payments(trino, settings.bronze_schema, users, coverage.clock(store)):
        payments[payment.user_id].append(payment)
    for label in read_labels(trino, settings.bronze_schema, users):
        labels[label.user_id].append(label)
    repaired = 0
    for user in users:
        batch = Batch(payments[user], labels[user], add_to_totals=False)
        applied = writer.apply(store, batch, settings.feature_stream_max_payments_per_user)
        repaired += bool(applied.payments or applied.labels)
    return repaired


def reconcile(settings: ReconciliationSettings) -> dict[str, Any]:
    """Compare, repair, compare again; the report, which the stream's metrics show.

    Raises:
        NothingToCompare: no stream has ever filled this Redis.
        UserError: Trino or Redis do not answer, or the stream is behind Gold.
    """
    with redis_client(settings) as store, gold_cursor(settings) as trino:
        if not coverage.positions(store):
            raise NothingToCompare("no stream has filled this Redis yet: docker compose up -d feature-stream")
        rows = sample(trino, settings.reconciled_users)
        newest = max((row.as_of for row in rows.values() if row.as_of), default=None)
        if newest is None:
            raise UserError("Gold has no users yet: build it with make dbt-run once there are payments")
        clock = coverage.clock(store)
        behind = milliseconds(newest) - clock
        if behind > 0:
            raise UserError(
                f"the stream is {behind / 1000:.0f} s of event time behind Gold: "
                "is it running? docker compose ps feature-stream"
            )
        different = [user for user, ours in streamed(store, rows).items() if differences(ours, rows[user])]
        incomplete = incomplete_users(trino, store, settings)
        # Others every time: those that Bronze does not have either must not keep the rest from their turn.
        chosen = random.sample(incomplete, min(len(incomplete), settings.repaired_users))
        repaired = repair(trino, store, settings, list({*different, *chosen}))
        after = streamed(store, {user: rows[user] for user in different})
        left = {user: found for user, ours in after.items() if (found := differences(ours, rows[user]))}
        report = {
            "at": round(time.time()),
            "checked": len(rows),
            # Of all users.
            "incomplete": len(incomplete),
            "repaired": repaired,
            # Still another value than Gold's though nothing is missing: Gold lacks what arrived late.
            "ahead": len(left),
        }
        store.set(REPORT_KEY, json.dumps(report))
    return report | {"as_of": newest.isoformat(), "examples": _examples(left)}


def _examples(left: dict[str, list[str]]) -> Sequence[str]:
    return [f"{user}: {'; '.join(found[:3])}" for user, found in list(left.items())[:3]]


def main() -> None:
    """The command line."""
    argparse.ArgumentParser(prog="python -m feature_store.reconcile", description=__doc__.splitlines()[0]).parse_args()
    with one_line_errors():
        try:
            print(json.dumps(reconcile(load_settings(ReconciliationSettings))))
        except NothingToCompare as reason:
            print(f"{reason}; skipped", file=sys.stderr)
            sys.exit(EXIT_SKIPPED)


if __name__ == "__main__":
    main()
