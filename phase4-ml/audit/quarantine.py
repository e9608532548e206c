"""Bytes of the prediction log that can't be stored, kept with where they were and why, for a person to look at.

One file of JSON lines per process, in the folder `quarantine` beside the log. Entries are kept at least once: what a
crash interrupts is kept again.
"""

import base64
import logging
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from serving import metrics

log = logging.getLogger("audit")

type Reason = Literal["damaged", "refused"]


class Quarantine:
    """Its folder and file are made when there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / f"{uuid.uuid4()}.jsonl"

    def keep(self, source: str, reason: Reason, problem: str, content: bytes) -> None:
        """Keep bytes; returns when they are on the disk.

        Args:
            source: the name of the file that they were in.
            reason: `damaged` for what is no line, `refused` for a line that Postgres does not take.
            problem: a sentence for people.

        Raises:
            OSError: they are not kept.
        """
        entry = {"found_at": datetime.now(UTC), "file": source, "reason": reason, "problem": problem}
        line = orjson.dumps(entry | {"bytes": len(content)} | _readable(content), option=orjson.OPT_APPEND_NEWLINE)
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            written = os.write(descriptor, line)
            if written < len(line):
                raise OSError(f"{written} of {len(line)} bytes were written to {self._file}")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        metrics.QUARANTINED[reason].inc()
        log.error("%s: %d bytes can't be stored (%s); they are in %s", source, len(content), problem, self._file)


def _readable(content: bytes) -> dict[str, Any]:
    """Text as text; zeros, of which there may be many, only by their number."""
    if not content.strip(b"\0\n"):
        return {"zeros": content.count(0)}
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}
