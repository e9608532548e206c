"""The constants that SQL and Python share have the same values."""

from pathlib import Path
from typing import Any

import features
import pytest
import yaml

PROJECT = Path(__file__).parents[2] / "dbt_project"


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"]


def test_the_data_clock_is_that_of_the_stream(variables: dict[str, Any]) -> None:
    """B1: the same rule in both."""
    assert variables["data_clock_rank"] == features.DATA_CLOCK_RANK


def test_windows_and_high_amounts_are_those_of_serving(variables: dict[str, Any]) -> None:
    assert variables["windows"] == list(features.WINDOWS_DAYS)
    assert variables["short_windows"] == features.SHORT_WINDOWS_MINUTES
    assert variables["high_amount"] * 100 == features.HIGH_AMOUNT_CENTS
    assert variables["device_users_counted"] == features.DEVICE_USERS_COUNTED
    assert variables["log_steps"] == features.LOG_STEPS
    assert set(variables["euro_countries"]) == features.EURO_COUNTRIES
    assert variables["small_amount"] * 100 == features.SMALL_AMOUNT_CENTS
