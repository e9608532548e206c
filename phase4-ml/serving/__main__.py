"""Starts the API: API_WORKERS processes on one port, which share nothing but the volume."""

import os
import shutil
from pathlib import Path

from serving.settings import Settings, load_settings

# In memory: the workers write their metrics there at every request.
METRICS_FOLDER = Path("/dev/shm/fraud-api-metrics")
STOP_SECONDS = 15


def main() -> None:
    """Run until SIGTERM; then answer what has begun, and stop."""
    settings = load_settings(Settings)
    shutil.rmtree(METRICS_FOLDER, ignore_errors=True)
    METRICS_FOLDER.mkdir(parents=True)
    # Before prometheus_client is imported: it looks once.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(METRICS_FOLDER)

    import uvicorn

    uvicorn.run(
        "serving.main:app",
        host="0.0.0.0",
        port=settings.api_port,
        workers=settings.api_workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=STOP_SECONDS,
        # A worker that has no processor for a while is no reason to kill it.
        timeout_worker_healthcheck=30,
    )


if __name__ == "__main__":
    main()
