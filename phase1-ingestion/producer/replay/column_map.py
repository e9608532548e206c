"""The column map: which column of a file is which field, how its values are written, and what the file does not say."""

import codecs
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from fraud_common.errors import UserError
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from producer.replay.fields import DAY_MS, FIELDS, LABEL_DELAY_DAYS

SHIPPED = Path(__file__).parent / "maps"
# What files write for "no value"; compared without regard to case. NA is not among them: it is Namibia.
NULL_WORDS = ("NULL", r"\N", "nan", "(null)", "None", "<NA>", "N/A", "#N/A")
UNIT_MS = {"milliseconds": 1, "seconds": 1_000, "minutes": 60_000, "hours": 3_600_000, "days": DAY_MS}


def _tab(value: Any) -> Any:
    return "\t" if value in ("tab", r"\t") else value


def _encoding(value: str) -> str:
    try:
        codecs.lookup(value)
    except LookupError:
        raise ValueError(f"{value!r} is not an encoding, such as utf-8, latin-1 or windows-1252") from None
    return value


Character = Annotated[str, Field(min_length=1, max_length=1), BeforeValidator(_tab)]


class ColumnMap(BaseModel):
    """The content of a map file."""

    model_config = ConfigDict(extra="forbid")

    # By field: the name of a column, or an SQL expression over the columns.
    columns: dict[str, str] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)
    # By field: what a value of the file means.
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    # Columns that travel along in the field metadata.
    metadata: list[str] = Field(default_factory=list)

    # Without it: the one of , ; | and tab that the header has most of.
    delimiter: Character | None = None
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"
    decimal: Literal[".", ","] = "."
    thousands: Character | None = None
    null_words: list[str] = list(NULL_WORDS)

    # iso, s, ms (since 1970), or a strptime format.
    time_format: str = "iso"
    # Of times that don't have one.
    time_zone: str = "UTC"
    # For times that are numbers since some start.
    time_origin: str | None = None
    time_unit: Literal["milliseconds", "seconds", "minutes", "hours", "days"] | None = None
    order_by_time: bool = False

    # The values of is_fraud that mean fraud, all others being legitimate; without it true, yes, 1 and the like.
    fraud_values: list[str] = Field(default_factory=list)
    # When a label became known, if the file has no reported_at.
    label_delay_days: float = Field(default=LABEL_DELAY_DAYS, ge=0, le=3650, allow_inf_nan=False)


def shipped_maps() -> list[str]:
    """The names of the maps that come with the platform."""
    return sorted(path.stem for path in SHIPPED.glob("*.yml"))


def load_map(path: Path | None) -> ColumnMap:
    """Read the map; without one each column is the field of the same name.

    Args:
        path: a file, or the name of a map that comes with the platform.

    Raises:
        UserError: the file is missing, is not YAML, or has an unknown key or field or a wrong value.
    """
    if path is None:
        return ColumnMap()
    if path.name in shipped_maps() and not path.exists():
        path = SHIPPED / f"{path.name}.yml"
    column_map = _parse(path)
    for key in ("columns", "defaults", "values"):
        for field in getattr(column_map, key):
            if field not in FIELDS:
                raise UserError(
                    f"MAP={path}: {key}: {field} is not a field; the fields are {', '.join(sorted(FIELDS))}"
                )
    if column_map.time_origin is not None and column_map.time_format != "iso":
        raise UserError(f"MAP={path}: time_format: not together with time_origin, which is for numbers; use time_unit")
    return column_map


def _parse(path: Path) -> ColumnMap:
    try:
        # All scalars stay text, so that country: NO is not False; the model knows which are numbers.
        content = yaml.load(path.read_text(encoding="utf-8-sig"), yaml.BaseLoader)
    except FileNotFoundError as error:
        raise UserError(f"MAP={path}: {error.strerror}; maps that can be named: {', '.join(shipped_maps())}") from None
    except OSError as error:
        raise UserError(f"MAP={path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"MAP={path}: not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"MAP={path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return ColumnMap.model_validate(_without_nulls(content) if isinstance(content, dict) else content or {})
    except ValidationError as error:
        first, *_ = error.errors()
        allowed = f"; the keys are {', '.join(ColumnMap.model_fields)}" if first["type"] == "extra_forbidden" else ""
        where = ".".join(map(str, first["loc"])) or "file"
        raise UserError(f"MAP={path}: {where}: {first['msg']}{allowed}") from None


def _without_nulls(content: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(value) if isinstance(value, dict) and key != "values" else value
        for key, value in content.items()
        if value not in ("", "~", "null")
    }
