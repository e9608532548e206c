"""The connection to Trino of what brings features from the lakehouse to Redis, with errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from pydantic import Field
from pydantic_settings import BaseSettings
from trino.dbapi import Cursor, connect
from trino.exceptions import TrinoConnectionError, TrinoQueryError

from serving.snapshot_store import FeatureError


class GoldSettings(BaseSettings):
    """Where Trino is; the environment variable has the field's name in capitals."""

    trino_host: str = "trino"
    trino_port: int = Field(default=8080, ge=1, le=65535)
    gold_schema: str = Field(default="gold", pattern=r"^[a-z0-9_]+$")
    bronze_schema: str = Field(default="bronze", pattern=r"^[a-z0-9_]+$")


@contextmanager
def gold(settings: GoldSettings) -> Iterator[Cursor]:
    """A cursor on the lakehouse, in the schema of Gold.

    Raises:
        FeatureError: Trino does not answer, or the tables are not there.
    """
    place = f"{settings.trino_host}:{settings.trino_port}"
    connection = connect(
        host=settings.trino_host,
        port=settings.trino_port,
        user="features",
        catalog="delta",
        schema=settings.gold_schema,
    )
    try:
        yield connection.cursor()
    except (TrinoConnectionError, requests.ConnectionError, requests.Timeout) as error:
        raise FeatureError(f"Trino does not answer at {place}: is it up? docker compose ps trino") from error
    except TrinoQueryError as error:
        if error.error_name in ("TABLE_NOT_FOUND", "SCHEMA_NOT_FOUND"):
            raise FeatureError(f"Gold has no features yet ({error.message}): build it with make dbt-run") from error
        if error.error_name == "COLUMN_NOT_FOUND":
            raise FeatureError(
                f"Gold is older than this program ({error.message}): build it anew with make dbt-run"
            ) from error
        raise FeatureError(f"Trino at {place}: {error.message}; look at: docker compose logs trino") from error
    finally:
        connection.close()
