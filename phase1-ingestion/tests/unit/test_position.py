"""The simulator's position on its volume: after Kafka's retention the history is not sent again."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import producer.producer as program
import pytest
from fraud_common.errors import UserError
from fraud_common.settings import load_settings
from producer.position import combine, load_position, missing_in_kafka, save_position
from producer.producer import find_start
from producer.resume import Resume
from producer.settings import Settings
from producer.simulation import Simulation, load_or_start, write_atomically
from producer.simulator.payments import DAY_MS
from producer.simulator.stream import POSITIONS_A_DAY
from producer.simulator.world import FIRST_SCHEME, SCHEME

SIMULATION = Simulation(
    sim_seed=42,
    sim_users=100,
    label_delay_scale=1.0,
    start_day=20_000,
    live_day=20_045,
    sim_profile="cards",
    scheme=SCHEME,
)


def resume(*payments: int, labels: tuple[int, ...] | None = None) -> Resume:
    """A resume with these positions; a label's time is its position's day."""
    position = np.array(labels if labels is not None else payments)
    reported = np.where(position < 0, -1, position // POSITIONS_A_DAY * DAY_MS)
    return Resume(np.array(payments), reported, position)


def day(number: int, rank: int = 0) -> int:
    return (20_000 + number) * POSITIONS_A_DAY + rank


def same(one: Resume, other: Resume) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    saved = resume(day(3), -1)
    save_position(tmp_path / "position.json", SIMULATION, saved)
    assert same(load_position(tmp_path / "position.json", SIMULATION, 2), saved)
    assert [file.name for file in tmp_path.iterdir()] == ["position.json"]


def test_a_fresh_start_sends_everything(tmp_path: Path) -> None:
    """A5: both volumes were removed."""
    start = combine(Resume.nothing(2), load_position(tmp_path / "position.json", SIMULATION, 2))
    assert not start.found_anything
    assert start.first_day(20_000) == start.first_label_day(20_000) == 20_000


def test_the_position_of_an_earlier_release_counts(tmp_path: Path) -> None:
    """A5: it names neither scheme nor profile, and its history is not sent again."""
    file, earlier = tmp_path / "position.json", replace(SIMULATION, scheme=FIRST_SCHEME)
    save_position(file, earlier, resume(day(3), day(3)))
    content = json.loads(file.read_text())
    for name in ("sim_profile", "scheme"):
        del content["simulation"][name]
    file.write_text(json.dumps(content))
    assert load_position(file, earlier, 2).found_anything
    assert not load_position(file, SIMULATION, 2).found_anything


def test_the_position_of_another_simulation_does_not_count(tmp_path: Path) -> None:
    save_position(tmp_path / "position.json", SIMULATION, resume(day(3), day(3)))
    other = replace(SIMULATION, start_day=20_010)
    assert not load_position(tmp_path / "position.json", other, 2).found_anything


@pytest.mark.parametrize(
    ("in_kafka", "saved", "start"),
    [
        # Retention, or a topic that was made again, left nothing, or nothing in some partitions.
        (resume(-1, -1), resume(day(3, 7), day(3, 9)), resume(day(3, 7), day(3, 9))),
        (resume(day(3, 8), -1), resume(day(3, 7), day(3, 9)), resume(day(3, 8), day(3, 9))),
        (
            resume(day(3), day(3), labels=(-1, day(1))),
            resume(day(3), day(3)),
            resume(day(3), day(3), labels=(day(3), day(1))),
        ),
        # Killed after the last save: Kafka has newer.
        (resume(day(5), day(5)), resume(day(3), day(3)), resume(day(5), day(5))),
        # The broker lost its end in a power cut: what it lost is sent again.
        (resume(day(2), day(2)), resume(day(3), day(3)), resume(day(2), day(2))),
        # A partition that never had a label.
        (resume(day(2), labels=(-1,)), resume(day(2), labels=(-1,)), resume(day(2), labels=(-1,))),
    ],
)
def test_kafka_wins_and_the_file_fills_the_gaps(in_kafka: Resume, saved: Resume, start: Resume) -> None:
    """A5."""
    assert same(combine(in_kafka, saved), start)


def test_the_stream_continues_after_the_file_where_retention_deleted_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A5: nothing of the history is sent again, and the log says how to do that."""
    settings = load_settings(Settings, state_dir=tmp_path)
    save_position(tmp_path / "position.json", SIMULATION, resume(day(9, 4), day(9, 6)))
    start = find_start(settings, SIMULATION, Resume.nothing(2))
    assert start.first_day(20_000) == start.first_label_day(20_000) == 20_009
    positions = np.array([day(0), day(9, 4), day(9, 5), day(9, 6), day(9, 7)])
    assert start.missing_payments(positions, np.array([0, 0, 0, 1, 1])).tolist() == [False, False, True, False, True]
    (line,) = caplog.messages
    assert line.startswith("partitions [0, 1] of transactions.raw have none of the messages that were sent to them")
    assert "rm -f /var/lib/producer/position.json" in line
    assert missing_in_kafka(resume(day(9)), resume(day(9))) == []


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"payments": [1]}', '{"payments": "x", "simulation": null}', "\0\0"])
def test_a_broken_file_is_one_line_with_the_way_out(tmp_path: Path, torn: str) -> None:
    (tmp_path / "position.json").write_text(torn)
    with pytest.raises(UserError, match=r"position\.json: .*delete it: docker compose stop producer"):
        load_position(tmp_path / "position.json", SIMULATION, 2)


