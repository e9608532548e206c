"""Connections whose clients are too slow: uvicorn limits only how long one is idle after an answer.

A client that connects and sends nothing, sends the head of a request byte by byte, or does not read its answer would
keep its connection for ever. The body of a request has its limit in middleware.py, where it can be answered.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.settings import KEEP_ALIVE_SECONDS, Settings


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with two more limits. Each connection has one."""

    # Each worker makes the class for itself; uvicorn gives it no settings of ours.
    _head_seconds = Settings().request_seconds
    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The head of the first request is due."""
        super().connection_made(transport)
        self._head = self._after(self._head_seconds, transport.close)

    def on_message_begin(self) -> None:
        """The rest of a request's head is due."""
        super().on_message_begin()
        if self._head is None:
            self._head = self._after(self._head_seconds, self.transport.close)

    def on_headers_complete(self) -> None:
        """From here on it is the middleware's."""
        _cancel(self._head)
        self._head = None
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written."""
        super().pause_writing()
        self._reader = self._after(KEEP_ALIVE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        _cancel(self._reader)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        _cancel(self._head)
        _cancel(self._reader)
        super().connection_lost(exc)

    def _after(self, seconds: float, close: Callable[[], Any]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, close)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
