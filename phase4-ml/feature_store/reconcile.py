"""Is the stream right? Its features of some users beside those of Gold; what Redis lacks is taken from Bronze.

python -m serving.reconciliation

Upstream are mart_fraud_features and what the stream keeps in Redis; downstream are the stream's metrics. The pipeline
runs it after each push. Payments that came late are in Redis before they are in Gold: those users are ahead, not wrong.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from math import isclose
from typing import Any

import redis
from features import UserFeatures
from pydantic import Field
from trino.dbapi import Cursor

from feature_store import event_store
from feature_store.event_store import USER_EVENTS, USER_VERDICTS, PaymentEvent, Verdict, unpack_user
from feature_store.rebuild import read_payments, read_verdicts
from feature_store.gold import GoldSettings, gold
from serving.settings import load_settings
from feature_store.snapshot_store import FeatureError, RedisSettings, snapshot_store

REPORT_KEY = "feature_stream:reconciliation"
TOLERANCE = 1e-6


# Airflow's word for skipped.
SKIPPED = 99


class NothingToCompare(Exception):  # noqa: N818 - no error
    """There is no stream yet."""


class ReconciliationSettings(RedisSettings, GoldSettings):
    """One typed value for each setting; the environment variable has the field's name in capitals."""

    reconciled_users: int = Field(default=500, ge=1)
    feature_stream_cap: int = Field(default=1000, ge=10, le=100_000)


def sample(trino: Cursor, users: int) -> dict[str, UserFeatures]:
    """Some users, others every time, as Gold has them."""
    names = [field.name for field in fields(UserFeatures)]
    trino.execute(f"select user_id, {', '.join(names)} from mart_fraud_features order by random() limit {users}")
    return {row[0]: UserFeatures.from_row(dict(zip(names, row[1:], strict=True))) for row in trino.fetchall()}


def streamed(store: redis.Redis, gold_rows: dict[str, UserFeatures]) -> dict[str, UserFeatures]:
    """The same users at the same moment from their events in Redis."""
    pipeline = store.pipeline(transaction=False)
    for user in gold_rows:
        pipeline.zrange(USER_EVENTS.format(user), 0, -1)
        pipeline.zrange(USER_VERDICTS.format(user), 0, -1)
    answers = pipeline.execute()
    return {
        user: UserFeatures.from_events(unpack_user(events, verdicts), row.as_of, including=True)
        for (user, row), events, verdicts in zip(gold_rows.items(), answers[::2], answers[1::2], strict=True)
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
    """Write what Bronze has of these users and Redis lacks; returns for how many that was anything.

    Bronze is read once for all of them: a query for each would take minutes where many are ahead of Gold.
    """
    if not users:
        return 0
    payments: dict[str, list[PaymentEvent]] = defaultdict(list)
    verdicts: dict[str, list[Verdict]] = defaultdict(list)
    for payment in read_payments(trino, settings.bronze_schema, users):
        payments[payment.user_id].append(payment)
    for verdict in read_verdicts(trino, settings.bronze_schema, users):
        verdicts[verdict.user_id].append(verdict)
    cap = settings.feature_stream_cap
    applied = [event_store.apply(store, payments[user], verdicts[user], {}, cap, merchants=False) for user in users]
    return sum(bool(each.payments or each.verdicts) for each in applied)


def reconcile(settings: ReconciliationSettings) -> dict[str, Any]:
    """Compare, repair, compare again; the report, which the stream's metrics show.

    Raises:
        NothingToCompare: no stream has ever filled this Redis.
        FeatureError: Trino or Redis do not answer, or the stream is behind Gold.
    """
    with snapshot_store(settings) as store, gold(settings) as trino:
        if not event_store.positions(store):
            raise NothingToCompare("no stream has filled this Redis yet: docker compose up -d feature-stream")
        rows = sample(trino, settings.reconciled_users)
        newest = max((row.as_of for row in rows.values() if row.as_of), default=None)
        if newest is None:
            raise FeatureError("Gold has no users yet: build it with make dbt-run once there are payments")
        clock = event_store.clock(store)
        if clock < newest.timestamp() * 1000:
            raise FeatureError(
                f"the stream is {newest.timestamp() - clock / 1000:.0f} s of event time behind Gold: "
                "does it run? docker compose ps feature-stream"
            )
        different = [user for user, ours in streamed(store, rows).items() if differences(ours, rows[user])]
        repaired = repair(trino, store, settings, different)
        after = streamed(store, {user: rows[user] for user in different})
        left = {user: found for user, ours in after.items() if (found := differences(ours, rows[user]))}
        report = {
            "at": round(time.time()),
            "checked": len(rows),
            "repaired": repaired,
            # Still another value than Gold's though nothing is missing: Gold lacks what came late.
            "ahead": len(left),
        }
        store.set(REPORT_KEY, json.dumps(report))
    return report | {"as_of": newest.isoformat(), "examples": _examples(left)}


def _examples(left: dict[str, list[str]]) -> Sequence[str]:
    return [f"{user}: {'; '.join(found[:3])}" for user, found in list(left.items())[:3]]


def main() -> None:
    """The command line."""
    argparse.ArgumentParser(prog="python -m serving.reconciliation", description=__doc__.splitlines()[0]).parse_args()
    try:
        print(json.dumps(reconcile(load_settings(ReconciliationSettings))))
    except NothingToCompare as reason:
        print(f"{reason}; skipped", file=sys.stderr)
        sys.exit(SKIPPED)
    except FeatureError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
