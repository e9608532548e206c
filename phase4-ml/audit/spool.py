"""Files between the API's answers and Postgres: lines are appended before an answer leaves, and read back later.

Each worker process appends to a file of its own and keeps it locked. A line stays until it is stored, so a worker that
is killed loses none: another worker gets the lock of its file and stores the rest. What a crash of the whole machine
damages is put into quarantine; with `sync` (AUDIT_FSYNC=on), no line whose answer has left is among it.
"""

import fcntl
import logging
import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from serving import metrics

from audit.lines import find_lines
from audit.quarantine import Quarantine, Reason

log = logging.getLogger("audit")

# A larger file is closed, and deleted once it is stored. It also bounds what is stored twice after a crash.
MAX_FILE_BYTES = 4 << 20
CHUNK_BYTES = 128 << 10
# How old the sizes of other workers' files may be when the limit is applied.
MEASURED_SECONDS = 1.0


class NotRecordedError(Exception):
    """Lines are not in the log; `lost` says how many."""

    def __init__(self, lost: int, problem: str) -> None:
        super().__init__(problem)
        self.lost = lost


@dataclass(slots=True, eq=False)
class File:
    """A file that this process has locked."""

    path: Path
    descriptor: int
    # In bytes: its length, and up to where it is stored.
    size: int = 0
    stored: int = 0
    # In lines. Each number has one writer: the thread that appends, and the thread that stores.
    appended: int = 0
    done: int = 0
    # Its name survives a power cut.
    named: bool = False
    # What can't be stored and is not in quarantine yet, as after a full disk.
    unkept: list[tuple[Reason, str, bytes]] = field(default_factory=list)
    # Held while it is synced, and while it is deleted.
    lock: threading.Lock = field(default_factory=threading.Lock)
    deleted: bool = False

    @property
    def waiting(self) -> int:
        """How many of its lines are not stored."""
        return max(0, self.appended - self.done) if self.stored < self.size else 0

    def sync(self) -> None:
        """Write it to the disk, with its name.

        Raises:
            OSError: it may not be there.
        """
        with self.lock:
            if self.deleted:
                # All of it is in Postgres.
                return
            os.fdatasync(self.descriptor)
            if not self.named:
                sync_folder(self.path.parent)
                self.named = True


