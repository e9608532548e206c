"""Phase 4 on a user's stack: the first model serves, every live payment is scored, and kills lose none."""

import os
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import backlog
import chaos
import docker
import httpx2
from audit.sink import Sink
from confluent_kafka import Producer
from faults import Fault
from feature_store import coverage
from feature_store.lakehouse import gold_cursor
from feature_store.layout import USER_EVENTS, USER_LABELS, unpack_user
from feature_store.rebuild import read_labels, read_payments
from features import DAY_MS
from fraud_common.avro import decode
from fraud_common.errors import SerializationError
from fraud_common.models import MODEL_NAME, PRODUCTION_ALIAS
from fraud_common.settings import PostgresSettings, TrinoSettings
from fraud_common.topics import DEAD_LETTERS, SCORED, TRANSACTIONS
from fraud_common.trino import query, trino_cursor
from kafka_tools import KAFKA, committed, payment_bytes, read_topic, schema_of
from lags import bronze_lag, stream_lag
from oom import PROBE
from predictions import line
from serving_stack import API_URL, MLFLOW_URL, PAYMENT, ready, redis_client, select, service, wait_until

# kill -9 of all that a prediction passes, then faults that no process ends by. Kafka and Bronze have theirs in phase 2.
FAULTS = [
    *(
        Fault("kill", victim, seconds=0, pause=2)
        for victim in ("scorer", "feature-stream", "fraud-api", "redis", "postgres", "mlflow")
    ),
    Fault("freeze", "redis", seconds=4, pause=5),
    Fault("cut", "feature-stream", seconds=9, pause=3),
    Fault("freeze", "postgres", seconds=4, pause=2),
]


def scored_by_now() -> int:
    """Payments in the table of predictions; 0 while Postgres does not answer."""
    rows = select("select count(*) from predictions")
    return rows[0][0] if rows else 0


def test_make_up_ends_with_a_production_model_that_serves() -> None:
    answer = httpx2.get(
        f"{MLFLOW_URL}/api/2.0/mlflow/registered-models/alias", params={"name": MODEL_NAME, "alias": PRODUCTION_ALIAS}
    )
    version = answer.raise_for_status().json()["model_version"]
    assert version["current_stage"] == "Production"
    assert ready()["model_version"] == version["version"]


def test_the_request_of_the_readme() -> None:
    def explained() -> dict[str, Any] | None:
        answer = httpx2.post(f"{API_URL}/predict?explain=true", json=PAYMENT).raise_for_status().json()
        assert 0 <= answer["fraud_probability"] <= 1
        assert answer["model_version"] == ready()["model_version"]
        # A cardholder of the simulated world.
        return answer if (answer["feature_source"], answer["reasons_status"]) == ("stream", "ok") else None

    # The first answers may come before the explainer has loaded the model, or Redis misses its 20 ms on a busy machine.
    assert wait_until(explained, "an explained answer with features of the stream", 60)["reasons"]


def share_of_stream() -> float:
    """Of the newest 1,000 predictions, those that have the features of the stream."""
    newest = "select feature_source from predictions order by predicted_at desc limit 1000"
    counts = dict(select(f"select feature_source, count(*) from ({newest}) as newest group by 1"))
    return counts.get("stream", 0) / max(sum(counts.values()), 1)


def test_live_payments_are_scored_with_the_features_of_their_users() -> None:
    before = scored_by_now()
    wait_until(lambda: scored_by_now() > before + 1000, "1,000 more scored payments")
    # On a busy machine Redis misses its 20 ms for a batch now and then, and a batch may have 30 payments.
    wait_until(lambda: share_of_stream() > 0.95, "nearly all of 1,000 payments have the features of the stream")


