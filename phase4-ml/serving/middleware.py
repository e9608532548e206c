"""What every request passes first: its key, the limits of rate, size and time, and the count of answers by status."""

import asyncio
from dataclasses import dataclass
from functools import partial

import orjson
from rules.access import People, is_for_people
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.api_keys import INTERNAL, UNKNOWN, ApiKeys, offered_key
from serving.rate_limit import RateLimit

# Other paths are counted together: clients may ask for any.
COUNTED = {"/predict", "/predict/batch", "/health", "/ready", "/metrics"}
# The client hung up before it had sent its request: no answer, and no error of ours. The number is nginx's.
CLIENT_CLOSED_REQUEST = 499
# Says nothing but that the process is alive.
OPEN = "/health"
NO_CALLER = "the header X-API-Key is missing or is no key of this API (API_KEY in .env)"
NO_PERSON = (
    "the header X-API-Key is missing or is no key of a person who works with rules "
    "(RULES_AUTHOR_KEY, RULES_APPROVER_KEY and RULES_KEYS in .env)"
)
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

    def __init__(
        self,
        app: ASGIApp,
        keys: ApiKeys,
        people: People,
        limit: RateLimit | None,
        max_bytes: int,
        max_seconds: float,
    ) -> None:
        self._app = app
        self._keys = keys
        self._people = people
        self._limit = limit
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        # Bound at once, so that they exist before the first refusal.
        self._limited_counters = [metrics.RATE_LIMITED.labels(name) for name in keys.names]
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
            headers = dict(scope["headers"])
            offered = offered_key(scope["method"], headers)
            if is_for_people(path):
                person = self._people.who(offered)
                if person is None:
                    await _refuse_key(counted_send, scope["method"], NO_PERSON)
                    return
                scope["person"] = person
                receive = self._within_limits(headers, receive, body)
                await self._app(scope, receive, counted_send)
                return
            caller = self._keys.who(offered)
            if caller == UNKNOWN and path != OPEN:
                await _refuse_key(counted_send, scope["method"], NO_CALLER)
                return
            if path.startswith("/predict"):
                if self._limit and caller != INTERNAL:
                    if wait := self._limit.wait_seconds(caller):
                        self._limited_counters[caller].inc()
                        await _refuse_for_now(counted_send, self._limit.per_second, wait)
                        return
                    self._limit.charge(caller, 1)
                    scope["charge"] = partial(self._limit.charge, caller)
                receive = self._within_limits(headers, receive, body)
            await self._app(scope, receive, counted_send)
        except RefusedError as refusal:
            if not started:
                await _refuse(counted_send, refusal.status, refusal.detail)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        finally:
            self._in_hand -= body.size
            self._count(path, status)

    def _within_limits(self, headers: dict[bytes, bytes], receive: Receive, body: Body) -> Receive:
        """How the application receives a request that is neither too large nor too slow."""
        if int(headers.get(b"content-length", b"0")) > self._max_bytes:
            raise self._too_large()
        deadline = asyncio.get_running_loop().time() + self._max_seconds

        async def bounded() -> Message:
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

        return bounded

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the request is larger than {self._max_bytes} bytes; send it in parts")

    def _count(self, path: str, status: int) -> None:
        key = (path if path in COUNTED else "other", status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = metrics.REQUESTS.labels(key[0], str(status))
        counter.inc()


async def _refuse_key(send: Send, method: str, detail: str) -> None:
    if method == "POST":
        await _refuse(send, 401, detail)
    else:
        # A browser asks for a name and a password then.
        challenge = (b"www-authenticate", b'Basic realm="fraud-api: any name, an API key as password", charset="UTF-8"')
        await _refuse(send, 401, f"{detail}; in a browser, the key is the password, with any name", challenge)


async def _refuse_for_now(send: Send, per_second: float, wait: int) -> None:
    detail = f"more than {per_second:g} payments a second with this key (API_RATE_LIMIT); try again in {wait} s"
    await _refuse(send, 429, detail, (b"retry-after", str(wait).encode()))


async def _refuse(send: Send, status: int, detail: str, *more: tuple[bytes, bytes]) -> None:
    body = orjson.dumps({"detail": detail})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    if status not in (401, 429):
        # The rest of the request is not read.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
