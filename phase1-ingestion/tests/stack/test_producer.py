"""The producer against the real broker and registry: delivery, restart, crashes and outages, counted."""

import json
import threading
import time
from pathlib import Path

import producer.producer as program
import pytest
from fatal_error import make_fatal
from fraud_common.avro import Decoder
from fraud_common.errors import UserError
from fraud_common.kafka import wait_for_broker
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import DEAD_LETTERS, LABELS, TRANSACTIONS
from ingestion_stack import (
    assert_exactly_once,
    count_in,
    expected_positions,
    fresh_topics,
    id_in,
    messages_in,
    producing,
    service,
    simulated,
    wait_until,
)
from producer.delivery import Batch, Delivery
from producer.settings import Settings
from producer.simulator.burst import PREFIX, REPORT_DELAY_MS
from producer.simulator.invalid import REFUSED, RULE_BREAKERS, UNDECODABLE
from producer.simulator.stream import POSITIONS_A_DAY, position_of

pytestmark = pytest.mark.stack

SMALL = {"sim_users": 2_000, "backfill_days": 5, "producer_tps": 500}
# Fast enough that the client's queue runs full while the broker is down.
LOAD = {"sim_users": 20_000, "backfill_days": 1, "producer_tps": 3_000}


def test_history_then_live_and_everything_in_flight_is_delivered_on_sigterm(settings: Settings, tmp_path: Path) -> None:
    started = time.time() * 1000
    with producing(tmp_path, **SMALL) as producer:
        wait_until(lambda: producer.logged("history is complete"), "history")
        wait_until(lambda: count_in(settings, TRANSACTIONS) > 22_000, "live messages")
        stopped = producer.terminate()
    sent = count_in(settings, TRANSACTIONS) + count_in(settings, LABELS)
    assert stopped["sent"] == stopped["delivered"] == sent
    assert stopped["failed"] == stopped["dead_lettered"] == stopped["lost"] == 0
    assert_exactly_once(settings, tmp_path)
    message = messages_in(settings, TRANSACTIONS)[0]
    _, produced_at = message.timestamp()
    assert started <= produced_at <= time.time() * 1000  # not the event time, which is months ago
    record = Decoder(SchemaRegistry(settings.schema_registry_url)).decode(message.value())
    assert record["event_time"].timestamp() * 1000 < started - 80 * 86_400_000
    assert record["user_id"].encode() == message.key()


def test_a_restart_resumes_where_it_stopped(settings: Settings, tmp_path: Path) -> None:
    for round_number in range(3):
        with producing(tmp_path, **SMALL) as producer:
            wait_until(lambda p=producer: p.logged("running"), "start")
            at_least = (round_number + 1) * 9_000
            wait_until(lambda enough=at_least: count_in(settings, TRANSACTIONS) > enough, "messages")
            producer.terminate()
    assert_exactly_once(settings, tmp_path)


def test_kill_9_of_the_producer_loses_and_doubles_nothing(settings: Settings, tmp_path: Path) -> None:
    for at_least in (1, 60_000, 100_000):
        with producing(tmp_path, **LOAD) as producer:
            wait_until(lambda enough=at_least: count_in(settings, TRANSACTIONS) > enough, "messages")
            producer.kill()
    with producing(tmp_path, **LOAD) as producer:
        wait_until(lambda: producer.logged("running"), "restart")
        wait_until(lambda: count_in(settings, TRANSACTIONS) > 105_000, "messages")
        producer.terminate()
    assert_exactly_once(settings, tmp_path)


