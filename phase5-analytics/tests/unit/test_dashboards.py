"""The dashboards: the files are what the code writes, every query is valid PromQL, every panel has a description."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from source.__main__ import files
from source.live import queries

GRAFANA = Path(__file__).parents[2] / "grafana"
FOLDER = GRAFANA / "dashboards"
BOARDS = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]


def test_the_files_are_what_the_code_writes() -> None:
    in_git = {file.name: file.read_text() for file in FOLDER.glob("*.json")}
    assert in_git == files(), "regenerate them: make dashboards"


def test_every_query_is_valid(tmp_path: Path) -> None:
    rules = [{"record": f"query_{number}", "expr": expr} for number, (_, expr) in enumerate(queries(FOLDER))]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_is_described(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]


def test_panels_use_the_provisioned_datasource() -> None:
    provisioned = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())
    known = {source["uid"] for source in provisioned["datasources"]}
    asked = {panel["datasource"]["uid"] for board in BOARDS.values() for panel in board["panels"] if "targets" in panel}
    assert asked <= known


def test_panels_have_ids_and_do_not_overlap() -> None:
    for name, board in BOARDS.items():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids), name
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, f"{name}: {panel['title']}"
            assert at["x"] + at["w"] <= 24
            taken |= cells
