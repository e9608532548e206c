"""Pipeline Health: do messages arrive, are they valid and read in time, is Bronze fresh, is every service up."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh

from source.panels import FULL_WIDTH, PROMETHEUS, dashboard, lines, number

RAW = 'topic="transactions.raw"'
DEAD = 'topic="transactions.dlq"'
SPARK_CORES = "sum(metrics_worker_coresUsed_Value) + sum(metrics_worker_coresFree_Value)"
BEHIND = [("green", None), ("orange", 60.0), ("red", 120.0)]


def build() -> Dashboard:
    """The whole dashboard."""
    board = dashboard(
        "Pipeline Health",
        "pipeline-health",
        "From the producer to Bronze and Gold: rates, lag, dead letters, freshness, and whether every service is up.",
    ).with_variable(
        QueryVariable("group")
        .label("Consumer group")
        .description("The group whose lag is shown by partition")
        .datasource(PROMETHEUS)
        .query("label_values(kafka_consumergroup_lag, consumergroup)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .current(VariableOption(text="bronze-writer", value="bronze-writer"))
    )
    for section in (_now, _messages, _lag, _bronze, _services):
        section(board)
    return board


def _now(board: Dashboard) -> None:
    board.with_row(Row("Now"))
    board.with_panel(
        number(
            "Messages",
            "Transactions that arrive in Kafka per second, over a minute.",
            f"sum(rate(kafka_topic_partition_current_offset{{{RAW}}}[1m]))",
            "mps",
            [("red", None), ("green", 0.001)],
            decimals=1,
        )
    )
    board.with_panel(
        number(
            "Dead letters, 5 min",
            "Messages that were refused in the last 5 minutes. Any raises an alert; make dlq-show lists the reasons.",
            f"sum(topic:kafka_messages:increase5m{{{DEAD}}})",
            steps=[("green", None), ("red", 0.5)],
            decimals=0,
        )
    )
    board.with_panel(
        number(
            "Age of Bronze",
            "Time since the last batch was committed to Bronze. A batch is due every 10 s.",
            f"time() - max(bronze_last_commit_timestamp_seconds{{{RAW}}})",
            "s",
            BEHIND,
            decimals=0,
        )
    )
    board.with_panel(
        number(
            "Worst lag",
            "How long ago the oldest unread message arrived, for the group with the largest lag.",
            "max(consumergroup:kafka_lag:seconds)",
            "s",
            BEHIND,
            decimals=1,
        )
    )
    board.with_panel(
        number(
            "Targets down",
            "Services that export no metrics to Prometheus, or whose name can't be resolved.",
            "targets:down:count",
            steps=[("green", None), ("red", 1)],
        )
    )
    board.with_panel(
        number(
            "Alerts",
            "Alerts that are firing. See docs/runbook.md for what to do.",
            # The watchdog always fires; without it alerts are not evaluated, which is not the same as none.
            'count(ALERTS{alertstate="firing"}) - 1 and on () ALERTS{alertname="Watchdog", alertstate="firing"}',
            steps=[("green", None), ("red", 1)],
        )
    )


def _messages(board: Dashboard) -> None:
    board.with_row(Row("Messages and dead letters"))
    board.with_panel(
        lines(
            "Messages by topic",
            "Messages that arrive in each topic.",
            {"{{topic}}": 'topic:kafka_messages:rate5m{topic=~"transactions.*"}'},
            "mps",
        )
    )
    board.with_panel(
        lines(
            "Producer: delivered and target rate",
            "Messages that Kafka has acknowledged, and the target rate (0 while history is loaded at full speed).",
            {
                "delivered": "sum(rate(producer_messages_delivered_total[1m]))",
                "target": "max(producer_target_messages_per_second)",
            },
            "mps",
        )
    )
    board.with_panel(
        lines(
            "Producer: waiting messages",
            "Messages in the client's queue, and messages behind the target rate: near 0 while Kafka keeps up.",
            {"queue": "max(producer_queue_depth)", "late": "max(producer_rate_lag_messages)"},
        )
    )
    board.with_panel(
        lines(
            "Dead letters",
            "Refused messages in 5 minutes.",
            {"{{topic}}": f"topic:kafka_messages:increase5m{{{DEAD}}}"},
            steps=[("transparent", None), ("red", 1)],
        )
    )
    board.with_panel(
        lines(
            "Dead letters by rule",
            "Rule violations of rows on their way to Bronze, in 5 minutes.",
            {"{{rule}}": "sum by (rule) (increase(bronze_rule_violations_total[5m]))"},
        )
    )
    board.with_panel(
        lines(
            "Dead letters by service",
            "The service that refused them, in 5 minutes: the producer can't encode, Bronze or the scorer can't read.",
            {
                "producer": "sum(increase(producer_messages_dead_lettered_total[5m]))",
                "Bronze": "sum(increase(bronze_dead_letters_total[5m]))",
                "scorer": "sum(increase(scorer_dead_letters_total[5m]))",
            },
        )
    )


def _lag(board: Dashboard) -> None:
    board.with_row(Row("Consumer lag"))
    board.with_panel(
        lines(
            "Lag as time",
            "How long ago the oldest unread message arrived. Staying 2 minutes behind raises an alert.",
            {"{{consumergroup}} {{topic}}": "consumergroup:kafka_lag:seconds"},
            "s",
            [("transparent", None), ("red", 120.0)],
        )
    )
    board.with_panel(
        lines(
            "Lag by partition: $group",
            "Messages that the group has not committed. One partition far above the others: its consumer hangs.",
            {"{{topic}} {{partition}}": 'kafka_consumergroup_lag{consumergroup="$group"}'},
        )
    )
    board.with_panel(
        lines(
            "Lag by group",
            "Messages that each group has not committed, over all partitions.",
            {"{{consumergroup}} {{topic}}": "kafka_consumergroup_lag_sum"},
        )
    )


def _bronze(board: Dashboard) -> None:
    board.with_row(Row("Bronze and Gold"))
    board.with_panel(
        lines(
            "Freshness of Bronze",
            "Time since the last committed batch. A sawtooth of 10 s is normal.",
            {"{{topic}}": "time() - bronze_last_commit_timestamp_seconds"},
            "s",
            [("transparent", None), ("red", 120.0)],
            width=6,
        )
    )
    board.with_panel(
        lines(
            "Rows in and possible rows",
            "Rows that arrive per second, and rows that the job could have processed.",
            {
                "in: {{topic}}": "bronze_input_rows_per_second",
                "possible: {{topic}}": "bronze_processed_rows_per_second",
            },
            "rowsps",
            width=6,
        )
    )
    board.with_panel(
        lines(
            "Duration of a batch",
            "Longer than the trigger (10 s) means that batches follow each other without a pause.",
            {"{{topic}}": "bronze_batch_duration_seconds"},
            "s",
            [("transparent", None), ("orange", 10.0)],
            width=6,
        )
    )
    board.with_panel(
        lines(
            "Duration of a pipeline run",
            "From Bronze to features in Redis, of the last run that succeeded. A run is due every 15 minutes.",
            {"{{dag_id}}": 'airflow_dag_last_success_seconds{dag_id="fraud_pipeline"}'},
            "s",
            [("transparent", None), ("red", 900.0)],
            width=6,
        )
    )


def _services(board: Dashboard) -> None:
    board.with_row(Row("Services"))
    board.with_panel(
        lines("Up", "1: exports metrics. 0: down, or too busy to answer.", {"{{job}}": "min by (job) (up)"}, maximum=1)
    )
    board.with_panel(
        lines(
            "Broker: bytes",
            "Bytes that clients write to the broker and read from it.",
            {
                "in": "sum(rate(kafka_server_brokertopicmetrics_bytesin_total[1m]))",
                "out": "sum(rate(kafka_server_brokertopicmetrics_bytesout_total[1m]))",
            },
            "Bps",
        )
    )
    board.with_panel(
        lines(
            "Broker: heap",
            "Memory of the broker's Java heap.",
            {
                "used": 'sum(jvm_memory_used_bytes{job="kafka", area="heap"})',
                "limit": 'sum(jvm_memory_max_bytes{job="kafka", area="heap"})',
            },
            "bytes",
        )
    )
    board.with_panel(
        lines(
            "Trino: queries",
            "Queries that are running, queries that wait for memory or a slot, and failures since Trino started.",
            {
                "running": "sum(trino_execution_name_QueryManager_RunningQueries)",
                "queued": "sum(trino_execution_name_QueryManager_QueuedQueries)",
                "failed": "sum(trino_execution_name_QueryManager_FailedQueries)",
            },
        )
    )
    board.with_panel(
        lines(
            "Spark: cores",
            "Cores that jobs use, and all cores of the cluster.",
            {"used": "sum(metrics_worker_coresUsed_Value)", "all": SPARK_CORES},
        )
    )
    board.with_panel(
        lines(
            "MinIO: requests",
            "Requests to the object store.",
            {"{{api}}": "sum by (api) (rate(minio_s3_requests_total[5m]))"},
            "reqps",
        )
    )
    board.with_panel(
        lines(
            "Postgres: connections",
            "Connections by database; the server accepts 100.",
            {"{{datname}}": 'sum by (datname) (pg_stat_database_numbackends{datname!~"template.*|"})'},
            steps=[("transparent", None), ("red", 100.0)],
        )
    )
    board.with_panel(
        lines(
            "Redis: memory",
            "Memory of the online features; at the limit payments wait in Kafka, since nothing is evicted.",
            {"used": "redis_memory_used_bytes", "limit": "redis_memory_max_bytes"},
            "bytes",
        )
    )
    board.with_panel(
        lines(
            "Disk",
            "Free space for all volumes; less than a tenth of the disk raises an alert.",
            {"free": "platform_disk_free_bytes", "alert": "0.1 * platform_disk_size_bytes"},
            "bytes",
        )
    )
    board.with_panel(
        lines(
            "Answers of services without metrics",
            "1: works, when asked at each scrape. 0: no answer, or an error.",
            {"{{service}}": "probe_success"},
            maximum=1,
            width=6,
        )
    )
    board.with_panel(
        lines(
            "Airflow: heartbeats",
            "Time since the newest heartbeat of each kind of job.",
            {"{{job_type}}": "time() - airflow_heartbeat_timestamp_seconds"},
            "s",
            [("transparent", None), ("red", 120.0)],
            width=6,
        )
    )
    board.with_panel(
        lines(
            "Pipeline: last success",
            "Time since a run of each DAG last succeeded, by Airflow's database.",
            {"{{dag_id}}": "time() - airflow_dag_last_success_timestamp_seconds"},
            "s",
            width=6,
        )
    )
    board.with_panel(
        lines(
            "Memory: share of the limit",
            "What each container uses of its limit, of those that can tell. More than 95 % raises an alert.",
            {"{{job}}": "max by (job) (instance:container_memory:ratio)"},
            "percentunit",
            [("transparent", None), ("red", 0.95)],
            maximum=1,
            width=6,
        )
    )
    board.with_panel(
        lines(
            "Cost of monitoring",
            "How long a scrape of each service takes.",
            {"{{job}}": "max by (job) (scrape_duration_seconds)"},
            "s",
            width=FULL_WIDTH,
        )
    )
