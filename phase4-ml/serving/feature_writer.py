"""Writes the snapshots of all users and merchants from Gold to Redis.

python -m serving.feature_writer

Upstream are mart_fraud_features, mart_merchant_risk and mart_category_risk; downstream is the feature client of the
API. Running it again changes only the expiry, which users' snapshots have; merchants and the risks of categories stay.
Rows are written in batches, so memory does not grow with the number of users. While Redis is nearly full nothing is
written: the snapshots of users then expire, and make room for the stream.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import redis
from feature_store.lakehouse import gold_cursor
from feature_store.layout import PUSHED_AT_KEY
from features import CATEGORY_RISKS_KEY, MERCHANT_KEY, SNAPSHOT_SECONDS, USER_KEY, MerchantFeatures, UserFeatures
from fraud_common.errors import UserError, one_line_errors
from fraud_common.redis import redis_client, require_room
from fraud_common.settings import RedisSettings, TrinoSettings, load_settings
from pydantic import Field
from redis.exceptions import LockError
from trino.dbapi import Cursor

Features = type[UserFeatures] | type[MerchantFeatures]

# One push at a time: each reads Gold after the previous one has ended, so no older snapshot replaces a newer one, and
# no push has to compare them key by key. Every batch renews the lock; after a kill it expires in this time.
LOCK_KEY = "feature_writer:lock"
LOCK_SECONDS = 180.0
SECONDS_BETWEEN_LINES = 5.0


class WriterSettings(RedisSettings, TrinoSettings):
    """Where Redis and Gold are, and how many rows are written at once."""

    push_batch: int = Field(default=1000, ge=1, le=100_000)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """One kind of snapshot: from which table, under which keys."""

    table: str
    id_column: str
    key: str
    features: Features
    # None: they stay.
    expiry_seconds: int | None


USERS = Snapshots("mart_fraud_features", "user_id", USER_KEY, UserFeatures, SNAPSHOT_SECONDS)
MERCHANTS = Snapshots("mart_merchant_risk", "merchant_id", MERCHANT_KEY, MerchantFeatures, expiry_seconds=None)


@dataclass
class Pushed:
    """What a push of one kind has done."""

    count: int = 0
    as_of: datetime | None = None


def read_rows(trino: Cursor, kind: Snapshots, batch: int) -> Iterator[list[dict[str, Any]]]:
    """All rows of one table, batch by batch as Trino returns them."""
    columns = [kind.id_column, *(field.name for field in fields(kind.features))]
    trino.execute(f"select {', '.join(columns)} from {kind.table}")
    while rows := trino.fetchmany(batch):
        yield [dict(zip(columns, row, strict=True)) for row in rows]


def write_rows(store: redis.Redis, kind: Snapshots, rows: Sequence[dict[str, Any]]) -> None:
    """The snapshots of some rows, in one round trip."""
    pipeline = store.pipeline(transaction=False)
    for row in rows:
        snapshot = kind.features.from_row(row).to_json()
        pipeline.set(kind.key.format(row[kind.id_column]), snapshot, ex=kind.expiry_seconds)
    pipeline.execute()


def push(trino: Cursor, store: redis.Redis, kind: Snapshots, batch: int, lock: redis.lock.Lock) -> Pushed:
    """Write all snapshots of one kind, with a line about the progress every few seconds."""
    pushed = Pushed()
    (total,) = trino.execute(f"select count(*) from {kind.table}").fetchone() or (0,)
    printed_at = time.monotonic()
    for rows in read_rows(trino, kind, batch):
        require_room(store)
        write_rows(store, kind, rows)
        lock.reacquire()
        pushed.count += len(rows)
        newest = max(row["as_of"] for row in rows)
        pushed.as_of = max(pushed.as_of or newest, newest)
        if time.monotonic() - printed_at >= SECONDS_BETWEEN_LINES:
            printed_at = time.monotonic()
            print(f"{kind.table}: {pushed.count:,} of {total:,}", flush=True)
    return pushed


def push_category_risks(trino: Cursor, store: redis.Redis) -> None:
    """Write the risks of all categories, for payments that give theirs."""
    risks = dict(trino.execute("select category, risk from mart_category_risk").fetchall())
    store.set(CATEGORY_RISKS_KEY, json.dumps(risks))


def push_features(settings: WriterSettings) -> dict[str, Any]:
    """Write users and merchants; returns what was done, and how long it took.

    Raises:
        UserError: Trino or Redis do not answer, Redis is nearly full, Gold is empty or missing, or another push does
            not end.
    """
    started = time.monotonic()
    with redis_client(settings) as store, gold_cursor(settings) as trino:
        lock = store.lock(LOCK_KEY, timeout=LOCK_SECONDS, blocking_timeout=LOCK_SECONDS + 30)
        try:
            with lock:
                began = time.time()
                # Merchants first: they are few, and users' snapshots are newer if they are read later.
                push_category_risks(trino, store)
                merchants = push(trino, store, MERCHANTS, settings.push_batch, lock)
                users = push(trino, store, USERS, settings.push_batch, lock)
                # Everything in them arrived before the push began.
                store.set(PUSHED_AT_KEY, round(began * 1000))
        except LockError as error:
            raise UserError(f"another push is running, or took the lock ({error}): try again when it ends") from None
    if not users.count:
        raise UserError("Gold has no users yet: build it with make dbt-run once there are payments")
    return {
        "users": users.count,
        "merchants": merchants.count,
        "seconds": round(time.monotonic() - started, 1),
        "as_of": users.as_of.isoformat() if users.as_of else None,
    }


def main() -> None:
    """The command line."""
    argparse.ArgumentParser(prog="python -m serving.feature_writer", description=__doc__.splitlines()[0]).parse_args()
    with one_line_errors():
        print(json.dumps(push_features(load_settings(WriterSettings))))


if __name__ == "__main__":
    main()
