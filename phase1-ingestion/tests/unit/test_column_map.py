"""Column maps: what they may say, and one line that names the key for what they may not."""

import re
from pathlib import Path

import pytest
from fraud_common.errors import UserError
from producer.replay.column_map import ColumnMap, load_map, shipped_maps
from replayed import replayed

EXAMPLES = Path(__file__).parents[2] / "examples"
CSV = "user_id,amount,event_time\nu1,1.50,2024-03-01\n"


def written(folder: Path, column_map: str) -> Path:
    (folder / "map.yml").write_text(column_map)
    return folder / "map.yml"


@pytest.mark.parametrize(
    ("column_map", "message"),
    [
        ("columns: {user_id: crd}", r"has no column 'crd' for user_id; its columns are id, card, "),
        ("columns: {usr: card}", r"columns: usr is not a field; the fields are amount, "),
        ("columns: {amount: amt}", r"user_id is required; name its column in the map"),
        ("colums: {amount: amt}", r"colums: Extra inputs are not permitted; the keys are columns, "),
        ("columns: [", r"not YAML"),
        ("- columns", r"file: Input should be a valid dictionary"),
        ("label_delay_days: .inf", r"label_delay_days: Input should be a valid number"),
        ("label_delay_days: -1", r"label_delay_days: Input should be greater than or equal to 0"),
        ("delimiter: ', '", r"delimiter: String should have at most 1 character"),
        ("time_unit: fortnights", r"time_unit: Input should be 'milliseconds', 'seconds', "),
        ("time_zone: Berlin", r"time_zone: 'Berlin' is not the name of a time zone"),
        ("time_origin: then", r"time_origin: 'then' is not an ISO 8601 date"),
        ("{time_origin: 2024-01-01, time_format: s}", r"time_format: not together with time_origin"),
        ("time_format: '%Q'", r"time_format: '%Q' is none of iso, s, ms and strptime formats"),
        ("encoding: martian", r"encoding: .*'martian' is not an encoding"),
        ("{columns: {user_id: card, amount: amt, event_time: when}, metadata: [x]}", r"has no column 'x' for metadata"),
        (
            "{columns: {user_id: card, amount: amt / 2, event_time: when}}",
            r"columns.amount: 'amt / 2' is neither a column nor an SQL expression .* text, so convert numbers",
        ),
        (
            "{columns: {user_id: max(card), amount: amt, event_time: when}}",
            r"columns.user_id: 'max\(card\)' is neither a column nor an SQL expression",
        ),
        (
            "{columns: {user_id: card, event_time: when}, defaults: {amount: much}}",
            r"defaults.amount: 'much' is not a number",
        ),
        (
            "{columns: {user_id: card, amount: amt, event_time: when}, defaults: {currency: Euro}}",
            r"defaults.currency: 'Euro' violates the rule currency_invalid",
        ),
        (
            "{columns: {user_id: card, amount: amt, event_time: when}, defaults: {device_type: phone}}",
            r"defaults.device_type: 'phone' does not fit; it is one of mobile, web, atm, pos",
        ),
        (
            "{columns: {user_id: card, amount: amt, event_time: when}, values: {city: {a: b}}}",
            r"values: city has no column",
        ),
    ],
)
def test_a_wrong_map_is_one_line_that_names_the_key(tmp_path: Path, column_map: str, message: str) -> None:
    """D7."""
    with pytest.raises(UserError, match=message) as error:
        replayed(EXAMPLES / "payments.csv", written(tmp_path, column_map))
    assert "\n" not in str(error.value)


def test_a_missing_map_is_one_line_and_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^MAP=.*none\.yml: No such file or directory; .* handbook, ieee-cis, paysim, "
    ):
        load_map(tmp_path / "none.yml")


def test_every_shipped_map_can_be_named() -> None:
    assert shipped_maps() == ["handbook", "ieee-cis", "paysim", "sparkov", "ulb"]
    assert all(load_map(Path(name)).columns for name in shipped_maps())


def test_the_words_of_yaml_stay_text(tmp_path: Path) -> None:
    """D7: NO is Norway."""
    (tmp_path / "a.csv").write_text(CSV)
    column_map = written(tmp_path, "defaults: {country: NO, device_id: 1.10, is_international: yes, city: null}\n")
    (payment,) = replayed(tmp_path / "a.csv", column_map).payments
    assert (payment["country"], payment["device_id"], payment["city"]) == ("NO", "1.10", "unknown")
    assert payment["is_international"] is True


def test_without_a_map_each_column_is_the_field_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV.replace("event_time", "event_time,other").replace("03-01", "03-01,x"))
    result = replayed(tmp_path / "a.csv")
    assert result.payments[0]["user_id"] == "u1"
    assert result.summary.ignored == ("other",)


def test_columns_that_expressions_use_are_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("User,card,amount,event_time,Extra\nu,1,1.50,2024-03-01,x\n")
    column_map = written(tmp_path, """columns: {user_id: '"User" || ''-'' || CARD -- both'}\n""")
    result = replayed(tmp_path / "a.csv", column_map)
    assert result.payments[0]["user_id"] == "u-1"
    assert result.summary.ignored == ("Extra",)


def test_a_map_has_sensible_defaults() -> None:
    column_map = ColumnMap()
    assert (column_map.time_format, column_map.time_zone, column_map.label_delay_days) == ("iso", "UTC", 7.0)


def test_a_file_that_is_not_there_or_not_what_it_says_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^FILE=.*none\.csv: No such file or directory$"):
        replayed(tmp_path / "none.csv")
    for name, content, message in [
        ("text.parquet", b"hello", "can't be read as .parquet: "),
        ("empty.csv", b"\n\n", "is empty"),
        ("sheet.xlsx", b"PK\x03\x04....", "an Excel sheet; unpack it, or save the sheet as CSV"),
        ("frame.pkl", b"\x80\x04....", "a Python pickle; convert it: "),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00", "can't be read as .gz: "),
        ("none.jsonl", b"{broken\n", "has no JSON object in its lines"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"^FILE=.*{re.escape(name)}: .*{message}"):
            replayed(tmp_path / name)
