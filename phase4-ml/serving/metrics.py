"""The API's Prometheus metrics. Every worker process writes its own files; /metrics answers with their sum.

Alert rules and dashboards use these names. Counters of the hot path are bound to their labels once, here, instead of at
every request.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from fraud_common.memory_metrics import ContainerMemory
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)
from rules.decide import Decision
from rules.ruleset import Rule

TIERS = ("low", "medium", "high")
SOURCES = ("stream", "batch", "default")

_PREDICTIONS = Counter("fraud_predictions", "Predictions answered", ["risk_tier"])
PREDICTIONS = {tier: _PREDICTIONS.labels(tier) for tier in TIERS}
_FEATURE_SOURCE = Counter("fraud_feature_source", "Predictions by where the user's features came from", ["source"])
FEATURE_SOURCE = {source: _FEATURE_SOURCE.labels(source) for source in SOURCES}
_MERCHANT_FEATURE_SOURCE = Counter(
    "fraud_merchant_feature_source", "Predictions by where the merchant's features came from", ["source"]
)
MERCHANT_FEATURE_SOURCE = {
    source: _MERCHANT_FEATURE_SOURCE.labels(source) for source in ("stream", "batch", "reference", "default")
}
_INCOMPLETE = Counter(
    "fraud_incomplete_histories",
    "Predictions for which Redis had fewer payments of a user or a merchant than the snapshot, which was used instead",
    ["of"],
)
INCOMPLETE = {kind: _INCOMPLETE.labels(kind) for kind in ("user", "merchant")}
_FEATURE_AGE = Histogram(
    "fraud_feature_age_seconds",
    "How old the user's features were: of the stream since it was complete, of a snapshot in event time",
    ["source"],
    buckets=(1, 10, 60, 300, 900, 3600, 6 * 3600, 86_400, 7 * 86_400),
)
FEATURE_AGE = {source: _FEATURE_AGE.labels(source) for source in ("stream", "batch")}
LATENCY = Histogram(
    "fraud_prediction_latency_seconds",
    "From the parsed request to the answer, of /predict",
    buckets=(
        0.0002,
        0.0003,
        0.0005,
        0.00075,
        0.001,
        0.0015,
        0.002,
        0.003,
        0.005,
        0.0075,
        0.01,
        0.02,
        0.03,
        0.05,
        0.1,
        1,
    ),
)
BATCH_LATENCY = Histogram(
    "fraud_batch_latency_seconds",
    "From the parsed request to the answer, of /predict/batch",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)
REQUESTS = Counter(
    "fraud_requests",
    "Answers by path and HTTP status; 499: the client hung up before it had sent all",
    ["path", "status"],
)
# Of what alerts and dashboards ask for, the counters are 0 before the first event, or the first would not be seen.
for path in ("/predict", "/predict/batch"):
    for status in (200, 422, 500, 503):
        REQUESTS.labels(path, str(status))
RATE_LIMITED = Counter(
    "fraud_rate_limited", "Requests refused because their key has used up API_RATE_LIMIT, by its position", ["key"]
)
PARTS = ("redis", "snapshot", "model", "postgres", "prediction_log", "explainer", "rules")
ERRORS = Counter("fraud_errors", f"Failures that a fall-back covered, by part: {', '.join(PARTS)}", ["part"])
for part in PARTS:
    ERRORS.labels(part)
CACHE_HITS = Counter("fraud_redis_cache_hits", "Predictions whose user had a snapshot in Redis")
CACHE_MISSES = Counter("fraud_redis_cache_misses", "Predictions whose user had none, or without an answer from Redis")
BREAKER_OPEN = Gauge(
    "fraud_redis_breaker_open",
    "1 while the circuit breaker keeps a worker from asking Redis",
    multiprocess_mode="livemax",
)
MODEL_VERSION = Gauge(
    "fraud_model_version", "Version of the model that scores; 0 is rules-1", multiprocess_mode="livemostrecent"
)
MODEL_TRAINED = Gauge(
    "fraud_model_trained_timestamp_seconds",
    "When the model that scores was trained; 0 is rules-1",
    multiprocess_mode="livemostrecent",
)
REGISTRY_REACHED = Gauge(
    "fraud_model_registry_reached", "1 if the registry answered when last asked", multiprocess_mode="livemin"
)
BACKLOG = Gauge(
    "fraud_prediction_backlog", "Answered predictions that are not in Postgres yet", multiprocess_mode="livesum"
)
STORED = Counter("fraud_predictions_stored", "Predictions written to Postgres")
UNRECORDED = Counter(
    "fraud_predictions_unrecorded", "Predictions answered without a record: the log or its disk was full"
)
_QUARANTINED = Counter(
    "fraud_audit_quarantined",
    "Pieces of the log in quarantine: bytes that are damaged, or a line that Postgres refused",
    ["reason"],
)
QUARANTINED = {reason: _QUARANTINED.labels(reason) for reason in ("damaged", "refused")}
QUARANTINE_BYTES = Gauge(
    "fraud_audit_quarantine_bytes", "Size of the quarantine until somebody empties it", multiprocess_mode="livemax"
)
AUDIT_BYTES = Gauge(
    "fraud_audit_log_bytes", "Size of the log of all workers, and of its quarantine", multiprocess_mode="livemax"
)
AUDIT_ROOM = Gauge(
    "fraud_audit_log_room_bytes", "How much the log may still grow, or the disk has left", multiprocess_mode="livemin"
)
AUDIT_SYNC = Histogram(
    "fraud_audit_sync_seconds",
    "How long a sync of the log took, for all answers that waited for it (AUDIT_FSYNC=on)",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1),
)
_BACKGROUND_FAILURES = Counter(
    "fraud_background_failures", "Background tasks that failed unexpectedly and were started again", ["task"]
)
BACKGROUND_FAILURES = {
    task: _BACKGROUND_FAILURES.labels(task) for task in ("model_store", "feature_client", "prediction_log", "rules")
}
_DECISIONS = Counter(
    "fraud_decisions", "Payments by what happens to them, and whether somebody looks at them", ["decision", "queue"]
)
DECISIONS = {
    (answer, queue): _DECISIONS.labels(answer, "yes" if queue else "no")
    for answer in ("approve", "challenge", "decline")
    for queue in (False, True)
}
RULESET = Gauge(
    "fraud_ruleset_id",
    "The ruleset that decides, by worker; 0 is none",
    # With the process as a label, so that a worker that is behind the others is seen.
    multiprocess_mode="liveall",
)
_RULE_HITS = Counter(
    "fraud_rule_hits",
    "Payments for which a rule fired: live, shadow (also a live rule outside its rollout), or suppressed for the user",
    ["rule", "answer", "state"],
)
_RULE_ERRORS = Counter(
    "fraud_rule_errors", "Payments for which a rule raised an error, and so counted as unknown", ["rule"]
)
HOLDOUT_PAYMENTS = Counter("fraud_holdout_payments", "Payments that the hold-out let through")
HOLDOUT_AMOUNT = Counter(
    "fraud_holdout_amount", "Sum of their amounts, in the reference currency where its rate is known"
)
HOLDOUT_LOSS = Counter("fraud_holdout_expected_loss", "Sum of their amounts times their probability of fraud")
# A worker's file can't forget a name, so there is an end to them; a restart begins again.
MAX_RULE_NAMES = 1000
OTHER_RULES = "other"


class RuleCounters:
    """The counters of rules by name, bound when a ruleset is taken. Names beyond MAX_RULE_NAMES count as `other`."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._hits: dict[tuple[str, str, str], Counter] = {}
        self._errors: dict[str, Counter] = {}

    def bind(self, rules: Iterable[Rule]) -> None:
        """Begin at 0, so that the first hit and the first error of a rule are seen."""
        for rule in rules:
            self._hit(rule, rule.state)
            self._error(rule)

    def of(self, decision: Decision) -> list[Counter]:
        """The counters of the rules that fired, and of those that raised."""
        return [*(self._hit(rule, state) for rule, state in decision.hits), *map(self._error, decision.threw)]

    def _hit(self, rule: Rule, state: str) -> Counter:
        key = (rule.name, rule.answer, state)
        if (counter := self._hits.get(key)) is None:
            counter = self._hits[key] = _RULE_HITS.labels(self._label(rule.name), rule.answer, state)
        return counter

    def _error(self, rule: Rule) -> Counter:
        if (counter := self._errors.get(rule.name)) is None:
            counter = self._errors[rule.name] = _RULE_ERRORS.labels(self._label(rule.name))
        return counter

    def _label(self, name: str) -> str:
        if name not in self._names and len(self._names) >= MAX_RULE_NAMES:
            return OTHER_RULES
        self._names.add(name)
        return name


RULES = RuleCounters()


def forget_dead_workers() -> None:
    """Remove the gauges of workers that were killed from the sums."""
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    for file in directory.glob("gauge_live*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            multiprocess.mark_process_dead(pid)


def exposition() -> bytes:
    """All workers' metrics in the text format."""
    forget_dead_workers()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    # Of the process that all workers share, so that restarts of the service are visible.
    ProcessCollector(pid=os.getppid, registry=registry)
    registry.register(ContainerMemory())
    return generate_latest(registry)
