"""Connections to Redis, with errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis import exceptions
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from fraud_common.errors import UserError
from fraud_common.settings import RedisSettings

# Of maxmemory; what is above is for the feature stream alone, whose payments nothing else has in time.
FULL_SHARE = 0.95


def is_full(error: exceptions.RedisError) -> bool:
    """Whether Redis has refused a write for lack of memory; in a transaction the error has another class."""
    return isinstance(error, exceptions.OutOfMemoryError) or "OOM command not allowed" in str(error)


def require_room(store: redis.Redis) -> None:
    """Do nothing while Redis has room.

    Raises:
        OutOfMemoryError: more than FULL_SHARE of its memory is in use.
    """
    memory: dict[str, int] = store.info("memory")
    if memory["maxmemory"] and memory["used_memory"] > FULL_SHARE * memory["maxmemory"]:
        used, limit = (memory[name] >> 20 for name in ("used_memory", "maxmemory"))
        raise exceptions.OutOfMemoryError(
            f"Redis is full: {used} of {limit} MiB are in use; raise REDIS_MAXMEMORY in .env, then make up"
        )


def connect(settings: RedisSettings, retries: int) -> redis.Redis:
    """A client that repeats a failed command up to `retries` times."""
    return redis.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        password=settings.redis_password or None,
        socket_timeout=30,
        socket_connect_timeout=5,
        retry=Retry(ExponentialBackoff(cap=2, base=0.1), retries),
        retry_on_error=[exceptions.ConnectionError, exceptions.TimeoutError] if retries else [],
    )


@contextmanager
def redis_client(settings: RedisSettings) -> Iterator[redis.Redis]:
    """A client for a command that a person runs.

    Raises:
        UserError: Redis does not answer, refuses the password, or is full.
    """
    address = f"{settings.redis_host}:{settings.redis_port}"
    client = connect(settings, retries=3)
    try:
        client.ping()
        yield client
    except exceptions.AuthenticationError as error:
        raise UserError(f"Redis at {address} refuses the password ({error}): correct REDIS_PASSWORD in .env") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise UserError(f"Redis does not answer at {address} ({error}): is it up? docker compose ps redis") from error
    except exceptions.RedisError as error:
        if is_full(error):
            raise UserError(f"Redis at {address} is full: raise REDIS_MAXMEMORY in .env, then make up") from error
        raise UserError(f"Redis at {address}: {error}; look at: docker compose logs redis") from error
    finally:
        client.close()
