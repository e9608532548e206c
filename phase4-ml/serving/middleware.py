"""What every request passes first: the API key, limits of size and time, and the count of answers by status."""

import asyncio
import hmac

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics

# Other paths are counted together: clients may ask for any.
COUNTED = {"/predict", "/predict/batch", "/health", "/ready", "/metrics"}
# The client hung up before it had sent its request: no answer, and no error of ours. The number is nginx's.
CLIENT_CLOSED_REQUEST = 499


class TooLargeError(Exception):
    """The body is larger than allowed."""


class TooSlowError(Exception):
    """The body did not arrive in time."""


class RequestChecks:
    """Pure ASGI: no request is read or parsed before it has passed the checks."""

    def __init__(self, app: ASGIApp, api_key: str, max_bytes: int, max_seconds: float) -> None:
        self._app = app
        self._key = api_key.encode()
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._counters: dict[tuple[str, int], metrics.Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        status = 500
        started = False

        async def counted_send(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
            await send(message)

        try:
            if path.startswith("/predict"):
                headers = dict(scope["headers"])
                if self._key and not hmac.compare_digest(headers.get(b"x-api-key", b""), self._key):
                    await _refuse(
                        counted_send, 401, "the header X-API-Key is missing or is not the API's key (API_KEY in .env)"
                    )
                    return
                if int(headers.get(b"content-length", b"0")) > self._max_bytes:
                    raise TooLargeError
                receive = self._limited(receive)
            await self._app(scope, receive, counted_send)
        except TooLargeError:
            if not started:
                await _refuse(
                    counted_send, 413, f"the request is larger than {self._max_bytes} bytes; send it in parts"
                )
        except TooSlowError:
            await _refuse(counted_send, 408, f"the request did not arrive within {self._max_seconds:.0f} seconds")
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        finally:
            self._count(path, status)

    def _limited(self, receive: Receive) -> Receive:
        read = 0
        deadline = asyncio.get_running_loop().time() + self._max_seconds

        async def limited() -> Message:
            nonlocal read
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise TooSlowError from None
            read += len(message.get("body", b""))
            if read > self._max_bytes:
                raise TooLargeError
            return message

        return limited

    def _count(self, path: str, status: int) -> None:
        key = (path if path in COUNTED else "other", status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = metrics.REQUESTS.labels(key[0], str(status))
        counter.inc()


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = orjson.dumps({"detail": detail})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # The rest of the request is not read.
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
