"""A simulated history as training examples, without any service: the simulator's payments, with our features.

It follows what `make up` does with its history: labels that are reported by its end, examples that have matured, all
frauds, the whole holdout and a sample of the other payments. What differs is only how the sample is drawn.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from features import (
    DAY_MS,
    DEVICE_TYPES,
    EPOCH,
    FEATURES,
    UNKNOWN_DEVICE,
    DeviceFeatures,
    DeviceUser,
    FraudChange,
    MerchantDay,
    MerchantFeatures,
    Novelty,
    Parties,
    Payment,
    UserEvents,
    UserFeatures,
    log_steps,
)
from producer.simulator.cards import CardWorld
from producer.simulator.merchants import CATEGORIES
from producer.simulator.payments import LEGITIMATE, SCENARIOS, Payments
from producer.simulator.stream import Stream
from producer.simulator.world import Shop
from tqdm import tqdm
from training.enough import Counts, leave_out_warm_up
from training.examples import Examples, Periods, as_datetime64, periods, without_warm_up
from training.gold import Dataset
from training.sample import Sample, plan_sample, weigh_sample
from training.settings import Settings

# As label_maturity_days of the dbt project, and BRONZE_LATE_AFTER_MINUTES.
MATURITY_DAYS, LATE_MS = 14, 30 * 60_000
# The first day of a history, in days since 1970: a Thursday.
FIRST_DAY = 20_454
RISKS = {"low": 0, "medium": 1, "high": 2}

Column = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class History:
    """All payments of a history, ordered by user and time, and the labels that were reported by its end.

    Columns of payments have shape (n,), those of labels (m,). `label_row` is the position of a label's payment. `shops`
    are the merchants, by their number.
    """

    payments: Payments
    arrival_ms: Column
    country: Column
    is_international: Column
    category_risk: Column
    shops: list[Shop]
    label_row: Column
    reported_ms: Column
    label_is_fraud: Column
    users: list[str]
    end_day: int


def make_history(seed: int, users: int, days: int, profile: str) -> History:
    """The history of a seed, `days` long."""
    stream = Stream(seed, users, FIRST_DAY, profile=profile)
    end = FIRST_DAY + days
    blocks = [stream.block(day) for day in range(FIRST_DAY, end)]
    payments = Payments.concat([block.payments for block in blocks])
    arrival, positions = (
        np.concatenate([getattr(each, name) for each in blocks]) for name in ("arrival_ms", "positions")
    )
    order = np.lexsort((positions, payments.event_ms, payments.user))
    payments = payments.take(order)
    row_of_position = np.empty(len(order), np.int64)
    row_of_position[order] = np.arange(len(order))
    labels = [stream.labels(day) for day in range(FIRST_DAY, end)]
    label_positions, reported, scenario = (
        np.concatenate([getattr(each, name) for each in labels]) for name in ("position", "reported_ms", "scenario")
    )
    world = stream.world
    names = sorted({shop.country for shop in world.shops} | set(world.homes))
    codes = {name: code for code, name in enumerate(names)}
    country = np.array([codes[shop.country] for shop in world.shops])[payments.merchant]
    home = np.array([codes[name] for name in world.homes])[payments.user]
    # Of a merchant that is not in the seed, the risk of an unknown category.
    risk = np.full(len(world.shops), MerchantFeatures().merchant_category_risk)
    if isinstance(world, CardWorld):
        risk = np.array([RISKS[category.risk] for category in CATEGORIES])[world.merchants.category]
    return History(
        payments,
        arrival[order],
        country,
        (country != home).astype(np.int64),
        risk[payments.merchant],
        world.shops,
        row_of_position[np.searchsorted(positions, label_positions)],
        reported,
        scenario != LEGITIMATE,
        world.users,
        end,
    )


def make_dataset(settings: Settings, history: History) -> Dataset:
    """What training reads of this history, from the first day to the newest matured one."""
    return make_dataset_and_rows(settings, history)[0]


def make_dataset_and_rows(settings: Settings, history: History) -> tuple[Dataset, Column]:
    """What training reads, and for each of its examples the row of the history that it is of."""
    rows = _matured(history)
    event_ms = history.payments.event_ms
    is_fraud, known_ms, scenario = _labels_of(history)
    first, last = (_moment(int(moment)) for moment in (event_ms[rows].min(), event_ms[rows].max()))
    start = max(first, last - timedelta(days=settings.training_days))
    split = periods(start, last)
    warm = without_warm_up(split, first)
    left_out, warm_up = leave_out_warm_up(
        settings, split, warm, _count(warm, event_ms[rows], is_fraud[rows], known_ms[rows])
    )
    split = warm if left_out else split
    sample = plan_sample(settings, _count(split, event_ms[rows], is_fraud[rows], known_ms[rows]))
    chosen = rows[_drawn(settings, sample, split, event_ms[rows], is_fraud[rows])]
    chosen = chosen[np.argsort(event_ms[chosen], kind="stable")]
    examples = Examples(
        matrix=_matrix(history, chosen),
        is_fraud=is_fraud[chosen].copy(),
        event_time=event_ms[chosen].astype("datetime64[ms]"),
        known_at=known_ms[chosen].astype("datetime64[ms]"),
        user_id=np.array(history.users, dtype=object)[history.payments.user[chosen]],
        fraud_type=scenario[chosen],
        weight=np.ones(len(chosen)),
    )
    weigh_sample(examples, sample, split)
    return Dataset("simulated", 0, split, (last - first).days, examples, warm_up, "late history is left out"), chosen


def _moment(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


def _matured(history: History) -> Column:
    """The rows of matured payments that were scored with all earlier payments of their user."""
    payments, arrival = history.payments, history.arrival_ms
    # No payment is later than two days, so the newest arrival before a payment is within its window.
    # Users one behind another, so that one maximum is enough for all of them.
    line = payments.user * 10**12 + arrival - FIRST_DAY * DAY_MS
    newest = np.maximum.accumulate(line)
    newest_before = np.concatenate([[0], newest[:-1]])
    same_user = np.concatenate([[False], np.diff(payments.user) == 0])
    late = arrival - payments.event_ms > LATE_MS
    late_history = same_user & (newest_before > line) & ~late
    return np.flatnonzero((payments.event_ms < (history.end_day - MATURITY_DAYS) * DAY_MS) & ~late_history)


def _labels_of(history: History) -> tuple[Column, Column, Column]:
    """By payment: whether it is a known fraud, when its label became known (NaT if there is none), and the scenario."""
    count = len(history.payments)
    is_fraud = np.zeros(count, bool)
    known = np.full(count, np.datetime64("NaT", "ms").astype(np.int64))
    is_fraud[history.label_row] = history.label_is_fraud
    known[history.label_row] = history.reported_ms
    scenario = np.array([*SCENARIOS], dtype=object)[history.payments.scenario]
    return is_fraud, known, np.where(is_fraud, scenario, "")


def _count(split: Periods, event_ms: Column, is_fraud: Column, known_ms: Column) -> Counts:
    start, train_end, holdout_start = (
        as_datetime64(moment).astype(np.int64) for moment in (split.start, split.train_end, split.holdout_start)
    )
    training, holdout = (event_ms >= start) & (event_ms < train_end), event_ms >= holdout_start
    known = is_fraud & (known_ms <= holdout_start)
    return Counts(
        int((known & training).sum()),
        int((~is_fraud & training).sum()),
        int((is_fraud & holdout).sum()),
        int((~is_fraud & holdout).sum()),
        int((is_fraud & ~known & training).sum()),
    )


def _drawn(settings: Settings, sample: Sample, split: Periods, event_ms: Column, is_fraud: Column) -> Column:
    start, train_end, holdout_start = (
        as_datetime64(moment).astype(np.int64) for moment in (split.start, split.train_end, split.holdout_start)
    )
    lucky = np.random.default_rng(settings.training_seed).random(len(event_ms)) < 1 / sample.weight
    in_training = (event_ms >= start) & (event_ms < train_end)
    return (event_ms >= holdout_start) | (in_training & (is_fraud | lucky))


def _matrix(history: History, rows: Column) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The model's input of these payments, shape (len(rows), len(FEATURES))."""
    payments = history.payments
    users, merchants = _Users(history), _Merchants(history)
    devices = _Devices(history, np.unique(payments.device[rows]))
    matrix = np.empty((len(rows), len(FEATURES)), dtype=np.float32)
    by_user = np.argsort(payments.user[rows], kind="stable")
    for place in tqdm(by_user.tolist(), desc="features", unit=" payments", unit_scale=True, disable=None):
        row = int(rows[place])
        at = _moment(int(payments.event_ms[row]))
        events = users.events_of(int(payments.user[row]))
        merchant, device = int(payments.merchant[row]), int(payments.device[row])
        payment = Payment(
            amount=payments.cents[row] / 100,
            is_international=bool(history.is_international[row]),
            event_time=at,
            device_type=DEVICE_TYPES[payments.device_type[row]],
        )
        parties = Parties(merchant, int(history.country[row]), users.device_number(device))
        matrix[place] = UserFeatures.from_events(events, at).to_array(
            payment,
            merchants.state_of(merchant, int(history.category_risk[row]), at),
            Novelty.from_events(events, parties, at),
            devices.state_of(device, at),
        )
    return matrix


