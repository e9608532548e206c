"""The two sides of the comparison: the reference in the model's MLflow run, and live payments in Postgres."""

from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
import psycopg2
from fraud_common.models import MODEL_NAME, PRODUCTION_ALIAS
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings

NEWEST = """
select prediction_id::text, model_version, fraud_probability, features
from predictions
order by predicted_at desc
limit %s
"""


class Unavailable(Exception):  # noqa: N818 - not an error: the caller tries again
    """Which service does not answer, and the next step."""


@dataclass(frozen=True)
class Reference:
    """The holdout of a model: for `score` and each feature, the `edges` of the bins and the `shares` in them."""

    version: str
    score: dict[str, list[float]]
    features: dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Scored:
    """A live payment with its score."""

    prediction_id: str
    model_version: str
    score: float
    features: dict[str, float]


def production_reference(address: str, known: Reference | None) -> Reference | None:
    """The reference of the model in Production; None while there is no such model, or its run has no reference.

    Args:
        known: the result of an earlier call, returned again while the version is the same.

    Raises:
        Unavailable: MLflow does not answer.
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
            return Reference(str(model["version"]), **found.raise_for_status().json())
    except httpx2.HTTPError as error:
        raise Unavailable(f"MLFLOW_TRACKING_URI={address}: {error}; is mlflow up?") from None


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
            return [Scored(*row) for row in cursor.fetchall()]
    except psycopg2.Error as error:
        raise Unavailable(f"predictions: {str(error).strip().splitlines()[0]}; has the API stored any?") from None
    finally:
        connection.close()
