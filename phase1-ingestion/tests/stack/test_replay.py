"""Users' own files through the real topics."""

import json
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from fraud_common.avro import Decoder
from fraud_common.dead_letters import DeadLetter
from fraud_common.errors import UserError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import DEAD_LETTERS, LABELS, TRANSACTIONS
from ingestion_stack import count_in, id_in, messages_in, service, wait_until, waiting_letters
from layouts import LAYOUTS
from producer.replay.replay import run_replay
from producer.settings import Settings
from ugly_files import UGLY

pytestmark = pytest.mark.stack

EXAMPLES = Path(__file__).parents[2] / "examples"


def decoded(settings: Settings, topic: str) -> list[dict]:
    decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
    return sorted((decoder.decode(m.value()) for m in messages_in(settings, topic)), key=lambda r: r["transaction_id"])


def waiting(settings: Settings) -> list[DeadLetter]:
    return waiting_letters(settings)


def test_the_example_file(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run_replay(settings, EXAMPLES / "payments.csv", EXAMPLES / "payments.yml")
    assert "rows read: 6; sent: 5; labels sent: 4; dead-lettered: 1" in capsys.readouterr().out
    sent = decoded(settings, TRANSACTIONS)
    assert [r["transaction_id"] for r in sent] == ["1001", "1002", "1003", "1004", "1005"]
    assert sent[0]["event_time"] == datetime(2024, 3, 1, 9, 15, tzinfo=UTC)
    assert (sent[0]["currency"], sent[0]["city"], sent[0]["merchant_name"]) == ("EUR", "unknown", "Corner Bakery")
    labels = decoded(settings, LABELS)
    assert [r["is_fraud"] for r in labels] == [False, False, True, True]
    assert (labels[0]["reported_at"] - labels[0]["event_time"]).days == 7
    (letter,) = waiting(settings)
    assert letter.headers["dlq.error"] == "amount: 'not a number' is not a number"


def test_parquet_without_a_map_and_with_other_types(settings: Settings, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "user_id": [1, 2],
            "amount": [12.3, 7.0],
            "event_time": pd.to_datetime(["2019-05-01 10:00", "2019-05-01 11:00"]),
            "is_fraud": [True, None],
            "channel": ["a", "b"],
        }
    )
    frame.to_parquet(tmp_path / "mine.parquet")
    run_replay(settings, tmp_path / "mine.parquet", None)
    sent = decoded(settings, TRANSACTIONS)
    assert [str(r["amount"]) for r in sent] == ["12.30", "7.00"]
    assert sent[0]["transaction_id"].startswith("replay-")
    assert len(decoded(settings, LABELS)) == 1
    run_replay(settings, tmp_path / "mine.parquet", None)
    assert len({r["transaction_id"] for r in decoded(settings, TRANSACTIONS)}) == 2  # the same rows, recognisable


def test_lines_with_too_few_columns_are_kept_as_dead_letters(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id;amount;event_time\nu1;1.5;2024-01-01\nu2;3\nu3;2.5;2024-01-02\n")
    (tmp_path / "a.yml").write_text("delimiter: ';'\n")
    run_replay(settings, tmp_path / "a.csv", tmp_path / "a.yml")
    assert count_in(settings, TRANSACTIONS) == 2
    (letter,) = waiting(settings)
    assert letter.headers["dlq.error"] == "line: 2 columns instead of 3"
    assert json.loads(letter.value or b"")["original"] == {"user_id": "u2", "amount": "3"}


def test_a_wrong_map_names_the_column_and_sends_nothing(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "map.yml").write_text("columns: {user_id: crd}")
    with pytest.raises(UserError, match=r"has no column 'crd' for user_id; its columns are id, card, "):
        run_replay(settings, EXAMPLES / "payments.csv", tmp_path / "map.yml")
    assert count_in(settings, TRANSACTIONS) == 0


def test_every_row_of_the_ugly_files_is_sent_or_a_dead_letter(settings: Settings, tmp_path: Path) -> None:
    """D2 to D7."""
    for number, ugly in enumerate(UGLY):
        folder = tmp_path / str(number)
        folder.mkdir()
        run_replay(settings, *ugly.write(folder))
    assert count_in(settings, TRANSACTIONS) == sum(ugly.sent for ugly in UGLY)
    assert count_in(settings, LABELS) == sum(ugly.labels for ugly in UGLY)
    assert count_in(settings, DEAD_LETTERS) == sum(sum(ugly.refused.values()) for ugly in UGLY)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_public_data_set_by_the_name_of_its_map(settings: Settings, tmp_path: Path, name: str) -> None:
    make, suffix = LAYOUTS[name]
    make(tmp_path / f"file{suffix}")
    run_replay(settings, tmp_path / f"file{suffix}", Path(name))
    assert count_in(settings, TRANSACTIONS) == count_in(settings, LABELS) == (3 if name == "ulb" else 2)
    assert count_in(settings, DEAD_LETTERS) == 1


def test_a_check_sends_nothing(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("user_id,amount,event_time\nu1,1,1970-01-01\nu1,1,2024-01-01\n")
    run_replay(settings, tmp_path / "a.csv", None, check=True)
    assert "event_time_invalid: 1, the first is row 1" in capsys.readouterr().out
    assert count_in(settings, TRANSACTIONS) == count_in(settings, DEAD_LETTERS) == 0


def test_after_ctrl_c_the_printed_command_sends_the_rest(settings: Settings, tmp_path: Path) -> None:
    """D8."""
    rows = 300_000
    file = tmp_path / "large.csv"
    with file.open("w") as text:
        text.write("transaction_id,user_id,amount,event_time\n")
        text.writelines(f"t{n},u{n % 999},1.50,2024-03-01\n" for n in range(rows))
    command = [sys.executable, "-m", "producer.cli", "replay", str(file)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    wait_until(lambda: count_in(settings, TRANSACTIONS) > 2_000, "the first rows")
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGINT
    (start,) = re.findall(r"START=(\d+)", output)
    assert count_in(settings, TRANSACTIONS) == int(start) - 1 < rows
    subprocess.run([*command, "--start", start], check=True, capture_output=True)
    assert count_in(settings, TRANSACTIONS) == rows
    assert len({id_in(message.value()) for message in messages_in(settings, TRANSACTIONS)}) == rows


def test_a_broker_that_is_away_is_waited_for(settings: Settings, tmp_path: Path) -> None:
    """D8: large rows fill the client's queue; none becomes a dead letter."""
    file = tmp_path / "large.csv"
    with file.open("w") as text:
        text.write("user_id,amount,event_time,city\n")
        text.writelines(f"u{n},1.50,2024-03-01,{'x' * 20_000}\n" for n in range(12_000))
    run = subprocess.Popen(
        [sys.executable, "-m", "producer.cli", "replay", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: count_in(settings, TRANSACTIONS) > 0, "the first rows")
    kafka = service("kafka")
    kafka.stop(timeout=60)
    down_since = time.monotonic()
    while time.monotonic() - down_since < 15:  # the outage itself, not a wait for something
        assert run.poll() is None
        time.sleep(0.5)
    kafka.start()
    output, errors = run.communicate(timeout=180)
    assert "rows read: 12,000; sent: 12,000; labels sent: 0; dead-lettered: 0" in output, errors[-2000:]
    assert count_in(settings, TRANSACTIONS) == 12_000
