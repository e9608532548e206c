"""The memory of the container that a service runs in, from its control group, as Prometheus metrics.

A service that is killed for lack of memory can't say so. Before that, it can say how near it is; and when the kernel
ends only one process of several, the rest can count it.
"""

from collections.abc import Iterable
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fraud_common.memory import MIB, ROOT, read_memory, read_working_set


class ContainerMemory(Collector):
    """Limit and working set in bytes, and kills; nothing where there is no limit, as outside a container."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering reads no file."""
        return []

    def collect(self) -> Iterable[Metric]:
        """What the files say now."""
        try:
            memory, used = read_memory(self._root), read_working_set(self._root)
        except (OSError, ValueError):
            return
        if memory.limit_mib is None or used is None:
            return
        yield GaugeMetricFamily(
            "container_memory_limit_bytes", "Memory that the container may use", value=memory.limit_mib * MIB
        )
        yield GaugeMetricFamily(
            "container_memory_working_set_bytes", "Memory that it uses, without file caches that can go", value=used
        )
        yield CounterMetricFamily(
            "container_oom_kills", "Its processes that the kernel ended at the limit", value=memory.kills
        )
