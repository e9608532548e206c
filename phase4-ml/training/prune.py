"""What ends the growth of MLflow: versions of the model that nothing needs any more, with their runs and files.

Each training run calls it at its end. In Production or Staging, under an alias, and of the last versions that were in
Production, for a rollback, everything stays however old it is. Files are deleted through the server; of a deleted run
the database keeps its few rows, marked as deleted.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import mlflow
from fraud_common.models import MODEL_NAME
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from training import registry

# So many versions that were in Production stay, whatever their age.
ROLLBACKS = 5
# Requests ask for so many runs or models at once.
PAGE = 200


def kept(versions: Iterable[ModelVersion], older_than: datetime) -> set[str]:
    """The numbers of the versions that stay.

    Args:
        older_than: those that were made later stay as well.
    """
    found = list(versions)
    promoted = sorted(
        (version for version in found if registry.PROMOTED_AT in version.tags),
        key=lambda version: version.tags[registry.PROMOTED_AT],
    )
    stay = {version.version for version in promoted[-ROLLBACKS:]}
    return stay | {
        version.version
        for version in found
        if version.current_stage in ("Production", "Staging")
        or version.aliases
        or version.creation_timestamp >= older_than.timestamp() * 1000
    }


def prune(client: mlflow.MlflowClient, retention_days: int, now: datetime) -> None:
    """Delete versions, runs and files that are older than the retention and that nothing needs; says what it did.

    A failure ends it with a line: the model that was just trained is not worth less for it, and the next run continues.

    Args:
        retention_days: 0 keeps everything.
    """
    if not retention_days:
        return
    older_than = now - timedelta(days=retention_days)
    try:
        versions, runs = _prune(client, older_than)
    except MlflowException as error:
        print(f"old models are not deleted, the next training run tries again: {error!s:.200}", file=sys.stderr)
        return
    if versions or runs:
        print(
            f"deleted what is older than MODEL_RETENTION_DAYS={retention_days}: {versions} versions, {runs} runs",
            file=sys.stderr,
        )


def _prune(client: mlflow.MlflowClient, older_than: datetime) -> tuple[int, int]:
    versions = registry.versions(client)
    stay = kept(versions, older_than)
    needed = {version.run_id for version in versions if version.version in stay}
    gone = [version for version in versions if version.version not in stay]
    # The version first: nothing may offer a model whose files are gone.
    for version in gone:
        client.delete_model_version(MODEL_NAME, version.version)
    runs = 0
    experiment = client.get_experiment_by_name(MODEL_NAME)
    # Also runs that failed, and those that an interrupted call has left without their version.
    for run_id, uri in _old_runs(client, experiment.experiment_id, older_than) if experiment else ():
        if run_id not in needed:
            _delete_models(client, experiment.experiment_id, run_id)
            get_artifact_repository(uri).delete_artifacts()
            client.delete_run(run_id)
            runs += 1
    return len(gone), runs


def _old_runs(client: mlflow.MlflowClient, experiment_id: str, older_than: datetime) -> Sequence[tuple[str, str]]:
    """The runs that began before a moment, and where their files are."""
    condition = f"attributes.start_time < {round(older_than.timestamp() * 1000)}"
    found: list[tuple[str, str]] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], condition, max_results=PAGE, page_token=token)
        found += [(run.info.run_id, run.info.artifact_uri) for run in page]
        token = page.token
        if not token:
            return found


def _delete_models(client: mlflow.MlflowClient, experiment_id: str, run_id: str) -> None:
    """The models that a run has logged are not among its own files."""
    for model in client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'", max_results=PAGE):
        get_artifact_repository(model.artifact_location).delete_artifacts()
        client.delete_logged_model(model.model_id)
