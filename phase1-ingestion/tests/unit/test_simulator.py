"""The simulator's statistics: what later phases rely on, checked on 45 days of the default world."""

from functools import lru_cache

import numpy as np
import pytest
from producer.simulator.burst import TURN_MS, Burst
from producer.simulator.merchants import ATM, POS
from producer.simulator.payments import DAY_MS, HOUR_MS, LEGITIMATE, SCENARIOS, Payments
from producer.simulator.stream import POSITIONS_A_DAY, Stream, position_of, transaction_id
from sklearn.metrics import average_precision_score

START = 20_000
DAYS = 45
USERS = 20_000
# What a rule that looks at the amount alone may reach at most. The share of fraud, 0.006, is what guessing gives.
AMOUNT_ONLY_AVERAGE_PRECISION = 0.06


@lru_cache(maxsize=1)
def world() -> Stream:
    return Stream(42, USERS, START)


@lru_cache(maxsize=1)
def history() -> Payments:
    return Payments.concat([world().block(day).payments for day in range(START, START + DAYS)])


@lru_cache(maxsize=1)
def delays() -> np.ndarray:
    blocks = [world().block(day) for day in range(START, START + DAYS)]
    return np.concatenate([b.arrival_ms - b.payments.event_ms for b in blocks])


def is_international(payments: Payments) -> np.ndarray:
    return world().merchants.country[payments.merchant] != world().people.home[payments.user]


def test_same_seed_gives_the_same_stream_and_another_seed_another() -> None:
    first, again, other = (Stream(seed, 500, START).block(START + 3).payments for seed in (1, 1, 2))
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in Payments.__annotations__)
    assert not np.array_equal(first.cents, other.cents)


def test_a_day_can_be_entered_without_the_days_before() -> None:
    walked, entered = Stream(7, 800, START), Stream(7, 800, START)
    for day in range(START, START + 40):
        walked.block(day)
        walked.labels(day)
    day = START + 39
    assert np.array_equal(walked.block(day).payments.event_ms, entered.block(day).payments.event_ms)
    assert np.array_equal(walked.labels(day).position, entered.labels(day).position)


def test_rate_is_two_payments_a_cardholder_and_day() -> None:
    assert len(history()) / USERS / DAYS == pytest.approx(2.1, abs=0.15)


def test_fraud_is_between_half_and_one_percent_and_every_scenario_has_its_share() -> None:
    share = np.bincount(history().scenario, minlength=len(SCENARIOS)) / len(history())
    assert 0.005 < 1 - share[LEGITIMATE] < 0.01
    assert all(share[1:] > 0.0004), dict(zip(SCENARIOS, share.round(5), strict=True))


