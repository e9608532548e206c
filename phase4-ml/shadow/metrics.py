"""The metrics of shadow, in a registry of their own: `serving` registers those of the API in the usual one."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

RUNNING = Gauge("shadow_running", "1 while Postgres answers", registry=REGISTRY)
MODEL_VERSION = Gauge("shadow_model_version", "Version of the Staging model; 0 is none", registry=REGISTRY)
REGISTRY_REACHED = Gauge(
    "shadow_model_registry_reached", "1 if the registry answered when last asked", registry=REGISTRY
)
SCORED = Counter("shadow_scored", "Payments that the Staging model has scored", registry=REGISTRY)
LEFT_OUT = Counter(
    "shadow_left_out",
    "Payments that it can't score: a stored feature that it needs is missing, or its answer is not a number",
    ["reason"],
    registry=REGISTRY,
)
BEHIND = Gauge("shadow_predictions_behind", "Stored predictions after those that are scored", registry=REGISTRY)
for reason in ("feature", "score"):
    LEFT_OUT.labels(reason)
