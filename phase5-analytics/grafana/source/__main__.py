"""Writes the dashboards' JSON files: python3 -m source FOLDER. A test compares them with the files in Git."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from source import ml_monitoring, pipeline_health

BOARDS = {"pipeline-health": pipeline_health.build, "ml-monitoring": ml_monitoring.build}


def files() -> dict[str, str]:
    """Name and content of each file."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {f"{name}.json": encoder.encode(numbered(build().build())) + "\n" for name, build in BOARDS.items()}


def numbered(board: Dashboard) -> Dashboard:
    """The dashboard with an id for each panel, so that links to a panel stay valid."""
    for position, panel in enumerate(board.panels or [], start=1):
        panel.id_val = position
    return board


def main() -> None:
    """Write the files into the folder."""
    folder = Path(sys.argv[1])
    for name, content in files().items():
        (folder / name).write_text(content)
        print(folder / name)


if __name__ == "__main__":
    main()
