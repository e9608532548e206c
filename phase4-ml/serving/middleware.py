"""What every request passes first: the API key, limits of size and time, and the count of answers by status."""

import asyncio
import hmac
from dataclasses import dataclass

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics

# Other paths are counted together: clients may ask for any.
COUNTED = {"/predict", "/predict/batch", "/health", "/ready", "/metrics"}
# The client hung up before it had sent its request: no answer, and no error of ours. The number is nginx's.
CLIENT_CLOSED_REQUEST = 499
# Of one worker; clients that send slowly could otherwise fill the container's memory.
MAX_BYTES_IN_HAND = 32 << 20


class RefusedError(Exception):
    """The rest of the request is not read."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(slots=True)
class Body:
    """How much of a request's body has arrived, in bytes."""

    size: int = 0


class RequestChecks:
    """Pure ASGI: no request is read or parsed before it has passed the checks."""

    def __init__(self, app: ASGIApp, api_key: str, max_bytes: int, max_seconds: float) -> None:
        self._app = app
        self._key = api_key.encode()
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        # The bodies of all requests that are not answered yet, in bytes.
        self._in_hand = 0
        self._counters: dict[tuple[str, int], metrics.Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        status = 500
        started = False
        body = Body()

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
                    raise self._too_large()
                receive = self._limited(receive, body)
            await self._app(scope, receive, counted_send)
        except RefusedError as refusal:
            if not started:
                await _refuse(counted_send, refusal.status, refusal.detail)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        finally:
            self._in_hand -= body.size
            self._count(path, status)

    def _limited(self, receive: Receive, body: Body) -> Receive:
        deadline = asyncio.get_running_loop().time() + self._max_seconds

        async def limited() -> Message:
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                detail = f"the request did not arrive within {self._max_seconds:.0f} seconds"
                raise RefusedError(408, detail) from None
            size = len(message.get("body", b""))
            body.size += size
            self._in_hand += size
            if body.size > self._max_bytes:
                raise self._too_large()
            if self._in_hand > MAX_BYTES_IN_HAND:
                raise RefusedError(503, "too many large requests at the same time; try again later")
            return message

        return limited

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the request is larger than {self._max_bytes} bytes; send it in parts")

    def _count(self, path: str, status: int) -> None:
        key = (path if path in COUNTED else "other", status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = metrics.REQUESTS.labels(key[0], str(status))
        counter.inc()


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = orjson.dumps({"detail": detail})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status != 401:
        # The rest of the request is not read.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
