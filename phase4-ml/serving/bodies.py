"""From a request's bytes to payments, in bounded time whatever the bytes are.

pydantic lists everything that is wrong, and a megabyte can be wrong in a hundred thousand ways. So an object has at
most MAX_KEYS keys, the payments of a batch are checked one after the other, and the list ends with MAX_ERRORS.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from serving.schemas import BATCH_SIZE, PaymentRequest
from serving.settings import MAX_ERRORS, MAX_KEYS

type Place = tuple[str | int, ...]

# The most of an unknown key that an answer repeats.
_KEY_CHARACTERS = 64


class _Batch(BaseModel):
    """A BatchRequest whose payments are not checked yet."""

    model_config = ConfigDict(extra="forbid")

    transactions: Annotated[list[Any], BATCH_SIZE]


class InvalidBodyError(Exception):
    """What is wrong with a request, and where: at most MAX_ERRORS entries as InvalidField describes them."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def read_payment(body: bytes) -> PaymentRequest:
    """The payment of a request.

    Raises:
        InvalidBodyError: it is not one.
    """
    errors: list[dict[str, Any]] = []
    payment = _payment(_parse(body), ("body",), errors)
    if payment is None:
        raise InvalidBodyError(errors[:MAX_ERRORS])
    return payment


def read_batch(body: bytes) -> list[PaymentRequest]:
    """The payments of a request with several.

    Raises:
        InvalidBodyError: one of them or the request itself is wrong; the payments after MAX_ERRORS errors were not
            looked at.
    """
    parsed = _parse(body)
    if isinstance(parsed, dict) and len(parsed) > MAX_KEYS:
        raise InvalidBodyError([_too_many_keys(len(parsed), ("body",))])
    try:
        given = _Batch.model_validate(parsed).transactions
    except ValidationError as error:
        raise InvalidBodyError(_described(error, ("body",))[:MAX_ERRORS]) from None
    errors: list[dict[str, Any]] = []
    payments = []
    for position, each in enumerate(given):
        payment = _payment(each, ("body", "transactions", position), errors)
        if payment is not None:
            payments.append(payment)
        elif len(errors) >= MAX_ERRORS:
            break
    if errors:
        raise InvalidBodyError(errors[:MAX_ERRORS])
    return payments


def _parse(body: bytes) -> Any:
    try:
        # NaN is refused with the name of its field.
        return from_json(body, allow_inf_nan=True)
    except ValueError as error:
        raise InvalidBodyError([_error(("body",), "json_invalid", f"Invalid JSON: {error}")]) from None


def _payment(given: Any, place: Place, errors: list[dict[str, Any]]) -> PaymentRequest | None:
    """A checked payment; None, and what is wrong with it added to the errors, if it is not one."""
    if isinstance(given, dict) and len(given) > MAX_KEYS:
        errors.append(_too_many_keys(len(given), place))
        return None
    try:
        return PaymentRequest.model_validate(given)
    except ValidationError as error:
        errors += _described(error, place)
        return None


def _described(error: ValidationError, place: Place) -> list[dict[str, Any]]:
    """The input is not sent back: it may be a number that JSON can't express."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [_error((*place, *each["loc"]), each["type"], each["msg"]) for each in found]


def _too_many_keys(count: int, place: Place) -> dict[str, Any]:
    return _error(place, "too_many_keys", f"Object should have at most {MAX_KEYS} keys, not {count}")


def _error(place: Place, kind: str, message: str) -> dict[str, Any]:
    loc = [part[:_KEY_CHARACTERS] if isinstance(part, str) else part for part in place]
    return {"loc": loc, "msg": message, "type": kind}
