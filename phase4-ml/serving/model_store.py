"""The model that scores: the one with the alias `production` in MLflow, else the last good one on disk, else rules.

A background task of every worker asks the registry every few seconds. A new version is downloaded, checked, moved into
the cache in one step and only then used: a request sees either the old model or the new one. Workers share the cache on
the volume; a restart needs no MLflow.
"""

import asyncio
import json
import logging
import shutil
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import onnxruntime
from features import FEATURES
from fraud_common.models import MODEL_NAME, PRODUCTION_ALIAS
from numpy.typing import NDArray

from serving import metrics
from serving.rules_1 import VERSION as RULES_VERSION
from serving.rules_1 import Rules
from serving.settings import ModelSettings

logger = logging.getLogger(__name__)

FILES = ("model.onnx", "model.json")
CACHED_VERSIONS = 3
ABANDONED_SECONDS = 600
INPUT, OUTPUT = "features", "probabilities"


class RefusedModelError(Exception):
    """Why a model can't serve."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model in ONNX Runtime, with its thresholds and the typical values of its features."""

    version: str
    medium: float
    high: float
    typical: NDArray[np.float32]
    trained_at: datetime | None
    session: onnxruntime.InferenceSession
    # Where its features are among FEATURES; None if it takes all of them as they are.
    columns: NDArray[np.intp] | None

    def probabilities(self, matrix: NDArray[np.float32]) -> list[float]:
        """The probability of fraud of each row, which has all FEATURES."""
        own = matrix if self.columns is None else matrix.take(self.columns, axis=1)
        return self.session.run((OUTPUT,), {INPUT: own})[0][:, 1].tolist()


def load_model(folder: Path, version: str) -> Model:
    """Load a model from its two files, and check that it can serve.

    Raises:
        RefusedModelError: it needs features that this program does not compute, or can't be used.
    """
    try:
        described: dict[str, Any] = json.loads((folder / "model.json").read_text())
        names: list[str] = described["features"]
        check_features(names)
        typical = {name: described["typical"][name] for name in names}
        options = onnxruntime.SessionOptions()
        # Scoring one row takes less time than handing it to another thread.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = Model(
            version=version,
            medium=float(described["thresholds"]["medium"]),
            high=float(described["thresholds"]["high"]),
            # What the model does not take has no effect, whatever its value.
            typical=np.array([typical.get(name, 0.0) for name in FEATURES], dtype=np.float32),
            trained_at=_moment(described.get("trained_at")),
            session=onnxruntime.InferenceSession(
                (folder / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
            ),
            columns=None if names == list(FEATURES) else np.array([FEATURES.index(name) for name in names]),
        )
        # The first calls are slow, so they happen here.
        for rows in (1, 2, len(FEATURES)):
            scores = model.probabilities(np.tile(model.typical, (rows, 1)))
    except RefusedModelError:
        raise
    except Exception as error:
        # Any error in a model's files has the same consequence.
        raise RefusedModelError(f"its files can't be used: {type(error).__name__}: {error}") from error
    if not all(0 <= score <= 1 for score in scores) or len(scores) != len(FEATURES):
        raise RefusedModelError(f"it answers {scores[0]}, which is not a probability")
    if not 0 <= model.medium <= model.high:
        raise RefusedModelError(f"its thresholds are medium {model.medium}, high {model.high}")
    return model


def check_features(names: list[str]) -> None:
    """Check that this program computes all features of a model, which may be any of FEATURES in any order.

    Raises:
        RefusedModelError: it does not.
    """
    if missing := sorted(set(names) - set(FEATURES)):
        raise RefusedModelError(
            f"it needs features that this program does not compute ({', '.join(missing)}); train it with the same "
            "features.py, or update the API"
        )


