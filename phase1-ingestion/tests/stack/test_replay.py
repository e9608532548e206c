"""Users' own files through the real topics."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from fraud_common.avro import Decoder
from fraud_common.dead_letters import DeadLetter
from fraud_common.errors import UserError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import LABELS, TRANSACTIONS
from ingestion_stack import count_in, messages_in, waiting_letters
from producer.replay.replay import run_replay
from producer.settings import Settings

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
    assert b"u2;3 (2 columns instead of 3)" in (letter.value or b"")


def test_a_wrong_map_names_the_column_and_sends_nothing(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "map.yml").write_text("columns: {user_id: crd}")
    with pytest.raises(UserError, match=r"has no column 'crd' for user_id; its columns are id, card, "):
        run_replay(settings, EXAMPLES / "payments.csv", tmp_path / "map.yml")
    assert count_in(settings, TRANSACTIONS) == 0
