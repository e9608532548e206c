"""Scores from the API: a batch at a time, for ever where it does not answer, and without those that it refuses."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx2
import orjson
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, sleep_using_event
from tenacity.stop import stop_when_event_set
from tenacity.wait import wait_random_exponential

from fraud_common.errors import Stopping
from scorer import metrics
from scorer.records import Refusal
from serving.settings import MAX_REQUEST_BYTES

log = logging.getLogger("api")

LONGEST_WAIT_SECONDS = 5.0
SECONDS_BETWEEN_LINES = 30.0
# The request itself is at fault; anything else that is no success may pass.
REFUSING = (400, 413, 422)

Request = dict[str, Any]
Answer = dict[str, Any]


class Unavailable(Exception):  # noqa: N818 - waited for, not raised to anybody
    """No answer, or one that says: later."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ScoringApi:
    """The API behind one connection that is kept open."""

    def __init__(self, url: str, key: str, stop: threading.Event) -> None:
        self.url = url.rstrip("/")
        headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
        self._client = httpx2.Client(headers=headers, timeout=httpx2.Timeout(30.0, connect=5.0))
        self._stop = stop
        self._down_since: float | None = None
        self._told_at = 0.0

    def score(self, requests: Sequence[Request]) -> list[Answer | Refusal]:
        """An answer for each request, in their order, or why there is none.

        Raises:
            Stopping: SIGTERM came while the API did not answer.
        """
        outcomes: dict[int, Answer | Refusal] = {}
        waiting = [list(range(len(requests)))] if requests else []
        while waiting:
            group = waiting.pop()
            body = orjson.dumps({"transactions": [requests[i] for i in group]})
            if len(body) > MAX_REQUEST_BYTES:
                # The API would hang up before it has read it all.
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
                # It doesn't say which: halve until it is clear.
                waiting += _halves(rest)
        return [outcomes[i] for i in range(len(requests))]

    def _post(self, body: bytes, size: int) -> httpx2.Response:
        """The API's word on the requests, yes or no, however long it takes."""
        retrying = Retrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_WAIT_SECONDS),
            sleep=sleep_using_event(self._stop),
            stop=stop_when_event_set(self._stop),
            before_sleep=self._complain,
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
            raise Unavailable(f"http_{response.status_code}", "it refuses the key; correct API_KEY in .env")
        if response.status_code != 200:
            raise Unavailable(f"http_{response.status_code}", f"HTTP {response.status_code}: {response.text[:200]}")
        try:
            complete = len(orjson.loads(response.content)["predictions"]) == size
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise Unavailable("incomplete", f"not one prediction for each payment: {response.text[:200]}")
        return response

    def _complain(self, state: RetryCallState) -> None:
        """A line at once, and then one now and then, however many attempts there are."""
        error = state.outcome.exception() if state.outcome else None
        metrics.API_AVAILABLE.set(0)
        metrics.API_FAILURES.labels(error.reason if isinstance(error, Unavailable) else "unknown").inc()
        now = time.monotonic()
        if self._down_since is None:
            self._down_since, self._told_at = now, 0.0
        if now - self._told_at >= SECONDS_BETWEEN_LINES:
            self._told_at = now
            log.warning(
                "%s/predict/batch: %s; payments wait in Kafka until it answers (for %.0f s now)",
                self.url,
                error,
                now - self._down_since,
            )


def _halves(group: list[int]) -> list[list[int]]:
    return [group[: len(group) // 2], group[len(group) // 2 :]]


def _refusals(response: httpx2.Response, size: int) -> dict[int, Refusal]:
    """The requests that an answer names as bad, by position; empty where it names none of several."""
    try:
        detail = orjson.loads(response.content)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    problems: dict[int, list[tuple[str, str]]] = {}
    for entry in detail if isinstance(detail, list) else []:
        place = entry.get("loc", []) if isinstance(entry, dict) else []
        if len(place) >= 3 and place[1] == "transactions" and isinstance(place[2], int) and place[2] < size:
            field = ".".join(map(str, place[3:])) or "transaction"
            problems.setdefault(place[2], []).append((f"{field}_{entry.get('type')}", f"{field}: {entry.get('msg')}"))
    if not problems and size == 1:
        return {0: Refusal([f"http_{response.status_code}"], f"the API refuses it: {response.text[:500]}")}
    return {
        position: Refusal(
            list(dict.fromkeys(reason for reason, _ in found)), "; ".join(sentence for _, sentence in found)
        )
        for position, found in problems.items()
    }
