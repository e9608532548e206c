"""Starts the API: API_WORKERS processes on one port, which share only the volume.

python -m serving
"""

import os
import shutil
from pathlib import Path

from fraud_common.errors import one_line_errors
from fraud_common.settings import load_settings

from serving.memory import require_memory
from serving.rate_limit import SHARED_FILE
from serving.settings import KEEP_ALIVE_SECONDS, Settings

# In memory: the workers write their metrics there at every request.
METRICS_FOLDER = Path("/dev/shm/fraud-api-metrics")
STOP_SECONDS = 15


def main() -> None:
    """Run until SIGTERM; then answer the requests in hand, and stop."""
    with one_line_errors():
        settings = load_settings(Settings)
        require_memory(settings.api_workers)
    shutil.rmtree(METRICS_FOLDER, ignore_errors=True)
    METRICS_FOLDER.mkdir(parents=True)
    SHARED_FILE.unlink(missing_ok=True)
    # prometheus_client reads it once, when it is imported.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(METRICS_FOLDER)

    import uvicorn

    from serving.connections import PatientProtocol

    uvicorn.run(
        "serving.main:app",
        host="0.0.0.0",
        port=settings.api_port,
        workers=settings.api_workers,
        loop="uvloop",
        http=PatientProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        # A worker that gets no CPU for a while is still alive.
        timeout_worker_healthcheck=30,
    )


if __name__ == "__main__":
    main()
