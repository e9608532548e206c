"""Field case H10: what makes a folder a complete backup, and that a failure leaves things as they were.

The scripts run in a copy of the checkout, with a `docker` whose volumes are folders and which records its calls.
"""

import os
import random
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = "fraud-platform"
FAKE_DOCKER = """#!/usr/bin/env bash
set -euo pipefail
echo "$*" >>"$CALLS"
case "$*" in
"compose config --volumes") printf '%s\\n' kafka-data minio-data redis-data ;;
*"config --format json") printf '{\\n  "name": "fraud-platform",\\n' ;;
"compose ps --services --status running") printf '%s\\n' kafka scorer ;;
"compose exec --no-TTY kafka kafka-get-offsets"*)
  printf 'transactions.raw:0:7\\ntransactions.raw:1:%s\\n' "${OFFSET:-5}"
  ;;
"compose --progress quiet down --volumes"*) rm -rf "$VOLUMES"/fraud-platform-drill_* ;;
"image inspect"* | "version"* | "buildx"*) ;;
"compose version --short") echo 2.40.0 ;;
"volume inspect"*) [[ -d "$VOLUMES/$3" ]] ;;
"volume ls"*) ls "$VOLUMES" ;;
"volume create"*) mkdir "$VOLUMES/${!#}" ;;
"volume rm"*) shift 2; for name in "$@"; do rm -r "${VOLUMES:?}/$name"; done ;;
run*" tar -C /volume "*)
  [[ "$*" =~ --volume\\ ([^:]*): ]]
  name="${BASH_REMATCH[1]}"
  until [[ "$1 $2" == "-C /volume" ]]; do shift; done
  shift 2
  tar -C "$VOLUMES/$name" "$@"
  if [[ "$*" == *x* && "$name" == "${DAMAGED:-}" ]]; then echo other >"$VOLUMES/$name/file"; fi
  ;;
esac
"""


FAKE_GIT = """#!/usr/bin/env bash
case "$*" in
"rev-parse HEAD") echo 0123456789abcdef ;;
"merge-base --is-ancestor 0123456789abcdef HEAD") exit "${NOT_IN_THIS_CHECKOUT:-0}" ;;
"merge-base"*) exit 2 ;;
esac
"""


