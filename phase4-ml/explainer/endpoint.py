"""POST /explain: the reasons of one score, for the API's `?explain=true`. Inside the stack only."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from serving.reasons import Reason

from explainer import metrics
from explainer.attribution import UnexplainedError
from explainer.explain import Prediction, explain
from explainer.registry import Models, Unavailable


class ExplainRequest(BaseModel):
    """A prediction, as the table `predictions` has it."""

    model_version: str
    fraud_probability: float
    features: dict[str, float | None]


class ExplainAnswer(BaseModel):
    """Its reasons, the largest first."""

    reasons: list[Reason]


def make_app(models: Models) -> FastAPI:
    """The web application."""
    app = FastAPI(title="Explainer", openapi_url=None)

    @app.post("/explain")
    def answer(request: ExplainRequest) -> ExplainAnswer:
        prediction = Prediction(request.model_version, request.fraud_probability, request.features)
        try:
            reasons = explain(models, prediction)
        except UnexplainedError as error:
            metrics.UNEXPLAINED.inc()
            raise HTTPException(404, str(error)) from error
        except Unavailable as error:
            metrics.ERRORS.labels("mlflow").inc()
            raise HTTPException(503, str(error)) from error
        metrics.ANSWERED.inc()
        return ExplainAnswer(reasons=reasons)

    return app


@contextmanager
def served(models: Models, port: int) -> Iterator[None]:
    """Answer on this port, in a thread, until the block ends."""
    config = uvicorn.Config(make_app(models), host="0.0.0.0", port=port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="endpoint", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)
