"""The explainer's Prometheus metrics. Alert rules use these names."""

from prometheus_client import Counter, Gauge, Histogram

_EXPLAINED = Counter("explainer_explained", "Scores explained, for the table or for an answer", ["for"])
STORED, ANSWERED = _EXPLAINED.labels("table"), _EXPLAINED.labels("answer")
UNEXPLAINED = Counter("explainer_unexplained", "Scores that have no reasons, and never will")
ERRORS = Counter("explainer_errors", "Failures that are tried again, by what did not answer", ["part"])
BACKLOG_AGE = Gauge(
    "explainer_backlog_age_seconds", "How long the oldest prediction of tier medium or high has waited for its reasons"
)
SECONDS = Histogram(
    "explainer_seconds",
    "Time to explain one score, loading its model included",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
RUNNING = Gauge("explainer_running", "1 while Postgres and the model registry answer")
