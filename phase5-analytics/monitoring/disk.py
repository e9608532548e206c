"""The disk that has the engine's data, and so all volumes: in a container, `/` is on it."""

import os

from prometheus_client.metrics_core import GaugeMetricFamily, Metric


def disk_metrics(path: str) -> list[Metric]:
    """Size and free space, in bytes, of the file system that has this path."""
    seen = os.statvfs(path)
    return [
        GaugeMetricFamily(
            "platform_disk_size_bytes", "Size of the disk with the volumes", value=seen.f_blocks * seen.f_frsize
        ),
        GaugeMetricFamily(
            "platform_disk_free_bytes",
            "Free space on it, for processes that are not root",
            value=seen.f_bavail * seen.f_frsize,
        ),
    ]
