"""What Redis has for payments: one round trip for a request, within a deadline, behind a circuit breaker.

Upstream are the feature stream and the snapshots of the feature writer; downstream is the predictor, which chooses, and
takes the defaults for whatever is missing. While the breaker is open no request waits for Redis at all: a background
task asks it until it answers.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pybreaker
from features import MERCHANT_KEY, USER_KEY
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serving import metrics
from feature_store.event_store import CLOCK_KEY, MERCHANT_DAYS, USER_EVENTS, USER_VERDICTS, merchant_number
from serving.settings import Settings

logger = logging.getLogger(__name__)

# In a row. So many that one moment in which the machine was busy elsewhere does not open it.
FAILURES_TO_OPEN = 20
PROBE_SECONDS = 0.5
# Of the deadline: once it is nearly over, what has arrived by then is still read.
LAST_LOOK_SECONDS = 0.001
# A batch may take longer by this much for each key.
SECONDS_PER_KEY = 0.0001


@dataclass(frozen=True, slots=True)
class Found:
    """What Redis has of a payment's user and merchant; nothing where it did not answer."""

    user: bytes | None = None
    merchant: bytes | None = None
    events: Sequence[bytes] = ()
    verdicts: Sequence[bytes] = ()
    days: Mapping[bytes, bytes] = field(default_factory=dict)
    # Up to which event time in milliseconds the stream has everything.
    clock: int | None = None


NOTHING = Found()


class _Announcer(pybreaker.CircuitBreakerListener):
    """Says when the breaker opens and closes."""

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        metrics.BREAKER_OPEN.set(new_state.name != pybreaker.STATE_CLOSED)
        # Every trial goes open, half-open, open.
        if new_state.name == pybreaker.STATE_CLOSED:
            logger.info("redis answers again; breaker closed")
        elif old_state is not None and old_state.name == pybreaker.STATE_CLOSED:
            logger.warning("redis does not answer; breaker open, the features' defaults are used until it does")


class FeatureClient:
    """What Redis has by user and merchant."""

    def __init__(self, settings: Settings) -> None:
        self._deadline = settings.redis_deadline_ms / 1000
        # The deadline is around the whole call, connecting included, and a call is never made twice: so no time-outs
        # and no retries of the client's own.
        self._pool = ConnectionPool(
            host=settings.redis_host,
            port=settings.redis_port,
            password=settings.redis_password or None,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=self._deadline,
            socket_timeout=None,
            max_connections=1024,
        )
        self._redis = Redis(connection_pool=self._pool)
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=FAILURES_TO_OPEN,
            reset_timeout=0,
            exclude=[asyncio.CancelledError],
            listeners=[_Announcer()],
            throw_new_error_on_trip=False,
        )
        metrics.BREAKER_OPEN.set(0)

    @property
    def answers(self) -> bool:
        """Whether requests ask Redis."""
        return self._breaker.current_state == pybreaker.STATE_CLOSED

    async def look_up(self, pairs: Sequence[tuple[str, str]]) -> list[Found]:
        """What there is for each user and merchant; nothing for all where Redis does not answer in time."""
        if self.answers:
            try:
                return await self._ask(pairs)
            except (RedisError, OSError):
                metrics.ERRORS.labels("redis").inc()
        return [NOTHING] * len(pairs)

    async def watch(self) -> None:
        """Ask Redis as long as the breaker is open: only a trial that succeeds lets requests through again."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            if self.answers:
                continue
            try:
                # Connections from before the failure may be dead.
                await self._pool.disconnect(inuse_connections=False)
                await self._ask([("ping", "ping")])
            except (RedisError, OSError, pybreaker.CircuitBreakerError):
                pass

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()
        await self._pool.disconnect()

    async def _ask(self, pairs: Sequence[tuple[str, str]]) -> list[Found]:
        users = list(dict.fromkeys(user for user, _ in pairs))
        merchants = list(dict.fromkeys(merchant for _, merchant in pairs))
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.mget(CLOCK_KEY, *map(USER_KEY.format, users), *map(MERCHANT_KEY.format, merchants))
        for user in users:
            pipeline.zrange(USER_EVENTS.format(user), 0, -1)
            pipeline.zrange(USER_VERDICTS.format(user), 0, -1)
        for merchant in merchants:
            pipeline.hgetall(MERCHANT_DAYS.format(merchant_number(merchant)))
        with self._breaker.calling():
            async with _deadline(self._deadline + SECONDS_PER_KEY * len(pipeline)):
                first, *streamed = await pipeline.execute(raise_on_error=False)
                if isinstance(first, Exception):
                    raise first
        # A key of another type is as good as none.
        streamed = [() if isinstance(answer, Exception) else answer for answer in streamed]
        clock, *snapshots = first
        of_users = dict(
            zip(users, zip(snapshots[: len(users)], streamed[::2], streamed[1::2], strict=False), strict=True)
        )
        of_merchants = dict(
            zip(merchants, zip(snapshots[len(users) :], streamed[2 * len(users) :], strict=True), strict=True)
        )
        newest = int(clock) if clock and clock.isdigit() else None
        return [
            Found(of_users[user][0], of_merchants[merchant][0], *of_users[user][1:], of_merchants[merchant][1], newest)
            for user, merchant in pairs
        ]


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """A time-out that does not blame Redis where this process itself had no processor: then the answer may be here.

    A loop that wakes up too late looks at its clock first, and would give up without a look at its connections.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        nearly = loop.call_later(seconds - LAST_LOOK_SECONDS, lambda: limit.reschedule(loop.time() + LAST_LOOK_SECONDS))
        try:
            yield
        finally:
            nearly.cancel()
