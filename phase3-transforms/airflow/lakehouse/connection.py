"""How the lakehouse's programs reach Trino, and their settings."""

from collections.abc import Iterator
from contextlib import contextmanager

from fraud_common.errors import UserError
from fraud_common.settings import TrinoSettings, load_settings
from fraud_common.trino import trino_cursor
from pydantic import Field
from pydantic_settings import SettingsConfigDict
from trino.dbapi import Cursor
from trino.exceptions import TrinoQueryError


class LakehouseSettings(TrinoSettings):
    """Trino, and how long messages may wait for Bronze."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    # The pipeline stops when messages have been in Kafka for longer and Bronze takes none.
    bronze_max_age_minutes: int = Field(default=30, ge=0)


@contextmanager
def lakehouse_cursor() -> Iterator[Cursor]:
    """A cursor on Trino.

    Raises:
        UserError: Trino does not answer, or refuses a query for whatever reason.
    """
    settings = load_settings(LakehouseSettings)
    try:
        with trino_cursor(settings, user="airflow") as cursor:
            yield cursor
    except TrinoQueryError as error:
        address = f"{settings.trino_host}:{settings.trino_port}"
        raise UserError(f"Trino at {address}: {error.message}; look at: docker compose logs trino") from error
