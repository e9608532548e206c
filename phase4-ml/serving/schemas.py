"""Requests and answers of the API; the OpenAPI document comes from these, with examples that work when pasted."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fraud_common.payments import (
    CLOCK_SKEW,
    COUNTRY_PATTERN,
    CURRENCY_PATTERN,
    DEVICE_TYPES,
    EARLIEST_EVENT_TIME,
    ID_PATTERN,
    MAX_AMOUNT_CENTS,
    MAX_ID_CHARACTERS,
    TEXT_PATTERN,
)
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StrictBool, WithJsonSchema

from serving.settings import MAX_BATCH, MAX_ERRORS

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS, pattern=f"^{ID_PATTERN}$")]
BATCH_SIZE = Field(min_length=1, max_length=MAX_BATCH)
# decimal(12, 2) on the wire.
Amount = Annotated[float, Field(strict=True, ge=0.01, le=MAX_AMOUNT_CENTS / 100, allow_inf_nan=False)]


def moment_of(value: Any) -> datetime:
    """An ISO 8601 timestamp, as UTC; without a time zone it would be ambiguous."""
    if not isinstance(value, str):
        raise ValueError("must be a string like 2024-11-29T14:30:00Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is not an ISO 8601 timestamp, such as 2024-11-29T14:30:00Z") from None
    if moment.tzinfo is None:
        raise ValueError("has no time zone; write it like 2024-11-29T14:30:00Z or 2024-11-29T15:30:00+01:00")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range in UTC") from None


def _event_time(value: Any) -> datetime:
    moment = moment_of(value)
    if moment < EARLIEST_EVENT_TIME:
        raise ValueError(f"is before {EARLIEST_EVENT_TIME:%Y-%m-%d}; no payment is that old")
    if moment > datetime.now(UTC) + CLOCK_SKEW:
        raise ValueError(f"is more than {CLOCK_SKEW.total_seconds() / 60:.0f} minutes in the future")
    return moment


def _device_type(value: Any) -> str | None:
    """One of DEVICE_TYPES; any other text counts as unknown."""
    if value is not None and not isinstance(value, str):
        raise ValueError("must be a string or null")
    return value if value in DEVICE_TYPES else None


DeviceType = Annotated[
    str | None,
    PlainValidator(_device_type),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": list(DEVICE_TYPES)}, {"type": "null"}]}),
]
EventTime = Annotated[datetime, PlainValidator(_event_time), WithJsonSchema({"type": "string", "format": "date-time"})]

PAYMENT_EXAMPLE: dict[str, Any] = {
    "transaction_id": "t1",
    "user_id": "U1234",
    "amount": 500,
    "merchant_id": "M001",
    "is_international": False,
}
FULL_PAYMENT_EXAMPLE: dict[str, Any] = PAYMENT_EXAMPLE | {
    "currency": "EUR",
    "merchant_category": "groceries",
    "country": "DE",
    "device_id": "d42",
    "device_type": "mobile",
    "event_time": "2024-11-29T14:30:00Z",
}
ANSWER_EXAMPLE: dict[str, Any] = {
    "transaction_id": "t1",
    "prediction_id": "0b54b01e-9a3c-4f0a-bb32-3c5a5f1d7c11",
    "fraud_probability": 0.031,
    "risk_tier": "low",
    "model_version": "3",
    "latency_ms": 0.62,
    "feature_source": "batch",
    "feature_age_seconds": 840.0,
    "merchant_feature_source": "batch",
    "decision": "challenge",
    "queue": True,
    "rules": ["new-device-high-amount"],
    "ruleset_id": 12,
    "reasons": [],
    "reasons_status": "not_requested",
}


class PaymentRequest(BaseModel):
    """One payment to score. Optional fields make the score more precise."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [PAYMENT_EXAMPLE, FULL_PAYMENT_EXAMPLE]})

    transaction_id: Id
    user_id: Id
    amount: Amount = Field(description="In the payment's own currency.")
    merchant_id: Id
    is_international: StrictBool = Field(default=False, description="Outside the cardholder's home country.")
    currency: str | None = Field(
        default=None, pattern=f"^{CURRENCY_PATTERN}$", description="ISO 4217; XXX counts as not given."
    )
    merchant_category: str | None = Field(
        default=None, description="Where the sender knows it; otherwise what is known of the merchant decides."
    )
    country: str | None = Field(
        default=None, pattern=f"^{COUNTRY_PATTERN}$", description="ISO 3166-1. Where the payment takes place."
    )
    device_id: str | None = Field(
        default=None, pattern=f"^{TEXT_PATTERN}$", description="The same id for every payment with this device."
    )
    device_type: DeviceType = Field(
        default=None, description=f"{', '.join(DEVICE_TYPES)}; any other value counts as unknown."
    )
    event_time: EventTime | None = Field(
        default=None, description="ISO 8601 with a time zone, at most 5 minutes ahead."
    )


