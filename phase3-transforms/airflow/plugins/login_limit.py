"""Slows down who guesses a password of Airflow through its API. Airflow itself limits its login page only.

The api-server loads it as a plug-in. It has one process, so the count is in memory.
"""

import time
from collections import deque
from collections.abc import Callable

from airflow.plugins_manager import AirflowPlugin
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKENS = "/auth/token"
WRONG_PASSWORDS = 10
PER_SECONDS = 60.0


class LoginLimit:
    """ASGI: an address that has sent too many wrong passwords gets a 429 until the first of them is a minute old."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        # When each address has sent its wrong passwords, and those that are being checked; the oldest first.
        self._sent: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through unless it asks for a token too soon."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith(TOKENS):
            await self._app(scope, receive, send)
            return
        self._forget()
        address = scope["client"][0] if scope.get("client") else ""
        sent = self._sent.setdefault(address, deque())
        now = self._clock()
        if len(sent) >= WRONG_PASSWORDS:
            wait = max(1, round(sent[0] + PER_SECONDS - now + 0.5))
            refusal = JSONResponse(
                {"detail": f"too many wrong passwords; try again in {wait} s"}, 429, {"Retry-After": str(wait)}
            )
            await refusal(scope, receive, send)
            return
        sent.append(now)
        status = 0

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            if status != 401 and now in sent:
                sent.remove(now)

    def _forget(self) -> None:
        """Drop what is older than the limit looks back, so that memory is bounded by the requests of a minute."""
        begin = self._clock() - PER_SECONDS
        for address, sent in list(self._sent.items()):
            while sent and sent[0] <= begin:
                sent.popleft()
            if not sent:
                del self._sent[address]


class LoginLimitPlugin(AirflowPlugin):
    """What the api-server looks for."""

    name = "login_limit"
    fastapi_root_middlewares = [{"name": "login limit", "middleware": LoginLimit, "args": [], "kwargs": {}}]  # noqa: RUF012
