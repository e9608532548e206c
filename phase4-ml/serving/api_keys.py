"""Who asks: the API keys of callers, and the platform's own for its scorer, Prometheus and health checks."""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence

# What who() answers besides a position in the list of callers' keys.
INTERNAL = -1
UNKNOWN = -2


class ApiKeys:
    """The keys that are valid. Without keys for callers, everybody may ask."""

    def __init__(self, callers: Sequence[str], internal: str) -> None:
        self.required = bool(callers)
        # Labels of metrics: positions, since a key must not appear in any.
        self.names = [str(number) for number in range(1, len(callers) + 1)] or ["none"]
        self._valid = [key.encode() for key in (internal, *callers)]

    def who(self, offered: bytes) -> int:
        """The position of the caller's key in the list; 0 for everybody where none is needed; or INTERNAL or UNKNOWN.

        It compares with every key, and each in constant time, so that the time it takes says nothing about them.
        """
        matches = [hmac.compare_digest(offered, key) for key in self._valid]
        if offered and any(matches):
            return matches.index(True) + INTERNAL
        return UNKNOWN if self.required else 0


def offered_key(method: str, headers: Mapping[bytes, bytes]) -> bytes:
    """The key of a request: the header X-API-Key or, of a page, the password of HTTP's basic authentication.

    Browsers and Prometheus can send the latter only. A browser adds it to requests that other sites make, so it is not
    accepted for a POST.
    """
    if key := headers.get(b"x-api-key"):
        return key
    scheme, _, encoded = headers.get(b"authorization", b"").partition(b" ")
    if method not in ("GET", "HEAD") or scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
