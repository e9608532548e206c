"""The feature stream's Prometheus metrics, served on METRICS_PORT."""

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("feature_stream_records", "Messages read and in Redis, or skipped", ["topic"])
SKIPPED = Counter("feature_stream_skipped", "Messages that Bronze refuses, so that no feature counts them", ["reason"])
PAYMENTS = Counter("feature_stream_payments", "Payments that were new to Redis")
LABELS = Counter("feature_stream_labels", "Labels that were new to Redis")
TOO_OLD = Counter("feature_stream_too_old_payments", "Payments too old for any window")
TRIMMED = Counter("feature_stream_trimmed_payments", "Payments removed because their user has too many")
TRIMMED_USERS = Gauge("feature_stream_trimmed_users", "Users with too many payments since the start")
DELAY = Histogram(
    "feature_stream_delay_seconds",
    "From a payment's arrival in Kafka to its features in Redis",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3600),
)
LAG = Gauge("feature_stream_lag_records", "Messages of a partition that are not in Redis yet", ["topic", "partition"])
LAG_SECONDS = Gauge("feature_stream_lag_seconds", "Age of the newest payment since its arrival in Kafka, when written")
CLOCK = Gauge(
    "feature_stream_clock_timestamp_seconds", "The data clock: the third-newest of the users' newest payments"
)
COMPLETE = Gauge(
    "feature_stream_complete_timestamp_seconds",
    "Redis has every payment that Kafka received in this partition up to then",
    ["partition"],
)
SCATTERED = Gauge(
    "feature_stream_scattered", "1 if payments are in other partitions than the CRC32 of their user_id says"
)
USERS = Gauge("feature_stream_users", "Users whose payments Redis has")
MEMORY = Gauge("feature_stream_redis_bytes", "Memory that Redis uses for everything")
FULL = Gauge("feature_stream_redis_full", "1 while messages wait in Kafka because Redis has no memory for them")
PUSHED = Gauge("feature_stream_snapshots_timestamp_seconds", "When the last complete push of snapshots began; 0: never")
CHECKED = Gauge("feature_stream_reconciled_users", "Users that the last reconciliation compared with Gold")
OUTCOMES = ("repaired", "ahead")
DIFFERENT = Gauge("feature_stream_different_users", "Those whose features differed from Gold's", ["outcome"])
for outcome in OUTCOMES:
    # Like the users compared: 0 before the first reconciliation.
    DIFFERENT.labels(outcome)
INCOMPLETE = Gauge(
    "feature_stream_incomplete_users",
    "Users of whom the last reconciliation found fewer payments in Redis than in Gold",
)
RECONCILED = Gauge("feature_stream_reconciled_timestamp_seconds", "When the last reconciliation ended")
FILLING = Gauge("feature_stream_filling", "1 while an empty Redis is filled from Bronze")
TO_FILL = Gauge("feature_stream_payments_to_fill", "Payments to fill it with; 0 until they are counted")
FILLED = Gauge("feature_stream_filled_payments", "Payments of these that are in Redis already")
RUNNING = Gauge(
    "feature_stream_running", "1 while it follows Kafka, so not while it rebuilds, or waits for Redis or for room in it"
)
