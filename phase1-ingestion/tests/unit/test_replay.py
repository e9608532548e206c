"""Ids, order, labels, dead letters and summaries of replayed files; and sending: waiting, stopping, resuming."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fraud_common.topics import LABELS, TRANSACTIONS
from producer.replay.column_map import ColumnMap
from producer.replay.letters import label_of
from producer.replay.replay import Messages, Progress, Sender
from producer.replay.rows import read_rows
from replayed import encoders, replayed
from tqdm import tqdm

CSV = "user_id,amount,event_time\nu1,1.50,2024-03-01 09:15:00\nu1,1.50,2024-03-01 09:15:00\nu2,2,2024-02-01\n"


def ids(file: Path, map_file: Path | None = None) -> list[str]:
    return [payment["transaction_id"] for payment in replayed(file, map_file).payments]


def test_ids_come_from_the_content(tmp_path: Path) -> None:
    """D1."""
    for folder, text in [("a", CSV), ("b", CSV.replace("1.50", "1.51")), ("c", CSV)]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tx.csv").write_text(text)
    a, b, c = (ids(tmp_path / folder / "tx.csv") for folder in "abc")
    assert a == c
    assert len(set(a)) == 3
    assert a[1] == f"{a[0]}-2"
    assert set(a) & set(b) == {a[2]}  # the same row is the same payment


def test_ids_do_not_depend_on_portions_nor_on_the_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "map.yml").write_text("order_by_time: true")
    in_order = replayed(tmp_path / "a.csv", tmp_path / "map.yml", portion=1)
    times = [payment["event_time"] for payment in in_order.payments]
    assert times == sorted(times)
    assert sorted(ids(tmp_path / "a.csv")) == sorted(payment["transaction_id"] for payment in in_order.payments)


def test_a_row_without_its_id_gets_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("transaction_id," + CSV.replace("\nu", "\n7,u").replace("\n7,u2", "\n,u2"))
    seven, _, made = ids(tmp_path / "a.csv")
    assert seven == "7"
    assert made.startswith("replay-")


def test_types_of_parquet(tmp_path: Path) -> None:
    """D5."""
    from ugly_files import UGLY

    for name, users in [("ids as floats", ["1001"]), ("bytes", ["u1", r"u\xE9"])]:
        (ugly,) = [ugly for ugly in UGLY if ugly.name.startswith("Parquet") and name in ugly.name]
        result = replayed(*ugly.write(tmp_path))
        assert [payment["user_id"] for payment in result.payments] == users
    assert [str(payment["amount"]) for payment in result.payments] == ["12.30", "0.01"]
    assert result.payments[0]["event_time"] == datetime(2024, 3, 1, 9, 15, 0, 123_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column_map", "value", "expected"),
    [
        ("", "2024-03-01T10:15:00+01:00", "2024-03-01T09:15:00+00:00"),
        ("", "20240301", "2024-03-01T00:00:00+00:00"),
        ("time_zone: America/New_York", "2024-03-01 09:15:00", "2024-03-01T14:15:00+00:00"),
        ("time_zone: America/New_York", "2024-03-01T09:15:00Z", "2024-03-01T09:15:00+00:00"),
        ("time_format: s", "1709284500.25", "2024-03-01T09:15:00.250000+00:00"),
        ("time_format: ms", "1709284500000", "2024-03-01T09:15:00+00:00"),
        ("time_format: '%d/%m/%Y %H:%M'", "01/03/2024 09:15", "2024-03-01T09:15:00+00:00"),
        ("time_format: '%d/%m/%Y %H:%M %z'", "01/03/2024 09:15 -0200", "2024-03-01T11:15:00+00:00"),
        ("{time_origin: 2024-01-01, time_unit: days, time_zone: Europe/Paris}", "1.5", "2024-01-02T11:00:00+00:00"),
        ("time_unit: minutes", "28488075", "2024-03-01T09:15:00+00:00"),
    ],
)
def test_times(tmp_path: Path, column_map: str, value: str, expected: str) -> None:
    """D3, D4."""
    (tmp_path / "a.csv").write_text(f"user_id,amount,event_time\nu1,1,{value}\n")
    (tmp_path / "map.yml").write_text(column_map)
    (payment,) = replayed(tmp_path / "a.csv", tmp_path / "map.yml").payments
    assert payment["event_time"] == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    ("column_map", "value", "expected"),
    [
        ("decimal: ','", "1.234,50", "1234.50"),
        ("thousands: ','", '"1,234.5"', "1234.50"),
        ("{thousands: ' ', decimal: ','}", "'1 234,5'", None),
        ("{thousands: ' ', decimal: ','}", "1\u00a0234,5", "1234.50"),
        ('thousands: "\'"', "1'234.50", "1234.50"),
        ("", "12.300000190734863", "12.30"),
        ("", "1e3", "1000.00"),
        ("decimal: ','", "12.50", None),
    ],
)
def test_amounts(tmp_path: Path, column_map: str, value: str, expected: str | None) -> None:
    """D3."""
    (tmp_path / "a.csv").write_text(f"user_id;amount;event_time\nu1;{value};2024-03-01\n")
    (tmp_path / "map.yml").write_text(column_map)
    amounts = [str(payment["amount"]) for payment in replayed(tmp_path / "a.csv", tmp_path / "map.yml").payments]
    assert amounts == ([] if expected is None else [expected])


def test_a_label_of_the_file_is_known_by_now(tmp_path: Path) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)
    (tmp_path / "a.csv").write_text(
        f"user_id,amount,event_time,is_fraud\nu1,1,{yesterday.isoformat()},1\nu1,1,2024-03-01,0\n"
    )
    recent, old = replayed(tmp_path / "a.csv").labels
    assert yesterday < recent["reported_at"] <= datetime.now(UTC)
    assert (old["reported_at"] - old["event_time"]).days == 7


def test_a_dead_letter_keeps_what_was_understood(tmp_path: Path) -> None:
    """D9."""
    (tmp_path / "a.csv").write_text(
        "who;when;what;bad;note\nu1;01.03.2024;1,50;1;x\nu2;soon;2,50;1;y\nu3;01.03.2024;z;;\n"
    )
    (tmp_path / "map.yml").write_text(
        "columns: {user_id: who, event_time: when, amount: what, is_fraud: bad}\ndecimal: ','\n"
        "time_format: '%d.%m.%Y'\nlabel_delay_days: 3\n"
    )
    without_time, without_amount = replayed(tmp_path / "a.csv", tmp_path / "map.yml").letters
    assert (without_time["user_id"], without_time["amount"], without_time["event_time"]) == ("u2", "2.50", "soon")
    assert without_time["original"] == {"who": "u2", "when": "soon", "what": "2,50", "bad": "1", "note": "y"}
    assert (without_time["row"], without_time["file"]) == (2, "a.csv")
    event_time = datetime(2024, 3, 1, tzinfo=UTC)
    label = label_of(without_time, event_time)
    assert label is not None
    assert datetime.fromisoformat(label["reported_at"]) == event_time + timedelta(days=3)
    assert (without_amount["event_time"], without_amount["amount"]) == ("2024-03-01T00:00:00+00:00", "z")
    assert label_of(without_amount, event_time) is None


def test_a_line_that_can_not_be_read_has_its_number_and_its_bytes(tmp_path: Path) -> None:
    """D2."""
    (tmp_path / "a.csv").write_bytes(CSV.encode() + b"caf\xe9,1.00,2024-03-01\n")
    result = replayed(tmp_path / "a.csv")
    (letter,) = result.letters
    assert (letter["line_number"], letter["line"]) == (5, r"caf\xe9,1.00,2024-03-01")
    assert result.errors == ["line 5: not UTF-8; name the file's encoding in the map (encoding: latin-1)"]


def test_a_payment_whose_label_does_not_fit_is_a_dead_letter_only(tmp_path: Path) -> None:
    """D13."""
    (tmp_path / "a.csv").write_text(
        "user_id,amount,event_time,is_fraud,fraud_type\nu1,1,2024-03-01,1,a\nu2,1,2024-03-01,1,a\tb\n"
    )
    result = replayed(tmp_path / "a.csv")
    assert [payment["user_id"] for payment in result.payments] == ["u1"]
    assert dict(result.reasons) == {"fraud_type_invalid": 1}


def test_a_record_that_is_too_large_is_a_dead_letter_with_its_label(tmp_path: Path) -> None:
    """D13."""
    (tmp_path / "a.csv").write_text(
        f"user_id,amount,event_time,is_fraud,city\nu1,1,2024-03-01,1,{'x' * 1_200_000}\nu1,1,2024-03-01,1,y\n"
    )
    result = replayed(tmp_path / "a.csv")
    assert (len(result.payments), len(result.labels)) == (1, 1)
    assert result.letters[0]["label"]["is_fraud"] is True
    assert "bytes, more than the topic takes" in result.errors[0]


def test_the_summary_says_what_will_happen(tmp_path: Path) -> None:
    """D4: what Bronze would refuse is said before sending."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [f"u{n % 9},1,{(start + timedelta(hours=n)).isoformat()},{int(n % 5 == 0)}" for n in range(800)]
    (tmp_path / "a.csv").write_text("\n".join(["user_id,amount,event_time,is_fraud", *rows, "u1,1,1970-01-01,0", ""]))
    summary = replayed(tmp_path / "a.csv").summary
    text = "\n".join([*summary.lines(), *summary.next_steps()])
    assert "a.csv: 801 rows" in text
    assert "800 payments of 9 users, 2024-01-01 00:00 to 2024-02-03 07:00 UTC" in text
    assert "labels: 800, of which 160 are fraud (20.00% of the labels)" in text
    assert "event_time_invalid: 1, the first is row 801: event_time_invalid: 1970-01-01T00:00:00+00:00" in text
    assert "463 payments, of which 93 are labelled as fraud" in text
    assert "a model can be trained. Next: make dbt-run, then make ml-train" in text


