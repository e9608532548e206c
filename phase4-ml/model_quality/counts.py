"""Counts of scored payments and of the known frauds among them: of what serves, and of Staging in shadow.

Upstream are the tables of scores and `labels`; downstream are the view `quality_weeks`, Prometheus and the dashboards
(fraud_db/migrations has them). A fraud counts when both its score and its label are stored, whichever comes first. The
work is proportional to what is new, and a day has one row for each bin of scores, however many payments there are.

The first stored prediction of a payment counts; that of a payment that is scored again within days does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from audit.positions import stored_until
from fraud_common import days
from psycopg2.errors import LockNotAvailable
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

# After so many days a day's frauds are nearly all known, as in training and in the view `quality_weeks`.
MATURED_AFTER_DAYS = 14
# The tiers are counted over so many days, and weeks are shown for so long.
WINDOW_DAYS = 44
WEEKS_DAYS = 70
# A payment that is scored again counts once if that is within so many days: what Kafka keeps may be read again.
AGAIN_WITHIN_DAYS = 7
# Rows that are counted in one transaction.
CHUNK = 5000

# Whose scores, and where they are. `production` is whatever answered: a model, or rules-1.
SCORES = {"production": "predictions", "staging": "shadow_predictions"}

# Log-odds, since most scores are near 0. A bin is 2.8 % wide in the odds; test_model_quality.py compares the average
# precision by bins with the exact one.
BIN = """
width_bucket(
    ln(greatest(least(fraud_probability, 1 - 1e-6), 1e-6) / (1 - greatest(least(fraud_probability, 1 - 1e-6), 1e-6))),
    -14, 14, 1000
)
"""
# Of equal count, for the calibration error, as in the view and on the holdout (training/evaluate.py).
GROUPS = 20

# `offset 0` keeps these a look-up for each payment: joined, Postgres may read a whole table for a few new rows. And the
# time keeps it in the partitions of some days.
COUNT = """
with scored as (
    select transaction_id, position, event_time, model_version, risk_tier, fraud_probability, {time} as stored_at
    from {table}
    where position > %(after)s and position <= %(until)s
), first as (
    select
        scored.*,
        (select count(*) from labels where labels.transaction_id = scored.transaction_id and is_fraud) as frauds
    from scored
    where not exists (
        select from {table} as earlier
        where
            earlier.transaction_id = scored.transaction_id
            and (earlier.position < scored.position or earlier.position is null)
            and earlier.{time} > scored.stored_at - interval '{again} days'
        offset 0
    )
)
insert into quality_days as known (
    event_day, role, model_version, risk_tier, score_bin, payments, frauds, score_sum
)
select
    (event_time at time zone 'UTC')::date, '{role}', model_version, risk_tier, {score_bin},
    count(*), sum(frauds), sum(fraud_probability)
from first
group by 1, 3, 4, 5
on conflict (role, event_day, model_version, risk_tier, score_bin) do update set
    payments = known.payments + excluded.payments,
    frauds = known.frauds + excluded.frauds,
    score_sum = known.score_sum + excluded.score_sum
"""
# What labels change about payments that are counted; those of the others count with their payments.
RELABEL = """
with changed (transaction_id, frauds) as (
    values %s
), moved as (
    select
        (event_time at time zone 'UTC')::date as event_day, model_version, risk_tier, {score_bin} as score_bin,
        sum(frauds) as frauds
    from changed
    cross join lateral (
        select *
        from (
            select position, event_time, model_version, risk_tier, fraud_probability
            from {table} as scored
            where
                scored.transaction_id = changed.transaction_id
                and (
                    scored.position <= (select position from quality_cursors where role = '{role}')
                    or scored.position is null
                )
            offset 0
        ) as counted
        order by position nulls first
        limit 1
    ) as first
    where position is not null
    group by 1, 2, 3, 4
)
update quality_days as known
set frauds = known.frauds + moved.frauds
from moved
where
    known.role = '{role}'
    and known.event_day = moved.event_day
    and known.model_version = moved.model_version
    and known.risk_tier = moved.risk_tier
    and known.score_bin = moved.score_bin
