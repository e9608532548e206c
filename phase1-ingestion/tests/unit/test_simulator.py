"""The simulator's statistics: what later phases rely on, checked on 45 days of the default world (profile cards)."""

import hashlib
from functools import lru_cache

import numpy as np
import pytest
from producer.simulator.burst import TURN_MS, Burst
from producer.simulator.cards import CardWorld
from producer.simulator.merchants import ATM, MOBILE, POS, WEB
from producer.simulator.payments import (
    CARD_TESTING,
    DAY_MS,
    HIGH_AMOUNT,
    HOUR_MS,
    LEGITIMATE,
    SCENARIOS,
    STOLEN_CARD,
    Payments,
)
from producer.simulator.records import Records
from producer.simulator.stream import POSITIONS_A_DAY, Stream, position_of, transaction_id
from producer.simulator.world import FIRST_SCHEME, SCHEME
from sklearn.metrics import average_precision_score

START = 20_000
DAYS = 45
USERS = 20_000
# What a rule that looks at the amount alone may reach at most. The share of fraud, 0.006, is what guessing gives.
AMOUNT_ONLY_AVERAGE_PRECISION = 0.06
CARD_SCENARIOS = range(CARD_TESTING, HIGH_AMOUNT + 1)


@lru_cache(maxsize=1)
def stream() -> Stream:
    return Stream(42, USERS, START)


def world() -> CardWorld:
    found = stream().world
    assert isinstance(found, CardWorld)
    return found


@lru_cache(maxsize=1)
def history() -> Payments:
    return Payments.concat([stream().block(day).payments for day in range(START, START + DAYS)])


@lru_cache(maxsize=1)
def delays() -> np.ndarray:
    blocks = [stream().block(day) for day in range(START, START + DAYS)]
    return np.concatenate([b.arrival_ms - b.payments.event_ms for b in blocks])


def is_international(payments: Payments) -> np.ndarray:
    return world().merchants.country[payments.merchant] != world().people.home[payments.user]


def test_same_seed_gives_the_same_stream_and_another_seed_another() -> None:
    first, again, other = (Stream(seed, 500, START).block(START + 3).payments for seed in (1, 1, 2))
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in Payments.__annotations__)
    assert not np.array_equal(first.cents, other.cents)


def test_a_stream_of_the_first_scheme_is_what_it_always_was() -> None:
    """A stack that began with it continues in the middle: payments, labels and ids, all bytes of 30 days."""
    old = Stream(42, 1_000, START, scheme=FIRST_SCHEME)
    records, seen = Records(old), hashlib.sha256()
    for day in range(START, START + 30):
        block = old.block(day)
        for record in records.transactions(block.payments, block.positions):
            seen.update(repr(sorted(record.items())).encode())
        for record in records.labels(old.labels(day)):
            seen.update(repr(sorted(record.items())).encode())
    assert seen.hexdigest() == "7d2c3659c92748d3e1005524ef984daac61e7b1ca03550205afa8be8ea06f2d5"


def test_the_request_of_the_readme_meets_a_cardholder_who_pays_and_a_merchant() -> None:
    """U1234 pays at least weekly, in the default world and in the small one of the end-to-end checks."""
    assert world().shops[1].merchant_id == "M001"
    for small in (world(), CardWorld(42, 2_000, START, SCHEME)):
        assert small.users[1234] == "U1234"
        assert small.people.rate[1234] > 1 / 7


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
    share = np.bincount(history().scenario) / len(history())
    assert len(share) == 1 + len(CARD_SCENARIOS)
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
        block = stream().block(day)
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


@pytest.mark.parametrize("scenario", CARD_SCENARIOS)
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


@pytest.mark.parametrize(("scheme", "own_devices_online"), [(FIRST_SCHEME, True), (SCHEME, False)])
def test_a_thief_online_uses_another_device(scheme: int, own_devices_online: bool) -> None:
    """F8: another device than any of the cardholders', one for each stolen card; at a counter it is the card itself."""
    cards = Stream(5, 10_000, START, scheme=scheme)
    payments = Payments.concat([cards.block(day).payments for day in range(START, START + 30)])
    stolen, legitimate = (payments.take(payments.scenario == kind) for kind in (STOLEN_CARD, LEGITIMATE))
    online = np.isin(stolen.device_type, (MOBILE, WEB))
    assert 20 < online.sum() < len(stolen) - 20
    known = np.isin(stolen.device, legitimate.device)
    assert known[~online].mean() > 0.5
    assert known[online].any() == own_devices_online
    if not own_devices_online:
        pairs = set(zip(stolen.user[online].tolist(), stolen.device[online].tolist(), strict=True))
        users, devices = (set(column) for column in zip(*pairs, strict=True))
        # A thief has one device, and a few cardholders lose their card twice.
        assert len(devices) == len(pairs) < 1.1 * len(users)


def test_labels_come_later_in_order_and_a_few_frauds_are_never_reported() -> None:
    days = range(START, START + DAYS)
    labels = [stream().labels(day) for day in days]
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
    frauds = sum((stream().block(day).payments.scenario != LEGITIMATE).sum() for day in range(START, START + 10))
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
    block = stream().block(START + 9)
    burst = Burst(42, 0.1, world())
    extra, beside = burst.beside(block.payments, block.positions)
    assert len(extra) == pytest.approx(0.1 * len(block.payments), rel=0.1)
    assert set(beside.tolist()) <= set(block.positions.tolist())
    assert extra.cents.max() <= 2_500
    for turn in np.unique(extra.event_ms // TURN_MS):
        own = extra.take(extra.event_ms // TURN_MS == turn)
        assert len(set(own.user.tolist())) == len(set(own.device.tolist())) == 1
        assert 1 <= len(set(own.merchant.tolist())) <= 4
    assert len(set(extra.user.tolist())) > 100
