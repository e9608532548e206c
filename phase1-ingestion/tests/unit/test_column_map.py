"""Column maps and files: which column is which field, and errors that name it."""

from pathlib import Path

import pandas as pd
import pytest
from fraud_common.errors import UserError
from producer.replay.column_map import ColumnMap, fields_of, load_map, to_draft
from producer.replay.files import open_rows

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("column_map", "message"),
    [
        ("columns: {user_id: crd}", r"has no column 'crd' for user_id; its columns are id, card, "),
        ("columns: {usr: card}", r"usr is not a field; the fields are amount, "),
        ("columns: {amount: amt}", r"user_id is required; name its column in the map"),
        ("colums: {amount: amt}", r"colums: Extra inputs are not permitted"),
        ("columns: [", r"not YAML"),
    ],
)
def test_a_wrong_map_names_the_column(tmp_path: Path, column_map: str, message: str) -> None:
    file = EXAMPLES / "payments.csv"
    (tmp_path / "map.yml").write_text(column_map)
    with pytest.raises(UserError, match=message):
        fields_of(load_map(tmp_path / "map.yml"), open_rows(file, ",").columns, file)


def test_a_missing_map_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^MAP=.*none\.yml: No such file or directory$"):
        load_map(tmp_path / "none.yml")


def test_without_a_map_each_column_is_the_field_of_its_name() -> None:
    fields = fields_of(load_map(None), ["user_id", "amount", "event_time", "is_fraud", "other"], Path("f.csv"))
    assert fields == {name: name for name in ("user_id", "amount", "event_time", "is_fraud")}


def test_a_draft_has_the_files_values_the_defaults_and_an_id() -> None:
    column_map = ColumnMap(columns={"user_id": "card"}, defaults={"currency": "EUR", "city": "Bonn"})
    fields = {"user_id": "card", "city": "town"}
    assert to_draft({"card": "c1", "town": None}, fields, column_map, "row-1") == {
        "user_id": "c1",
        "currency": "EUR",
        "city": "Bonn",
        "transaction_id": "row-1",
    }


def test_a_csv_keeps_text_and_the_lines_that_are_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("user_id;amount\n007;1.50\nu2\nu3;\n")
    source = open_rows(file, ";")
    assert (source.columns, source.rows) == (["user_id", "amount"], 3)
    rows = [row for batch in source.batches for row in batch]
    assert rows == [{"user_id": "007", "amount": "1.50"}, {"user_id": "u3", "amount": ""}]
    assert source.broken == ["u2 (1 columns instead of 2)"]


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    pd.DataFrame({"user_id": [1, 2], "amount": [12.5, 7.0]}).to_parquet(tmp_path / "a.parquet")
    source = open_rows(tmp_path / "a.parquet", ",")
    assert (source.columns, source.rows) == (["user_id", "amount"], 2)
    assert [row for batch in source.batches for row in batch][1] == {"user_id": 2, "amount": 7.0}


def test_a_file_that_is_not_there_or_not_parquet_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^FILE=.*none\.csv: No such file or directory$"):
        open_rows(tmp_path / "none.csv", ",")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UserError, match=r"^FILE=.*text\.parquet: can't be read as \.parquet: "):
        open_rows(tmp_path / "text.parquet", ",")
