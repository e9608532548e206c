"""Carries an existing registry over to the model's present name, before the server answers.

The registered model and its experiment used to be called `fraud-model`. Versions, stages, aliases, tags and runs move
with the rename. This runs at every start; if nothing has the old name, it ends at once.
"""

import json
import os
import sys
from typing import Any

import sqlalchemy
from fraud_common.models import MODEL_NAME

OLD_NAME = "fraud-model"
# mlflow.utils.mlflow_tags.MLFLOW_MODEL_VERSIONS: which registered versions a logged model became, as JSON.
VERSIONS_TAG = "mlflow.modelVersions"
# Where the files of a version are that a run logged as a model: this, and the logged model's id.
LOGGED_MODEL = "models:/"
ARTIFACT_ROOT = "mlflow-artifacts:/"


def main() -> None:
    """Rename what has the old name; one line says what was done, or why not."""
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    models, experiments = names(uri, "registered_models"), names(uri, "experiments")
    # The model comes last: until it has the new name, a start after a crash repeats the steps before it.
    if OLD_NAME in experiments and MODEL_NAME not in experiments:
        rename_experiment(uri)
    if OLD_NAME not in models:
        return
    if MODEL_NAME in models:
        say(f"models {OLD_NAME} and {MODEL_NAME} both exist: {OLD_NAME} stays as it is, and is not used")
        return
    count = rename_model(uri)
    say(f"registered model {OLD_NAME} is now {MODEL_NAME}, with {count} versions, their stages, aliases and tags")


def names(uri: str, table: str) -> set[str]:
    """The names in a table of MLflow; none in a new database. Does without MLflow, whose import takes seconds."""
    engine = sqlalchemy.create_engine(uri)
    try:
        if not sqlalchemy.inspect(engine).has_table(table):
            return set()
        with engine.connect() as connection:
            return set(connection.execute(sqlalchemy.text(f"select name from {table}")).scalars())
    finally:
        engine.dispose()


def rename_experiment(uri: str) -> None:
    """Rename the experiment; its runs refer to its id."""
    store = tracking_store(uri)
    experiment = store.get_experiment_by_name(OLD_NAME)
    # A deleted one keeps its name until it is purged or restored.
    if experiment.lifecycle_stage == "active":
        store.rename_experiment(experiment.experiment_id, MODEL_NAME)
        say(f"experiment {OLD_NAME} is now {MODEL_NAME}")


def rename_model(uri: str) -> int:
    """Rename the registered model, and what refers to it; returns how many versions it has.

    Foreign keys of MLflow's schema carry versions, aliases and tags along, in the transaction of the rename.
    """
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(uri)
    versions = store.search_model_versions(f"name = '{OLD_NAME}'", max_results=10_000)
    tracking = tracking_store(uri)
    for version in versions:
        if version.source.startswith(LOGGED_MODEL):
            rename_in_logged_model(tracking, version.source.removeprefix(LOGGED_MODEL))
    store.rename_registered_model(OLD_NAME, MODEL_NAME)
    return len(versions)


def rename_in_logged_model(tracking: Any, model_id: str) -> None:
    """Correct the link from a logged model to its registered versions; MLflow's own rename leaves it."""
    from mlflow.entities import LoggedModelTag
    from mlflow.exceptions import MlflowException

    try:
        text = tracking.get_logged_model(model_id).tags.get(VERSIONS_TAG)
    except MlflowException:  # deleted
        return
    if text:
        links = [link | {"name": MODEL_NAME} if link["name"] == OLD_NAME else link for link in json.loads(text)]
        tracking.set_logged_model_tags(model_id, [LoggedModelTag(VERSIONS_TAG, json.dumps(links))])


def tracking_store(uri: str) -> Any:
    """MLflow's own store of experiments and runs."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(uri, ARTIFACT_ROOT)


def say(text: str) -> None:
    """A line in the server's log."""
    print(f"start-mlflow: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
