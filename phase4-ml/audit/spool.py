"""Files between the API's answers and Postgres: lines are appended before an answer leaves, and read back later.

Each worker process appends to a file of its own and keeps it locked. A line stays until it is stored, so a worker that
is killed loses none: another worker gets the lock of its file and stores the rest. Only a crash of the whole machine
can lose lines, those that the kernel has not written to disk.
"""

import fcntl
import logging
import os
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("audit")

# A larger file is closed, and deleted once it is stored. It also bounds what is stored twice after a crash.
MAX_FILE_BYTES = 4 << 20
CHUNK_BYTES = 128 << 10


@dataclass(slots=True)
class _File:
    """A file that this process has locked: how many bytes it has, and how many of them are stored."""

    path: Path
    descriptor: int
    size: int = 0
    stored: int = 0


class Spool:
    """The files of one process. `append` is for one thread, everything else for one other thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._active = self._new_file()
        self._closed: deque[_File] = deque()
        self._torn = False

    def append(self, lines: bytes) -> None:
        """Keep lines, each with its newline, in one write.

        Raises:
            OSError: they are not kept.
        """
        # After a write that was cut off (the disk was full), what comes next begins on a line of its own.
        whole = b"\n" + lines if self._torn else lines
        written = os.write(self._active.descriptor, whole)
        self._torn = written < len(whole)
        if self._torn:
            raise OSError(f"{written} of {len(whole)} bytes were written")
        self._active.size += written
        if self._active.size >= MAX_FILE_BYTES:
            self._rotate()

    def unstored(self) -> Iterator[list[bytes]]:
        """All whole lines that are there now, in chunks.

        A chunk counts as stored when the next one is asked for; a caller that stops before that gets it again. Closed
        files are deleted once they are stored.
        """
        while self._closed:
            file = self._closed[0]
            yield from _chunks(file)
            file.path.unlink()
            os.close(file.descriptor)
            self._closed.popleft()
        yield from _chunks(self._active)

    def adopt(self) -> int:
        """Take over the files of workers that have ended; returns how many lines those have."""
        adopted = 0
        mine = {file.path for file in self._closed} | {self._active.path}
        for path in self.folder.glob("*.jsonl"):
            if path in mine:
                continue
            descriptor = _lock(path)
            if descriptor is None:
                continue
            self._closed.append(_File(path, descriptor))
            lines = path.read_bytes().count(b"\n")
            adopted += lines
            if lines:
                log.info("storing %s of a worker that has ended", path.name, extra={"lines": lines})
        return adopted

    def close(self) -> None:
        """Delete the active file if everything is stored."""
        if self._active.stored == self._active.size and not self._closed:
            self._active.path.unlink(missing_ok=True)

    def _new_file(self) -> _File:
        # Locked before it has its name: another worker would take it for one of a worker that has ended.
        path = self.folder / f"{uuid.uuid4()}.jsonl"
        hidden = path.with_suffix(".new")
        descriptor = os.open(hidden, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(path)
        return _File(path, descriptor)

    def _rotate(self) -> None:
        try:
            successor = self._new_file()
        except OSError as error:
            log.error("%s: can't create a file for predictions, the present one grows: %s", self.folder, error)
            return
        self._closed.append(self._active)
        self._active = successor


def _lock(path: Path) -> int | None:
    """A descriptor of a file that no living worker has; None if one has, or has just deleted it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:
        # Another worker has stored and deleted it in between.
        os.close(descriptor)
        return None
    return descriptor


def _chunks(file: _File) -> Iterator[list[bytes]]:
    """The whole lines of a file. A torn last line of a killed worker was never answered, and is left out."""
    while chunk := os.pread(file.descriptor, CHUNK_BYTES, file.stored):
        end = chunk.rfind(b"\n") + 1
        if not end:
            return
        if lines := [line for line in chunk[:end].split(b"\n") if line]:
            yield lines
        file.stored += end
