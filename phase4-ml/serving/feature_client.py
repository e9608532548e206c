"""What Redis has for payments: one round trip for a request, within a deadline, behind a circuit breaker.

Upstream are the feature stream and the snapshots of the feature writer; downstream is the predictor, which chooses
between them and uses the defaults for what is missing. While the breaker is open no request waits for Redis: a
background task asks it until it answers.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import pybreaker
from feature_store.freshness import Completeness
from feature_store.layout import (
    CLOCK_KEY,
    COMPLETE_KEY,
    DEVICE_FRAUDS,
    DEVICE_USERS,
    MERCHANT_DAYS,
    PUSHED_AT_KEY,
    SCATTERED_KEY,
    USER_EVENTS,
    USER_LABELS,
    device_number,
    merchant_number,
)
from feature_store.pipelines import NamedPipeline
from features import CATEGORY_RISKS_KEY, MERCHANT_KEY, USER_KEY
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serving import metrics
from serving.settings import Settings

logger = logging.getLogger(__name__)

# In a row; so many that a moment in which the machine was busy elsewhere does not open the breaker.
FAILURES_TO_OPEN = 20
PROBE_SECONDS = 0.5
# The last part of the deadline, in which what has arrived by then is still read.
LAST_LOOK_SECONDS = 0.001
# A batch may take longer by this much for each key.
SECONDS_PER_KEY = 0.0001


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the stream and the feature writer say of themselves, in milliseconds; 0 is unknown."""

    # An event time; the others are times of arrival.
    data_clock: int = 0
    complete: Completeness = field(default_factory=Completeness)
    # When the last push of snapshots began.
    pushed_at: int = 0
    # Of merchants' categories, by name.
    category_risks: Mapping[str, int] = field(default_factory=dict)
    # How many payments of a user it keeps.
    max_payments: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What Redis has of a payment's user, merchant and device; nothing if it did not answer."""

    user: bytes | None = None
    merchant: bytes | None = None
    events: Sequence[bytes] = ()
    labels: Sequence[bytes] = ()
    days: Mapping[bytes, bytes] = field(default_factory=dict)
    # Members with their scores.
    device_users: Sequence[tuple[bytes, float]] = ()
    device_frauds: Mapping[bytes, bytes] = field(default_factory=dict)
    stream: StreamState = field(default_factory=StreamState)


NOTHING = Found()


class Subjects(NamedTuple):
    """Whom a payment is about; a device that is not given is an empty text."""

    user_id: str
    merchant_id: str
    device_id: str = ""


_STATE_KEYS = (CLOCK_KEY, COMPLETE_KEY, SCATTERED_KEY, PUSHED_AT_KEY, CATEGORY_RISKS_KEY)


class _Announcer(pybreaker.CircuitBreakerListener):
    """Says when the breaker opens and closes."""

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        metrics.BREAKER_OPEN.set(new_state.name != pybreaker.STATE_CLOSED)
        # During every trial the state changes from open to half-open and back.
        if new_state.name == pybreaker.STATE_CLOSED:
            logger.info("redis answers again; breaker closed")
        elif old_state is not None and old_state.name == pybreaker.STATE_CLOSED:
            logger.warning("redis does not answer; breaker open, the features' defaults are used until it does")


class FeatureClient:
    """What Redis has by user, merchant and device."""

    def __init__(self, settings: Settings) -> None:
        self._deadline = settings.redis_deadline_ms / 1000
        self._max_payments = settings.feature_stream_max_payments_per_user
        # The deadline is around the whole call, connecting included, and no call is repeated: so the client itself has
        # no time-outs and no retries.
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

    async def look_up(self, payments: Sequence[Subjects]) -> list[Found]:
        """What Redis has for each payment; nothing for all if it does not answer in time."""
        if self.answers:
            try:
                return await self._ask(payments)
            except (RedisError, OSError):
                metrics.ERRORS.labels("redis").inc()
        return [NOTHING] * len(payments)

    async def watch(self) -> None:
        """Ask Redis while the breaker is open: only a successful trial lets requests through again."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            if self.answers:
                continue
            try:
                # Connections from before the failure may be dead.
                await self._pool.disconnect(inuse_connections=False)
                await self._ask([Subjects("ping", "ping")])
            except (RedisError, OSError, pybreaker.CircuitBreakerError):
                pass

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._pool.disconnect()

    async def _ask(self, payments: Sequence[Subjects]) -> list[Found]:
        users = list(dict.fromkeys(payment.user_id for payment in payments))
        merchants = list(dict.fromkeys(payment.merchant_id for payment in payments))
        devices = list(dict.fromkeys(payment.device_id for payment in payments if payment.device_id))
        keys = [*_STATE_KEYS, *map(USER_KEY.format, users), *map(MERCHANT_KEY.format, merchants)]
        pipeline = NamedPipeline(self._redis.pipeline(transaction=False))
        pipeline.named("values").mget(keys)
        for user in users:
            pipeline.named("events", user).zrange(USER_EVENTS.format(user), 0, -1)
            pipeline.named("labels", user).zrange(USER_LABELS.format(user), 0, -1)
        for merchant in merchants:
            pipeline.named("days", merchant).hgetall(MERCHANT_DAYS.format(merchant_number(merchant)))
        for device in devices:
            number = device_number(device)
            pipeline.named("device users", device).zrange(DEVICE_USERS.format(number), 0, -1, withscores=True)
            pipeline.named("device frauds", device).hgetall(DEVICE_FRAUDS.format(number))
        with self._breaker.calling():
            async with _deadline(self._deadline + SECONDS_PER_KEY * len(pipeline.pipeline)):
                results = pipeline.by_name(await pipeline.pipeline.execute(raise_on_error=False))
                if isinstance(results["values"], Exception):
                    raise results["values"]
        values = dict(zip(keys, results["values"], strict=True))
        stream = _stream_state(values, self._max_payments)

        def streamed(*name: str) -> Any:
            # A key of another type counts as missing.
            found = results.get(name, ())
            return () if isinstance(found, Exception) else found

        return [
            Found(
                user=values[USER_KEY.format(user)],
                merchant=values[MERCHANT_KEY.format(merchant)],
                events=streamed("events", user),
                labels=streamed("labels", user),
                days=streamed("days", merchant),
                device_users=streamed("device users", device),
                device_frauds=streamed("device frauds", device),
                stream=stream,
            )
            for user, merchant, device in payments
        ]


def _stream_state(values: Mapping[str, bytes | None], max_payments: int) -> StreamState:
    def number(key: str) -> int:
        value = values[key]
        return int(value) if value and value.isdigit() else 0

    complete = Completeness.unpack(values[COMPLETE_KEY], scattered=values[SCATTERED_KEY] is not None)
    risks = _category_risks(values[CATEGORY_RISKS_KEY])
    return StreamState(number(CLOCK_KEY), complete, number(PUSHED_AT_KEY), risks, max_payments)


@lru_cache(maxsize=8)
def _category_risks(text: bytes | None) -> Mapping[str, int]:
    """From what the feature writer has pushed; nothing if it can't be read. It changes with the seed only."""
    try:
        return {name: int(risk) for name, risk in json.loads(text or b"{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """A time-out that does not blame Redis if this process itself had no CPU: the answer may have arrived meanwhile.

    A loop that wakes up too late looks at its clock first, and would give up without a look at its connections.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        nearly = loop.call_later(seconds - LAST_LOOK_SECONDS, lambda: limit.reschedule(loop.time() + LAST_LOOK_SECONDS))
        try:
            yield
        finally:
            nearly.cancel()