def test_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    save_position(tmp_path / "position.json", SIMULATION, resume(day(1), day(1)))
    with pytest.raises(UserError, match="is of 2 partitions, the topics have 3"):
        load_position(tmp_path / "position.json", SIMULATION, 3)


@pytest.mark.parametrize("fails", ["fsync", "rename"])
def test_a_crash_while_saving_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """A5: written to another file, forced to disk, renamed."""
    file = tmp_path / "state.json"
    write_atomically(file, {"a": 1})

    def crash(*_: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr("producer.simulation.os.fsync" if fails == "fsync" else "pathlib.Path.rename", crash)
    with pytest.raises(OSError, match="power cut"):
        write_atomically(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 1}


def test_the_simulation_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    monkeypatch.setattr("producer.simulation.write_atomically", lambda _, content: written.append(content))
    load_or_start(tmp_path / "simulation.json", SIMULATION)
    assert written == [asdict(SIMULATION)]


class Broker:
    """A delivery that acknowledges everything, or nothing."""

    def __init__(self, settles: bool = True) -> None:
        self.sent: list[tuple[str, bytes, int]] = []
        self.settles = settles

    def send_batch(self, topic: str, batch: list[dict]) -> None:
        self.sent.extend((topic, message["value"], message["partition"]) for message in batch)

    def poll(self, _: float) -> None:
        pass

    def settle(self, _: float) -> bool:
        return self.settles


def simulator(folder: Path, broker: Broker, stop_after: int, start: Resume | None = None) -> program.Simulator:
    """A simulator of a small world that stops after some messages."""

    class Stop:
        def is_set(self) -> bool:
            return len(broker.sent) >= stop_after

    class Encoder:
        def encode(self, record: dict) -> bytes:
            return record["transaction_id"].encode()

    encoders = {topic: Encoder() for topic in (program.TRANSACTIONS, program.LABELS)}
    return program.Simulator(
        load_settings(Settings, state_dir=folder, sim_users=100),
        simulation=SIMULATION,
        encoders=encoders,  # type: ignore[arg-type]
        resume=start or Resume.nothing(10),
        delivery=broker,  # type: ignore[arg-type]
        stop=Stop(),  # type: ignore[arg-type]
    )


@pytest.fixture
def saves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "SECONDS_BETWEEN_SAVES", 0.0)


@pytest.mark.usefixtures("saves_at_once")
def test_a_stream_that_is_continued_by_the_file_alone_sends_the_rest_once(tmp_path: Path) -> None:
    """A5: two runs with an empty Kafka between them send what one long run sends."""
    first, second = Broker(), Broker()
    simulator(tmp_path, first, 5_000).run()
    simulator(tmp_path, second, 4_000, load_position(tmp_path / "position.json", SIMULATION, 10)).run()
    (tmp_path / "once").mkdir()
    once = Broker()
    simulator(tmp_path / "once", once, 10_000).run()
    both = first.sent + second.sent
    assert len(set(both)) == len(both) >= 9_000
    payments = [value for topic, value, _ in both if topic == program.TRANSACTIONS]
    assert payments == [value for topic, value, _ in once.sent if topic == program.TRANSACTIONS][: len(payments)]
    assert set(both) & set(once.sent) == set(both)


@pytest.mark.usefixtures("saves_at_once")
def test_what_is_not_acknowledged_is_not_saved(tmp_path: Path) -> None:
    """A5: after kill -9 the file never claims what Kafka does not have."""
    simulator(tmp_path, Broker(settles=False), 2_000).run()
    assert not (tmp_path / "position.json").exists()


@pytest.mark.usefixtures("saves_at_once")
def test_labels_are_saved_too(tmp_path: Path) -> None:
    broker = Broker()
    simulator(tmp_path, broker, 9_000).run()
    saved = load_position(tmp_path / "position.json", SIMULATION, 10)
    assert saved.found_anything
    with_labels = {partition for topic, _, partition in broker.sent if topic == program.LABELS}
    assert with_labels == set(np.flatnonzero(saved.label_reported >= 0).tolist())
