"""What the route POST /replay/{prediction_id} does: a prediction from Postgres, its model, and rules/replay.py."""

import asyncio
from uuid import UUID

import httpx2
from rules.database import RulesDatabase
from rules.replay import Replay, past_of, replay

from serving.model_store import ModelStore, RefusedModelError


async def replay_prediction(
    database: RulesDatabase, models: ModelStore, one_at_a_time: asyncio.Lock, prediction_id: UUID
) -> Replay:
    """The decision again, and what is different from the stored one.

    What waits for Postgres does so in the threads of rules: the threads of asyncio score large batches.

    Args:
        one_at_a_time: since an old model is loaded for each replay, and several would need much memory.

    Raises:
        ReplayError: it can't be decided again; the message says why.
        UnavailableError: Postgres does not answer.
    """
    past = await database.run(lambda cursor: past_of(cursor, str(prediction_id)))
    async with one_at_a_time:
        try:
            model = await models.of_version(past.stored.model_version)
        except (RefusedModelError, httpx2.HTTPError, OSError, KeyError, ValueError):
            model = None
        return await asyncio.to_thread(replay, past, model)