def test_day_and_night_and_weekdays_differ() -> None:
    payments = history().take(history().scenario == LEGITIMATE)
    hours = np.bincount(payments.event_ms // HOUR_MS % 24, minlength=24)
    assert hours[16:19].mean() > 4 * hours[2:5].mean()
    weekday = np.bincount((payments.event_ms // DAY_MS + 3) % 7, minlength=7)
    assert weekday[4] > 1.1 * weekday[0]


def test_half_a_percent_arrives_late_and_the_stream_is_in_order_of_arrival() -> None:
    late = delays() > 0
    assert late.mean() == pytest.approx(0.005, abs=0.0007)
    assert delays().min() == 0
    assert delays().max() <= 36 * HOUR_MS
    for day in (START + 5, START + 6):
        block = world().block(day)
        assert (np.diff(block.arrival_ms) >= 0).all()
        assert (block.arrival_ms // DAY_MS == day).all()


def test_nothing_is_lost_or_doubled_between_the_days() -> None:
    small = Stream(3, 300, START)
    happened = sum(len(small._happened(day)[0]) for day in range(START, START + 20))
    arrived = sum(len(small.block(day).payments) for day in range(START, START + 22))
    last_two = sum((small.block(d).payments.event_ms >= (START + 20) * DAY_MS).sum() for d in (START + 20, START + 21))
    assert arrived - last_two == happened


def test_no_rule_on_the_amount_alone_finds_the_fraud() -> None:
    fraud = history().scenario != LEGITIMATE
    amount = np.log(history().cents)
    usual = world().people.level[history().user]
    for score in (amount, -amount, amount - usual, usual - amount):
        assert average_precision_score(fraud, score) < AMOUNT_ONLY_AVERAGE_PRECISION


def test_legitimate_payments_do_what_fraudsters_do() -> None:
    payments = history()
    legitimate = payments.scenario == LEGITIMATE
    abroad = is_international(payments)
    fraud_abroad, legitimate_abroad = (abroad & ~legitimate).sum(), (abroad & legitimate).sum()
    assert legitimate_abroad > 10 * fraud_abroad
    big = payments.cents > 100 * np.exp(world().people.level[payments.user] + 3)
    assert (big & legitimate).sum() > (big & ~legitimate).sum()


def burst_sizes(payments: Payments) -> np.ndarray:
    """Small payments of one cardholder within an hour, counted."""
    small = payments.take(payments.cents < 2_000)
    _, counts = np.unique(small.user * 10_000 + small.event_ms // HOUR_MS % 10_000, return_counts=True)
    return counts


@pytest.mark.parametrize("scenario", range(1, len(SCENARIOS)))
def test_each_scenario_looks_like_itself(scenario: int) -> None:
    payments = history()
    mine, legitimate = payments.take(payments.scenario == scenario), payments.take(payments.scenario == LEGITIMATE)
    people, name = world().people, SCENARIOS[scenario]
    lift = np.log(mine.cents / 100) - people.level[mine.user]
    if name == "card_testing":
        assert np.median(mine.cents) < 500
        assert (burst_sizes(mine) >= 5).mean() > 20 * (burst_sizes(legitimate) >= 5).mean()
        assert set(np.unique(mine.device_type)) <= {0, 1}
    elif name == "account_takeover":
        assert is_international(mine).mean() > 0.99
        assert np.median(lift) > 0.5
        assert not np.isin(mine.device, legitimate.device).any()
    elif name == "compromised_merchant":
        _, victims = np.unique(mine.merchant, return_counts=True)
        assert np.median(victims) > 15
        assert np.isin(mine.device, legitimate.device).mean() > 0.5  # the cardholder's own card
    elif name == "stolen_card":
        assert np.median(lift) > 0.5
        assert np.isin(mine.device_type, [ATM, POS]).any()
    else:
        assert np.median(lift) > 1.8


def test_labels_come_later_in_order_and_a_few_frauds_are_never_reported() -> None:
    days = range(START, START + DAYS)
    labels = [world().labels(day) for day in days]
    for day, part in zip(days, labels, strict=True):
        assert (np.diff(part.reported_ms) >= 0).all()
        assert (part.reported_ms // DAY_MS == day).all()
        assert (part.reported_ms > part.event_ms).all()
    delay = np.concatenate([part.reported_ms - part.event_ms for part in labels]) / DAY_MS
    assert 3 < np.median(delay) < 8
    assert delay.max() <= 30
    # All frauds of the first ten days that are ever reported are reported by now.
    positions = np.concatenate([part.position[part.scenario != LEGITIMATE] for part in labels])
    early = positions < (START + 10) * POSITIONS_A_DAY
    frauds = sum((world().block(day).payments.scenario != LEGITIMATE).sum() for day in range(START, START + 10))
    assert early.sum() / frauds == pytest.approx(0.93, abs=0.03)


def test_label_delay_scale_shortens_live_delays_only() -> None:
    normal, scaled = (
        np.concatenate([(s.labels(d).reported_ms - s.labels(d).event_ms) for d in range(START, START + 30)])
        for s in (Stream(5, 4000, START, START), Stream(5, 4000, START, START, 0.1))
    )
    assert np.median(scaled) < 0.2 * np.median(normal)


def test_only_the_simulators_ids_have_a_position() -> None:
    position = START * POSITIONS_A_DAY + 17
    assert transaction_id(position) == "tx-20241004-00000017"
    assert position_of(transaction_id(position)) == position
    for foreign in (
        "1001",
        "tx-",
        "tx-2024-1",
        "tx-20241399-00000001",
        "bad-garbage-tx-20241004-00000017",
        "replay-ab-1",
    ):
        assert position_of(foreign) is None


def test_a_burst_is_extra_payments_of_one_cardholder_and_device_at_a_time() -> None:
    block = world().block(START + 9)
    burst = Burst(42, 0.1, world().people, world().merchants)
    extra, beside = burst.beside(block.payments, block.positions)
    assert len(extra) == pytest.approx(0.1 * len(block.payments), rel=0.1)
    assert set(beside.tolist()) <= set(block.positions.tolist())
    assert extra.cents.max() <= 2_500
    for turn in np.unique(extra.event_ms // TURN_MS):
        own = extra.take(extra.event_ms // TURN_MS == turn)
        assert len(set(own.user.tolist())) == len(set(own.device.tolist())) == 1
        assert 1 <= len(set(own.merchant.tolist())) <= 4
    assert len(set(extra.user.tolist())) > 100
