"""Faults of services, drawn by a seed and brought about one after the other: kill -9, stop, freeze, network cut.

The plan is a pure function of its arguments, so that a run that found something can be repeated. Each fault is over
when `bring_about` returns, whatever happens meanwhile; how the platform recovers may overlap with the next one.
"""

import random
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from docker.models.containers import Container
from kills import kill_main_process
from serving_stack import service, wait_until

KINDS = ("kill", "stop", "freeze", "cut")
# Everything that a payment, its label, its score or its prediction passes on its way.
VICTIMS = (
    "explainer",
    "feature-stream",
    "fraud-api",
    "kafka",
    "minio",
    "mlflow",
    "model-quality",
    "postgres",
    "producer",
    "redis",
    "rules-worker",
    "schema-registry",
    "scorer",
    "spark-master",
    "spark-streaming",
    "spark-worker",
    "trino",
)
_RUNNING_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a service, and for how many seconds; then how many pass until the next fault."""

    kind: str
    service: str
    seconds: float
    pause: float

    def __str__(self) -> str:
        return f"{self.kind} {self.service}" + ("" if self.kind == "kill" else f" for {self.seconds} s")


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault that was brought about, between two moments (seconds since 1970)."""

    fault: Fault
    began: float
    ended: float


def plan(seed: int, rounds: int, services: Collection[str], kinds: Sequence[str] = KINDS) -> list[Fault]:
    """Faults for so many rounds: each kind equally often, and each service before one comes a second time."""
    draw = random.Random(seed)
    drawn = [kinds[number % len(kinds)] for number in range(rounds)]
    draw.shuffle(drawn)
    victims: list[str] = []
    while len(victims) < rounds:
        victims += draw.sample(sorted(services), len(services))
    return [
        Fault(kind, victim, round(draw.uniform(3, 15), 1), round(draw.uniform(2, 8), 1))
        for kind, victim in zip(drawn, victims[:rounds], strict=True)
    ]


def running_victims() -> list[str]:
    """Those of the services that run here, once each."""
    return [name for name in VICTIMS if is_running(name)]


def is_running(name: str) -> bool:
    """Whether the service has one container, which runs."""
    try:
        return service(name).status == "running"
    except ValueError:  # none, or several
        return False


@contextmanager
def stopped(container: Container) -> Iterator[None]:
    """SIGTERM, and meanwhile no process."""
    container.stop(timeout=60)
    try:
        yield
    finally:
        container.start()


@contextmanager
def frozen(container: Container) -> Iterator[None]:
    """Its processes get no time, as on a machine that swaps; its connections stay open."""
    container.pause()
    try:
        yield
    finally:
        container.unpause()


@contextmanager
def cut_off(container: Container) -> Iterator[None]:
    """Without any network, as when a cable is pulled; afterwards under the same names, maybe at another address."""
    networks = {
        container.client.networks.get(name): settings["Aliases"]
        for name, settings in container.attrs["NetworkSettings"]["Networks"].items()
    }
    try:
        for network in networks:
            network.disconnect(container, force=True)
        yield
    finally:
        container.reload()
        for network, aliases in networks.items():
            if network.name not in container.attrs["NetworkSettings"]["Networks"]:
                network.connect(container, aliases=aliases)


def bring_about(fault: Fault) -> Hit:
    """Bring it about, and return once it is over.

    Raises:
        AssertionError: the service did not run before, or Docker has not started it again after kill -9.
    """
    wait_until(lambda: is_running(fault.service), f"{fault.service} runs", _RUNNING_SECONDS)
    began = time.time()
    if fault.kind == "kill":
        kill_main_process(fault.service)
    else:
        lasting = {"stop": stopped, "freeze": frozen, "cut": cut_off}[fault.kind]
        with lasting(service(fault.service)):
            time.sleep(fault.seconds)  # how long it lasts
    return Hit(fault, began, time.time())


def unhealthy() -> dict[str, str]:
    """The victims that are not as they should be, and what they are; none if all is well."""
    found = {}
    for name in VICTIMS:
        try:
            state = service(name).attrs["State"]
        except ValueError:
            continue
        health = state.get("Health", {}).get("Status", "healthy")
        if state["Status"] != "running" or health != "healthy":
            found[name] = f"{state['Status']}, {health}"
    return found