def test_wrong_times_change_nobody_elses_features() -> None:
    """B1: two users with rows of 2000, 2024 and today among payments of another time; the data clock stays."""
    before, now = coverage.clock(redis_client()), datetime.now(UTC)
    times = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC), now, now + timedelta(minutes=4))
    producer = Producer({"bootstrap.servers": KAFKA, "enable.idempotence": True})
    for number, event_time in enumerate(times * 10):
        user = f"wrong-{number % 2}"
        record = {"transaction_id": f"wrong-{number}", "user_id": user, "event_time": event_time}
        producer.produce(TRANSACTIONS, payment_bytes(1, **record), user.encode())
    assert producer.flush(30) == 0
    test_live_payments_are_scored_with_the_features_of_their_users()
    assert before < coverage.clock(redis_client()) < before + 30 * DAY_MS  # the simulated clock is fast


def test_a_training_run_that_exceeds_its_memory_limit_says_so() -> None:
    """Field case F7: to load its packages takes more than this limit. The server outlives it."""
    container = docker.from_env().containers.run(
        service("training").attrs["Image"],
        name=f"{PROBE}training",
        mem_limit="96m",
        memswap_limit="96m",
        network_mode="none",
        detach=True,
    )
    client = ["python3", "-m", "training_runs.client", "--url", "http://localhost:8070"]
    try:
        exit_code, output = container.exec_run(client)
        assert exit_code == 1, output.decode()
        assert "error: killed: memory limit of 96 MiB reached" in output.decode()
        assert container.exec_run(["curl", "-fsS", "http://localhost:8070/health"]) == (0, b'{"run": null}')
    finally:
        container.remove(force=True)


def test_chaos_loses_and_doubles_nothing() -> None:
    """A short form of make chaos, with faults that are always the same."""
    try:
        assert chaos.run(FAULTS)
    finally:
        service("producer").start()


def test_a_backlog_kills_no_consumer() -> None:
    """A1: the containers have the memory limits that users get; the checks below then count what the backlog was."""
    consumers = {name: backlog.CONSUMERS[name] for name in ("feature-stream", "scorer", "model-quality")}
    for name in consumers:
        service(name).stop()
    newest = datetime.fromtimestamp(coverage.clock(redis_client()) / 1000, UTC)
    backlog.send(150_000, 5_000, "backlog", newest)
    for name in consumers:
        service(name).start()
    watched = {name: backlog.watch(name) for name in consumers}
    with backlog.sampling(watched):
        for name, lag in consumers.items():
            wait_until(lambda lag=lag: lag() < 2_000, f"{name} has caught up", 300)  # type: ignore[misc]
    for each in watched.values():
        print(f"| {each.service} | 150,000 waiting | peak {each.peak_mib} of {each.limit_mib} MiB |")
        assert not each.was_killed, each
        assert 0 < each.peak_mib < 0.9 * each.limit_mib, each


def test_every_payment_has_a_score_or_is_a_dead_letter() -> None:
    """From where the scorer began, without a gap, whatever was killed meanwhile."""
    service("producer").stop(timeout=60)
    last: dict[int, int] = defaultdict(int)
    raw = read_topic(TRANSACTIONS)
    for message in raw:
        last[message.partition()] = max(last[message.partition()], message.offset() + 1)
    wait_until(lambda: committed("scorer", TRANSACTIONS) == last, "the scorer has caught up", 300)

    schema = schema_of(SCORED)
    scored = {decode(message.value() or b"", schema)["transaction_id"] for message in read_topic(SCORED)}
    refused = set()
    for message in read_topic(DEAD_LETTERS):
        headers = {name: (value or b"").decode() for name, value in message.headers() or []}
        if headers["dlq.stage"] == "scorer":
            refused.add((int(headers["dlq.partition"]), int(headers["dlq.offset"])))

    # Where it began: the first payment of each partition that has a score.
    schema = schema_of(TRANSACTIONS)
    payments: dict[tuple[int, int], str] = {}
    for message in raw:
        try:
            payments[message.partition(), message.offset()] = decode(message.value() or b"", schema)["transaction_id"]
        except SerializationError:
            payments[message.partition(), message.offset()] = ""
    first: dict[int, int] = {}
    for (partition, offset), transaction_id in payments.items():
        if transaction_id in scored:
            first[partition] = min(offset, first.get(partition, offset))
    live = {(partition, offset) for partition, offset in payments if partition in first and offset >= first[partition]}
    missing = [each for each in live if payments[each] not in scored and each not in refused]
    assert len(first) == 10
    assert not missing, missing[:10]

    wait_until(
        lambda: scored <= {row[0] for row in select("select distinct transaction_id from predictions")},
        "the API has stored what it answered",
    )
    assert select("select count(*) - count(distinct prediction_id) from predictions") == [(0,)]
    print(f"| scorer | live {len(live):,} | scored {len(scored):,} | dead letters {len(refused):,} | missing 0 |")


