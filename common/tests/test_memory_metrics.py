"""The memory of a container from the files of its control group, of both versions."""

from pathlib import Path

from fraud_common.memory import MIB
from fraud_common.memory_metrics import ContainerMemory
from prometheus_client import CollectorRegistry


def seen(cgroups: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(ContainerMemory(cgroups))
    return {sample.name: sample.value for family in registry.collect() for sample in family.samples}


def version_2(folder: Path, limit: str) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text("700\n")
    (folder / "memory.stat").write_text("anon 500\nfile 200\ninactive_file 150\n")
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n")
    return folder


def test_version_2(tmp_path: Path) -> None:
    assert seen(version_2(tmp_path, str(3 * MIB))) == {
        "container_memory_limit_bytes": 3 * MIB,
        "container_memory_working_set_bytes": 550,
        "container_oom_kills_total": 2,
    }


def test_version_1(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{3 * MIB}\n")
    (folder / "memory.usage_in_bytes").write_text("700\n")
    (folder / "memory.stat").write_text("cache 200\ninactive_file 20\ntotal_inactive_file 150\n")
    (folder / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert seen(tmp_path) == {
        "container_memory_limit_bytes": 3 * MIB,
        "container_memory_working_set_bytes": 550,
        "container_oom_kills_total": 2,
    }


def test_without_a_limit_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert seen(version_2(tmp_path, "max")) == {}
    (tmp_path / "memory.max").unlink()
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (folder / "memory.usage_in_bytes").write_text("700\n")
    (folder / "memory.stat").write_text("total_inactive_file 150\n")
    (folder / "memory.oom_control").write_text("oom_kill 0\n")
    assert seen(tmp_path) == {}


def test_without_readable_files_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert seen(tmp_path) == {}
    (version_2(tmp_path, str(3 * MIB)) / "memory.stat").write_text("not a number\n")
    assert seen(tmp_path) == {}
