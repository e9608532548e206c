"""How fast a password of Airflow can be guessed through its API."""

import pytest
from airflow import plugins_manager
from login_limit import PER_SECONDS, WRONG_PASSWORDS, LoginLimit
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient


async def _token(request: Request) -> Response:
    """The answers of Airflow: a wrong password is a 401, a missing one a 400."""
    password = (await request.json()).get("password")
    return PlainTextResponse("", {"right": 201, None: 400}.get(password, 401))


class World:
    """Airflow behind the limit, at a time of the test's choice."""

    def __init__(self) -> None:
        self.now = 1000.0
        routes = [Route(path, _token, methods=["POST"]) for path in ("/auth/token", "/auth/token/cli", "/auth/login")]
        self.limit = LoginLimit(Starlette(routes=routes), clock=lambda: self.now)

    def post(self, password: str | None, address: str = "10.0.0.1", path: str = "/auth/token") -> Response:
        client = TestClient(self.limit, client=(address, 1))
        return client.post(path, json={"password": password} if password else {})

    def statuses(self, password: str | None, count: int, **more: str) -> list[int]:
        return [self.post(password, **more).status_code for _ in range(count)]


@pytest.fixture
def world() -> World:
    return World()


def test_wrong_passwords_are_limited_by_address(world: World) -> None:
    """Field case I10."""
    assert world.statuses("guess", WRONG_PASSWORDS + 2) == [401] * WRONG_PASSWORDS + [429] * 2
    refused = world.post("right")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert world.statuses("guess", 1, path="/auth/token/cli") == [429]
    assert world.statuses("right", 1, address="10.0.0.2") == [201]
    world.now += PER_SECONDS
    assert world.statuses("right", 1) == [201]


def test_the_oldest_wrong_password_counts(world: World) -> None:
    for _ in range(WRONG_PASSWORDS):
        assert world.statuses("guess", 1) == [401]
        world.now += 3
    refused = world.post("guess")
    assert refused.status_code == 429
    world.now += int(refused.headers["retry-after"])
    assert world.statuses("guess", 2) == [401, 429]


def test_right_passwords_and_mistakes_in_form_are_not_counted(world: World) -> None:
    assert world.statuses("right", 50) == [201] * 50
    assert world.statuses(None, 50) == [400] * 50
    assert world.statuses("guess", 1) == [401]
    assert world.statuses("guess", 20, path="/auth/login") == [401] * 20


def test_addresses_are_forgotten(world: World) -> None:
    for number in range(100):
        world.post("guess", address=f"10.0.1.{number}")
    world.now += PER_SECONDS
    world.post("right")
    assert len(world.limit._sent) <= 1


def test_airflow_loads_it() -> None:
    _, middlewares = plugins_manager.get_fastapi_plugins()
    assert LoginLimit.__name__ in [each["middleware"].__name__ for each in middlewares]
