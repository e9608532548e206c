"""Superset's assets: what a chart queries is in its dataset, and what a dataset reads is in Gold."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

PHASE = Path(__file__).parents[2]
ASSETS = PHASE / "superset"
MARTS = PHASE.parent / "phase3-transforms" / "dbt_project" / "models" / "marts"


def read(folder: str) -> dict[str, dict[str, Any]]:
    return {
        str(path.relative_to(ASSETS)): yaml.safe_load(path.read_text())
        for path in sorted((ASSETS / folder).rglob("*.yaml"))
    }


DATABASES, DATASETS, CHARTS, DASHBOARDS = (read(kind) for kind in ("databases", "datasets", "charts", "dashboards"))
DATASET_OF = {dataset["uuid"]: dataset for dataset in DATASETS.values()}
GOLD = {
    model["name"]: {column["name"] for column in model["columns"]}
    for path in sorted(MARTS.glob("*.yml"))
    for model in yaml.safe_load(path.read_text()).get("models", [])
}


def placed(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The layout entry of each chart on a dashboard."""
    return [
        part["meta"] for part in dashboard["position"].values() if isinstance(part, dict) and part["type"] == "CHART"
    ]


def columns(dataset: dict[str, Any]) -> set[str]:
    return {column["column_name"] for column in dataset["columns"]}


def metrics(dataset: dict[str, Any]) -> set[str]:
    return {metric["metric_name"] for metric in dataset["metrics"]}


def queried(params: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The columns and the metrics that a chart queries."""
    grouped = params.get("groupby") or []
    wanted = {*([grouped] if isinstance(grouped, str) else grouped), *params.get("all_columns", [])}
    wanted |= {condition["subject"] for condition in params["adhoc_filters"]}
    return wanted | {params[key] for key in ("x_axis",) if key in params}, {
        *params.get("metrics", []),
        *(params[key] for key in ("metric", "timeseries_limit_metric") if key in params),
    }


def test_there_are_four_dashboards() -> None:
    titles = {board["dashboard_title"] for board in DASHBOARDS.values()}
    assert titles == {"Transaction Overview", "Fraud Analytics", "Real-Time Risk Feed", "Decisions and Rules"}


def test_every_uuid_is_unique() -> None:
    uuids = [thing["uuid"] for kind in (DATABASES, DATASETS, CHARTS, DASHBOARDS) for thing in kind.values()]
    assert len(set(uuids)) == len(uuids)


def test_datasets_belong_to_known_databases() -> None:
    known = {database["uuid"] for database in DATABASES.values()}
    assert {dataset["database_uuid"] for dataset in DATASETS.values()} <= known


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_queries_what_its_dataset_has(name: str) -> None:
    chart = CHARTS[name]
    dataset = DATASET_OF[chart["dataset_uuid"]]
    wanted_columns, wanted_metrics = queried(chart["params"])
    assert wanted_columns <= columns(dataset)
    assert wanted_metrics <= metrics(dataset)
    assert chart["viz_type"] == chart["params"]["viz_type"]
    assert chart["description"].endswith(".")


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_has_what_gold_has(name: str) -> None:
    dataset = DATASETS[name]
    assert all(thing["description"].endswith(".") for thing in (dataset, *dataset["columns"], *dataset["metrics"]))
    sql = dataset.get("sql", "")
    table = re.search(r"from gold\.(\w+)\n", sql)
    mart = table[1] if table else dataset["table_name"]
    if dataset["schema"] != "gold":
        return
    made_here = {column["column_name"] for column in dataset["columns"] if "expression" in column}
    made_here |= set(re.findall(r" as (\w+),?$", sql, flags=re.MULTILINE))
    assert columns(dataset) - made_here <= GOLD[mart]
    assert set(re.findall(r"^    (\w+)(?: as \w+)?,?$", sql, flags=re.MULTILINE)) <= GOLD[mart]


def test_every_chart_is_on_one_dashboard_under_its_name() -> None:
    on_boards = [(chart["uuid"], chart["sliceName"]) for board in DASHBOARDS.values() for chart in placed(board)]
    assert sorted(on_boards) == sorted((chart["uuid"], chart["slice_name"]) for chart in CHARTS.values())


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_complete(name: str) -> None:
    board = DASHBOARDS[name]
    parts = {key: part for key, part in board["position"].items() if isinstance(part, dict)}
    children = [child for part in parts.values() for child in part.get("children", [])]
    assert sorted(children) == sorted(set(parts) - {"ROOT_ID", "HEADER_ID"}), "each part is in one other"
    for part in parts.values():
        if part["type"] == "ROW":
            assert sum(parts[child]["meta"]["width"] for child in part["children"]) == 12, part["id"]
    # A filter names the charts that it excludes by this number.
    ids = {chart["chartId"] for chart in placed(board)}
    assert len(ids) == len(placed(board))
    for native_filter in board["metadata"]["native_filter_configuration"]:
        assert set(native_filter["scope"]["excluded"]) <= ids
        for target in filter(None, native_filter["targets"]):
            assert target["column"]["name"] in columns(DATASET_OF[target["datasetUuid"]])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_text_box_fits_its_text(name: str) -> None:
    """Field case G8: in a window 1,024 px wide, no line of a text box is cut off.

    Superset draws a unit of height as 8 px, lines of 22 px and a padding of 16 px on each side. Beside the filters, a
    line then has 700 px, and a character takes 7.1 px on average.
    """
    boxes = [
        part["meta"]
        for part in DASHBOARDS[name]["position"].values()
        if isinstance(part, dict) and part["type"] == "MARKDOWN"
    ]
    for box in boxes:
        assert box["width"] == 12
        lines = textwrap.wrap(box["code"].replace("**", ""), width=int(700 / 7.1))
        assert box["height"] * 8 >= len(lines) * 22 + 2 * 16, f"{len(lines)} lines"
    assert boxes
