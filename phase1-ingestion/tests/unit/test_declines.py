"""SIM_DECLINES: a declined fraud ends its scenario with that card, the labels follow, and nothing else changes."""

import io
import threading
from collections import deque
from pathlib import Path

import fastavro
import numpy as np
import producer.declines as declines
import pytest
from fraud_common.avro import HEADER, Decoder
from fraud_common.errors import SerializationError, UserError
from fraud_common.settings import load_settings
from producer import producer as program
from producer.declines import Declines, declined_id
from producer.resume import Resume
from producer.settings import Settings
from producer.simulation import Simulation
from producer.simulator.payments import (
    ACCOUNT_TAKEOVER,
    CARD_TESTING,
    DAY_MS,
    HOUR_MS,
    LEGITIMATE,
    STOLEN_CARD,
    Payments,
)
from producer.simulator.stream import POSITIONS_A_DAY, Labels, position_of, transaction_id
from producer.simulator.world import SCHEME

SIMULATION = Simulation(
    sim_seed=42,
    sim_users=2_000,
    label_delay_scale=0.1,
    start_day=20_000,
    live_day=20_010,
    sim_profile="cards",
    scheme=SCHEME,
)
FIRST = 20_010 * POSITIONS_A_DAY
START_MS = 20_010 * DAY_MS


def payments_of(*payments: tuple[int, int, int]) -> tuple[Payments, np.ndarray]:
    """Payments, given as cardholder, scenario and hour, one behind another in the stream."""
    user, scenario, hour = (np.array(column) for column in zip(*payments, strict=True))
    zeros = np.zeros(len(user), np.int64)
    found = Payments(user, zeros, zeros + 1_000, START_MS + hour * HOUR_MS, zeros.astype(np.uint64), zeros, scenario)
    return found, FIRST + hour * 1_000 + np.arange(len(user))


def labels_at(positions: np.ndarray) -> Labels:
    zeros = np.zeros(len(positions), np.int64)
    return Labels(positions, zeros, zeros, zeros, zeros)


def test_a_decline_ends_the_scenario_with_that_card_and_nothing_else(tmp_path: Path) -> None:
    ids: deque[str] = deque()
    end = Declines(tmp_path / declines.FILE, SIMULATION, ids)
    first, positions = payments_of((1, STOLEN_CARD, 0), (2, STOLEN_CARD, 0), (3, LEGITIMATE, 0))
    assert end.choose(first, positions).all()
    ids.extend([transaction_id(int(positions[0])), transaction_id(int(positions[2])), "replay-1", "burst-tx-1"])
    later, later_positions = payments_of(
        (1, STOLEN_CARD, 1), (1, LEGITIMATE, 1), (1, ACCOUNT_TAKEOVER, 1), (2, STOLEN_CARD, 1), (3, LEGITIMATE, 1)
    )
    assert end.choose(later, later_positions).tolist() == [False, True, True, True, True]
    # The card may be stolen another time.
    again, again_positions = payments_of((1, STOLEN_CARD, 22 * 24 + 1))
    assert end.choose(again, again_positions).all()


def test_the_labels_of_what_was_not_sent_are_left_out_also_after_a_restart(tmp_path: Path) -> None:
    ids: deque[str] = deque()
    before = Declines(tmp_path / declines.FILE, SIMULATION, ids)
    payments, positions = payments_of((1, CARD_TESTING, 0), (1, CARD_TESTING, 1), (1, CARD_TESTING, 2))
    before.choose(payments.take(np.arange(1)), positions[:1])
    ids.append(transaction_id(int(positions[0])))
    assert not before.choose(payments.take(np.arange(1, 2)), positions[1:2]).any()
    after = Declines(tmp_path / declines.FILE, SIMULATION, deque())
    assert after.labels_of_sent(labels_at(positions)).position.tolist() == [positions[0], positions[2]]
    # The campaign is still over, and what was not sent before is not sent now.
    assert after.choose(payments.take(np.arange(1, 3)), positions[1:]).tolist() == [False, False]


def test_a_file_of_another_simulation_says_nothing_about_this_one(tmp_path: Path) -> None:
    ids: deque[str] = deque()
    other = Declines(tmp_path / declines.FILE, SIMULATION, ids)
    payments, positions = payments_of((1, CARD_TESTING, 0), (1, CARD_TESTING, 1))
    other.choose(payments.take(np.arange(1)), positions[:1])
    ids.append(transaction_id(int(positions[0])))
    other.choose(payments.take(np.arange(1, 2)), positions[1:])
    own = Declines(tmp_path / declines.FILE, Simulation(**{**vars(SIMULATION), "sim_seed": 7}), deque())
    assert len(own.labels_of_sent(labels_at(positions))) == 2


