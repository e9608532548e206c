"""The stages of a model version in MLflow (None, Staging, Production, Archived): what serves, promotion and rollback.

People see stages; serving follows the alias `production`, since MLflow has deprecated stages.
"""

import json
import os
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from features import FEATURES
from fraud_common.errors import UserError
from fraud_common.models import MODEL_NAME, PRODUCTION_ALIAS, STAGING_ALIAS
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from serving.rules_1 import VERSION as RULES
from serving.rules_1 import Rules

from training.compare import Serving
from training.examples import Examples, select_features
from training.export import onnx_scores
from training.promotion import Decision
from training.settings import Settings

# Tags of a version: since when it was in production the last time, and when it was rolled back.
PROMOTED_AT, ROLLED_BACK = "production_since", "rolled_back"

# MLflow has deprecated stages, but people here rely on them; aliases are set along with them.
warnings.filterwarnings("ignore", message=".*stages.*", category=FutureWarning)


def connect(settings: Settings) -> mlflow.MlflowClient:
    """A client of a server that answers.

    Raises:
        UserError: none does.
    """
    # MLflow's own default waits for minutes without a message.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
    client = mlflow.MlflowClient(settings.mlflow_tracking_uri)
    try:
        client.search_registered_models(max_results=1)
    except MlflowException as error:
        raise UserError(
            f"MLflow does not answer at {settings.mlflow_tracking_uri}: {error!s:.200}; docker compose logs mlflow"
        ) from error
    return client


def in_production(client: mlflow.MlflowClient) -> ModelVersion | None:
    """The version in Production, if there is one.

    Raises:
        UserError: MLflow can't say. That is not the same as none, which would let any new model in.
    """
    try:
        return client.get_model_version_by_alias(MODEL_NAME, PRODUCTION_ALIAS)
    except MlflowException as error:
        # No such model, no such alias.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise UserError(
            f"MLflow can't say what is in Production: {error!s:.200}; docker compose logs mlflow"
        ) from error


def serving_now(client: mlflow.MlflowClient, holdout: Examples) -> Serving:
    """What scores payments now, with its scores of this holdout: the Production model, else rules-1.

    A Production model may have been trained on some of the features. The API refuses one that needs others, so then,
    too, rules-1 serves.

    Raises:
        UserError: MLflow can't say what is in Production.
    """
    version = in_production(client)
    if version is None:
        return Serving(RULES, rules_scores(holdout), "nothing is in Production")
    folder = mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path="serving")
    served = ServedModel.read(folder)
    if missing := sorted(set(served.features) - set(FEATURES)):
        note = f"version {version.version} in Production needs features that are gone ({', '.join(missing)})"
        return Serving(RULES, rules_scores(holdout), note)
    return Serving("Production", served.scores(holdout.matrix))


def rules_scores(examples: Examples) -> NDArray[np.float64]:
    """The score by rules-1 of each example."""
    return np.array(Rules().probabilities(examples.matrix))


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What serving loads: the model, the names of its features, and the lowest scores of the tiers medium and high."""

    onnx: bytes
    features: list[str]
    medium: float
    high: float

    @classmethod
    def read(cls, folder: str) -> "ServedModel":
        """From the folder `serving` of a run."""
        path = Path(folder)
        described = json.loads((path / "model.json").read_text())
        thresholds = described["thresholds"]
        return cls((path / "model.onnx").read_bytes(), described["features"], thresholds["medium"], thresholds["high"])

    def scores(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of fraud of each row, which has all FEATURES."""
        return onnx_scores(self.onnx, select_features(matrix, self.features))


def promote(client: mlflow.MlflowClient, version: str, decision: Decision) -> None:
    """Apply a decision. A version on its way to Production is in Staging first, so its history shows both."""
    client.set_model_version_tag(MODEL_NAME, version, "decision", decision.reason)
    if decision.stage == "None":
        return
    client.transition_model_version_stage(MODEL_NAME, version, "Staging", archive_existing_versions=True)
    client.set_registered_model_alias(MODEL_NAME, STAGING_ALIAS, version)
    if decision.stage == "Production":
        _put_in_production(client, version)


def rollback(client: mlflow.MlflowClient) -> tuple[str, str]:
    """Put the previous Production version back into Production.

    Returns:
        The version that was replaced, and the one that serves now.

    Raises:
        UserError: nothing is in Production, or nothing was before.
    """
    current = in_production(client)
    if current is None:
        raise UserError("nothing is in Production, so there is nothing to roll back; make ml-train")
    before = [
        version
        for version in versions(client)
        if version.version != current.version
        and PROMOTED_AT in version.tags
        and ROLLED_BACK not in version.tags
        and version.tags[PROMOTED_AT] < current.tags.get(PROMOTED_AT, "~")
    ]
    if not before:
        raise UserError(
            f"version {current.version} is the first that was in Production, or those before it were rolled back; "
            "make ml-models lists them all"
        )
    target = max(before, key=lambda version: version.tags[PROMOTED_AT])
    client.set_model_version_tag(MODEL_NAME, current.version, ROLLED_BACK, _now())
    # It keeps the time of its first promotion, so the next rollback goes to the version before it.
    _put_in_production(client, target.version, since=target.tags[PROMOTED_AT])
    return str(current.version), str(target.version)


def versions(client: mlflow.MlflowClient) -> list[ModelVersion]:
    """All versions, the newest first; aliases included."""
    found = client.search_model_versions(f"name = '{MODEL_NAME}'")
    complete = [client.get_model_version(MODEL_NAME, version.version) for version in found]
    return sorted(complete, key=lambda version: int(version.version), reverse=True)


def metrics_of(client: mlflow.MlflowClient, version: ModelVersion) -> dict[str, Any]:
    """The metrics of the run that made a version."""
    return client.get_run(version.run_id).data.metrics


def _put_in_production(client: mlflow.MlflowClient, version: str, since: str | None = None) -> None:
    client.set_model_version_tag(MODEL_NAME, version, PROMOTED_AT, since or _now())
    # The alias first: serving follows it, so after a crash between the two the right model serves.
    client.set_registered_model_alias(MODEL_NAME, PRODUCTION_ALIAS, version)
    client.transition_model_version_stage(MODEL_NAME, version, "Production", archive_existing_versions=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
