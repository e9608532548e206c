"""Logs a missed deadline of a run. The triggerer calls it, so it is in Airflow's plug-in folder."""

from datetime import UTC, datetime
from typing import Any

import structlog

log = structlog.get_logger(__name__)


async def log_missed_deadline(context: dict[str, Any]) -> None:
    """One ERROR line, a JSON object in the triggerer's log, that says which run is late and by how much."""
    run = context["dag_run"]
    deadline = datetime.fromisoformat(str(context["deadline"]["deadline_time"]))
    log.error(
        "deadline missed",
        dag_id=run["dag_id"],
        run_id=run["dag_run_id"],
        state=run["state"],
        queued_at=run["queued_at"],
        deadline=deadline.isoformat(),
        late_seconds=round((datetime.now(UTC) - deadline).total_seconds()),
    )
