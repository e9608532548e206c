"""The table `prediction_reasons`: predictions of tier medium and high that wait for their reasons, and then have them.

audit/sink.py adds a row in the transaction that stores the prediction; so none is forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json, execute_values
from serving.reasons import Reason

from explainer.explain import Prediction

WAITING = """
select prediction_id::text, predicted_at, model_version, fraud_probability, features
from prediction_reasons
join predictions using (prediction_id, predicted_at)
where reasons is null
order by prediction_reasons.predicted_at
limit %s
"""
# What has its reasons keeps them.
STORE = """
update prediction_reasons
set reasons = explained.reasons, unexplained = explained.unexplained, explained_at = now()
from (values %s) as explained (prediction_id, predicted_at, reasons, unexplained)
where
    prediction_reasons.prediction_id = explained.prediction_id
    and prediction_reasons.predicted_at = explained.predicted_at
    and prediction_reasons.reasons is null
"""
AGE = """
select coalesce(greatest(0, extract(epoch from now() - min(predicted_at))), 0)::float
from prediction_reasons
where reasons is null
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A prediction without reasons; the time says in which partition it is."""

    prediction_id: str
    predicted_at: datetime
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Explained:
    """The reasons of a prediction; without any, `unexplained` says why."""

    prediction_id: str
    predicted_at: datetime
    reasons: list[Reason]
    unexplained: str | None = None


def open_connection(settings: PostgresSettings) -> Connection:
    """A connection to the API's database.

    Raises:
        psycopg2.Error: Postgres does not answer, or refuses it.
    """
    return connect(settings, "explainer")


def waiting(connection: Connection, limit: int) -> list[Waiting]:
    """The predictions that have waited the longest."""
    with connection, connection.cursor() as cursor:
        cursor.execute(WAITING, (limit,))
        return [Waiting(each, at, Prediction(*prediction)) for each, at, *prediction in cursor.fetchall()]


def store(connection: Connection, explained: Sequence[Explained]) -> None:
    """Store reasons; those that are stored twice are the same."""
    if explained:
        rows = [(each.prediction_id, each.predicted_at, Json(each.reasons), each.unexplained) for each in explained]
        template = "(%s::uuid, %s::timestamptz, %s::jsonb, %s::text)"
        with connection, connection.cursor() as cursor:
            execute_values(cursor, STORE, rows, template=template, page_size=len(rows))


def backlog_age(connection: Connection) -> float:
    """How many seconds ago the oldest prediction that waits was made; 0 if none does."""
    with connection, connection.cursor() as cursor:
        cursor.execute(AGE)
        ((seconds,),) = cursor.fetchall()
        return seconds
