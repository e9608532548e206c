"""The dashboards: the files are what the code writes, every query is valid PromQL, every panel has a description."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from source.__main__ import files
from source.live import MAY_BE_EMPTY, metrics_of, queries

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


def test_what_may_be_empty_is_a_query_of_a_panel() -> None:
    assert set(MAY_BE_EMPTY) <= {where for where, _ in queries(FOLDER)}


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ('sum by (le_of) (rate(a_bucket{job="x_y"}[5m])) / on (some_label) group_left () b:c', {"a_bucket", "b:c"}),
        ("histogram_quantile(0.99, sum by (le) (rate(d_bucket[1m])))", {"d_bucket"}),
        ('time() - max(e_seconds != 0) and on () ALERTS{alertstate="firing"}', {"e_seconds"}),
        ("topk(10, f_ratio)", {"f_ratio"}),
    ],
)
def test_the_metrics_of_a_query(expr: str, names: set[str]) -> None:
    assert metrics_of(expr) == names


def test_every_query_has_a_metric() -> None:
    assert [
        where for where, expr in queries(FOLDER) if not metrics_of(expr) and "up" not in expr and "ALERTS" not in expr
    ] == []


def test_nothing_takes_the_place_of_missing_data() -> None:
    """Field case I5: a number is the value now, and no query has a substitute."""
    for where, expr in queries(FOLDER):
        assert "vector(" not in expr and not re.search(r"\bor\b", expr), where
    for board in BOARDS.values():
        for panel in board["panels"]:
            if panel["type"] == "stat":
                assert [target["instant"] for target in panel["targets"]] == [True], panel["title"]
            if panel["type"] in ("stat", "timeseries"):
                assert panel["fieldConfig"]["defaults"]["noValue"] == "no data", panel["title"]


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
