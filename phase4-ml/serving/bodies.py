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
# As InvalidField describes it.
type Error = dict[str, Any]

# The most of an unknown key that an answer repeats.
_KEY_CHARACTERS = 64


class _Batch(BaseModel):
    """A BatchRequest whose payments are not checked yet."""

    model_config = ConfigDict(extra="forbid")

    transactions: Annotated[list[Any], BATCH_SIZE]


class InvalidBodyError(Exception):
    """What is wrong with a request, and where: at most MAX_ERRORS errors."""

    def __init__(self, errors: list[Error]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def read_payment(body: bytes) -> PaymentRequest:
    """The payment of a request.

    Raises:
        InvalidBodyError: it is not one.
    """
    payment = _payment(_parse(body), ("body",))
    if isinstance(payment, PaymentRequest):
        return payment
    raise InvalidBodyError(payment[:MAX_ERRORS])


def read_batch(body: bytes) -> list[PaymentRequest]:
    """The payments of a request with several.

    Raises:
        InvalidBodyError: one of them or the request itself is wrong; the payments after MAX_ERRORS errors were not
            looked at.
    """
    given = read_object(body, _Batch).transactions
    errors: list[Error] = []
    payments = []
    for position, each in enumerate(given):
        payment = _payment(each, ("body", "transactions", position))
        if isinstance(payment, PaymentRequest):
            payments.append(payment)
        elif errors and len(errors) + len(payment) > MAX_ERRORS:
            # All that is wrong with a payment, or nothing: who sends the others again must not lose a reason.
            break
        else:
            errors += payment
    if errors:
        raise InvalidBodyError(errors[:MAX_ERRORS])
    return payments


def read_object[M: BaseModel](body: bytes, model: type[M]) -> M:
    """A request's body as one object.

    Raises:
        InvalidBodyError: it is not one.
    """
    parsed = _parse(body)
    if isinstance(parsed, dict) and len(parsed) > MAX_KEYS:
        raise InvalidBodyError([_too_many_keys(len(parsed), ("body",))])
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise InvalidBodyError(_described(error, ("body",))[:MAX_ERRORS]) from None


def _parse(body: bytes) -> Any:
    try:
        # NaN is refused with the name of its field.
        return from_json(body, allow_inf_nan=True)
    except ValueError as error:
        raise InvalidBodyError([_error(("body",), "json_invalid", f"Invalid JSON: {error}")]) from None


def _payment(given: Any, place: Place) -> PaymentRequest | list[Error]:
    """A checked payment, or what is wrong with it."""
    if isinstance(given, dict) and len(given) > MAX_KEYS:
        return [_too_many_keys(len(given), place)]
    try:
        return PaymentRequest.model_validate(given)
    except ValidationError as error:
        return _described(error, place)


def _described(error: ValidationError, place: Place) -> list[Error]:
    """The input is not sent back: it may be a number that JSON can't express."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [_error((*place, *each["loc"]), each["type"], each["msg"]) for each in found]


def _too_many_keys(count: int, place: Place) -> Error:
    return _error(place, "too_many_keys", f"Object should have at most {MAX_KEYS} keys, not {count}")


def _error(place: Place, kind: str, message: str) -> Error:
    loc = [part[:_KEY_CHARACTERS] if isinstance(part, str) else part for part in place]
    return {"loc": loc, "msg": message, "type": kind}
