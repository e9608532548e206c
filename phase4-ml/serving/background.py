"""Background tasks of a worker that go on for as long as it does, whatever happens in them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from serving import metrics

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0


async def keep_running(name: str, task: Callable[[], Awaitable[None]]) -> None:
    """Run a task that should never end; start it again when it does.

    Each end is counted under its name, logged with its reason, and raises the alert BackgroundTaskFailed.
    """
    while True:
        try:
            await task()
            logger.error("the background task %s has ended; starting it again", name)
        except Exception:
            logger.exception("the background task %s has failed; starting it again", name)
        metrics.BACKGROUND_FAILURES[name].inc()
        await asyncio.sleep(RESTART_SECONDS)
