"""Scores of training examples on the real MinIO and Trino: each reads what the other has written."""

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from features import FEATURES, TRAINING_COLUMNS
from training.registry import ServedModel
from training.score_examples import Lake, Learned, Scorer, ScoringSettings, register, s3_options, score_days
from trino_tools import TRINO_HOST, query

LEARNED = Learned(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


class AmountModel(ServedModel):
    """The score is the amount / 1,000."""

    __slots__ = ()

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        return matrix[:, FEATURES.index("amount")].astype(float) / 1000


def scorer(version: str) -> Scorer:
    return Scorer(version, AmountModel(b"", list(FEATURES), medium=0.1, high=0.5), LEARNED)


def settings_of(user: str, **values: Any) -> ScoringSettings:
    secret = os.environ[f"{user.upper()}_S3_SECRET"]
    return ScoringSettings(trino_host=TRINO_HOST, s3_access_key=user, s3_secret_key=secret, **values)


@pytest.fixture
def settings() -> Iterator[ScoringSettings]:
    """A schema of its own with 900 examples of three days, in the name of a user who may write there."""
    schema = f"score_test_{uuid.uuid4().hex[:8]}"
    features = ", ".join(
        {
            "amount": "cast(n as double) as amount",
            "device_type": "if(n % 2 = 0, 'web') as device_type",
            "is_international": "n % 3 = 0 as is_international",
            "event_hour": "n % 24 as event_hour",
        }.get(name, f"cast(n % 7 as double) as {name}")
        for name in TRAINING_COLUMNS
    )
    query(f"create schema delta.{schema} with (location = 's3://lakehouse/{schema}')")
    query(
        f"create table delta.{schema}.mart_training_examples with (partitioned_by = array['event_date']) as"
        f" select 't' || cast(n as varchar) as transaction_id,"
        f" timestamp '2026-01-01 12:00:00.000 UTC' + n % 3 * interval '1' day as event_time, {features},"
        " date '2026-01-01' + n % 3 * interval '1' day as event_date from unnest(sequence(0, 899)) as numbers (n)"
    )
    yield settings_of("trino", gold_schema=schema)
    for (table,) in [(row["Table"],) for row in query(f"show tables from delta.{schema}")]:
        query(f"drop table delta.{schema}.{table}")
    query(f"drop schema delta.{schema}")


def lake_of(settings: ScoringSettings) -> Lake:
    folder = f"s3://lakehouse/{settings.gold_schema}"
    return Lake(f"{folder}/mart_training_examples", f"{folder}/example_scores", s3_options(settings))


def test_trino_reads_the_scores_of_the_examples_that_it_has_written(settings: ScoringSettings) -> None:
    lake = lake_of(settings)
    assert score_days(lake, scorer("7"), lake.days_to_score("7", None)) == 900
    for _ in range(2):
        # The second time changes nothing.
        register(settings, f"s3://lakehouse/{settings.gold_schema}/example_scores")
    joined = (
        f"from delta.{settings.gold_schema}.mart_training_examples as examples"
        f" join delta.{settings.gold_schema}.example_scores as scores"
        " on examples.event_date = scores.event_date and examples.transaction_id = scores.transaction_id"
    )
    (found,) = query(
        "select count(*) as payments, max(abs(fraud_probability - amount / 1000)) as difference,"
        f" count_if(risk_tier = 'high') as high, count_if(learned) as learned {joined}"
    )
    assert found["difference"] < 1e-6
    assert (found["payments"], found["high"], found["learned"]) == (900, 400, 300)

    # A later version replaces them, and Trino sees that.
    lake = lake_of(settings)
    assert score_days(lake, scorer("8"), lake.days_to_score("8", None)) == 900
    assert query(f"select distinct model_version {joined}") == [{"model_version": "8"}]


def test_its_user_reads_no_other_table(settings: ScoringSettings) -> None:
    with pytest.raises(Exception, match=r"(?i)denied|forbidden|403"):
        Lake(
            f"s3://lakehouse/{settings.gold_schema}/mart_training_examples",
            "s3://lakehouse/gold/example_scores",
            s3_options(settings_of("training")),
        )
