"""Settings of the API: the key, and mistakes in one line. Who may ask what is in test_access.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from api_process import PAYMENT, own_api


def test_api_key(tmp_path: Path) -> None:
    with own_api(tmp_path, api_key="s3cret") as api:
        for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": "s3cret "[:3]}):
            for path in ("/predict", "/predict/batch"):
                answer = api.post(path, content="{", headers=headers)
                assert answer.status_code == 401 and "X-API-Key" in answer.json()["detail"]
        assert api.post("/predict", json=PAYMENT, headers={"X-API-Key": "s3cret"}).status_code == 200
        document = api.get("/openapi.json", headers={"X-API-Key": "s3cret"}).json()
        assert document["components"]["securitySchemes"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("API_WORKERS", "many"), ("API_RATE_LIMIT", "-1"), ("API_RATE_LIMIT", "inf"), ("RULES_FOUR_EYES", "maybe")],
)
def test_a_wrong_setting_ends_the_program_with_one_line(tmp_path: Path, name: str, value: str) -> None:
    line = why_it_ends(tmp_path, {name: value})
    assert line.startswith(f"error: {name}={value}: ") and line.endswith("; correct it in .env")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"API_KEY": " , "}, "there is no key in it"),
        ({"RULES_AUTHOR_KEY": "same-key", "RULES_APPROVER_KEY": "same-key"}, "an approver needs another one"),
        ({"RULES_KEYS": "ada:approver:secret-1,ben"}, "its part 2 is not like name:role:key"),
        ({"RULES_KEYS": "ada:boss:secret-1"}, "the role of ada is none of viewer, author, approver, admin"),
        ({"RULES_KEYS": "Ada:author:secret-1"}, "the name in part 1"),
        ({"RULES_KEYS": "ada:author:short"}, "the key of ada has fewer than 8 characters"),
        ({"RULES_KEYS": "author:author:secret-1"}, "the name author is taken"),
        ({"RULES_KEYS": "ada:author:secret-1,ada:admin:secret-2"}, "the name ada is taken"),
        ({"RULES_KEYS": "ada:author:secret-1,ben:admin:secret-1"}, "the key of ben is another person's as well"),
    ],
)
def test_a_wrong_key_ends_the_program_without_showing_it(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    line = why_it_ends(tmp_path, settings)
    assert line.startswith(f"error: {list(settings)[-1]}: ") and words in line
    assert not any(secret in line for secret in ("secret-1", "same-key", "short "))


def why_it_ends(tmp_path: Path, settings: dict[str, str]) -> str:
    """The line that a start with these settings ends with."""
    environment = os.environ | {"STATE_DIR": str(tmp_path)} | settings
    ended = subprocess.run(
        [sys.executable, "-m", "serving"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    return line
