"""Files as people have them, and what replay must make of each: how many rows it sends, refuses and labels."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HEAD = "user_id,amount,event_time\n"
GOOD = "u1,1.50,2024-03-01 09:15:00\n"


@dataclass(frozen=True)
class Ugly:
    """A file and the exact outcome of its replay."""

    name: str
    make: bytes | Callable[[Path], None]
    sent: int
    refused: dict[str, int] = field(default_factory=dict)  # by reason
    labels: int = 0
    column_map: str = ""
    suffix: str = ".csv"

    def write(self, folder: Path) -> tuple[Path, Path | None]:
        """The file, and its map if it has one."""
        file = folder / f"ugly{self.suffix}"
        if isinstance(self.make, bytes):
            file.write_bytes(self.make)
        else:
            self.make(file)
        if not self.column_map:
            return file, None
        (folder / "map.yml").write_text(self.column_map)
        return file, folder / "map.yml"


def _text(rows: str) -> bytes:
    return (HEAD + rows).encode()


def _float_ids(file: Path) -> None:
    times = pd.to_datetime(["2024-03-01 09:15"] * 3)
    frame = pd.DataFrame({"user_id": [1001.0, None, 1003.0], "amount": [1.5, 2.5, float("nan")], "event_time": times})
    frame.to_parquet(file)


def _typed(file: Path) -> None:
    moment = datetime(2024, 3, 1, 9, 15, tzinfo=UTC)
    table = pa.table(
        {
            "user_id": pa.array([b"u1", b"u\xe9", None], pa.binary()),
            "amount": pa.array([Decimal("12.30"), Decimal("0.01"), Decimal("5.00")], pa.decimal128(20, 2)),
            "event_time": pa.array([int(moment.timestamp()) * 10**9 + 123_456_789] * 3, pa.timestamp("ns")),
            "merchant_id": pa.array(["m1", "m2", "m1"]).dictionary_encode(),
            "is_fraud": pa.array([True, None, False]),
        }
    )
    pq.write_table(table, file)


def _future(rows: int) -> str:
    soon = datetime.now(UTC) + timedelta(days=3)
    return f"u1,1.50,{soon:%Y-%m-%d %H:%M:%S}\n" * rows


UGLY = [
    Ugly(
        "one Latin-1 byte",
        _text(GOOD * 50 + "u\xe9,2.00,2024-03-01\n").decode().encode("latin-1"),
        50,
        {"SerializationError": 1},
    ),
    Ugly(
        "Latin-1 by the map",
        _text(GOOD + "Jos\xe9,2.00,2024-03-01\n").decode().encode("latin-1"),
        2,
        column_map="encoding: latin-1",
    ),
    Ugly("UTF-16 with its mark", (HEAD + GOOD + "José,2.00,2024-03-01\n").encode("utf-16"), 2),
    Ugly("a byte order mark and CRLF", b"\xef\xbb\xbf" + _text(GOOD * 3).replace(b"\n", b"\r\n"), 3),
    Ugly(
        "semicolons, decimal commas, German dates",
        b"wer;wieviel;wann\nu1;1.234,50;01.03.2024 09:15\nu2;0,99;01.03.2024 09:16\nu3;12.50;01.03.2024 09:17\n",
        2,
        {"SerializationError": 1},
        column_map="columns: {user_id: wer, amount: wieviel, event_time: wann}\n"
        "decimal: ','\ntime_format: '%d.%m.%Y %H:%M'\n",
    ),
    Ugly("tabs", (HEAD + GOOD * 2).replace(",", "\t").encode(), 2),
    Ugly(
        "words for null",
        _text(
            "NULL,1.00,2024-03-01\n\\N,1.00,2024-03-01\nnan,1.00,2024-03-01\n(null),1.00,2024-03-01\n"
            ",1.00,2024-03-01\n" + GOOD
        ),
        1,
        {"user_id_missing": 5},
    ),
    Ugly(
        "amounts that are none",
        _text(
            "u1,1e400,2024-03-01\nu1,inf,2024-03-01\nu1,abc,2024-03-01\nu1,1_000,2024-03-01\nu1,1.005,2024-03-01\n"
            "u1,0,2024-03-01\nu1,-5,2024-03-01\nu1,nan,2024-03-01\nu1,10000000000,2024-03-01\n" + GOOD
        ),
        1,
        {"SerializationError": 5, "amount_not_positive": 4},
    ),
    Ugly(
        "times that are none",
        _text("u1,1.00,soon\nu1,1.00,2024-02-30\nu1,1.00,1970-01-01\nu1,1.00,\n" + _future(1) + GOOD),
        1,
        {"SerializationError": 2, "event_time_invalid": 2, "event_time_in_future": 1},
    ),
    Ugly(
        "rows of other lengths",
        _text("u1,1.00\n" + GOOD + "u1,1.00,2024-03-01,4\nu1\n" + GOOD),
        2,
        {"SerializationError": 3},
    ),
    Ugly(
        "quotation marks, line breaks and blank lines in the middle",
        _text('"u,1",1.00,2024-03-01\n\n"u\n2",1.00,2024-03-01\nu"3,1.00,2024-03-01\n\n"u""4",1.00,2024-03-01\n'),
        3,
        {"user_id_invalid": 1},
    ),
    Ugly("the same row three times", _text(GOOD * 3), 3),
    Ugly(
        "seconds since some start, and labels",
        b"who,cents,t,f\nu1,150,0,Yes\nu1,150,3600,no\nu1,150,x,no\nu1,150,7200,\n",
        3,
        {"SerializationError": 1},
        2,
        column_map="columns: {user_id: who, amount: cents::double / 100, event_time: t, is_fraud: f}\n"
        "time_origin: 2024-01-01\n",
    ),
    Ugly(
        "labels that can't be read",
        b"user_id,amount,event_time,is_fraud\nu1,1,2024-03-01,maybe\nu1,1,2024-03-02,1\nu1,1,2024-03-03,0.0\n",
        2,
        {"SerializationError": 1},
        2,
    ),
    Ugly(
        "labels from before the payment or from the future",
        b"user_id,amount,event_time,is_fraud,reported_at\nu1,1,2024-03-02,1,2024-03-01\nu1,1,2024-03-02,1,2999-01-01\n"
        b"u1,1,2024-03-02,1,2024-03-05\nu1,1,2024-03-02,,2999-01-01\n",
        2,
        {"reported_before_event": 1, "reported_in_future": 1},
        1,
    ),
    Ugly(
        "a text column called metadata",
        b'user_id,amount,event_time,metadata\nu1,1,2024-03-01,hello\nu1,1,2024-03-02,"{""a"": 1}"\n'
        b"u1,1,2024-03-03,{broken\nu1,1,2024-03-04,\n",
        4,
    ),
    Ugly("gzip", gzip.compress(_text(GOOD * 4 + "u1\n")), 4, {"SerializationError": 1}, suffix=".csv.gz"),
    Ugly(
        "bzip2 in Latin-1, whatever it is called",
        bz2.compress((HEAD + "é,1,2024-03-01\n").encode("latin-1")),
        1,
        column_map="encoding: windows-1252",
        suffix=".txt",
    ),
    Ugly("xz", lzma.compress(_text(GOOD)), 1),
    Ugly(
        "Parquet: ids as floats with NaN",
        _float_ids,
        1,
        {"user_id_missing": 1, "amount_not_positive": 1},
        suffix=".parquet",
    ),
    Ugly(
        "Parquet: bytes, decimals, nanoseconds, a dictionary", _typed, 2, {"user_id_missing": 1}, 1, suffix=".parquet"
    ),
    Ugly(
        "JSON lines with nulls, nested values and a line that is none",
        b'{"user_id": 1, "amount": 1.5, "event_time": "2024-03-01T09:15:00Z", "x": {"y": 1}}\n'
        b'{"user_id": null, "amount": 2, "event_time": "2024-03-01"}\nnot json\n[1]\n'
        b'{"event_time": "2024-03-01", "user_id": "u2", "amount": "3", "is_fraud": true}\n',
        2,
        {"SerializationError": 2, "user_id_missing": 1},
        1,
        suffix=".jsonl",
    ),
    Ugly(
        "an expression that fails for a row",
        b"Year,Month,Day,User,Card,Amount\n2024,3,1,7,1,$12.50\n2024,13,1,7,1,$1.00\n2024,3,2,7,2,x\n",
        1,
        {"SerializationError": 2},
        column_map="""columns:
  user_id: '"User" || ''-'' || "Card"'
  amount: replace("Amount", '$', '')
  event_time: make_timestamp("Year", "Month", "Day", 9, 15, 0)
""",
    ),
    Ugly(
        "values by other names",
        b"user_id,amount,event_time,device_type,state\nu1,1,2024-03-01,iOS,Chargeback\nu1,1,2024-03-02,Watch,settled\n"
        b"u1,1,2024-03-03,POS,\n",
        3,
        labels=2,
        column_map="columns: {is_fraud: state}\nvalues: {device_type: {iOS: mobile}}\nfraud_values: [chargeback]\n",
    ),
    Ugly(
        "ids that are too long, blank, or have control characters",
        _text("u" * 129 + ",1,2024-03-01\nu\t1,1,2024-03-01\n   ,1,2024-03-01\n u 1 ,1,2024-03-01\n"),
        1,
        {"user_id_invalid": 2, "user_id_missing": 1},
    ),
    Ugly("a header only", HEAD.encode(), 0),
    Ugly(
        "no line break at the end, and names with blanks and other cases",
        b"user_id, amount ,EVENT_TIME\nu1,1,2024-03-01",
        1,
        column_map="columns: {event_time: event_time}",
    ),
]
