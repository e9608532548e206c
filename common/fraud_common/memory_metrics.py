"""The memory of the container that a service runs in, from its control group, as Prometheus metrics.

A service that is killed for lack of memory can't say so. Before that, it can say how near it is; and when the kernel
ends only one process of several, the rest can count it.
"""

from collections.abc import Iterable
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CGROUPS = Path("/sys/fs/cgroup")
# "No limit", of control groups version 1, is a number near 2 to the power of 63.
NO_LIMIT = 2**60


class ContainerMemory(Collector):
    """Limit and working set in bytes, and kills; nothing where there is no limit, as outside a container."""

    def __init__(self, cgroups: Path = CGROUPS) -> None:
        self._cgroups = cgroups

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering reads no file."""
        return []

    def collect(self) -> Iterable[Metric]:
        """What the files say now."""
        try:
            limit, used, kills = self._version_2() if self._is_version_2() else self._version_1()
        except (OSError, ValueError, KeyError):
            return
        if limit is None or limit >= NO_LIMIT:
            return
        yield GaugeMetricFamily("container_memory_limit_bytes", "Memory that the container may use", value=limit)
        yield GaugeMetricFamily(
            "container_memory_working_set_bytes", "Memory that it uses, without file caches that can go", value=used
        )
        yield CounterMetricFamily(
            "container_oom_kills", "Its processes that the kernel ended at the limit", value=kills
        )

    def _is_version_2(self) -> bool:
        return (self._cgroups / "memory.max").exists()

    def _version_2(self) -> tuple[int | None, int, int]:
        limit = (self._cgroups / "memory.max").read_text().strip()
        used = int((self._cgroups / "memory.current").read_text())
        inactive = _numbers(self._cgroups / "memory.stat")["inactive_file"]
        kills = _numbers(self._cgroups / "memory.events")["oom_kill"]
        return None if limit == "max" else int(limit), used - inactive, kills

    def _version_1(self) -> tuple[int | None, int, int]:
        folder = self._cgroups / "memory"
        limit = int((folder / "memory.limit_in_bytes").read_text())
        used = int((folder / "memory.usage_in_bytes").read_text())
        inactive = _numbers(folder / "memory.stat")["total_inactive_file"]
        return limit, used - inactive, _numbers(folder / "memory.oom_control")["oom_kill"]


def _numbers(file: Path) -> dict[str, int]:
    """The numbers of a file with a name and a number in each line."""
    return {name: int(number) for name, number in (line.split() for line in file.read_text().splitlines())}
