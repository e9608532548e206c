"""The two sides of the comparison: the reference in the model's MLflow run, and live payments in Postgres."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg2
from fraud_common.models import MODEL_NAME, PRODUCTION_ALIAS
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings

from monitoring.features import Features

NEWEST = """
select prediction_id::text, model_version, event_time, fraud_probability, features
from predictions
order by predicted_at desc
limit %s
"""


class Unavailable(Exception):  # noqa: N818 - not an error: the caller tries again
    """Which service does not answer, and the next step."""


@dataclass(frozen=True)
class Distribution:
    """The `shares` of the holdout's payments in the bins between the `edges`; also those of its hours.

    `by_hour_of_week` (0 is Monday, midnight to 1:00, UTC) and `by_hour_of_day` have the hours with enough payments.
    """

    edges: list[float]
    shares: list[float]
    by_hour_of_week: dict[int, list[float]] = field(default_factory=dict)
    by_hour_of_day: dict[int, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Distribution":
        """From JSON; models of earlier releases have no hours.

        Raises:
            ValueError, TypeError, KeyError: it is not a distribution.
        """
        edges, shares = [float(edge) for edge in document["edges"]], [float(share) for share in document["shares"]]
        hours = [
            {int(hour): [float(share) for share in values] for hour, values in document.get(name, {}).items()}
            for name in ("by_hour_of_week", "by_hour_of_day")
        ]
        bins = {len(shares), *(len(values) for of_hour in hours for values in of_hour.values())}
        if bins != {len(edges) + 1} or edges != sorted(edges):
            raise ValueError("edges and shares do not belong together")
        return cls(edges, shares, *hours)


@dataclass(frozen=True)
class Reference:
    """The holdout of a model: the distributions of its score and of each feature."""

    version: str
    score: Distribution
    features: dict[str, Distribution]


@dataclass(frozen=True, slots=True)
class Scored:
    """A live payment with its score."""

    prediction_id: str
    model_version: str
    event_time: datetime
    score: float
    features: Features


def production_reference(address: str, known: Reference | None) -> Reference | None:
    """The reference of the model in Production; None while there is no such model, or its run has no reference.

    Args:
        known: the result of an earlier call, returned again while the version is the same.

    Raises:
        Unavailable: MLflow does not answer, or not as it should.
    """
    try:
        with httpx2.Client(base_url=address, timeout=10) as client:
            named = client.get(
                "/api/2.0/mlflow/registered-models/alias", params={"name": MODEL_NAME, "alias": PRODUCTION_ALIAS}
            )
            # There is no such model or alias yet.
            if named.status_code in (400, 404):
                return None
            model = named.raise_for_status().json()["model_version"]
            if known is not None and known.version == str(model["version"]):
                return known
            run = client.get("/api/2.0/mlflow/runs/get", params={"run_id": model["run_id"]}).raise_for_status().json()
            artifacts = urlsplit(run["run"]["info"]["artifact_uri"]).path.strip("/")
            found = client.get(f"/api/2.0/mlflow-artifacts/artifacts/{artifacts}/serving/reference.json")
            if found.status_code == 404:
                return None
            return parse_reference(str(model["version"]), found.raise_for_status().json())
    except httpx2.HTTPError as error:
        raise Unavailable(f"MLFLOW_TRACKING_URI={address}: {error}; is mlflow up?") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unavailable(
            f"MLFLOW_TRACKING_URI={address}: an answer about the model in Production, or its serving/reference.json, "
            f"can't be read: {type(error).__name__}: {error}; train a new model if it stays so"
        ) from None


def parse_reference(version: str, document: Mapping[str, Any]) -> Reference:
    """The reference from its JSON.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is not one.
    """
    features = {name: Distribution.of(each) for name, each in document["features"].items()}
    return Reference(version, Distribution.of(document["score"]), features)


def newest_predictions(settings: PostgresSettings, rows: int) -> list[Scored]:
    """The newest scored payments, at most `rows`.

    Raises:
        Unavailable: Postgres does not answer, or has no predictions yet.
    """
    try:
        connection = connect(settings, "drift")
    except psycopg2.OperationalError as error:
        raise Unavailable(f"POSTGRES_HOST={settings.postgres_host}: {str(error).strip()}; is postgres up?") from None
    try:
        with connection.cursor() as cursor:
            cursor.execute(NEWEST, (rows,))
            return [
                Scored(prediction_id, version, event_time, score, Features.of(features))
                for prediction_id, version, event_time, score, features in cursor.fetchall()
            ]
    except psycopg2.Error as error:
        raise Unavailable(f"predictions: {str(error).strip().splitlines()[0]}; has the API stored any?") from None
    finally:
        connection.close()
