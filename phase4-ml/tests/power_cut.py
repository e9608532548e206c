"""A process on a disk that loses, at a power cut, everything that was never synced: for tests of AUDIT_FSYNC.

python -m power_cut SURVIVORS: the API, in one process, which copies to the folder SURVIVORS what a sync has promised to
keep. `fdatasync` and `fsync` of a file promise its bytes, `fsync` of a folder promises the names in it. Nothing else
survives: no bytes that the kernel happened to write, and no name. What is not simulated: a disk that lies about syncs.
"""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

# What a file system may leave behind what was synced: a block that was allocated and never written.
UNWRITTEN = bytes(4096)


class Survivors:
    """What was synced: bytes by inode, and the names of folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def watch(self) -> None:
        """Note every sync of this process from now on, before its caller learns of it."""
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._noting(getattr(os, name)))

    def restore(self, folder: Path, into: Path) -> None:
        """Lay out a folder as it would be found after the power cut; appended files end with an unwritten block."""
        into.mkdir(parents=True)
        names = self._folder / f"{folder.stat().st_ino}.names"
        for name, inode in json.loads(names.read_text() if names.exists() else "{}").items():
            synced = self._folder / f"{inode}.bytes"
            (into / name).write_bytes((synced.read_bytes() if synced.exists() else b"") + UNWRITTEN)

    def _noting(self, sync: Any) -> Any:
        def noted(descriptor: int) -> None:
            sync(descriptor)
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                names = {entry.name: entry.inode() for entry in os.scandir(descriptor) if entry.is_file()}
                new = self._folder / "new"
                new.write_text(json.dumps(names))
                new.replace(self._folder / f"{found.st_ino}.names")
                return
            with (self._folder / f"{found.st_ino}.bytes").open("ab", buffering=0) as survived:
                survived.write(os.pread(descriptor, 1 << 30, survived.tell()))

        return noted


if __name__ == "__main__":
    Survivors(Path(sys.argv[1])).watch()
    from serving.__main__ import main

    main()