@pytest.mark.parametrize("torn", ["", "[]", '{"simulation": null}', '{"left_out": [1]}'])
def test_a_broken_file_is_one_line_with_the_way_out(tmp_path: Path, torn: str) -> None:
    (tmp_path / declines.FILE).write_text(torn)
    with pytest.raises(UserError, match=r"declines\.json: .*rm -f"):
        Declines(tmp_path / declines.FILE, SIMULATION, deque())


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest fraud whose decision never came gives way."""
    monkeypatch.setattr(declines, "MOST_KEPT", 2)
    ids: deque[str] = deque()
    end = Declines(tmp_path / declines.FILE, SIMULATION, ids)
    payments, positions = payments_of((1, STOLEN_CARD, 0), (2, STOLEN_CARD, 0), (3, STOLEN_CARD, 0))
    end.choose(payments, positions)
    ids.extend(transaction_id(position) for position in positions.tolist())
    later, later_positions = payments_of((1, STOLEN_CARD, 1), (2, STOLEN_CARD, 1), (3, STOLEN_CARD, 1))
    assert end.choose(later, later_positions).tolist() == [True, False, False]


class Kafka:
    """Stands for the delivery and the scorer: keeps what is sent, and declines some of the payments at once."""

    def __init__(self, declined: deque[str] | None) -> None:
        self.payments: list[str] = []
        self.labels: list[str] = []
        self._declined = declined

    def send_batch(self, topic: str, batch: list[dict]) -> None:
        names = [message["value"].decode() for message in batch]
        if topic == program.LABELS:
            self.labels += names
            return
        self.payments += names
        if self._declined is not None:
            self._declined.extend(names)

    def poll(self, _: float) -> None: ...

    def settle(self, _: float) -> bool:
        return True


def run(folder: Path, last_day: int, declined: deque[str] | None, monkeypatch: pytest.MonkeyPatch) -> Kafka:
    """The producer's own loop up to a day, as fast as it can."""
    monkeypatch.setattr("producer.pacing.Pacer.due", lambda _, arrival, sent, limit, wait: limit)
    folder.mkdir(exist_ok=True)
    kafka = Kafka(declined)

    class Encoder:
        def encode(self, record: dict) -> bytes:
            return record["transaction_id"].encode()

    class Stop:
        def is_set(self) -> bool:
            return bool(kafka.payments) and (position_of(kafka.payments[-1]) or 0) >= last_day * POSITIONS_A_DAY

    program.Simulator(
        load_settings(Settings, state_dir=folder, sim_users=SIMULATION.sim_users),
        simulation=SIMULATION,
        encoders={topic: Encoder() for topic in (program.TRANSACTIONS, program.LABELS)},  # type: ignore[misc]
        resume=Resume.nothing(10),
        delivery=kafka,  # type: ignore[arg-type]
        stop=Stop(),  # type: ignore[arg-type]
        declined=declined,
    ).run()
    return kafka


def test_in_the_stream_only_live_frauds_end_and_their_labels_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is declined: of each live campaign and card, what comes after the first slice is missing."""
    last = SIMULATION.live_day + 20
    without = run(tmp_path / "off", last, None, monkeypatch)
    ended = run(tmp_path / "on", last, deque(), monkeypatch)
    stream = SIMULATION.stream()
    fraud = {
        transaction_id(position)
        for day in range(SIMULATION.live_day, last + 1)
        for position in stream.block(day).positions[stream.block(day).payments.scenario != LEGITIMATE].tolist()
    }
    missing = set(without.payments) - set(ended.payments)
    assert missing <= fraud
    assert len(missing) > 0.3 * len(fraud)
    assert [name for name in without.payments if name not in missing] == ended.payments
    assert [name for name in without.labels if name not in missing] == ended.labels
    assert missing & set(without.labels)
    assert not (tmp_path / "off" / declines.FILE).exists()


SCORED = {
    "type": "record",
    "name": "ScoredTransaction",
    "fields": [{"name": "transaction_id", "type": "string"}, {"name": "decision", "type": ["null", "string"]}],
}
OLD_SCORED = SCORED | {"fields": [{"name": "transaction_id", "type": "string"}]}


@pytest.mark.parametrize(
    ("schema", "record", "found"),
    [
        (SCORED, {"transaction_id": "tx-1", "decision": "decline"}, "tx-1"),
        (SCORED, {"transaction_id": "tx-1", "decision": "challenge"}, None),
        (SCORED, {"transaction_id": "tx-1", "decision": None}, None),
        (OLD_SCORED, {"transaction_id": "tx-1"}, None),
    ],
)
def test_which_scored_payments_were_declined(schema: dict, record: dict, found: str | None) -> None:
    buffer = io.BytesIO()
    buffer.write(HEADER.pack(0, 7))
    fastavro.schemaless_writer(buffer, schema, record)
    assert declined_id(decoder_of(schema), buffer.getvalue(), threading.Event()) == found


def decoder_of(schema: dict) -> Decoder:
    """One that knows the schema 7 and no other."""

    class Known(Decoder):
        def _look_up(self, schema_id: int) -> fastavro.types.Schema:
            if schema_id != 7:
                raise SerializationError(f"schema {schema_id} is not in the registry")
            return fastavro.parse_schema(dict(schema))

    return Known(None)  # type: ignore[arg-type]


def test_what_is_unreadable_declines_nothing() -> None:
    assert declined_id(decoder_of(SCORED), b"garbage", threading.Event()) is None
    assert declined_id(decoder_of(SCORED), None, threading.Event()) is None