def test_topics_made_again_do_not_bring_the_history_back(settings: Settings, tmp_path: Path) -> None:
    """A5: as after retention, Kafka has nothing, and the stream continues after its position on the volume."""
    with producing(tmp_path, **SMALL) as producer:
        wait_until(lambda: producer.logged("history is complete"), "history")
        wait_until(lambda: count_in(settings, TRANSACTIONS) > 20_000, "messages")
        producer.terminate()
    before = {id_in(message.value()) for message in messages_in(settings, TRANSACTIONS)}
    labels_before = {id_in(message.value()) for message in messages_in(settings, LABELS)}
    fresh_topics(settings)
    with producing(tmp_path, **SMALL) as producer:
        wait_until(lambda: count_in(settings, TRANSACTIONS) > 1_000, "live messages")
        assert producer.logged("partitions [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] of transactions.raw have none")
        producer.terminate()
    after = {id_in(message.value()) for message in messages_in(settings, TRANSACTIONS)}
    assert before.isdisjoint(after)
    assert labels_before.isdisjoint(id_in(message.value()) for message in messages_in(settings, LABELS))
    positions = sorted(position for name in before | after if (position := position_of(name)) is not None)
    assert positions == expected_positions(simulated(tmp_path), positions[-1])


def test_a_killed_producer_never_claims_what_kafka_does_not_have(settings: Settings, tmp_path: Path) -> None:
    """A5: the file is at most as far as Kafka, in every partition."""
    with producing(tmp_path, **LOAD) as producer:
        wait_until(lambda: (tmp_path / "position.json").exists(), "a saved position")
        producer.kill()
    saved = json.loads((tmp_path / "position.json").read_text())["payments"]
    ends: dict[int, int] = {}
    for message in messages_in(settings, TRANSACTIONS):
        position = position_of(id_in(message.value()))
        if position is not None:
            ends[message.partition() or 0] = position
    assert len(saved) == len(ends) == 10
    assert all(position <= ends[partition] for partition, position in enumerate(saved))


def test_after_a_fatal_error_of_the_client_the_next_start_loses_and_doubles_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E5: what was in flight has an unknown fate; it is not dead-lettered, and the next start asks Kafka."""
    own = settings.model_copy(update={**LOAD, "state_dir": tmp_path})
    made: list[Delivery] = []

    class Breaking(Delivery):
        def send_batch(self, topic: str, batch: Batch) -> None:
            super().send_batch(topic, batch)
            if not made and self.counts.sent > 20_000:
                made.append(self)
                make_fatal(self._producer)

    monkeypatch.setattr(program, "Delivery", Breaking)
    with pytest.raises(UserError, match="OUT_OF_ORDER_SEQUENCE_NUMBER"):
        program.run_producer(own, threading.Event())
    assert made[0].delivered < made[0].counts.sent
    assert made[0].counts.dead_lettered == made[0].counts.failed == 0
    with producing(tmp_path, **LOAD) as producer:
        wait_until(lambda: producer.logged("history is complete"), "history")
        producer.terminate()
    assert count_in(settings, DEAD_LETTERS) == 0
    assert_exactly_once(settings, tmp_path)


def test_broker_killed_under_load(settings: Settings, tmp_path: Path) -> None:
    """For longer than the client's queue holds; a broker that is stopped is the milder case."""
    kafka, seconds = service("kafka"), 40
    with producing(tmp_path, **LOAD) as producer:
        wait_until(lambda: producer.logged("history is complete"), "history")
        wait_until(lambda: count_in(settings, TRANSACTIONS) > 50_000, "messages under load")
        kafka.kill()
        down_since = time.monotonic()
        while time.monotonic() - down_since < seconds:  # the outage itself, not a wait for something
            assert producer.process.poll() is None
            time.sleep(0.5)
        kafka.start()
        wait_for_broker(settings)
        # What was generated meanwhile, although the queue holds half a minute of it.
        wait_until(lambda: count_in(settings, TRANSACTIONS) > 50_000 + seconds * 3_000, "caught up", 180)
        stopped = producer.terminate(120)
    assert stopped["sent"] == stopped["delivered"]
    assert stopped["dead_lettered"] == stopped["lost"] == 0
    report = assert_exactly_once(settings, tmp_path)
    assert report["in_kafka"] > 50_000 + seconds * 3_000


