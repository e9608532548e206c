"""Runs every query of the dashboards on a running Prometheus and lists those without data.

python3 -m source.live FOLDER ADDRESS: exit code 1 if a panel would be empty.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

# The value that a person would choose at the top of the page.
VARIABLES = {"$group": "bronze-writer"}


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


def has_data(prometheus: str, expr: str) -> bool:
    """Whether the query gives at least one number now."""
    with urlopen(f"{prometheus}/api/v1/query?{urlencode({'query': expr})}", timeout=30) as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return any(not math.isnan(float(series["value"][1])) for series in result)


def main() -> None:
    """Run all queries and list the empty ones."""
    folder, prometheus = Path(sys.argv[1]), sys.argv[2]
    all_queries = list(queries(folder))
    try:
        empty = [(where, expr) for where, expr in all_queries if not has_data(prometheus, expr)]
    except URLError as error:
        sys.exit(f"error: {prometheus}: {error}; is prometheus up?")
    for where, expr in empty:
        print(f"no data: {where}: {expr}")
    print(f"{len(all_queries)} queries, {len(empty)} without data")
    sys.exit(1 if empty else 0)


if __name__ == "__main__":
    main()
