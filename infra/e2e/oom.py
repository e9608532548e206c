"""Which containers the kernel stopped because they exceeded their memory limit, since the start of the end-to-end run.

A container's own flag does not outlast its restarts, and the engine keeps only its newest events. Therefore
infra/scripts/e2e.sh records the events while the stack runs, one JSON object a line:

    docker events --filter event=oom --format '{{json .}}' >reports/e2e-oom.log
"""

import json
from collections import Counter
from pathlib import Path

# Containers that exceed a memory limit on purpose have names that begin with this.
PROBE = "oom-probe-"
LOG = Path(__file__).parents[2] / "reports" / "e2e-oom.log"


def oom_kills(log: str, project: str) -> Counter[str]:
    """The number of kills by container name, for the containers of a Compose project."""
    # A last line without its end is still being written.
    complete, _, _ = log.rpartition("\n")
    attributes = [json.loads(line)["Actor"]["Attributes"] for line in complete.splitlines()]
    return Counter(each["name"] for each in attributes if each.get("com.docker.compose.project") == project)
