"""The scoring API. Upstream are the scorer and other clients; behind it are Redis, the model and the audit table.

None of those has to be available: if one is not, the answer, /ready and the metrics say so, and requests still succeed.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from audit.prediction_log import PredictionLog
from audit.spool import NotRecordedError
from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.security import APIKeyHeader
from fastapi_offline import FastAPIOffline
from fraud_common.logs import set_up_logging
from fraud_common.settings import load_settings
from prometheus_client import CONTENT_TYPE_LATEST
from rules.access import People
from rules.rates import stored_rates
from rules.routes import install as install_rules
from rules.schemas import REQUESTS as RULE_REQUESTS

from serving import metrics
from serving.api_keys import ApiKeys
from serving.background import keep_running
from serving.bodies import InvalidBodyError, read_batch, read_payment
from serving.explain_client import ExplainClient
from serving.feature_client import FeatureClient
from serving.middleware import RequestChecks
from serving.model_store import ModelStore
from serving.openapi import NO_KEY, REFUSALS, body_of, with_requests
from serving.predictor import Predictor, policy_of
from serving.rate_limit import RateLimit, shared_numbers
from serving.rules_1 import VERSION as RULES_VERSION
from serving.ruleset_store import RulesetStore
from serving.schemas import BatchAnswer, BatchRequest, PaymentRequest, PredictionAnswer, ReadyAnswer
from serving.settings import MAX_ERRORS, MAX_REQUEST_BYTES, Settings

DESCRIPTION = """Scores card payments for fraud.

`POST /predict` answers in milliseconds with the user's and merchant's features from Redis, the model under the alias
`production` in MLflow, and fall-backs for both; rules beside the model decide what happens to the payment. Every
answer is recorded in the table `predictions`.
"""
set_up_logging()
settings = load_settings(Settings)
# How soon the thread that stores predictions yields to requests.
sys.setswitchinterval(0.0005)


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    metrics.forget_dead_workers()
    features = FeatureClient(settings)
    models = ModelStore(settings)
    log = PredictionLog(settings)
    explainer = ExplainClient(settings)
    rules = RulesetStore(settings)
    # Now, so that a wrong file is noticed at the start, and not by the first payment.
    stored_rates()
    await asyncio.to_thread(models.load_cached)
    await asyncio.to_thread(rules.start)
    log.start()
    tasks = [
        asyncio.create_task(keep_running("model_store", models.follow)),
        asyncio.create_task(keep_running("feature_client", features.watch)),
    ]
    app.state.features, app.state.models, app.state.log, app.state.rules = features, models, log, rules
    app.state.predictor = Predictor(features, models, rules, policy_of(settings), log, explainer)
    # All this lives as long as the process, so the garbage collector need not look at it again.
    gc.collect()
    gc.freeze()
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(rules.close)
    await asyncio.to_thread(log.close)
    await features.close()
    await models.close()
    await explainer.close()


# /docs has all its files from here, so it works without the internet.
app = FastAPIOffline(redoc_url=None, title="Fraud API", description=DESCRIPTION, version="1", lifespan=_running)
_keys = ApiKeys(settings.caller_keys, settings.api_internal_key)
_limit = RateLimit(settings.api_rate_limit, shared_numbers(len(_keys.names))) if settings.api_rate_limit else None
app.add_middleware(
    RequestChecks,
    keys=_keys,
    people=People.of(settings),
    limit=_limit,
    max_bytes=MAX_REQUEST_BYTES,
    max_seconds=settings.request_seconds,
)
# The middleware checks the key; this documents it.
_key = [Security(APIKeyHeader(name="X-API-Key", auto_error=False))] if _keys.required else []


@app.exception_handler(InvalidBodyError)
async def _invalid(_: Request, error: InvalidBodyError) -> JSONResponse:
    return JSONResponse({"detail": error.errors}, 422)


@app.exception_handler(RequestValidationError)
async def _invalid_query(_: Request, error: RequestValidationError) -> JSONResponse:
    """As FastAPI answers it, in the same form as for a body: it would repeat the input, however long that is."""
    found = [{"loc": list(each["loc"]), "msg": each["msg"], "type": each["type"]} for each in error.errors()]
    return JSONResponse({"detail": found[:MAX_ERRORS]}, 422)


@app.exception_handler(NotRecordedError)
async def _not_recorded(_: Request, error: NotRecordedError) -> JSONResponse:
    detail = f"the prediction can't be recorded, so there is none (AUDIT_FSYNC=on): {error}"
    return JSONResponse({"detail": detail}, 503, {"Retry-After": "1"})


@app.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """Lead to the documentation."""
    return RedirectResponse("/docs")


@app.post(
    "/predict",
    response_model=PredictionAnswer,
    responses=REFUSALS,
    dependencies=_key,
    openapi_extra=body_of(PaymentRequest),
)
async def predict(request: Request, explain: bool = False) -> Response:
    """Score one payment. Each request makes a new prediction, even for the same transaction_id."""
    payment = read_payment(await request.body())
    return Response(await request.app.state.predictor.predict(payment, explain), media_type="application/json")


@app.post(
    "/predict/batch",
    response_model=BatchAnswer,
    responses=REFUSALS,
    dependencies=_key,
    openapi_extra=body_of(BatchRequest),
)
async def predict_batch(request: Request) -> Response:
    """Score up to 1,000 payments; the answers are in the same order."""
    payments = read_batch(await request.body())
    # The first one is counted already.
    if charge := request.scope.get("charge"):
        charge(len(payments) - 1)
    return Response(await request.app.state.predictor.predict_batch(payments), media_type="application/json")


@app.get("/health")
async def health() -> dict[str, str]:
    """The process is alive."""
    return {"status": "ok"}


@app.get("/ready", responses=NO_KEY, dependencies=_key)
async def ready(request: Request) -> ReadyAnswer:
    """Whether this worker can score, with which model, and what is degraded."""
    state = request.app.state
    version = state.models.model.version
    troubles = (state.models.trouble, state.rules.trouble, state.log.trouble)
    degraded = [trouble for trouble in troubles if trouble]
    if version == RULES_VERSION:
        degraded.insert(0, "there has never been a model: rules score")
    if not state.features.answers:
        degraded.insert(0, "redis does not answer: the features' defaults are used")
    return ReadyAnswer(
        status="degraded" if degraded else "ok",
        model_version=version,
        ruleset_id=state.rules.in_force.ruleset.ruleset_id,
        degraded=degraded,
    )


@app.get("/metrics", response_class=PlainTextResponse, responses=NO_KEY, dependencies=_key)
async def prometheus() -> Response:
    """Metrics of all workers in the Prometheus text format."""
    return Response(await asyncio.to_thread(metrics.exposition), media_type=CONTENT_TYPE_LATEST)


install_rules(app, settings)
app.openapi = with_requests(app, [PaymentRequest, BatchRequest, *RULE_REQUESTS])