class Spool:
    """The files of one process. `append` and `abandon` are for one thread, everything else for one other thread."""

    def __init__(self, folder: Path, max_bytes: float = math.inf) -> None:
        """Make the folder and a first file.

        Args:
            max_bytes: of all workers' files and the quarantine together; the log takes nothing beyond that.

        Raises:
            OSError: they can't be made.
        """
        self.folder = folder
        self.max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._quarantine = Quarantine(folder.with_name("quarantine"))
        self._active = self._reading = self._new_file()
        self._closed: deque[File] = deque()
        self._torn = False
        # Bytes, as last measured.
        self.quarantined = self._used = 0
        self._measured_at = -MEASURED_SECONDS
        # Files that can't be read or locked; each is logged once.
        self._troubled: set[Path] = set()

    @property
    def waiting(self) -> int:
        """How many lines are not stored."""
        return sum(file.waiting for file in (self._active, *self._closed))

    def append(self, lines: bytes) -> File:
        """Keep lines, each with its newline, in one write; returns the file that has them.

        Raises:
            NotRecordedError: not all of them are kept.
        """
        count = lines.count(b"\n")
        if self.used() + len(lines) > self.max_bytes:
            # So that what is stored of it can be deleted.
            if self._active.size:
                self._rotate()
            raise NotRecordedError(count, f"the log has reached its limit of {self.max_bytes:,} bytes (AUDIT_MAX_MB)")
        # After a write that was cut off (the disk was full), what comes next begins on a line of its own.
        whole = b"\n" + lines if self._torn else lines
        try:
            written = os.write(self._active.descriptor, whole)
        except OSError as error:
            raise NotRecordedError(count, str(error)) from error
        kept = whole[:written].count(b"\n") - self._torn if written else 0
        self._active.appended += kept
        self._active.size += written
        self._used += written
        self._torn = written < len(whole)
        if self._torn:
            raise NotRecordedError(count - kept, f"{written} of {len(whole)} bytes were written; the disk may be full")
        file = self._active
        if file.size >= MAX_FILE_BYTES:
            self._rotate()
        return file

    def abandon(self) -> None:
        """Append to another file from now on: after a sync that failed, a later one may succeed without the bytes."""
        self._rotate()

    def used(self) -> int:
        """The bytes of all workers' files and the quarantine; what others wrote is up to a second old."""
        if time.monotonic() - self._measured_at >= MEASURED_SECONDS:
            self.quarantined = _size_of_folder(self._quarantine.folder)
            self._used = _size_of_folder(self.folder) + self.quarantined
            self._measured_at = time.monotonic()
        return self._used

    def unstored(self) -> Iterator[list[bytes]]:
        """All whole lines that are there now, in chunks.

        A chunk counts as stored when the next one is asked for; a caller that stops before that gets it again. What is
        no whole line goes to quarantine. Closed files are deleted once all of it is stored or in quarantine. A file
        that can't be read or deleted is left for the next call, and does not keep the others waiting.
        """
        for file in list(self._closed):
            try:
                yield from self._chunks(file, ended=True)
                self._delete(file)
            except OSError as error:
                self._report(file.path, error)
        try:
            yield from self._chunks(self._active, ended=False)
        except OSError as error:
            self._report(self._active.path, error)

    def refuse(self, line: bytes, problem: str) -> None:
        """Put a line of the newest chunk into quarantine."""
        self._keep(self._reading, "refused", problem, line)

    def adopt(self) -> int:
        """Take over the files of workers that have ended; returns how many lines those have."""
        adopted = 0
        mine = {file.path for file in self._closed} | {self._active.path}
        for path in self.folder.glob("*.jsonl"):
            if path in mine:
                continue
            try:
                file = _lock(path)
            except OSError as error:
                self._report(path, error)
                continue
            if file is None:
                continue
            self._closed.append(file)
            adopted += file.appended
            if file.appended:
                log.info("storing %s of a worker that has ended", path.name, extra={"lines": file.appended})
        return adopted

    def close(self) -> None:
        """Delete the active file if everything is stored."""
        if self._active.stored == self._active.size and not self._active.unkept and not self._closed:
            self._active.path.unlink(missing_ok=True)

    def _new_file(self) -> File:
        # Locked before it has its name: another worker would take it for one of a worker that has ended.
        path = self.folder / f"{uuid.uuid4()}.jsonl"
        hidden = path.with_suffix(".new")
        descriptor = os.open(hidden, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(path)
        return File(path, descriptor)

    def _rotate(self) -> None:
        try:
            successor = self._new_file()
        except OSError as error:
            log.error("%s: can't create a file for predictions, the present one grows: %s", self.folder, error)
            return
        self._torn = False
        self._closed.append(self._active)
        self._active = successor

    def _chunks(self, file: File, ended: bool) -> Iterator[list[bytes]]:
        self._reading = file
        while chunk := os.pread(file.descriptor, CHUNK_BYTES, file.stored):
            found = find_lines(chunk, ended and file.stored + len(chunk) >= os.fstat(file.descriptor).st_size)
            if not found.end:
                return
            if found.lines:
                yield found.lines
            for damage in found.damage:
                problem = f"no whole line at byte {file.stored + damage.start}"
                self._keep(file, "damaged", problem, chunk[damage.start : damage.end])
            file.done += len(found.lines)
            file.stored += found.end

    def _keep(self, file: File, reason: Reason, problem: str, content: bytes) -> None:
        try:
            self._quarantine.keep(file.path.name, reason, problem, content)
        except OSError as error:
            file.unkept.append((reason, problem, content))
            self._report(self._quarantine.folder, error)

    def _delete(self, file: File) -> None:
        while file.unkept:
            self._quarantine.keep(file.path.name, *file.unkept[0])
            del file.unkept[0]
        with file.lock:
            file.path.unlink()
            os.close(file.descriptor)
            file.deleted = True
        self._closed.remove(file)
        self._troubled.discard(file.path)

    def _report(self, path: Path, error: OSError) -> None:
        metrics.ERRORS.labels("prediction_log").inc()
        if path not in self._troubled:
            log.error("%s: %s; trying again", path, error)
        self._troubled.add(path)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut.

    Raises:
        OSError: they may not.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path) -> File | None:
    """A file that no living worker has; None if one has, or has just deleted it.

    Raises:
        OSError: it can't be opened or read.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(descriptor)
        if found.st_nlink:
            return File(path, descriptor, size=found.st_size, appended=_count_lines(descriptor))
        # Another worker has stored and deleted it in between.
    except BlockingIOError:
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _count_lines(descriptor: int) -> int:
    count = offset = 0
    while chunk := os.pread(descriptor, CHUNK_BYTES, offset):
        count += chunk.count(b"\n")
        offset += len(chunk)
    return count


def _size_of_folder(folder: Path) -> int:
    """The bytes of its files; those that are deleted meanwhile don't count."""
    total = 0
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                total += entry.stat().st_size
    return total