"""
TIERS = """
with clock as (
    select (newest_label at time zone 'UTC')::date as today from quality_clock
)
select
    role, model_version, risk_tier, event_day <= today - %(matured_after)s, sum(payments)::bigint, sum(frauds)::bigint
from quality_days
cross join clock
where event_day between today - %(window)s and today
group by 1, 2, 3, 4
"""
WEEKS = """
select
    role, model_version, week, matured, payments, frauds, precision_high, recall_high, average_precision, mean_score,
    fraud_rate, calibration_error
from quality_weeks
where week > (select (newest_label at time zone 'UTC')::date from quality_clock) - %(days)s
"""


@dataclass(frozen=True, slots=True)
class TierQuality:
    """How many payments a model version put into a tier, and how many of them are known frauds by now."""

    role: str
    model_version: str
    risk_tier: str
    matured: bool
    payments: int
    known_frauds: int


@dataclass(frozen=True, slots=True)
class WeekQuality:
    """The quality of a version on the payments of a week of event time, as far as labels are known.

    What is divided by a number that is still 0 is None.
    """

    role: str
    model_version: str
    week: date
    matured: bool
    payments: int
    known_frauds: int
    # Of tier high.
    precision: float | None
    recall: float | None
    average_precision: float | None
    mean_score: float
    fraud_rate: float
    calibration_error: float


def count_scores(connection: Connection) -> bool:
    """Count the next chunk of new scores of each role, in one transaction each.

    Returns:
        Whether there may be more.
    """
    more = False
    for role in SCORES:
        until = _complete_until(connection, role)
        if until is None:
            continue
        with connection, connection.cursor() as cursor:
            after = lock_cursors(cursor)[role]
            cursor.execute(
                "select count(*), max(position) from ("
                f"select position from {SCORES[role]} where position > %s and position <= %s order by position limit %s"
                ") as next",
                (after, until, CHUNK),
            )
            ((rows, last),) = cursor.fetchall()
            if rows:
                cursor.execute(_sql(COUNT, role), {"after": after, "until": last})
                cursor.execute("update quality_cursors set position = %s where role = %s", (last, role))
        more = more or rows == CHUNK
    return more


def lock_cursors(cursor: Cursor) -> dict[str, int]:
    """Up to which position each role is counted. Until the transaction ends, scores and labels are not stored."""
    cursor.execute("select role, position from quality_cursors order by role for update")
    return dict(cursor.fetchall())


def count_relabelled(cursor: Cursor, changes: Mapping[str, int]) -> None:
    """Count labels of payments whose scores are counted already; the cursors are locked.

    Args:
        changes: 1 for each payment that has become a known fraud, -1 for one that is none after all.
    """
    if not changes:
        return
    for role in SCORES:
        execute_values(cursor, _sql(RELABEL, role), list(changes.items()), page_size=len(changes))


def tiers(connection: Connection) -> list[TierQuality]:
    """Counts by version and tier, of days with matured labels and of newer ones; empty while there is no label."""
    with connection, connection.cursor() as cursor:
        cursor.execute(TIERS, {"matured_after": MATURED_AFTER_DAYS, "window": WINDOW_DAYS})
        return [TierQuality(*row) for row in cursor.fetchall()]


def weeks(connection: Connection) -> list[WeekQuality]:
    """The quality of the last ten weeks; empty while there is no label."""
    with connection, connection.cursor() as cursor:
        cursor.execute(WEEKS, {"days": WEEKS_DAYS})
        return [WeekQuality(*row) for row in cursor.fetchall()]


def _complete_until(connection: Connection, role: str) -> int | None:
    """Up to which position the scores are all stored; None if that can't be said now."""
    if role == "production":
        try:
            return stored_until(connection)
        except LockNotAvailable:
            return None
    with connection, connection.cursor() as cursor:
        # Shadow stores its scores and this position in one transaction.
        cursor.execute("select position from shadow_cursor")
        ((position,),) = cursor.fetchall()
        return position


def _sql(template: str, role: str) -> str:
    table = SCORES[role]
    return template.format(table=table, time=days.TABLES[table], role=role, score_bin=BIN, again=AGAIN_WITHIN_DAYS)
