"""What the route POST /replay/{prediction_id} does: a prediction from Postgres, its model, and rules/replay.py."""

import asyncio
from contextlib import closing
from uuid import UUID

import httpx2
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from rules.replay import Past, Replay, past_of, replay

from serving.model_store import ModelStore, RefusedModelError


async def replay_prediction(settings: PostgresSettings, models: ModelStore, prediction_id: UUID) -> Replay:
    """The decision again, and what is different from the stored one.

    Raises:
        ReplayError: it can't be decided again; the message says why.
        psycopg2.Error: Postgres does not answer.
    """
    past = await asyncio.to_thread(_past, settings, str(prediction_id))
    try:
        model = await models.of_version(past.stored.model_version)
    except (RefusedModelError, httpx2.HTTPError, OSError, KeyError, ValueError):
        model = None
    return await asyncio.to_thread(replay, past, model)


def _past(settings: PostgresSettings, prediction_id: str) -> Past:
    with closing(connect(settings, "fraud-api-replay")) as connection, connection, connection.cursor() as cursor:
        return past_of(cursor, prediction_id)
