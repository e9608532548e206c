"""The producer's Prometheus metrics, served on METRICS_PORT."""

from fraud_common.errors import SerializationError
from fraud_common.topics import LABELS, TRANSACTIONS
from prometheus_client import Counter, Gauge

SENT = Counter("producer_messages_sent", "Messages handed to the Kafka client", ["topic"])
DELIVERED = Counter("producer_messages_delivered", "Messages that the broker has acknowledged (acks=all)")
FAILED = Counter(
    "producer_messages_failed", "Messages that the broker or the client finally refused", ["topic", "reason"]
)
DEAD_LETTERED = Counter(
    "producer_messages_dead_lettered", "Messages sent to the dead letter topic", ["topic", "reason"]
)
# 0 before the first one, which would not be seen otherwise.
for topic in (TRANSACTIONS, LABELS):
    DEAD_LETTERED.labels(topic, SerializationError.__name__)
QUEUE_DEPTH = Gauge("producer_queue_depth", "Messages in the client that the broker has not acknowledged yet")
RATE_LAG = Gauge("producer_rate_lag_messages", "How many messages the producer is behind its target rate")
TARGET_RATE = Gauge("producer_target_messages_per_second", "The target rate; 0 during the backfill and in real time")
SIMULATED_TIME = Gauge("producer_simulated_time_seconds", "The simulator's clock, seconds since 1970")
FRAUDS_ENDED = Counter(
    "producer_frauds_ended", "Simulated frauds that were not sent, since an earlier one with that card was declined"
)
BACKFILL_SENT = Gauge("producer_backfill_days_sent", "Days of history sent so far")
BACKFILL_TOTAL = Gauge("producer_backfill_days", "Days of history to send on this stack")
RUNNING = Gauge("producer_running", "1 once the broker and the registry have answered")
