"""Scores live payments with the model in Staging, beside the answers of Production, so that labels can compare them.

python -m shadow

Upstream is the table `predictions`, whose rows have all features, so no payment waits for this. Downstream is
`shadow_predictions`, which model_quality counts as it counts Production. Without a version in Staging it is idle.
"""

import asyncio
import logging
import threading
import time

import httpx2
from fraud_common.models import PRODUCTION_ALIAS, STAGING_ALIAS
from fraud_common.postgres import PatientConnection
from fraud_common.service import ServiceSettings, run_service
from fraud_common.settings import PostgresSettings
from pydantic import Field
from serving.model_store import Model, ModelStore, RefusedModelError
from serving.settings import ModelSettings

from shadow import metrics, store
from shadow.scoring import score

log = logging.getLogger("shadow")

# Payments that are scored at once: some 2 MB of features.
CHUNK = 500
SECONDS_BETWEEN_LOOKS = 1.0


class Settings(ServiceSettings, PostgresSettings, ModelSettings):
    """Where it reads, and how often it asks the registry."""

    model_poll_seconds: float = Field(default=30.0, gt=0)
    metrics_port: int = Field(default=9407, ge=0, le=65535)


def run(settings: Settings, stop: threading.Event) -> None:
    """Follow Staging and score, until SIGTERM.

    Raises:
        Stopping: SIGTERM came while Postgres did not answer.
    """
    postgres = PatientConnection(lambda: store.open_connection(settings), stop, metrics.RUNNING.set)
    # Healthy as soon as Postgres answers, whether something is in Staging or not.
    postgres.until_answered(lambda _: None)
    with asyncio.Runner() as runner:
        staging = Staging(settings, runner)
        begun: str | None = None
        try:
            while not stop.is_set():
                if staging.look() and staging.model is None:
                    postgres.until_answered(store.end)
                    metrics.BEHIND.set(0)
                    begun = None
                model = staging.model
                if model and model.version != begun and postgres.until_answered(store.begin, model.version):
                    begun = model.version
                more = model is not None and model.version == begun and score_next(postgres, model)
                if not more:
                    stop.wait(SECONDS_BETWEEN_LOOKS)
        finally:
            metrics.RUNNING.set(0)
            staging.close()


def score_next(postgres: PatientConnection, model: Model) -> bool:
    """Score the next chunk; returns whether there may be more."""
    chunk = postgres.until_answered(store.next_chunk, CHUNK)
    if chunk is None:
        return False
    metrics.BEHIND.set(chunk.left)
    if not chunk.payments:
        return False
    scored = score(model, chunk.payments)
    if postgres.until_answered(store.store, model.version, chunk, scored.scores):
        metrics.SCORED.inc(len(scored.scores))
        for reason, count in scored.left_out.items():
            metrics.LEFT_OUT.labels(reason).inc(count)
    return chunk.left > 0


class Staging:
    """The model in Staging. A version that serves as well is in Production, and so are its scores."""

    def __init__(self, settings: Settings, runner: asyncio.Runner) -> None:
        """The registry was not asked yet."""
        self.model: Model | None = None
        self._models = ModelStore(settings)
        self._runner = runner
        self._poll_seconds = settings.model_poll_seconds
        self._look_at = 0.0
        self._refused: str | None = None
        self._trouble: str | None = None

    def look(self) -> bool:
        """Ask the registry if it is time to; returns whether it answered. If it did not, the model stays."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + self._poll_seconds
        try:
            self._runner.run(self._refresh())
            trouble = None
        except RefusedModelError as error:
            self.model, trouble = None, f"version {self._refused} in Staging can't be used: {error}"
        except (httpx2.HTTPError, OSError, KeyError, ValueError) as error:
            trouble = f"the registry did not answer: {type(error).__name__}: {error}"
        if trouble and trouble != self._trouble:
            log.error("%s", trouble)
        self._trouble = trouble
        metrics.REGISTRY_REACHED.set(trouble is None)
        version = self.model.version if self.model else "0"
        metrics.MODEL_VERSION.set(int(version) if version.isdecimal() else 0)
        return trouble is None

    def close(self) -> None:
        """Close the connections."""
        self._runner.run(self._models.close())

    async def _refresh(self) -> None:
        staging = await self._models.with_alias(STAGING_ALIAS)
        if staging is None or staging == await self._models.with_alias(PRODUCTION_ALIAS):
            self.model = None
            return
        version, run_id = staging
        if version == self._refused:
            self.model = None
        elif self.model is None or self.model.version != version:
            try:
                self.model = await self._models.load(version, run_id)
            except RefusedModelError:
                self._refused = version
                raise
            log.info("version %s is in Staging and scores in shadow", version)


if __name__ == "__main__":
    run_service(Settings, run, metrics.REGISTRY)