class _Users:
    """The payments and labels of one user at a time."""

    def __init__(self, history: History) -> None:
        payments = history.payments
        count = len(history.users)
        self._bounds = np.searchsorted(payments.user, np.arange(count + 1))
        label_user = payments.user[history.label_row]
        order = np.argsort(label_user, kind="stable")
        self._labels = order
        self._label_bounds = np.searchsorted(label_user[order], np.arange(count + 1))
        self._history = history
        self._devices = (payments.device >> np.uint64(1)).astype(np.int64)
        self._user, self._events = -1, None

    @staticmethod
    def device_number(device: int) -> int:
        """The number of a device, as in the events."""
        return device >> 1

    def events_of(self, user: int) -> UserEvents:
        """All payments of a user and the labels on them."""
        if user != self._user or self._events is None:
            history, payments = self._history, self._history.payments
            own = slice(self._bounds[user], self._bounds[user + 1])
            labels = self._labels[self._label_bounds[user] : self._label_bounds[user + 1]]
            self._user = user
            self._events = UserEvents(
                payments.event_ms[own],
                payments.cents[own],
                history.is_international[own],
                payments.merchant[own],
                history.country[own],
                self._devices[own],
                history.label_row[labels],
                history.reported_ms[labels],
                history.label_is_fraud[labels].astype(np.int64),
            )
        return self._events


