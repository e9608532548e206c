"""The column map: which column of a file is which field, and what the file does not say."""

from pathlib import Path
from typing import Any

import yaml
from fraud_common.errors import UserError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producer.replay.coerce import LABEL_DELAY_DAYS, LABEL_FIELDS, REQUIRED, TRANSACTION_FIELDS

Row = dict[str, Any]


class ColumnMap(BaseModel):
    """The content of a map file."""

    model_config = ConfigDict(extra="forbid")

    columns: dict[str, str] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    # iso, s, ms (since 1970), or a strptime format.
    time_format: str = "iso"
    # When a label became known, if the file has no reported_at.
    label_delay_days: float = Field(default=LABEL_DELAY_DAYS, ge=0)


def load_map(path: Path | None) -> ColumnMap:
    """Read the map; without one each column is the field of the same name.

    Raises:
        UserError: the file is missing, is not YAML, or has an unknown key or field.
    """
    if path is None:
        return ColumnMap()
    try:
        column_map = ColumnMap.model_validate(yaml.safe_load(path.read_text()) or {})
    except OSError as error:
        raise UserError(f"MAP={path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"MAP={path}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first, *_ = error.errors()
        raise UserError(f"MAP={path}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}") from None
    known = {*TRANSACTION_FIELDS, *LABEL_FIELDS}
    for field in (*column_map.columns, *column_map.defaults):
        if field not in known:
            raise UserError(f"MAP={path}: {field} is not a field; the fields are {', '.join(sorted(known))}")
    return column_map


def fields_of(column_map: ColumnMap, columns: list[str], file: Path) -> dict[str, str]:
    """The column of each field: the one that the map names, else the one of the same name.

    Raises:
        UserError: the map names a column that the file does not have, or a required field has no source.
    """
    for field, column in column_map.columns.items():
        if column not in columns:
            raise UserError(f"{file}: has no column {column!r} for {field}; its columns are {', '.join(columns)}")
    same_name = {field: field for field in (*TRANSACTION_FIELDS, *LABEL_FIELDS) if field in columns}
    fields = same_name | column_map.columns
    for field in REQUIRED:
        if field not in fields and field not in column_map.defaults:
            raise UserError(f"{file}: {field} is required; name its column in the map (columns: {{{field}: …}})")
    return fields


def to_draft(row: Row, fields: dict[str, str], column_map: ColumnMap, row_id: str) -> Row:
    """A row under our field names, with the values that the file has; `row_id` if it has no transaction_id."""
    draft = dict(column_map.defaults) | {
        field: row[column] for field, column in fields.items() if row[column] is not None
    }
    if draft.get("transaction_id") in (None, ""):
        draft["transaction_id"] = row_id
    return draft
