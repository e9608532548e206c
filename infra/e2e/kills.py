"""kill -9 of the process in a service's container; Docker starts it again, as after any crash."""

import os
import time

import docker
from docker.models.containers import Container

RESTART_SECONDS = 60


def container_of(name: str) -> Container:
    """The container of a service of the stack that the checks run in."""
    project = os.environ["COMPOSE_PROJECT_NAME"]
    # An image that Compose has built has the first two as well, and with it any container that is run from it.
    labels = [f"com.docker.compose.{label}" for label in (f"project={project}", f"service={name}", "oneoff=False")]
    (container,) = docker.from_env().containers.list(all=True, filters={"label": labels})
    return container


def kill_main_process(name: str) -> None:
    """Return once Docker has started it again; fails if nothing was killed.

    The process's own user kills it: root has no capabilities in these containers, so it may not.
    """
    container = container_of(name)
    restarts = container.attrs["RestartCount"]
    container.exec_run(["sh", "-c", "kill -9 $(cat /proc/1/task/1/children)"])
    end = time.monotonic() + RESTART_SECONDS
    while container_of(name).attrs["RestartCount"] == restarts:
        assert time.monotonic() < end, f"{name} was not killed, or not started again"
        time.sleep(0.1)
