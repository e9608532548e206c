"""Settings: what a wrong or missing one says."""

import os
import subprocess
import sys

import pytest
from fraud_common.errors import UserError
from fraud_common.settings import KafkaSettings, RedisSettings, TrinoSettings, load_settings
from pydantic import Field, field_validator


class Settings(KafkaSettings, RedisSettings):
    workers: int = Field(ge=1)
    mode: str = "on"

    @field_validator("mode")
    @classmethod
    def on_or_off(cls, mode: str) -> str:
        if mode not in ("on", "off"):
            raise ValueError("must be on or off")
        return mode


@pytest.fixture(autouse=True)
def no_settings_of_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, *TrinoSettings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_environment_wins_over_defaults_and_overrides_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "3")
    monkeypatch.setenv("REDIS_PORT", "6380")
    assert (load_settings(Settings).workers, load_settings(Settings).redis_port) == (3, 6380)
    assert load_settings(Settings, workers=5).workers == 5


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(UserError) as error:
        load_settings(Settings)
    assert str(error.value) == "WORKERS is not set; set it in .env"


def test_every_wrong_setting_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "WORKERS": "many",
        "REDIS_PORT": "99999",
        "CONNECT_TIMEOUT_SECONDS": "0",
        "MODE": "maybe",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        load_settings(Settings)
    lines = str(error.value).splitlines()
    assert all(line.endswith("; correct it in .env") for line in lines)
    assert {line.partition(":")[0] for line in lines} == {
        "WORKERS=many",
        "REDIS_PORT=99999",
        "CONNECT_TIMEOUT_SECONDS=0",
        "MODE=maybe",
    }
    assert "MODE=maybe: must be on or off; correct it in .env" in lines


def test_a_schema_name_can_not_carry_sql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLD_SCHEMA", "gold; drop")
    with pytest.raises(UserError, match=r"^GOLD_SCHEMA=gold; drop: "):
        load_settings(TrinoSettings)


def test_a_program_ends_with_one_line_for_each_and_code_2() -> None:
    program = """
from fraud_common.errors import one_line_errors
from fraud_common.settings import RedisSettings, load_settings
with one_line_errors():
    load_settings(RedisSettings)
"""
    environment = os.environ | {"REDIS_PORT": "x"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("error: REDIS_PORT=x: ")
