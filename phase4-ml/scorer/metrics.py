"""The scorer's Prometheus metrics, served on METRICS_PORT."""

import httpx2
from fraud_common.errors import SerializationError
from prometheus_client import Counter, Gauge, Histogram

SCORED = Counter("scorer_transactions", "Payments whose score is in transactions.scored")
# A counter is 0 before the first event of at least one reason, or the first would not be seen.
DEAD_LETTERS = Counter("scorer_dead_letters", "Messages sent to the dead letter topic", ["reason"])
DEAD_LETTERS.labels(SerializationError.__name__)
BATCH_SECONDS = Histogram(
    "scorer_batch_seconds",
    "A batch, from its last payment read to its offsets committed",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600),
)
EVENT_DELAY = Histogram(
    "scorer_event_delay_seconds",
    "From a payment's arrival in Kafka to its acknowledged score",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3600),
)
LAG = Gauge("scorer_lag_records", "Messages of a partition that are not scored yet", ["partition"])
API_FAILURES = Counter("scorer_api_failures", "Requests that the API did not answer, or not as it should", ["reason"])
API_FAILURES.labels(httpx2.ConnectError.__name__)
API_AVAILABLE = Gauge("scorer_api_available", "1 if the API answered the last request")
RUNNING = Gauge("scorer_running", "1 once Kafka and the registry have answered")
