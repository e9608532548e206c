"""The connection to Redis of the commands that look after the snapshots, with errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from pydantic import Field
from pydantic_settings import BaseSettings
from redis import exceptions
from redis.backoff import ExponentialBackoff
from redis.retry import Retry


class FeatureError(Exception):
    """Something that the person who runs the platform can put right; the message says how."""


class RedisSettings(BaseSettings):
    """Where Redis is; the environment variable has the field's name in capitals."""

    redis_host: str = "redis"
    redis_port: int = Field(default=6379, ge=1, le=65535)
    redis_password: str = ""


def connect(settings: RedisSettings, retries: int) -> redis.Redis:
    """A client that tries a command that fails so many times again."""
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
def snapshot_store(settings: RedisSettings) -> Iterator[redis.Redis]:
    """A connection to Redis.

    Raises:
        FeatureError: it does not answer, or not to this password.
    """
    place = f"{settings.redis_host}:{settings.redis_port}"
    client = connect(settings, retries=3)
    try:
        client.ping()
        yield client
    except exceptions.AuthenticationError as error:
        raise FeatureError(
            f"Redis at {place} refuses the password ({error}): correct REDIS_PASSWORD in .env"
        ) from error
    except exceptions.OutOfMemoryError as error:
        raise FeatureError(f"Redis at {place} is full: raise REDIS_MAXMEMORY in .env") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise FeatureError(f"Redis does not answer at {place} ({error}): is it up? docker compose ps redis") from error
    except exceptions.RedisError as error:
        raise FeatureError(f"Redis at {place}: {error}; look at: docker compose logs redis") from error
    finally:
        client.close()