class BatchRequest(BaseModel):
    """Several payments, scored together."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"transactions": [PAYMENT_EXAMPLE, FULL_PAYMENT_EXAMPLE]}]}
    )

    transactions: Annotated[list[PaymentRequest], BATCH_SIZE]


class Reason(BaseModel):
    """How much one feature moved this score."""

    name: str
    value: float | None = Field(description="The feature of this payment; null if JSON can't express it.")
    effect: float = Field(
        description="Its part of the difference between this fraud_probability and the one that the model expects "
        "of legitimate payments (SHAP value); of rules-1, the difference that the feature's typical value makes."
    )


class PredictionAnswer(BaseModel):
    """The score of one payment."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER_EXAMPLE]})

    transaction_id: str
    prediction_id: str = Field(
        description="Unique for every answer: a transaction_id that is sent again is scored and recorded again."
    )
    fraud_probability: float = Field(ge=0, le=1)
    risk_tier: Literal["low", "medium", "high"]
    model_version: str = Field(description="Version in the registry, or rules-1 if there has never been a model.")
    latency_ms: float = Field(description="Inside the server, from the parsed request to the answer.")
    feature_source: Literal["stream", "batch", "default"] = Field(
        description="Where the user's features came from: the live stream, the snapshot from Gold (also if the "
        "stream lacks payments that it counts), or the defaults (an unknown user, or no answer from Redis)."
    )
    feature_age_seconds: float | None = Field(
        description="How old the features are: the stream's since it was last complete, a snapshot's by its event "
        "time before that of the payment; null for the defaults."
    )
    merchant_feature_source: Literal["stream", "batch", "reference", "default"] = Field(
        description="The same of the merchant's features; reference: the snapshots are older than a day, so only the "
        "merchant's category and its risk are known."
    )
    decision: Literal["approve", "challenge", "decline"] = Field(
        description="What should happen to the payment: the strictest answer of the model and of the live rules that "
        "fired, unless an exception lowers it."
    )
    queue: bool = Field(description="Whether somebody should look at the payment afterwards.")
    rules: list[str] = Field(description="The live rules and exceptions that fired, by name.")
    ruleset_id: int | None = Field(description="The ruleset that decided; null if there is none yet.")
    reasons: list[Reason] = Field(
        description="With ?explain=true: the up to five features that moved this score the most. Those of tier medium "
        "and high are stored in the table prediction_reasons, asked for or not."
    )
    reasons_status: Literal["not_requested", "ok", "unavailable"] = Field(
        description="unavailable: the explainer gave no answer in time, so `reasons` is empty; the score is unaffected."
    )


class BatchAnswer(BaseModel):
    """The scores, in the order of the request."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"predictions": [ANSWER_EXAMPLE]}]})

    predictions: list[PredictionAnswer]


class InvalidField(BaseModel):
    """One thing that is wrong with the request."""

    loc: list[str | int] = Field(
        description="Where: body, query or path, then the field; in a batch also the payment's position."
    )
    msg: str
    type: str


class InvalidAnswer(BaseModel):
    """The answer to bad input."""

    detail: list[InvalidField] = Field(
        max_length=MAX_ERRORS, description=f"The first {MAX_ERRORS} errors; what follows them was not checked."
    )


class Refusal(BaseModel):
    """Why a request was refused before it was read."""

    detail: str


class ReadyAnswer(BaseModel):
    """Whether this worker can score, and with what."""

    status: Literal["ok", "degraded"]
    model_version: str
    ruleset_id: int | None = Field(description="The rules that decide; null: the model alone.")
    degraded: list[str] = Field(description="What is degraded; requests are answered nevertheless.")
