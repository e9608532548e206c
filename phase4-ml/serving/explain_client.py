"""The reasons of a score for `?explain=true`: those of a model from the explainer, those of rules-1 at once.

The payment is scored and recorded by then. If the explainer does not answer in time, the reasons are left out.
"""

import asyncio
import logging
from typing import Literal

import httpx2
import orjson

from serving import metrics
from serving.reasons import Reason, explain_rules
from serving.rules_1 import VERSION as RULES_VERSION
from serving.settings import Settings

logger = logging.getLogger(__name__)

type Status = Literal["not_requested", "ok", "unavailable"]


class ExplainClient:
    """Asks the explainer."""

    def __init__(self, settings: Settings) -> None:
        self._deadline = settings.explain_deadline_ms / 1000
        self._client = httpx2.AsyncClient(base_url=settings.explainer_url, timeout=self._deadline)
        self._answers = True

    async def reasons(
        self, model_version: str, score: float, values: dict[str, float | None]
    ) -> tuple[list[Reason], Status]:
        """The reasons of a score, or none and the status `unavailable`.

        Args:
            score: as it is answered.
            values: the payment's features by name.
        """
        if model_version == RULES_VERSION:
            return explain_rules(values), "ok"
        body = orjson.dumps({"model_version": model_version, "fraud_probability": score, "features": values})
        try:
            async with asyncio.timeout(self._deadline):
                answer = await self._client.post("/explain", content=body, headers={"Content-Type": "application/json"})
            reasons = answer.raise_for_status().json()["reasons"]
        except (httpx2.HTTPError, TimeoutError, ValueError, KeyError, TypeError) as error:
            metrics.ERRORS.labels("explainer").inc()
            if self._answers:
                logger.warning(
                    "the explainer at %s gives no reasons: %s: %s", self._client.base_url, type(error).__name__, error
                )
            self._answers = False
            return [], "unavailable"
        self._answers = True
        return reasons, "ok"

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
