"""The profile `terminal`: fraud bound to terminals for weeks and to customers for days; no devices, no countries."""

from functools import lru_cache

import numpy as np
from producer.simulator.burst import Burst
from producer.simulator.payments import (
    COMPROMISED_TERMINAL,
    DAY_MS,
    HIGH_AMOUNT,
    LEGITIMATE,
    MULTIPLIED_SPENDING,
    SCENARIOS,
    Payments,
)
from producer.simulator.records import Records
from producer.simulator.stream import Stream
from producer.simulator.terminals import MULTIPLIED_DAYS, TerminalWorld

START = 20_000
DAYS = 45
USERS = 8_000


@lru_cache(maxsize=1)
def stream() -> Stream:
    return Stream(42, USERS, START, profile="terminal")


@lru_cache(maxsize=1)
def history() -> Payments:
    return Payments.concat([stream().block(day).payments for day in range(START, START + DAYS)])


def world() -> TerminalWorld:
    found = stream().world
    assert isinstance(found, TerminalWorld)
    return found


def of_scenario(scenario: int) -> Payments:
    return history().take(history().scenario == scenario)


def test_the_same_seed_gives_the_same_stream_wherever_it_is_entered() -> None:
    walked, entered, other = (Stream(seed, 500, START, profile="terminal") for seed in (1, 1, 2))
    for day in range(START, START + 20):
        walked.block(day)
    one, again = walked.block(START + 19), entered.block(START + 19)
    assert all(
        np.array_equal(getattr(one.payments, name), getattr(again.payments, name)) for name in Payments.__annotations__
    )
    assert np.array_equal(walked.labels(START + 19).position, entered.labels(START + 19).position)
    assert not np.array_equal(one.payments.cents, other.block(START + 19).payments.cents)


def test_about_a_percent_is_fraud_of_three_kinds_from_the_first_day_on() -> None:
    assert set(np.unique(history().scenario)) == {LEGITIMATE, COMPROMISED_TERMINAL, MULTIPLIED_SPENDING, HIGH_AMOUNT}
    fraud = history().scenario != LEGITIMATE
    first_week = history().event_ms < (START + 7) * DAY_MS
    assert 0.004 < fraud.mean() < 0.014
    assert fraud[first_week].mean() > 0.003


def test_a_compromised_terminal_is_so_for_weeks_and_nearly_all_its_payments_are_fraud() -> None:
    frauds = of_scenario(COMPROMISED_TERMINAL)
    lasted = []
    for terminal in np.unique(frauds.merchant):
        days = frauds.event_ms[frauds.merchant == terminal] // DAY_MS
        here = history().take(history().merchant == terminal)
        during = here.take((here.event_ms // DAY_MS >= days.min()) & (here.event_ms // DAY_MS <= days.max()))
        # Between the first and the last; other fraud at the terminal counts as that.
        assert (during.scenario == LEGITIMATE).mean() < 0.5
        lasted.append(days.max() - days.min() + 1)
    assert np.median(lasted) > 14
    assert np.isin(history().merchant, frauds.merchant).mean() < 0.05  # a few terminals, not all


def test_a_customers_spending_multiplies_for_days() -> None:
    frauds = of_scenario(MULTIPLIED_SPENDING)
    lift = np.log(frauds.cents / 100) - world().customers.level[frauds.user]
    assert np.exp(np.median(lift)) > 4
    spans = [np.ptp(frauds.event_ms[frauds.user == user]) / DAY_MS for user in np.unique(frauds.user)]
    # Few customers have it twice.
    assert np.mean(np.array(spans) < MULTIPLIED_DAYS[1]) > 0.95
    assert np.max(spans) > MULTIPLIED_DAYS[0]
    other = history().take((history().scenario == LEGITIMATE) & np.isin(history().user, frauds.user))
    assert np.exp(np.median(np.log(other.cents / 100) - world().customers.level[other.user])) < 1.2


def test_a_few_amounts_are_very_high() -> None:
    high, legitimate = of_scenario(HIGH_AMOUNT), of_scenario(LEGITIMATE)
    assert 50 < len(high) < 0.001 * len(history())
    lift, usual = (np.log(p.cents / 100) - world().customers.level[p.user] for p in (high, legitimate))
    assert np.median(lift) > 3
    assert (usual > 1.5).sum() > len(of_scenario(MULTIPLIED_SPENDING)) / 10  # legitimate payments do it, too


def test_records_have_no_device_no_country_and_nobody_is_abroad() -> None:
    block = stream().block(START + 3)
    records = list(Records(stream()).transactions(block.payments, block.positions))
    for name, value in {"device_id": "", "country": "", "city": "", "is_international": False}.items():
        assert {record[name] for record in records} == {value}
    assert {record["user_id"][0] for record in records} == {"U"}
    assert {record["merchant_id"][0] for record in records} == {"T"}
    types = {record["fraud_type"] for record in Records(stream()).labels(stream().labels(START + 20))}
    assert types - {None} <= set(SCENARIOS)
    assert "compromised_terminal" in types


def test_a_burst_has_no_device_either() -> None:
    block = stream().block(START + 3)
    extra, _ = Burst(42, 0.1, world()).beside(block.payments, block.positions)
    assert len(extra) > 500
    assert not extra.device.any()
