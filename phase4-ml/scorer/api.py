"""Scores from the API: one batch at a time, repeated until it answers, without the payments that it refuses."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx2
import orjson
from fraud_common.errors import Stopping
from serving.settings import MAX_REQUEST_BYTES
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, sleep_using_event
from tenacity.stop import stop_when_event_set
from tenacity.wait import wait_random_exponential

from scorer import metrics
from scorer.records import Refusal

log = logging.getLogger("api")

LONGEST_WAIT_SECONDS = 5.0
SECONDS_BETWEEN_LINES = 30.0
# The request itself is wrong; any other failure may pass.
REFUSING = (400, 413, 422)

Request = dict[str, Any]
Answer = dict[str, Any]


class Unavailable(Exception):  # noqa: N818 - waited for, never shown to the caller
    """No answer, or one that asks to come back later."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ScoringApi:
    """The API, over one connection that stays open."""

    def __init__(self, url: str, key: str, stop: threading.Event) -> None:
        self.url = url.rstrip("/")
        headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
        self._client = httpx2.Client(headers=headers, timeout=httpx2.Timeout(30.0, connect=5.0))
        self._stop = stop
        self._down_since: float | None = None
        self._warned_at = 0.0

    def score(self, requests: Sequence[Request]) -> list[Answer | Refusal]:
        """An answer for each request, in their order, or why there is none.

        Raises:
            Stopping: SIGTERM arrived while the API did not answer.
        """
        outcomes: dict[int, Answer | Refusal] = {}
        waiting = [list(range(len(requests)))] if requests else []
        while waiting:
            group = waiting.pop()
            body = orjson.dumps({"transactions": [requests[i] for i in group]})
            if len(body) > MAX_REQUEST_BYTES:
                # The API would close the connection before it has read it all.
                if len(group) == 1:
                    outcomes[group[0]] = Refusal(["too_large"], f"{len(body):,} bytes, more than a request may have")
                else:
                    waiting += _halves(group)
                continue
            response = self._post(body, len(group))
            if response.status_code == 200:
                outcomes.update(zip(group, orjson.loads(response.content)["predictions"], strict=True))
                continue
            refusals = _refusals(response, len(group))
            outcomes.update((group[position], refusal) for position, refusal in refusals.items())
            rest = [i for position, i in enumerate(group) if position not in refusals]
            if refusals:
                waiting += [rest] if rest else []
            else:
                # It doesn't say which: halve the batch until it is clear.
                waiting += _halves(rest)
        return [outcomes[i] for i in range(len(requests))]

    def _post(self, body: bytes, size: int) -> httpx2.Response:
        """The API's answer to the requests, success or refusal, however long it takes."""
        retrying = Retrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_WAIT_SECONDS),
            sleep=sleep_using_event(self._stop),
            stop=stop_when_event_set(self._stop),
            before_sleep=self._warn,
        )
        try:
            response = retrying(self._post_once, body, size)
        except RetryError as error:
            raise Stopping(str(error.last_attempt.exception())) from None
        metrics.API_AVAILABLE.set(1)
        if self._down_since is not None:
            log.info("the API answers again after %.0f s", time.monotonic() - self._down_since)
            self._down_since = None
        return response

    def _post_once(self, body: bytes, size: int) -> httpx2.Response:
        try:
            response = self._client.post(f"{self.url}/predict/batch", content=body)
        except httpx2.TransportError as error:
            raise Unavailable(type(error).__name__, f"no answer ({type(error).__name__}: {error})") from None
        if response.status_code in REFUSING:
            return response
        if response.status_code in (401, 403):
            raise Unavailable(f"http_{response.status_code}", "it refuses API_INTERNAL_KEY of .env; make up")
        if response.status_code != 200:
            raise Unavailable(f"http_{response.status_code}", f"HTTP {response.status_code}: {response.text[:200]}")
        try:
            complete = len(orjson.loads(response.content)["predictions"]) == size
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise Unavailable("incomplete", f"not one prediction for each payment: {response.text[:200]}")
        return response

    def _warn(self, state: RetryCallState) -> None:
        """Log the first failure at once, then one line every 30 s, however many attempts there are."""
        error = state.outcome.exception() if state.outcome else None
        metrics.API_AVAILABLE.set(0)
        metrics.API_FAILURES.labels(error.reason if isinstance(error, Unavailable) else "unknown").inc()
        now = time.monotonic()
        if self._down_since is None:
            self._down_since, self._warned_at = now, 0.0
        if now - self._warned_at >= SECONDS_BETWEEN_LINES:
            self._warned_at = now
            log.warning(
                "%s/predict/batch: %s; payments wait in Kafka until it answers (for %.0f s now)",
                self.url,
                error,
                now - self._down_since,
            )


def _halves(group: list[int]) -> list[list[int]]:
    return [group[: len(group) // 2], group[len(group) // 2 :]]


def _refusals(response: httpx2.Response, size: int) -> dict[int, Refusal]:
    """The requests that an answer names as bad, by position; empty if it names none of several."""
    try:
        detail = orjson.loads(response.content)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    problems: dict[int, list[tuple[str, str]]] = {}
    for entry in detail if isinstance(detail, list) else []:
        # As pydantic says it: ["body", "transactions", 3, "amount"].
        match entry.get("loc") if isinstance(entry, dict) else None:
            case [_, "transactions", int(position), *names] if position < size:
                field = ".".join(map(str, names)) or "transaction"
                problem = f"{field}_{entry.get('type')}", f"{field}: {entry.get('msg')}"
                problems.setdefault(position, []).append(problem)
    if not problems and size == 1:
        return {0: Refusal([f"http_{response.status_code}"], f"the API refuses it: {response.text[:500]}")}
    return {
        position: Refusal(
            list(dict.fromkeys(reason for reason, _ in found)), "; ".join(sentence for _, sentence in found)
        )
        for position, found in problems.items()
    }
