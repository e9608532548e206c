"""Runs every query of the dashboards on a running Prometheus and lists those without data.

python3 -m source.live FOLDER ADDRESS: exit code 1 if a panel would be empty that should have data on a new stack, or if
one asks for a metric that does not exist.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

# The value that a person would choose at the top of the page.
VARIABLES = {"$group": "bronze-writer"}

# What a stack of an hour may not know yet, and why. Panels say "no data" then, but their metrics must exist.
NO_MATURED_LABELS = "no label is older than 14 days"
NO_FRAUD_KNOWN = "the label of no fraud that was scored has arrived"
NO_RULE = "no rule is in this state"
MAY_BE_EMPTY = {
    "ML Monitoring / Precision of tier high / B": NO_MATURED_LABELS,
    "ML Monitoring / Recall of tier high / A": NO_FRAUD_KNOWN,
    "ML Monitoring / Recall of tier high / B": NO_MATURED_LABELS,
    "ML Monitoring / Quality by week of event time / C": NO_FRAUD_KNOWN,
    "ML Monitoring / Quality by week of event time / D": "no scored payment of the week is in tier high",
    "ML Monitoring / Quality by week of event time / E": NO_FRAUD_KNOWN,
    "ML Monitoring / Latency of /predict / A": "nobody has asked for a single payment for five minutes",
    "ML Monitoring / Latency of /predict / B": "nobody has asked for a single payment for five minutes",
    "ML Monitoring / Latency of /predict / C": "nobody has asked for a single payment for five minutes",
    "ML Monitoring / Hits of live rules / A": NO_RULE,
    "ML Monitoring / Hits of shadow rules / A": NO_RULE,
    "ML Monitoring / Rules by state / B": "no rule has paused itself",
    "ML Monitoring / Rules by state / C": "no rule has raised an error",
    "ML Monitoring / Tails / A": "fewer than 1,000 payments were compared",
}


def queries(folder: Path) -> Iterator[tuple[str, str]]:
    """The dashboard, panel and letter of each query, and the query with its variables filled in."""
    for file in sorted(folder.glob("*.json")):
        board = json.loads(file.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                expr = target["expr"]
                for name, value in VARIABLES.items():
                    expr = expr.replace(name, value)
                yield f"{board['title']} / {panel['title']} / {target['refId']}", expr


def ask(prometheus: str, path: str, **parameters: str) -> Any:
    """The data of an answer of Prometheus."""
    with urlopen(f"{prometheus}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
        return json.load(answer)["data"]


def has_data(prometheus: str, expr: str) -> bool:
    """Whether the query gives at least one number now."""
    result: list[dict[str, Any]] = ask(prometheus, "query", query=expr)["result"]
    return any(not math.isnan(float(series["value"][1])) for series in result)


def metrics_of(expr: str) -> set[str]:
    """The names of the metrics that a query asks for: words with a _ or a : that are not called and are no label."""
    without_labels = re.sub(r"\{[^}]*\}|\b(by|on|ignoring|without|group_left)\s*\([^)]*\)", "", expr)
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*\b(?!\s*\()", without_labels) if "_" in name or ":" in name}


def exported(prometheus: str) -> set[str]:
    """The names of all metrics: those with series, and those that are described and have none yet."""
    described = ask(prometheus, "metadata")
    endings = ("", "_total", "_bucket", "_sum", "_count")
    return {*ask(prometheus, "label/__name__/values"), *(f"{name}{end}" for name in described for end in endings)}


def main() -> None:
    """Run all queries and list the empty ones."""
    folder, prometheus = Path(sys.argv[1]), sys.argv[2]
    all_queries = list(queries(folder))
    try:
        known = exported(prometheus)
        unknown = [(where, name) for where, expr in all_queries for name in sorted(metrics_of(expr) - known)]
        empty = [(where, expr) for where, expr in all_queries if not has_data(prometheus, expr)]
    except URLError as error:
        sys.exit(f"error: {prometheus}: {error}; is prometheus up?")
    for where, name in unknown:
        print(f"no such metric: {where}: {name}")
    unexpected = [(where, expr) for where, expr in empty if where not in MAY_BE_EMPTY]
    for where, expr in empty:
        print(f"no data: {where}: {MAY_BE_EMPTY.get(where, expr)}")
    print(f"{len(all_queries)} queries, {len(empty)} without data, {len(unexpected)} of them unexpectedly")
    sys.exit(1 if unexpected or unknown else 0)


if __name__ == "__main__":
    main()
