"""Answers scrapes with one look at the cluster, shared by all scrapes of the same moment."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaException
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kafka_exporter.cluster import Cluster
from kafka_exporter.metrics import families

log = logging.getLogger("exporter")


class KafkaCollector(Collector):
    """While the broker is down, `kafka_exporter_broker_answers` is 0 and no old values are shown."""

    def __init__(self, look: Callable[[], Cluster], cache_seconds: float) -> None:
        self._look = look
        self._cache_seconds = cache_seconds
        self._lock = threading.Lock()
        self._answer: list[Metric] = []
        self._until = 0.0
        self._answers = True

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering needs no broker."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The current metrics, or those of at most `cache_seconds` ago."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._answer = self._ask()
                self._until = time.monotonic() + self._cache_seconds
            return self._answer

    def _ask(self) -> list[Metric]:
        started = time.monotonic()
        try:
            answer = list(families(self._look()))
            self._log_change(True, "the broker answers")
        except KafkaException as error:
            answer = []
            self._log_change(False, f"the broker does not answer: {error.args[0].str()}; is kafka up?")
        except TimeoutError:
            answer = []
            self._log_change(False, "the broker answers too slowly; look at its load, or raise KAFKA_TIMEOUT_SECONDS")
        return [
            *answer,
            GaugeMetricFamily(
                "kafka_exporter_broker_answers",
                "1 if the last look at the cluster succeeded",
                value=float(self._answers),
            ),
            GaugeMetricFamily(
                "kafka_exporter_look_seconds",
                "How long the last look at the cluster took",
                value=time.monotonic() - started,
            ),
        ]

    def _log_change(self, answers: bool, text: str) -> None:
        # Once per outage, not once per scrape.
        if answers != self._answers:
            log.log(logging.INFO if answers else logging.WARNING, text)
        self._answers = answers
