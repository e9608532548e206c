"""Fills an empty Redis from Bronze: each user's payments of the last days, all labels, and the offsets to resume from.

From Bronze and not from Gold: it has the events themselves, up to a few seconds ago, each with its offset in Kafka. A
rebuild that is interrupted leaves no positions behind, so the next one starts over, and what is written stays.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import batched

import redis
from features import DATA_CLOCK_RANK
from trino.dbapi import Cursor

from feature_store import coverage, writer
from feature_store.coverage import Partition, Progress
from feature_store.lakehouse import gold_cursor
from feature_store.layout import EXPIRY_SECONDS, KEEP_DAYS, Label, PaymentEvent
from feature_store.settings import StoreSettings
from feature_store.writer import Batch

log = logging.getLogger("rebuild")

_BATCH = 1000
_SECONDS_BETWEEN_LINES = 5.0
_TRANSACTIONS, _LABELS = "transactions", "labels"
# Times and amounts as whole numbers, which are cheaper for the client than dates and decimals.
_MILLISECONDS = "cast(round(to_unixtime({}) * 1000) as bigint)"
_PAYMENT_COLUMNS = (
    f"transaction_id, user_id, merchant_id, {_MILLISECONDS.format('event_time')}, cast(amount * 100 as bigint),"
    " coalesce(country, ''), coalesce(device_id, ''), coalesce(is_international, false)"
)
# A user without messages for so long is not in Redis either: it has expired.
_EXPIRY_DAYS = EXPIRY_SECONDS // 86_400
_LABEL_COLUMNS = (
    f"transaction_id, user_id, {_MILLISECONDS.format('event_time')}, {_MILLISECONDS.format('reported_at')}, is_fraud"
)


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics that the tables of Bronze came from."""

    transactions: str
    labels: str


def rebuild_from_bronze(
    settings: StoreSettings, store: redis.Redis, topics: Topics, on_progress: Callable[[int, int], None]
) -> None:
    """Fill Redis; do nothing if there is no Bronze yet, since Kafka has everything then.

    Args:
        on_progress: called after each batch with the number of payments in Redis and their total; what it raises ends
            the rebuild.

    Raises:
        UserError: Trino does not answer.
        RedisError: Redis does not answer.
    """
    schema, max_payments = settings.bronze_schema, settings.feature_stream_max_payments_per_user
    with gold_cursor(settings) as trino:
        if not is_registered(trino, schema):
            log.info("there is no Bronze yet: Redis is filled from Kafka")
            return
        # Before the rows: what arrives in between is read twice, and nothing is left out.
        reached = next_offsets(trino, schema, topics)
        payments = labels = 0
        logged_at = time.monotonic()
        newest = newest_users(trino, schema)
        coverage.advance(store, Progress(), newest)
        clock = min(newest.values(), default=0)
        total = count_payments(trino, schema, clock)
        on_progress(0, total)
        log.info("filling Redis with %d payments of each user's last %d days and all labels", total, KEEP_DAYS)
        for some_payments in batched(read_payments(trino, schema, clock=clock), _BATCH, strict=False):
            writer.apply(store, Batch(payments=some_payments), max_payments)
            payments += len(some_payments)
            on_progress(payments, total)
            if time.monotonic() - logged_at >= _SECONDS_BETWEEN_LINES:
                logged_at = time.monotonic()
                log.info("%d of %d payments so far", payments, total)
        for some_labels in batched(read_labels(trino, schema), _BATCH, strict=False):
            writer.apply(store, Batch(labels=some_labels), max_payments)
            on_progress(payments, total)
            labels += len(some_labels)
        if reached:
            coverage.advance(store, Progress(reached), {})
        log.info("Redis is filled with %d payments and %d labels; Kafka has the rest", payments, labels)


def is_registered(trino: Cursor, schema: str) -> bool:
    """Whether Trino knows both tables of Bronze."""
    trino.execute(
        "select count(*) from information_schema.tables"
        f" where table_schema = '{schema}' and table_name in ('{_TRANSACTIONS}', '{_LABELS}')"
    )
    return _only_number(trino) == 2


def next_offsets(trino: Cursor, schema: str, topics: Topics) -> dict[Partition, int]:
    """The first offset of each partition that is not in Bronze."""
    offsets: dict[Partition, int] = {}
    for table, topic in ((_TRANSACTIONS, topics.transactions), (_LABELS, topics.labels)):
        trino.execute(f"select kafka_partition, max(kafka_offset) + 1 from {schema}.{table} group by kafka_partition")
        for partition, offset in trino.fetchall():
            offsets[topic, partition] = offset
    return offsets


def newest_users(trino: Cursor, schema: str) -> dict[str, int]:
    """The users with the newest payments and the event times of these (ms); the oldest of them is the data clock."""
    trino.execute(
        f"select user_id, {_MILLISECONDS.format('max(event_time)')} from {schema}.{_TRANSACTIONS}"
        f" group by user_id order by 2 desc limit {DATA_CLOCK_RANK}"
    )
    return dict(trino.fetchall())


def count_payments(trino: Cursor, schema: str, clock: int) -> int:
    """How many payments `read_payments` gives, if none is added meanwhile."""
    trino.execute(f"select count(*) from {_recent(schema, clock)}")
    return _only_number(trino)


def read_payments(
    trino: Cursor, schema: str, users: Sequence[str] = (), clock: int | None = None
) -> Iterator[PaymentEvent]:
    """The payments that Redis keeps (`layout.kept_from`), of all users or of some, as Trino returns them.

    Args:
        clock: the data clock in milliseconds; without it that of Bronze.
    """
    if clock is None:
        clock = min(newest_users(trino, schema).values(), default=0)
    recent = _recent(schema, clock, users)
    trino.execute(f"select {_PAYMENT_COLUMNS} from {recent}", users or None)
    return (PaymentEvent(*row) for row in iter(trino.fetchone, None))


def read_labels(trino: Cursor, schema: str, users: Sequence[str] = ()) -> Iterator[Label]:
    """All labels, or those on the payments of some users."""
    trino.execute(f"select {_LABEL_COLUMNS} from {schema}.{_LABELS} where true{_and_of(users)}", users or None)
    return (Label(*row) for row in iter(trino.fetchone, None))


def _only_number(trino: Cursor) -> int:
    ((number,),) = trino.fetchall()
    return int(number)


def _recent(schema: str, clock: int, users: Sequence[str] = ()) -> str:
    """Each user's payments up to KEEP_DAYS before the user's newest one or before the data clock, the earlier one."""
    table = f"{schema}.{_TRANSACTIONS}"
    newest = (
        f"select user_id, max(event_time) as newest from {table} where true{_and_of(users)} group by user_id"
        f" having max(kafka_timestamp) > current_timestamp - interval '{_EXPIRY_DAYS}' day"
    )
    return (
        f"{table} join ({newest}) as users using (user_id)"
        f" where event_time >= least(newest, from_unixtime_nanos({clock} * 1000000)) - interval '{KEEP_DAYS}' day"
    )


def _and_of(users: Sequence[str]) -> str:
    return f" and user_id in ({', '.join('?' * len(users))})" if users else ""
