"""Training examples as arrays, and their split by time, which respects the delay of labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from features import FEATURES, LONGEST_WINDOW_SECONDS
from numpy.typing import NDArray

from training.delays import represented_frauds

# So long after the first payment of a history, windows begin to be full.
WARM_UP = timedelta(seconds=LONGEST_WINDOW_SECONDS)


@dataclass(frozen=True, slots=True)
class Examples:
    """Training examples, n of them.

    Attributes:
        matrix: the model's input, shape (n, len(FEATURES)).
        is_fraud: the label.
        event_time: when the payment happened, UTC.
        known_at: when its label became known, UTC; not-a-time if there is none.
        user_id: who paid.
        fraud_type: the scenario of a fraud, "" for legitimate payments.
        weight: how many payments of the population this one represents.
    """

    matrix: NDArray[np.float32]
    is_fraud: NDArray[np.bool_]
    event_time: NDArray[np.datetime64]
    known_at: NDArray[np.datetime64]
    user_id: NDArray[Any]
    fraud_type: NDArray[Any]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.is_fraud)

    @property
    def amount(self) -> NDArray[np.float64]:
        """Amounts, in each payment's own currency."""
        return self.matrix[:, FEATURES.index("amount")].astype(float)

    def where(self, chosen: NDArray[Any]) -> "Examples":
        """The examples that a mask selects, or those at these positions in their order."""
        return Examples(**{name: getattr(self, name)[chosen] for name in self.__slots__})

    @classmethod
    def concatenate(cls, parts: list["Examples"]) -> "Examples":
        """All examples of the parts, in their order."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Periods:
    """The model learns from `start` to `train_end`, and is evaluated from `holdout_start` to `end`."""

    start: datetime
    train_end: datetime
    holdout_start: datetime
    end: datetime


def periods(start: datetime, end: datetime, enough_since: datetime | None = None) -> Periods:
    """Divide the time from the first to the newest matured payment.

    The holdout is the last week. The week before it is left out: in production, too, the newest payments that a model
    has learned from are a week old when it starts to serve, since their labels take that long (delay period of the
    Fraud Detection Handbook, chapter 5). With less than four weeks of history, each part takes a quarter.

    Args:
        start: the first payment.
        end: the newest one.
        enough_since: since when there are enough frauds to evaluate a model. If that is more than a week ago, the
            holdout is as long, but no longer than a quarter of the history.
    """
    quarter = (end - start) / 4
    week = min(timedelta(days=7), quarter)
    holdout_start = end - week
    if enough_since is not None:
        holdout_start = min(holdout_start, max(enough_since, end - quarter))
    return Periods(start, holdout_start - week, holdout_start, end)


def without_warm_up(split: Periods, history_start: datetime) -> Periods:
    """The same periods, learning only from examples whose longest window is full; unchanged if all are.

    A payment on day 5 of a history has no more than five days behind it, which looks like a new cardholder, and no
    later payment looks like that.
    """
    return replace(split, start=max(split.start, history_start + WARM_UP))


def varying_features(examples: Examples) -> tuple[str, ...]:
    """The features that have more than one value, in the order of FEATURES.

    The others teach nothing, and a forest that draws its columns would draw them in vain.
    """
    varies = examples.matrix.min(axis=0) != examples.matrix.max(axis=0)
    return tuple(name for name, kept in zip(FEATURES, varies, strict=True) if kept)


def select_features(matrix: NDArray[np.float32], features: Sequence[str]) -> NDArray[np.float32]:
    """Of the columns FEATURES those of a model, in its order."""
    return matrix.take([FEATURES.index(name) for name in features], axis=1)


def split_by_time(examples: Examples, split: Periods) -> tuple[Examples, Examples]:
    """Training examples and holdout.

    A label that became known after the gap week was not there to learn from when the model was made. Such a fraud
    counts as legitimate in training, as it would have on that day; the known ones of its age have more weight instead.
    """
    before = examples.event_time < as_datetime64(split.train_end)
    train = examples.where(before)
    holdout = examples.where(examples.event_time >= as_datetime64(split.holdout_start))
    made_at = as_datetime64(split.holdout_start)
    late = train.is_fraud & ~(train.known_at <= made_at)
    train.is_fraud[late] = False
    train.weight[late] = 1.0
    frauds = train.is_fraud
    train.weight[frauds] = represented_frauds(train.event_time[frauds], train.known_at[frauds], made_at)
    return train, holdout


def as_datetime64(moment: datetime | None) -> np.datetime64:
    """A moment in UTC as NumPy has it, in milliseconds; None as not-a-time."""
    if moment is None:
        return np.datetime64("NaT", "ms")
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "ms")
