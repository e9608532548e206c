"""Models by their version, from MLflow: the newest used stay in memory."""

import io
import json
import threading
from collections import OrderedDict
from urllib.parse import urlsplit

import httpx2
import numpy as np
from fraud_common.models import MODEL_NAME

from explainer.attribution import Attribution, UnexplainedError
from explainer.graph import UnknownGraphError, read_graph

# After a promotion there are two; a rollback brings back a third.
KEPT = 3


class Unavailable(Exception):  # noqa: N818 - not an error: the caller tries again
    """The registry does not answer."""


class Models:
    """The models that have scored; safe to use from several threads."""

    def __init__(self, tracking_uri: str) -> None:
        self._client = httpx2.Client(base_url=tracking_uri, timeout=10)
        self._lock = threading.Lock()
        # A model, or why there is none: that does not change while the process lives.
        self._known: OrderedDict[str, Attribution | str] = OrderedDict()

    def get(self, version: str) -> Attribution:
        """The model of a version.

        Raises:
            Unavailable: MLflow does not answer.
            UnexplainedError: there is no such version, or it can't be explained.
        """
        with self._lock:
            if version not in self._known:
                self._known[version] = self._load(version)
            self._known.move_to_end(version)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            found = self._known[version]
        if isinstance(found, str):
            raise UnexplainedError(found)
        return found

    def _load(self, version: str) -> Attribution | str:
        try:
            files = self._download(version)
        except httpx2.HTTPError as error:
            raise Unavailable(
                f"MLFLOW_TRACKING_URI={self._client.base_url}: {type(error).__name__}: {error}; is mlflow up?"
            ) from error
        if not files:
            return f"version {version} is not in the registry"
        try:
            described = json.loads(files["model.json"])
            features = described["features"]
            if "background.npy" in files:
                background = np.load(io.BytesIO(files["background.npy"]))
            else:
                # Of an earlier release: one payment, with the typical value of every feature.
                background = np.array([[described["typical"][name] for name in features]], dtype=np.float32)
            return Attribution(read_graph(files["model.onnx"]), features, background)
        except UnknownGraphError as error:
            return f"version {version} can't be explained: {error}"
        except Exception as error:
            # Any error in a model's files has the same consequence.
            return f"version {version}: its files can't be used: {type(error).__name__}: {error}"

    def _download(self, version: str) -> dict[str, bytes]:
        """The files under serving/ of the version's run; none if there is no such version."""
        found = self._client.get("/api/2.0/mlflow/model-versions/get", params={"name": MODEL_NAME, "version": version})
        # MLflow's answers if there is none.
        if found.status_code in (400, 404):
            return {}
        run_id = found.raise_for_status().json()["model_version"]["run_id"]
        run = self._client.get("/api/2.0/mlflow/runs/get", params={"run_id": run_id}).raise_for_status().json()
        artifacts = urlsplit(run["run"]["info"]["artifact_uri"]).path.strip("/")
        listed = self._client.get("/api/2.0/mlflow/artifacts/list", params={"run_id": run_id, "path": "serving"})
        names = [file["path"].rpartition("/")[2] for file in listed.raise_for_status().json().get("files", [])]
        return {
            name: self._client.get(f"/api/2.0/mlflow-artifacts/artifacts/{artifacts}/serving/{name}", timeout=60)
            .raise_for_status()
            .content
            for name in ("model.onnx", "model.json", "background.npy")
            if name in names
        }