class ModelStore:
    """The model in use; `model` may be another object after any await."""

    def __init__(self, settings: ModelSettings) -> None:
        self._folder = settings.state_dir / "models"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._current = self._folder / "current"
        self._poll_seconds = settings.model_poll_seconds
        self._client = httpx2.AsyncClient(base_url=settings.mlflow_tracking_uri, timeout=5)
        self._name: str | None = None
        self._refused: str | None = None
        self.trouble: str | None = "the registry was not asked yet"
        self.model: Model | Rules = Rules()
        self._announce()

    def load_cached(self) -> None:
        """Load the model that served last, or an older one if its files are broken."""
        self._sweep()
        others = (folder for folder in self._folder.iterdir() if _is_cached(folder))
        newest = sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True)
        last = [self._current.resolve()] if self._current.exists() else []
        for folder in dict.fromkeys([*last, *newest]):
            try:
                self._take(load_model(folder, _version_in(folder.name)), folder.name)
            except RefusedModelError as error:
                metrics.ERRORS.labels("model").inc()
                logger.error("cached model %s refused: %s", folder.name, error)
            else:
                return

    async def follow(self) -> None:
        """Ask the registry every few seconds, and use the version that is promoted."""
        while True:
            before = self.trouble
            try:
                await self._refresh()
            except RefusedModelError as error:
                metrics.ERRORS.labels("model").inc()
                self.trouble = f"{self._refused} is promoted but refused: {error}"
            except (httpx2.HTTPError, OSError, KeyError, ValueError) as error:
                metrics.ERRORS.labels("model").inc()
                self.trouble = (
                    f"the registry at {self._client.base_url} did not answer: {type(error).__name__}: {error}"
                )
            if self.trouble and self.trouble != before:
                logger.error("%s; %s continues to score", self.trouble, self.model.version)
            metrics.REGISTRY_REACHED.set(self.trouble is None)
            await asyncio.sleep(self._poll_seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _refresh(self) -> None:
        promoted = await self.with_alias(PRODUCTION_ALIAS)
        if promoted is None:
            self.trouble = f"no version of {MODEL_NAME} has the alias {PRODUCTION_ALIAS}"
            return
        version, run_id = promoted
        name = f"{version}-{run_id}"
        if name == self._refused:
            return
        if name != self._name:
            try:
                model = await self._fetch(version, run_id, name)
            except RefusedModelError:
                self._refused = name
                raise
            self._take(model, name)
            self._remember(name)
        self._refused = self.trouble = None

    async def with_alias(self, alias: str) -> tuple[str, str] | None:
        """The version with this alias, and the id of its run; None if there is none.

        Raises:
            httpx2.HTTPError: the registry does not answer.
        """
        answer = await self._client.get(
            "/api/2.0/mlflow/registered-models/alias", params={"name": MODEL_NAME, "alias": alias}
        )
        # MLflow's answers while there is no such model or no such alias.
        if answer.status_code in (400, 404):
            return None
        version = answer.raise_for_status().json()["model_version"]
        return str(version["version"]), str(version["run_id"])

    async def load(self, version: str, run_id: str) -> Model:
        """The model of a version, from the cache or else from the registry.

        Raises:
            RefusedModelError: it can't be used.
            httpx2.HTTPError: the registry does not answer.
        """
        name = f"{version}-{run_id}"
        model = await self._fetch(version, run_id, name)
        self._remember(name)
        return model

    async def of_version(self, version: str) -> Model | Rules | None:
        """A model that has served before, to score a payment again; None if there is no such version any more.

        Raises:
            RefusedModelError: it can't be used.
            httpx2.HTTPError: it is not in the cache, and the registry does not answer.
        """
        if version == RULES_VERSION:
            return Rules()
        if version == self.model.version:
            return self.model
        for folder in self._folder.glob(f"{version}-*"):
            if _is_cached(folder):
                return await asyncio.to_thread(load_model, folder, version)
        answer = await self._client.get(
            "/api/2.0/mlflow/model-versions/get", params={"name": MODEL_NAME, "version": version}
        )
        if answer.status_code in (400, 404):
            return None
        run_id = str(answer.raise_for_status().json()["model_version"]["run_id"])
        return await self._fetch(version, run_id, f"{version}-{run_id}")

    async def _fetch(self, version: str, run_id: str, name: str) -> Model:
        folder = self._folder / name
        if _is_cached(folder):
            try:
                return await asyncio.to_thread(load_model, folder, version)
            except RefusedModelError:
                # Download it again.
                shutil.rmtree(folder)
        answer = await self._client.get("/api/2.0/mlflow/runs/get", params={"run_id": run_id})
        artifacts = urlsplit(answer.raise_for_status().json()["run"]["info"]["artifact_uri"]).path.strip("/")
        download = self._folder / f".{uuid.uuid4()}"
        download.mkdir()
        try:
            for file in FILES:
                await self._download(f"/api/2.0/mlflow-artifacts/artifacts/{artifacts}/serving/{file}", download / file)
            model = await asyncio.to_thread(load_model, download, version)
            try:
                download.rename(folder)
            except OSError:
                # Another worker was first.
                if not _is_cached(folder):
                    raise
        finally:
            shutil.rmtree(download, ignore_errors=True)
        return model

    async def _download(self, url: str, file: Path) -> None:
        async with self._client.stream("GET", url, timeout=60) as answer:
            answer.raise_for_status()
            with file.open("wb") as output:
                async for chunk in answer.aiter_bytes(1 << 20):
                    output.write(chunk)

    def _take(self, model: Model, name: str) -> None:
        before, self.model, self._name = self.model.version, model, name
        logger.info("model %s scores, after %s", model.version, before, extra={"model": name})
        self._announce()

    def _announce(self) -> None:
        version, trained_at = self.model.version, self.model.trained_at
        metrics.MODEL_VERSION.set(int(version) if version.isdecimal() else 0)
        metrics.MODEL_TRAINED.set(trained_at.timestamp() if trained_at else 0)

    def _remember(self, name: str) -> None:
        """Link the version that a restart loads; of the others only the newest are kept."""
        (self._folder / name).touch()
        link = self._folder / f".{uuid.uuid4()}"
        link.symlink_to(name)
        link.replace(self._current)
        cached = [folder for folder in self._folder.iterdir() if _is_cached(folder) and folder.name != name]
        for folder in sorted(cached, key=lambda folder: folder.stat().st_mtime, reverse=True)[CACHED_VERSIONS - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove old downloads of workers that were killed; a recent one may be in use by another worker."""
        for folder in self._folder.glob(".*"):
            if time.time() - folder.lstat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(folder) if folder.is_dir() and not folder.is_symlink() else folder.unlink()


def _is_cached(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not folder.name.startswith(".")


def _version_in(name: str) -> str:
    return name.partition("-")[0]


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
