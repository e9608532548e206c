"""An empty Redis filled from Bronze: payments of the last 30 days, all labels, and where in Kafka to go on.

From Bronze and not from Gold: it holds the events themselves, up to a few seconds ago, each with its place in Kafka. A
rebuild that is interrupted leaves no positions behind, so the next one begins anew, and what is there already stays.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import batched

import redis
from trino.dbapi import Cursor

from feature_store import event_store
from feature_store.event_store import KEEP_DAYS, PaymentEvent, Verdict
from feature_store.gold import GoldSettings, gold

log = logging.getLogger("rebuild")

BATCH = 1000
SECONDS_BETWEEN_LINES = 5.0
TRANSACTIONS, LABELS = "transactions", "labels"
# Times and amounts as whole numbers, which cost the client less than dates and decimals do.
MILLISECONDS = "cast(round(to_unixtime({}) * 1000) as bigint)"
PAYMENT_COLUMNS = (
    f"transaction_id, user_id, merchant_id, {MILLISECONDS.format('event_time')}, cast(amount * 100 as bigint),"
    " coalesce(country, ''), coalesce(device_id, ''), coalesce(is_international, false)"
)
VERDICT_COLUMNS = (
    f"transaction_id, user_id, {MILLISECONDS.format('event_time')}, {MILLISECONDS.format('reported_at')}, is_fraud"
)


def rebuild_from_bronze(
    settings: GoldSettings, store: redis.Redis, topics: tuple[str, str], cap: int, go_on: Callable[[int, int], None]
) -> None:
    """Fill Redis; nothing where there is no Bronze yet, since Kafka has it all then.

    Args:
        topics: of payments and of labels.
        cap: payments to keep of one user.
        go_on: called after each batch with how many payments are in Redis and how many there are; what it raises ends
            the rebuild.

    Raises:
        FeatureError: Trino does not answer.
        RedisError: Redis does not answer.
    """
    with gold(settings) as trino:
        if not is_registered(trino, settings.bronze_schema):
            log.info("there is no Bronze yet: Redis is filled from Kafka")
            return
        schema = settings.bronze_schema
        # Before the rows: what arrives in between is read twice, and nothing is left out.
        reached: dict[tuple[str, int], int] = {}
        for table, topic in zip((TRANSACTIONS, LABELS), topics, strict=True):
            reached |= {(topic, partition): offset for partition, offset in next_offsets(trino, schema, table)}
        payments = newest = 0
        told_at = time.monotonic()
        total = count_payments(trino, schema)
        go_on(0, total)
        log.info("filling Redis with %d payments of %d days and all labels", total, KEEP_DAYS)
        for batch in batched(read_payments(trino, schema), BATCH, strict=False):
            event_store.apply(store, batch, [], {}, cap)
            payments += len(batch)
            go_on(payments, total)
            newest = max(newest, *(payment.event_time for payment in batch))
            if time.monotonic() - told_at >= SECONDS_BETWEEN_LINES:
                told_at = time.monotonic()
                log.info("%d of %d payments so far", payments, total)
        verdicts = 0
        for reports in batched(read_verdicts(trino, schema), BATCH, strict=False):
            event_store.apply(store, [], reports, {}, cap)
            go_on(payments, total)
            verdicts += len(reports)
        event_store.say_complete(store, reached, newest)
        log.info("Redis is filled with %d payments and %d labels; Kafka has the rest", payments, verdicts)


def is_registered(trino: Cursor, schema: str) -> bool:
    """Whether both tables of Bronze are known to Trino."""
    trino.execute(
        "select count(*) from information_schema.tables"
        f" where table_schema = '{schema}' and table_name in ('{TRANSACTIONS}', '{LABELS}')"
    )
    return trino.fetchall()[0][0] == 2


def next_offsets(trino: Cursor, schema: str, table: str) -> list[tuple[int, int]]:
    """The first offset of each partition that is not in Bronze."""
    trino.execute(f"select kafka_partition, max(kafka_offset) + 1 from {schema}.{table} group by kafka_partition")
    return [(row[0], row[1]) for row in trino.fetchall()]


def count_payments(trino: Cursor, schema: str) -> int:
    """How many payments `read_payments` gives, if nothing is added meanwhile."""
    trino.execute(f"select count(*) from {_recent(schema)}")
    return int(trino.fetchall()[0][0])


def read_payments(trino: Cursor, schema: str, users: Sequence[str] = ()) -> Iterator[PaymentEvent]:
    """The payments of the last KEEP_DAYS of event time, of all users or of some, as Trino hands them out."""
    trino.execute(f"select {PAYMENT_COLUMNS} from {_recent(schema)}{_and_of(users)}", users or None)
    return (PaymentEvent(*row) for row in iter(trino.fetchone, None))


def read_verdicts(trino: Cursor, schema: str, users: Sequence[str] = ()) -> Iterator[Verdict]:
    """All labels, or those on the payments of some users."""
    trino.execute(f"select {VERDICT_COLUMNS} from {schema}.{LABELS} where true{_and_of(users)}", users or None)
    return (Verdict(*row) for row in iter(trino.fetchone, None))


def _recent(schema: str) -> str:
    table = f"{schema}.{TRANSACTIONS}"
    return f"{table} where event_date >= (select max(event_date) from {table}) - interval '{KEEP_DAYS}' day"


def _and_of(users: Sequence[str]) -> str:
    return f" and user_id in ({', '.join('?' * len(users))})" if users else ""
