"""Metrics that are asked for at each scrape, so that none is older than the scrape."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class LiveCollector(Collector):
    """Asks all sources at once: each answers within a few seconds, less than Prometheus waits for a scrape."""

    def __init__(self, sources: Sequence[Callable[[], list[Metric]]]) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering asks no source."""
        return []

    def collect(self) -> Iterable[Metric]:
        """What the sources say now."""
        with ThreadPoolExecutor(len(self._sources)) as pool:
            for metrics in pool.map(lambda source: source(), self._sources):
                yield from metrics