class Broker:
    """Stands in for Delivery: acknowledges at once, or not at all."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers
        self.sent: dict[str, list[Any]] = {TRANSACTIONS: [], LABELS: []}
        self.letters: list[bytes] = []

    def send_batch(self, topic: str, batch: list[dict[str, Any]]) -> None:
        self.sent[topic] += [message["value"] for message in batch]

    def dead_letter(self, topic: str, key: bytes | None, value: bytes, *, reason: str, error: str) -> None:
        self.letters.append(value)

    def settle(self, seconds: float) -> bool:
        return self.answers


def stops_after(rounds: int) -> Iterator[bool]:
    yield from [False] * rounds
    while True:
        yield True


def test_what_a_stop_leaves_the_next_run_sends_and_nothing_twice(tmp_path: Path) -> None:
    """D8."""
    rows = "".join(f"u{n},{n % 7},2024-03-01\n" for n in range(9_000))  # one in seven is refused: 0.00
    (tmp_path / "a.csv").write_text(f"user_id,amount,event_time\n{rows}u1\n")
    with read_rows(tmp_path / "a.csv", ColumnMap()) as table:
        messages = Messages(encoders(), table, ColumnMap())
        whole, first, second = Broker(answers=True), Broker(answers=True), Broker(answers=True)
        Sender(whole, messages, Progress(0, table.size), lambda: False).send(tqdm(disable=True))  # type: ignore[arg-type]
        stop = stops_after(1)
        stopped = Progress(0, table.size)
        Sender(first, messages, stopped, lambda: next(stop)).send(tqdm(disable=True))  # type: ignore[arg-type]
        rest = Progress(stopped.position, table.size)
        Sender(second, messages, rest, lambda: False).send(tqdm(disable=True))  # type: ignore[arg-type]
    assert 0 < stopped.position < table.size
    assert first.sent[TRANSACTIONS] + second.sent[TRANSACTIONS] == whole.sent[TRANSACTIONS]
    assert first.letters + second.letters == whole.letters
    assert len(whole.sent[TRANSACTIONS]) + len(whole.letters) == 9_001


def test_while_the_broker_is_away_replay_waits_with_a_bounded_queue(tmp_path: Path) -> None:
    """D8."""
    wide = "x" * 20_000
    (tmp_path / "a.csv").write_text(
        "user_id,amount,event_time,city\n" + "".join(f"u{n},1,2024-03-01,{wide}\n" for n in range(8_000))
    )
    with read_rows(tmp_path / "a.csv", ColumnMap()) as table:
        broker, progress = Broker(answers=False), Progress(0, table.size)
        stop = stops_after(30)
        Sender(broker, Messages(encoders(), table, ColumnMap()), progress, lambda: next(stop)).send(  # type: ignore[arg-type]
            tqdm(disable=True)
        )
    assert sum(map(len, broker.sent[TRANSACTIONS])) < 100_000_000
    assert progress.position < progress.size
    assert progress.settled == 0
    assert broker.letters == []


def test_the_first_signal_asks_for_a_stop_and_the_second_ends(tmp_path: Path) -> None:
    """D8."""
    from producer.replay.replay import _signals

    with _signals() as received:
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