class Machine:
    """A checkout, and an engine with the volumes of a stack."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.volumes, self._calls = folder / "checkout", folder / "volumes", folder / "calls"
        self.backup = folder / "backup"
        shutil.copytree(ROOT / "infra", self.checkout / "infra")
        for name in (".env.example", "docker-compose.yml"):
            shutil.copy(ROOT / name, self.checkout / name)
        self.env.write_text("SECRET=of the stack\n")
        (folder / "bin").mkdir()
        for name, program in (("docker", FAKE_DOCKER), ("git", FAKE_GIT)):
            file = folder / "bin" / name
            file.write_text(program)
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
        for name in ("kafka-data", "minio-data", "redis-data"):
            volume = self.volumes / f"{PROJECT}_{name}"
            volume.mkdir(parents=True)
            (volume / "file").write_bytes(random.Random(name).randbytes(200_000))

    @property
    def env(self) -> Path:
        return self.checkout / ".env"

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A script of the checkout, by Bash."""
        self._calls.write_text("")
        path = f"{self._calls.parent / 'bin'}:{os.environ['PATH']}"
        known = {"PATH": path, "HOME": str(self.backup.parent), "VOLUMES": str(self.volumes), "CALLS": str(self._calls)}
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.checkout,
            env=known | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def back_up(self, before: str = "true") -> subprocess.CompletedProcess[str]:
        return self.run(f"{before}; infra/scripts/backup.sh", TO=str(self.backup))

    def restore(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("infra/scripts/restore.sh", FROM=str(self.backup), **environment)

    def calls(self, beginning: str) -> list[str]:
        """The calls of docker that begin with this, in their order."""
        return [line for line in self._calls.read_text().splitlines() if line.startswith(beginning)]

    def clean(self) -> dict[str, bytes]:
        """Delete all volumes; returns what was in them."""
        content = self.content()
        for volume in self.volumes.iterdir():
            shutil.rmtree(volume)
        return content

    def content(self) -> dict[str, bytes]:
        return {volume.name: (volume / "file").read_bytes() for volume in self.volumes.iterdir()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def backed_up(machine: Machine) -> Machine:
    done = machine.back_up()
    assert done.returncode == 0, done.stderr
    return machine


def test_a_backup_can_be_restored(backed_up: Machine) -> None:
    before = backed_up.clean()
    backed_up.env.write_text("SECRET=another\n")
    done = backed_up.restore()
    assert done.returncode == 0, done.stderr
    assert backed_up.content() == before
    assert backed_up.env.read_text() == "SECRET=of the stack\n"
    assert (backed_up.checkout / ".env.before-restore").read_text() == "SECRET=another\n"


def test_the_stack_is_stopped_stores_last_and_started_again(backed_up: Machine) -> None:
    steps = backed_up.calls("compose --progress quiet")
    assert [step.removeprefix("compose --progress quiet ") for step in steps] == [
        "stop scorer",
        "stop",
        "start kafka scorer",
    ]
    assert (backed_up.backup / "counts").read_text() == "kafka\ttopic transactions.raw\t12\n"


def test_the_manifest_says_what_the_backup_is_of(backed_up: Machine) -> None:
    lines = (backed_up.backup / "manifest").read_text().splitlines()
    facts = {line.partition(" ")[0] for line in lines}
    assert {"format", "created", "commit", "kafka", "postgres", "trino", "delta"} <= facts
    assert [line.split()[1] for line in lines if line.startswith("volume ")] == [
        "kafka-data",
        "minio-data",
        "redis-data",
    ]


def test_a_full_disk_leaves_no_backup_and_a_running_stack(machine: Machine) -> None:
    """What is written is deleted before the start, since the stack's own disk may be the one that is full."""
    done = machine.back_up("ulimit -f 100")
    assert done.returncode == 1
    assert "kafka-data could not be written" in done.stderr
    assert "are free" in done.stderr
    assert not list(machine.backup.iterdir())
    assert machine.calls("compose --progress quiet")[-1].endswith("start kafka scorer")
    assert machine.back_up().returncode == 0


def test_an_interrupted_backup_leaves_a_running_stack(machine: Machine) -> None:
    interrupt = "pack() { kill -TERM $$; sleep 10; }"
    script = machine.checkout / "infra/scripts/backup.sh"
    script.write_text(script.read_text().replace("umask 077\n", f"umask 077\n{interrupt}\n"))
    assert machine.back_up().returncode != 0
    assert not list(machine.backup.iterdir())
    assert machine.calls("compose --progress quiet")[-1].endswith("start kafka scorer")


def torn(backup: Path, name: str, size: int) -> None:
    (backup / name).write_bytes((backup / name).read_bytes()[:size])


def lines_of_checksums(backup: Path, count: int) -> None:
    path = backup / "SHA256SUMS"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "the backup did not end": (lambda backup: (backup / "SHA256SUMS").unlink(), "did not end"),
    "a volume is missing": (lambda backup: (backup / "minio-data.tar.gz").unlink(), "minio-data.tar.gz"),
    "a volume is torn": (lambda backup: torn(backup, "kafka-data.tar.gz", 5000), "kafka-data.tar.gz: FAILED"),
    "a volume is empty": (lambda backup: torn(backup, "redis-data.tar.gz", 0), "redis-data.tar.gz: FAILED"),
    "the settings are missing": (lambda backup: (backup / "env").unlink(), "env"),
    "the manifest is torn": (lambda backup: torn(backup, "manifest", 50), "manifest: FAILED"),
    "the checksums are empty": (lambda backup: torn(backup, "SHA256SUMS", 0), "SHA256SUMS"),
    "the checksums end in a line": (lambda backup: torn(backup, "SHA256SUMS", 100), "SHA256SUMS"),
    "the checksums end after the manifest": (
        lambda backup: lines_of_checksums(backup, 1),
        "no line for kafka-data.tar.gz",
    ),
    "the checksums lack a volume": (lambda backup: lines_of_checksums(backup, 5), "no line for redis-data.tar.gz"),
    "a volume of another backup": (
        lambda backup: (backup / "old-data.tar.gz").write_bytes(b""),
        "old-data.tar.gz is not part of this backup",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused_before_anything_is_changed(backed_up: Machine, damage: str) -> None:
    do, said = DAMAGES[damage]
    backed_up.clean()
    backed_up.env.write_text("SECRET=another\n")
    do(backed_up.backup)
    done = backed_up.restore()
    assert done.returncode == 1
    assert said in done.stderr
    assert not list(backed_up.volumes.iterdir())
    assert backed_up.env.read_text() == "SECRET=another\n"


def test_a_full_disk_in_a_restore_leaves_nothing(backed_up: Machine) -> None:
    backed_up.clean()
    backed_up.env.write_text("SECRET=another\n")
    done = backed_up.run("ulimit -f 100; infra/scripts/restore.sh", FROM=str(backed_up.backup))
    assert done.returncode == 1
    assert "kafka-data could not be written" in done.stderr
    assert not list(backed_up.volumes.iterdir())
    assert backed_up.env.read_text() == "SECRET=another\n"


def test_a_volume_that_differs_after_it_was_written_is_noticed(backed_up: Machine) -> None:
    backed_up.clean()
    done = backed_up.restore(DAMAGED=f"{PROJECT}_redis-data")
    assert done.returncode == 1
    assert "redis-data differs from the backup" in done.stderr
    assert not list(backed_up.volumes.iterdir())


def test_a_stack_with_data_is_not_mixed_with_a_backup(backed_up: Machine) -> None:
    before = backed_up.content()
    done = backed_up.restore()
    assert done.returncode == 1
    assert "this stack has data" in done.stderr
    assert backed_up.content() == before


def test_a_backup_of_an_earlier_release_is_restored(backed_up: Machine) -> None:
    for name in ("manifest", "counts"):
        (backed_up.backup / name).unlink()
    script = "sha256sum env ./*.tar.gz >SHA256SUMS"
    subprocess.run(["bash", "-c", script], cwd=backed_up.backup, check=True)
    before = backed_up.clean()
    done = backed_up.restore()
    assert done.returncode == 0, done.stderr
    assert "can't be compared" in done.stderr
    assert backed_up.content() == before


def test_a_backup_of_a_newer_release_is_restored_only_by_force(backed_up: Machine) -> None:
    before = backed_up.clean()
    done = backed_up.restore(NOT_IN_THIS_CHECKOUT="1")
    assert done.returncode == 1
    assert "commit 0123456789abcdef, which is not part of this checkout" in done.stderr
    assert not list(backed_up.volumes.iterdir())
    assert backed_up.restore(NOT_IN_THIS_CHECKOUT="1", FORCE="1").returncode == 0
    assert backed_up.content() == before


def test_postgres_of_another_version_is_refused(backed_up: Machine) -> None:
    """A server would make a new, empty cluster beside the files of another version."""
    backed_up.clean()
    manifest = backed_up.backup / "manifest"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join("postgres 16.4\n" if line.startswith("postgres ") else line for line in lines))
    subprocess.run(["bash", "-c", "sha256sum manifest env counts *.gz >SHA256SUMS"], cwd=backed_up.backup, check=True)
    done = backed_up.restore()
    assert done.returncode == 1
    assert "Postgres 16.4" in done.stderr
    assert not list(backed_up.volumes.iterdir())


def test_a_drill_compares_what_the_stores_have_and_leaves_nothing(backed_up: Machine) -> None:
    before = backed_up.content()
    done = backed_up.run("infra/scripts/restore_drill.sh", FROM=str(backed_up.backup))
    assert done.returncode == 0, done.stderr
    assert "| kafka | topic transactions.raw | 12 | 12 |" in done.stdout
    assert len(re.findall(r"\| volume \S+ \| checksum of its files \| ([0-9a-f]{16}) \| \1 \|", done.stdout)) == 3
    assert backed_up.content() == before
    assert not [call for call in backed_up.calls("compose") if " stop" in call]


def test_a_drill_notices_a_message_that_is_gone(backed_up: Machine) -> None:
    done = backed_up.run("infra/scripts/restore_drill.sh", FROM=str(backed_up.backup), OFFSET="4")
    assert done.returncode == 1
    assert "| kafka | **topic transactions.raw** | 12 | 11 |" in done.stdout
    assert "1 count(s) differ" in done.stderr
