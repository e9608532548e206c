"""The simulated stream: for each day the payments in the order in which they reach the platform, and the labels.

A day is made from (seed, day) alone. So the stream can be entered at any day without generating what came before,
and the same seed gives the same transactions, with the same ids, however often it is made.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from producer.simulator.cards import CardWorld
from producer.simulator.payments import DAY_MS, LEGITIMATE, MINUTE_MS, Payments
from producer.simulator.terminals import TerminalWorld
from producer.simulator.world import SCHEME, World

LATE_SHARE = 0.005
LATE_LIMIT_MS = 36 * 60 * MINUTE_MS
UNREPORTED_SHARE = 0.07
# Disputes that turn out to be legitimate, as a share of the legitimate payments.
CLEARED_SHARE = 0.0002
LABEL_LIMIT_DAYS = 30
# Positions in the stream are day * POSITIONS_A_DAY + rank, so that they can be compared as one number.
POSITIONS_A_DAY = 10**8


@dataclass(frozen=True)
class Block:
    """What reaches the platform on one day: payments by time of arrival, and labels by time of report."""

    day: int
    payments: Payments
    arrival_ms: np.ndarray  # int, ascending

    @property
    def positions(self) -> np.ndarray:
        """The position in the stream of each payment: it grows along the whole stream."""
        return self.day * POSITIONS_A_DAY + np.arange(len(self.payments))


@dataclass(frozen=True)
class Labels:
    """Labels, as columns, ordered by (reported_ms, position of the payment)."""

    position: np.ndarray  # of the payment in the stream
    user: np.ndarray
    event_ms: np.ndarray
    reported_ms: np.ndarray
    scenario: np.ndarray

    def __len__(self) -> int:
        return len(self.position)

    def take(self, index: np.ndarray) -> "Labels":
        """The labels at these positions, or where this mask is true."""
        return Labels(
            self.position[index], self.user[index], self.event_ms[index], self.reported_ms[index], self.scenario[index]
        )


@lru_cache(maxsize=64)
def _date_of(day: int) -> str:
    """The calendar date of a day number, as in transaction ids: 20260710."""
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y%m%d")


def transaction_id(position: int) -> str:
    """The id of the payment at a position: its date of arrival and its rank on that day."""
    day, rank = divmod(position, POSITIONS_A_DAY)
    return f"tx-{_date_of(day)}-{rank:08d}"


def position_of(transaction: str) -> int | None:
    """The position in an id, or None if the simulator did not make the id."""
    prefix, _, rest = transaction.partition("-")
    date, _, rank = rest.partition("-")
    if prefix != "tx" or len(date) != 8 or not rank.isdecimal():
        return None
    try:
        day = int(datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC).timestamp()) // 86_400
    except ValueError:
        return None
    return day * POSITIONS_A_DAY + int(rank)


class Stream:
    """The stream of one seed. Nothing happens before `start_day` (days since 1970, UTC)."""

    def __init__(
        self,
        seed: int,
        users: int,
        start_day: int,
        live_day: int | None = None,
        label_delay_scale: float = 1.0,
        *,
        profile: str = "cards",
        scheme: int = SCHEME,
    ) -> None:
        self.seed = seed
        self.start_day = start_day
        self.world: World = (
            TerminalWorld(seed, users) if profile == "terminal" else CardWorld(seed, users, start_day, scheme)
        )
        self._live_ms = (live_day if live_day is not None else start_day) * DAY_MS
        self._label_delay_scale = label_delay_scale
        # A late payment may arrive two days later.
        self._happened = lru_cache(maxsize=4)(self._make_happened)
        self._labels_from = lru_cache(maxsize=LABEL_LIMIT_DAYS + 3)(self._make_labels_from)
        self._block = lru_cache(maxsize=2)(self._make_block)

    def block(self, day: int) -> Block:
        """What reaches the platform on `day`, in the order of arrival."""
        return self._block(day)

    def labels(self, day: int) -> Labels:
        """The labels that are reported on `day`, in that order."""
        parts = [self._labels_from(d) for d in range(max(self.start_day, day - LABEL_LIMIT_DAYS), day + 1)]
        every = [part.take(part.reported_ms // DAY_MS == day) for part in parts]
        columns = [
            np.concatenate([getattr(p, name) for p in every] or [np.empty(0, np.int64)])
            for name in Labels.__annotations__
        ]
        labels = Labels(*columns)
        return labels.take(np.lexsort((labels.position, labels.reported_ms)))

    def _rng(self, purpose: int, day: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose, day])

    def _make_happened(self, day: int) -> tuple[Payments, np.ndarray]:
        """Everything with an event time on `day`, and when it arrives."""
        if day < self.start_day:
            return Payments.empty(), np.empty(0, np.int64)
        rng = self._rng(2, day)
        payments = self.world.payments_of(day, rng)
        late = rng.random(len(payments)) < LATE_SHARE
        delay = np.minimum(rng.lognormal(4.2, 1.2, len(payments)) * MINUTE_MS, LATE_LIMIT_MS).astype(np.int64)
        return payments, payments.event_ms + late * delay

    def _make_block(self, day: int) -> Block:
        earlier = [self._happened(d) for d in range(day - 2, day + 1)]
        payments = Payments.concat([p for p, _ in earlier])
        arrival = np.concatenate([a for _, a in earlier])
        order = np.argsort(arrival, kind="stable")
        order = order[arrival[order] // DAY_MS == day]
        return Block(day, payments.take(order), arrival[order])

    def _make_labels_from(self, day: int) -> Labels:
        """All labels of the payments that arrive on `day`."""
        block = self.block(day)
        payments, n = block.payments, len(block.payments)
        rng = self._rng(3, day)
        fraud = payments.scenario != LEGITIMATE
        known = np.where(fraud, rng.random(n) >= UNREPORTED_SHARE, rng.random(n) < CLEARED_SHARE)
        days = np.clip(rng.lognormal(1.8, 0.6, n), 0.5, LABEL_LIMIT_DAYS - 3)
        scale = np.where(payments.event_ms >= self._live_ms, self._label_delay_scale, 1.0)
        # A label can't be known before its payment has arrived.
        reported = np.maximum(
            payments.event_ms + (days * scale * DAY_MS).astype(np.int64), block.arrival_ms + MINUTE_MS
        )
        index = np.flatnonzero(known)
        return Labels(
            block.positions[index],
            payments.user[index],
            payments.event_ms[index],
            reported[index],
            payments.scenario[index],
        )