def test_changed_seed_is_refused_with_the_way_out(settings: Settings, tmp_path: Path) -> None:
    with producing(tmp_path, **SMALL) as producer:
        wait_until(lambda: producer.logged("running"), "start")
        producer.terminate()
    with producing(tmp_path, **SMALL, sim_seed=43) as producer:
        assert producer.process.wait(60) == 2
    (log,) = [p.read_text() for p in tmp_path.glob("log-*") if "error:" in p.read_text()]
    assert "error: SIM_SEED=43: this stack's history was made with 42; set it back in .env" in log


def test_every_kind_of_bad_message_is_accounted_for_and_the_good_stream_is_untouched(
    settings: Settings, tmp_path: Path
) -> None:
    with producing(tmp_path, **SMALL, invalid_rate=0.1) as producer:
        wait_until(lambda: producer.logged("history is complete"), "history")
        stopped = producer.terminate()
    assert_exactly_once(settings, tmp_path)
    in_topic = [m for m in messages_in(settings, TRANSACTIONS) if not id_in(m.value()).startswith("tx-")]
    dead = messages_in(settings, DEAD_LETTERS)
    assert len(dead) == stopped["dead_lettered"] > 300
    assert len(in_topic) > 10 * len(RULE_BREAKERS | UNDECODABLE)
    assert stopped["by_reason"].keys() == {"SerializationError", "MSG_SIZE_TOO_LARGE"}
    for message in dead:
        headers = dict(message.headers() or [])
        assert headers["dlq.stage"] == b"producer"
        assert headers["dlq.topic"] == TRANSACTIONS.encode()
        assert headers["dlq.attempts"] == b"1"
        kind = kind_of(message.value() or b"")
        expected = b"MSG_SIZE_TOO_LARGE" if kind == "too_large" else b"SerializationError"
        assert headers["dlq.reasons"] == expected, (kind, headers)
    assert {kind_of(m.value() or b"") for m in dead} == set(REFUSED)


def test_a_burst_of_fraud_comes_with_its_labels_and_leaves_the_stream_as_it_is(
    settings: Settings, tmp_path: Path
) -> None:
    with producing(tmp_path, **SMALL, fraud_burst=0.2) as producer:
        wait_until(lambda: producer.logged("history is complete"), "history")
        wait_until(lambda: count_in(settings, TRANSACTIONS) > 25_000, "some live traffic")
        producer.terminate()
    assert_exactly_once(settings, tmp_path)
    decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
    payments, labels = (
        {
            record["transaction_id"]: record
            for record in (decoder.decode(m.value()) for m in messages_in(settings, topic))
        }
        for topic in (TRANSACTIONS, LABELS)
    )
    extra = {name: record for name, record in payments.items() if name.startswith(PREFIX)}
    assert len(extra) > 100
    # Beside live payments only, and every one of them is known as fraud, an hour later.
    # By the stream's days, not by event time: a payment that arrives late has the time of an earlier day.
    live_day = min(day_of(name.removeprefix(PREFIX)) for name in extra)
    live = [name for name in payments if name not in extra and day_of(name) >= live_day]
    assert len(extra) == pytest.approx(0.2 * len(live), rel=0.2)
    for name, record in extra.items():
        label = labels[name]
        assert (label["is_fraud"], label["fraud_type"]) == (True, "card_testing")
        assert (label["reported_at"] - record["event_time"]).total_seconds() * 1000 == REPORT_DELAY_MS


def day_of(transaction_id: str) -> int:
    """The day of the simulated stream that sent a payment."""
    position = position_of(transaction_id)
    assert position is not None, transaction_id
    return position // POSITIONS_A_DAY


def kind_of(value: bytes) -> str:
    """Which kind of bad message a dead letter is, by its id: bad-KIND-tx-…"""
    return value.split(b"bad-", 1)[1].split(b"-tx-", 1)[0].decode()
