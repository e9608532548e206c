"""What FastAPI does not see of the API: requests whose bytes pydantic parses itself, and the middleware's refusals."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.schemas import InvalidAnswer, Refusal

NO_KEY: dict[int | str, dict[str, Any]] = {
    401: {"model": Refusal, "description": "The API key is missing or wrong."},
}
REFUSALS = NO_KEY | {
    408: {"model": Refusal, "description": "The request did not arrive in time."},
    413: {"model": Refusal, "description": "The request is too large."},
    422: {"model": InvalidAnswer, "description": "A field is wrong; `loc` names it."},
    429: {"model": Refusal, "description": "The key has used up its rate; `Retry-After` says how long to wait."},
    503: {
        "model": Refusal,
        "description": "Too many large requests at once, or, with AUDIT_FSYNC=on, no record. Try again later.",
    },
}


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """For the argument `openapi_extra` of a route: what its body is."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def with_requests(app: FastAPI, models: Sequence[type[BaseModel]]) -> Callable[[], dict[str, Any]]:
    """A function for the application's document with the schemas of these requests."""
    generated = app.openapi

    def document() -> dict[str, Any]:
        given: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in models]
        _, definitions = models_json_schema(given, ref_template="#/components/schemas/{model}")
        found = generated()
        found["components"]["schemas"] |= definitions["$defs"]
        return found

    return document