def _fraud_changes(history: History, subject: Column) -> dict[int, list[FraudChange]]:
    """Known frauds by merchant or device."""
    found = defaultdict(list)
    frauds = history.label_is_fraud
    rows, reported = history.label_row[frauds], history.reported_ms[frauds]
    days = history.payments.event_ms[rows] // DAY_MS
    for name, day, moment in zip(subject[rows].tolist(), days.tolist(), reported.tolist(), strict=True):
        found[name].append(FraudChange(day, -(-moment // DAY_MS), 1))
    return found


class _Merchants:
    """Merchants by day; a state is made once for each day."""

    def __init__(self, history: History) -> None:
        payments = history.payments
        steps = np.array([log_steps(cents / 100) for cents in range(int(payments.cents.max()) + 1)])[payments.cents]
        days, inverse, counts = np.unique(
            payments.merchant * 100_000 + payments.event_ms // DAY_MS, return_inverse=True, return_counts=True
        )
        sums, squares = np.zeros(len(days), np.int64), np.zeros(len(days), np.int64)
        np.add.at(sums, inverse, steps)
        np.add.at(squares, inverse, steps * steps)
        self._days: dict[int, dict[int, MerchantDay]] = defaultdict(dict)
        for key, *totals in zip(days.tolist(), counts.tolist(), sums.tolist(), squares.tolist(), strict=True):
            self._days[key // 100_000][key % 100_000] = MerchantDay(*totals)
        self._frauds = _fraud_changes(history, payments.merchant)
        self._states: dict[tuple[int, int], MerchantFeatures] = {}

    def state_of(self, merchant: int, category_risk: int, at: datetime) -> MerchantFeatures:
        """What is known of a merchant at the start of the day."""
        key = merchant, (at - EPOCH).days
        if key not in self._states:
            reference = MerchantFeatures(merchant_category_risk=category_risk)
            self._states[key] = MerchantFeatures.from_days(
                self._days[merchant], self._frauds.get(merchant, []), at, reference
            )
        return self._states[key]


class _Devices:
    """The users and frauds of some devices."""

    def __init__(self, history: History, wanted: Column) -> None:
        payments = history.payments
        rows = np.flatnonzero(np.isin(payments.device, wanted) & (payments.device != 0))
        day = payments.event_ms[rows] // DAY_MS
        order = np.lexsort((payments.event_ms[rows], payments.user[rows], day, payments.device[rows]))
        rows, day = rows[order], day[order]
        columns = [day, payments.user[rows], payments.device[rows]]
        first = np.ones(len(rows), bool)
        first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        self._users: dict[int, list[DeviceUser]] = defaultdict(list)
        for row in rows[first].tolist():
            user = int(payments.user[row]).to_bytes(5)
            self._users[int(payments.device[row])].append(DeviceUser(user, int(payments.event_ms[row])))
        self._frauds = _fraud_changes(history, payments.device)

    def state_of(self, device: int, at: datetime) -> DeviceFeatures:
        """What is known of a device; nothing of one that a payment does not name."""
        if not device:
            return UNKNOWN_DEVICE
        return DeviceFeatures.from_days(self._users[device], self._frauds.get(device, []), at)