def test_the_stream_keeps_what_bronze_has() -> None:
    """Every user's payments of 30 days and all labels, after all the kills; nothing more is produced."""
    store = redis_client()
    with gold_cursor(TrinoSettings()) as trino:
        # Bronze has no refused messages, so its last good one may come before the topic's end.
        wait_until(lambda: bronze_lag() == 0, "Bronze has caught up", 300)
        wait_until(lambda: stream_lag() == 0, "the stream has caught up", 300)
        payments: dict[tuple[str, int], bytes] = {}
        horizon = coverage.clock(store) - 30 * DAY_MS
        for payment in read_payments(trino, "bronze"):
            if payment.event_time >= horizon:
                payments.setdefault((payment.user_id, payment.key), payment.pack())
        labels = {(label.user_id, label.pack()) for label in read_labels(trino, "bronze")}
    kept = {}
    for user, members in members_of(USER_EVENTS):
        events = unpack_user(members, [])
        kept |= {(user, member): at for member, at in zip(members, events.event_time.tolist(), strict=True)}
    recent = {member for member, at in kept.items() if at >= horizon}
    assert recent == {(user, member) for (user, _), member in payments.items()}
    in_redis = {(user, member) for user, members in members_of(USER_LABELS) for member in members}
    assert in_redis == labels
    print(f"| stream | payments of 30 days {len(recent):,} | labels {len(labels):,} | different from Bronze 0 |")


def members_of(kind: str) -> Iterator[tuple[str, list[bytes]]]:
    """Each user's members of a kind of sorted set."""
    store = redis_client()
    for key in store.scan_iter(match=kind.format("*"), count=1000):
        yield key.decode().partition(":")[2], store.zrange(key, 0, -1)


def test_old_predictions_move_to_gold() -> None:
    """As the nightly maintenance does it, in Airflow's container: twice, and each row is there once."""
    old = datetime.now(UTC) - timedelta(days=40)
    run = f"e2e-{uuid.uuid4().hex[:8]}"
    names = [f"{run}-{number}" for number in range(50)]
    Sink(PostgresSettings(), threading.Event(), on_retry=lambda: None).store(
        [line(name, predicted_at=old.isoformat(), risk_tier="medium").rstrip() for name in names]
    )
    for _ in range(2):
        result = service("airflow-scheduler").exec_run(["python3", "-m", "lakehouse.archive"])
        print(result.output.decode())
        assert result.exit_code == 0
    assert select("select count(*) from predictions where predicted_at < now() - interval '35 days'") == [(0,)]
    of_them = f"day = date '{old.date()}' and transaction_id like '{run}-%'"
    with trino_cursor(TrinoSettings(), user="e2e") as trino:
        archived = query(trino, f"select transaction_id from delta.gold.predictions_archive where {of_them}")
        reasons = query(
            trino,
            "select count(*) from delta.gold.prediction_reasons_archive where prediction_id in"
            f" (select prediction_id from delta.gold.predictions_archive where {of_them})",
        )
    assert sorted(name for (name,) in archived) == sorted(names) and reasons == [[len(names)]]


def test_predictions_can_be_joined_in_trino() -> None:
    from trino.dbapi import connect

    with connect(host=os.environ.get("TRINO_HOST", "trino"), port=8080, user="e2e", catalog="fraud") as connection:
        ((count,),) = connection.cursor().execute("select count(*) from fraud.public.predictions").fetchall()
    assert count == scored_by_now() > 0
