"""The table of names in docs/rules.md is that of the catalogue."""

from pathlib import Path

from rules.catalogue import CATALOGUE
from rules.names import names_table

PAGE = Path(__file__).parents[4] / "docs" / "rules.md"


def test_the_page_has_all_names_as_they_are() -> None:
    assert names_table() in PAGE.read_text(), "put the output of python3 -m rules.names into docs/rules.md"


def test_the_table_has_every_name_once() -> None:
    rows = [line for line in names_table().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows].count("amount") == 1
    assert len(rows) == len(CATALOGUE)
