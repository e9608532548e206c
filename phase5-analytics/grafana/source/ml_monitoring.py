"""ML Monitoring: volume, latency, model, features, errors and drift of scoring, and the quality as labels arrive."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from source.panels import FULL_WIDTH, Column, dashboard, lines, number, rows

ERRORS = "api:fraud_request_errors:ratio_rate5m"
DRIFT = [("transparent", None), ("orange", 0.1), ("red", 0.25)]
HITS = "api:fraud_redis_cache_hits:ratio_rate5m"
LIVE, HIGH, MATURED = 'role="production"', 'risk_tier="high"', 'settled="true"'
WEEK = "fraud_quality_week"


def precision(selected: str) -> str:
    """The share of the payments in tier high that are known frauds, of what serves."""
    selected = f"{LIVE}, {selected}"
    return f"sum(fraud_quality_known_frauds{{{selected}}}) / (sum(fraud_quality_payments{{{selected}}}) > 0)"


def recall(selected: str = "") -> str:
    """The share of the known frauds that were in tier high, of what serves."""
    of = f"{LIVE}, {selected}" if selected else LIVE
    return f"sum(fraud_quality_known_frauds{{{of}, {HIGH}}}) / (sum(fraud_quality_known_frauds{{{of}}}) > 0)"


def quantiles(histogram: str, window: str = "1m") -> dict[str, str]:
    """PromQL for p50, p95 and p99 of a histogram over a window; an empty window means since the process started."""
    buckets = f"rate({histogram}_bucket[{window}])" if window else f"{histogram}_bucket"
    return {
        f"p{quantile:g}": f"histogram_quantile({quantile / 100}, sum by (le) ({buckets}))" for quantile in (50, 95, 99)
    }


def build() -> Dashboard:
    """The whole dashboard."""
    board = dashboard(
        "ML Monitoring",
        "ml-monitoring",
        "The live model: volume, latency, fraud rate, features, errors, and what happens to predictions afterwards.",
    )
    for section in (_now, _scores, _decisions, _quality, _weeks, _speed, _features, _drift, _after):
        section(board)
    return board


def _now(board: Dashboard) -> None:
    board.with_row(Row("Now"))
    board.with_panel(
        number(
            "Predictions",
            "Payments scored per second, over a minute.",
            "sum(rate(fraud_predictions_total[1m]))",
            "reqps",
            [("red", None), ("green", 0.001)],
            decimals=1,
            width=3,
        )
    )
    board.with_panel(
        number(
            "p99",
            "99 of 100 batches are answered faster than this, over 5 minutes.",
            "histogram_quantile(0.99, sum by (le) (rate(fraud_batch_latency_seconds_bucket[5m])))",
            "s",
            [("green", None), ("orange", 0.2), ("red", 1.0)],
            width=3,
        )
    )
    board.with_panel(
        number(
            "Fraud rate",
            "Share of payments in tier high, over 10 minutes.",
            "api:fraud_high_risk:ratio_rate10m",
            "percentunit",
            [("green", None), ("orange", 0.02), ("red", 0.05)],
            decimals=2,
            width=3,
        )
    )
    board.with_panel(
        number(
            "Cache hits",
            "Share of payments whose user has features in Redis.",
            HITS,
            "percentunit",
            [("red", None), ("orange", 0.8), ("green", 0.95)],
            decimals=1,
            width=3,
        )
    )
    board.with_panel(
        number(
            "Errors",
            "Share of requests for a score that fail. More than 1 % raises an alert.",
            ERRORS,
            "percentunit",
            [("green", None), ("red", 0.01)],
            decimals=2,
            width=3,
        )
    )
    board.with_panel(
        number(
            "Model version",
            "The version that scores payments; make ml-models lists all versions.",
            "max(fraud_model_version)",
            "none",
            [("red", None), ("green", 1)],
            texts={"0": "rules-1"},
            width=3,
        )
    )
    board.with_panel(
        number(
            "Age of the model",
            "Time since it was trained. Training is due every week. No data: rules score.",
            "time() - max(fraud_model_trained_timestamp_seconds != 0)",
            "dtdurations",
            [("green", None), ("orange", 8 * 86_400.0), ("red", 15 * 86_400.0)],
            width=3,
        )
    )
    board.with_panel(
        number(
            "Redis breaker",
            "Open: the API scores without Redis, with default features.",
            "max(fraud_redis_breaker_open)",
            "none",
            [("green", None), ("red", 1)],
            texts={"0": "closed", "1": "open"},
            width=3,
        )
    )


def _scores(board: Dashboard) -> None:
    board.with_row(Row("Scores"))
    board.with_panel(
        lines(
            "Predictions by risk tier",
            "Payments scored per second, by tier.",
            {"{{risk_tier}}": "sum by (risk_tier) (rate(fraud_predictions_total[1m]))"},
            "reqps",
            stacked=True,
        )
    )
    board.with_panel(
        lines(
            "Fraud rate and its baseline",
            "Share of payments in tier high over 10 minutes. More than twice the average of 7 days raises an alert.",
            {
                "now": "api:fraud_high_risk:ratio_rate10m",
                "7 days": "api:fraud_high_risk:ratio_rate7d",
                "alert": "2 * api:fraud_high_risk:ratio_rate7d",
            },
            "percentunit",
        )
    )
    board.with_panel(
        lines(
            "Model version",
            "A step is a new Production model or a rollback. 0: rules.",
            {"version": "max(fraud_model_version)"},
            "none",
        )
    )


def _decisions(board: Dashboard) -> None:
    board.with_row(Row("Decisions"))
    board.with_panel(
        lines(
            "Decisions by answer",
            "Payments per second, by the answer at the till: the strictest of the model and the live rules, unless an "
            "exception lowers it.",
            {"{{decision}}": "sum by (decision) (rate(fraud_decisions_total[5m]))"},
            "reqps",
            stacked=True,
        )
    )
    board.with_panel(
        lines(
            "Queue",
            "Payments that an analyst should look at, per hour, by the answer that they already got.",
            {"{{decision}}": 'sum by (decision) (3600 * rate(fraud_decisions_total{queue="yes"}[5m]))'},
            "short",
            stacked=True,
        )
    )
    board.with_panel(
        lines(
            "Hits of live rules",
            "Payments per hour on which a live rule fired: the ten rules with most. A rule that fires ten times as "
            "often as its backtest expects pauses itself.",
            {
                "{{rule}}: {{answer}}": "topk(10, sum by (rule, answer) "
                '(3600 * rate(fraud_rule_hits_total{state="live"}[5m])))'
            },
            "short",
        )
    )
    board.with_panel(
        lines(
            "Hits of shadow rules",
            "The same for rules that have no effect yet, and for live rules where a user is outside their rollout.",
            {
                "{{rule}}: {{answer}}": "topk(10, sum by (rule, answer) "
                '(3600 * rate(fraud_rule_hits_total{state="shadow"}[5m])))'
            },
            "short",
        )
    )
    board.with_panel(
        lines(
            "Rules by state",
            "Versions of rules. A rule that the guard has paused is counted by its name until somebody changes it.",
            {
                "{{state}}": 'max by (state) (fraud_rules{state!="retired"})',
                "paused itself: {{rule}}": "max by (rule) (fraud_rule_is_paused_by_guard)",
                "errors of {{rule}}": "sum by (rule) (increase(fraud_rule_errors_total[5m])) > 0",
            },
            "short",
        )
    )
    board.with_panel(
        lines(
            "Rulesets",
            "The newest ruleset, and the oldest that a worker of the API decides by. They should be equal within "
            "seconds; a minute apart raises an alert.",
            {"newest": "max(fraud_ruleset_newest)", "oldest in force": "min(fraud_ruleset_id)"},
            "none",
        )
    )


def _quality(board: Dashboard) -> None:
    board.with_row(Row("Quality, as labels arrive"))
    board.with_panel(
        lines(
            "Precision of tier high",
            "Share of the payments of the last 44 days in tier high that are known frauds; it rises as labels arrive. "
            "Matured: payments older than 14 days; no data while none of them is in tier high.",
            {"known so far": precision(HIGH), "matured": precision(f"{HIGH}, {MATURED}")},
            "percentunit",
            maximum=1,
        )
    )
    board.with_panel(
        lines(
            "Recall of tier high",
            "Share of the known frauds of the last 44 days that were in tier high. No data until the first label of a "
            "scored fraud. Matured as in the panel on precision.",
            {"known so far": recall(), "matured": recall(MATURED)},
            "percentunit",
            maximum=1,
        )
    )
    board.with_panel(
        lines(
            "Label delay",
            "From a payment to its label, in event time. The labels of payments younger than this are incomplete.",
            quantiles("fraud_label_delay_seconds", window=""),
            "dtdurations",
        )
    )


def _weeks(board: Dashboard) -> None:
    board.with_row(Row("Quality by week, and Staging in shadow"))
    board.with_panel(
        rows(
            "Quality by week of event time",
            "Production beside Staging, which scores payments in shadow from when it is registered until it is "
            "promoted. Precision and recall are those of tier high. Matured: labels of the week's last day are 14 days "
            "old; before that they are incomplete, and precision and recall too low. Mean score and fraud rate should "
            "be equal.",
            {"week": "Week", "settled": "Matured", "role": "Role", "model_version": "Version"},
            {
                "Payments": Column(f"{WEEK}_payments"),
                "Known frauds": Column(f"{WEEK}_known_frauds"),
                "Average precision": Column(f"{WEEK}_average_precision", "none", 4),
                "Precision": Column(f"{WEEK}_precision", "percentunit", 1),
                "Recall": Column(f"{WEEK}_recall", "percentunit", 1),
                "Calibration error": Column(f"{WEEK}_calibration_error", "none", 5),
                "Mean score": Column(f"{WEEK}_mean_score", "percentunit", 3),
                "Fraud rate": Column(f"{WEEK}_fraud_rate", "percentunit", 3),
            },
        )
    )
    board.with_panel(
        lines(
            "Shadow: version",
            "The version in Staging that scores in shadow; 0 while there is none, or while it is the one that serves.",
            {"version": "max(shadow_model_version)"},
            "none",
            width=12,
        )
    )
    board.with_panel(
        lines(
            "Shadow: payments",
            "Payments that Staging scores, and those that it can't: a stored feature is missing, or the score is no "
            "number.",
            {
                "scored": "sum(rate(shadow_scored_total[5m]))",
                "left out: {{reason}}": "sum by (reason) (rate(shadow_left_out_total[5m]))",
            },
            "reqps",
            width=12,
        )
    )


def _speed(board: Dashboard) -> None:
    board.with_row(Row("Speed and errors"))
    board.with_panel(
        lines(
            "Latency of /predict",
            "From the parsed request to the answer. No data without requests.",
            quantiles("fraud_prediction_latency_seconds", "5m"),
            "s",
        )
    )
    board.with_panel(
        lines(
            "Latency of /predict/batch",
            "From the parsed request to the answer, for the batches that the scorer sends.",
            quantiles("fraud_batch_latency_seconds"),
            "s",
        )
    )
    board.with_panel(
        lines(
            "Arrival to score",
            "From a payment's arrival in Kafka to its acknowledged score in transactions.scored.",
            quantiles("scorer_event_delay_seconds"),
            "s",
            [("transparent", None), ("red", 60.0)],
        )
    )
    board.with_panel(
        lines(
            "Answers by status",
            "Answers to requests for a score. 4xx: invalid request; 5xx: fault of the service.",
            {"{{path}} {{status}}": 'api:fraud_requests:rate5m{path=~"/predict.*"}'},
            "reqps",
        )
    )
    board.with_panel(
        lines(
            "Error rate",
            "Share of requests for a score that fail.",
            {"errors": ERRORS},
            "percentunit",
            [("transparent", None), ("red", 0.01)],
        )
    )
    board.with_panel(
        lines(
            "Fallbacks",
            "Errors per second that a fallback covered, by part: redis, snapshot, model, postgres, prediction_log.",
            {"{{part}}": "sum by (part) (rate(fraud_errors_total[5m]))"},
        )
    )


def _features(board: Dashboard) -> None:
    board.with_row(Row("Features"))
    board.with_panel(
        lines(
            "Cache hit rate",
            "Share of payments whose user has features in Redis.",
            {"hits": HITS},
            "percentunit",
            maximum=1,
        )
    )
    board.with_panel(
        lines(
            "Where features come from",
            "stream: current to the second; batch: the last pipeline run; default: no features for the user.",
            {"{{source}}": "api:fraud_feature_source:ratio_rate5m"},
            "percentunit",
            stacked=True,
            maximum=1,
        )
    )
    board.with_panel(
        lines(
            "Where merchants' features come from",
            "As with users; reference: the snapshots are older than a day, so only the category is known.",
            {"{{source}}": "api:fraud_merchant_feature_source:ratio_rate5m"},
            "percentunit",
            stacked=True,
            maximum=1,
        )
    )
    board.with_panel(
        lines(
            "Incomplete histories",
            "Scores from the snapshot because Redis lacked payments that Gold has, of the user or of the merchant.",
            {"{{of}}": "sum by (of) (rate(fraud_incomplete_histories_total[5m]))"},
            "reqps",
        )
    )
    board.with_panel(
        lines(
            "Feature stream: lag",
            "How long ago the oldest payment arrived that is not in the features yet.",
            {"{{topic}}": 'consumergroup:kafka_lag:seconds{consumergroup="feature-stream"}'},
            "s",
            [("transparent", None), ("red", 60.0)],
        )
    )
    board.with_panel(
        lines(
            "Feature stream: arrival to features",
            "From a payment's arrival in Kafka to its features in Redis.",
            quantiles("feature_stream_delay_seconds"),
            "s",
            [("transparent", None), ("orange", 1.0)],
        )
    )
    board.with_panel(
        lines(
            "Feature stream: compared with Gold",
            "Users whose features in Redis were compared with Gold, and those that differed, by the action taken; and "
            "how many of all users had fewer payments in Redis.",
            {
                "compared": "max(feature_stream_reconciled_users)",
                "incomplete": "max(feature_stream_incomplete_users)",
                "different: {{outcome}}": "max by (outcome) (feature_stream_different_users)",
            },
            width=FULL_WIDTH,
        )
    )


def _drift(board: Dashboard) -> None:
    board.with_row(Row("Drift"))
    board.with_panel(
        lines(
            "Drift of the score",
            "Population stability index of the last hour's scores against the same hours of the holdout: 0.1 is small, "
            "0.25 large and raises an alert.",
            {"score": "fraud_score_drift_psi"},
            "none",
            DRIFT,
            width=12,
        )
    )
    board.with_panel(
        lines(
            "Drift of the features",
            "The same index for the ten features that moved most.",
            {"{{feature}}": "topk(10, fraud_feature_drift_psi)"},
            "none",
            DRIFT,
            width=12,
        )
    )
    board.with_panel(
        lines(
            "Tails",
            "How many times the usual share of payments is in the outermost bin of the score or of a feature: the ten "
            "highest. More than 4 raises an alert.",
            {"{{of}} {{tail}}": "topk(10, fraud_tail_ratio)"},
            "none",
            [("transparent", None), ("red", 4.0)],
            width=12,
        )
    )
    board.with_panel(
        lines(
            "Compared payments",
            "How many payments were compared. With fewer than 500 there is no drift value.",
            {"payments": "fraud_drift_rows"},
            width=12,
        )
    )


def _after(board: Dashboard) -> None:
    board.with_row(Row("After the answer"))
    board.with_panel(
        lines(
            "Audit: predictions not in Postgres yet",
            "They are in the API's own file, which grows while Postgres is down and drains afterwards.",
            {"waiting": "sum(fraud_prediction_backlog)"},
            steps=[("transparent", None), ("red", 1000.0)],
        )
    )
    board.with_panel(
        lines(
            "Audit: predictions stored",
            "Predictions written to Postgres.",
            {"stored": "sum(rate(fraud_predictions_stored_total[1m]))"},
            "wps",
        )
    )
    board.with_panel(
        lines(
            "Audit: size in Postgres",
            "Tables with their indexes. They stop growing after PREDICTIONS_RETENTION_DAYS.",
            {"{{table}}": "max by (table) (fraud_database_bytes)"},
            "bytes",
        )
    )
    board.with_panel(
        lines(
            "Scorer",
            "Live payments scored per second, and requests that the API failed to answer.",
            {
                "scored": "sum(rate(scorer_transactions_total[1m]))",
                "failures": "sum(rate(scorer_api_failures_total[1m]))",
            },
            "reqps",
        )
    )
