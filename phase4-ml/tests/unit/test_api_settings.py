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
    [("API_WORKERS", "many"), ("API_KEY", " , "), ("API_RATE_LIMIT", "-1"), ("API_RATE_LIMIT", "inf")],
)
def test_a_wrong_setting_ends_the_program_with_one_line(tmp_path: Path, name: str, value: str) -> None:
    environment = os.environ | {"STATE_DIR": str(tmp_path), name: value}
    ended = subprocess.run(
        [sys.executable, "-m", "serving"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {name}={value}: ") and line.endswith("; correct it in .env")
