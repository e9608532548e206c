"""The split by time: no label of the future is learned."""

import dataclasses
from datetime import timedelta

import numpy as np
import pytest
from training.examples import periods, split_by_time
from training_world import SPLIT, START, few, moment, world


def test_the_last_week_is_the_holdout_and_the_week_before_it_is_left_out() -> None:
    split = periods(START, START + timedelta(days=45))
    week = timedelta(days=7)
    assert (split.holdout_start, split.train_end) == (split.end - week, split.end - 2 * week)


def test_a_short_history_is_divided_in_quarters() -> None:
    split = periods(START, START + timedelta(days=8))
    assert [split.train_end, split.holdout_start, split.end] == [START + timedelta(days=d) for d in (4, 6, 8)]


@pytest.mark.parametrize(
    ("enough_days_ago", "holdout_days"),
    [(3, 7), (7, 7), (20, 20), (300, 45), (None, 7)],
    ids=["many frauds", "just enough", "few: more than a week", "very few: a quarter", "unknown"],
)
def test_the_holdout_is_as_long_as_it_takes_for_enough_frauds(enough_days_ago: int | None, holdout_days: int) -> None:
    end = START + timedelta(days=180)
    split = periods(START, end, None if enough_days_ago is None else end - timedelta(days=enough_days_ago))
    assert split.end - split.holdout_start == timedelta(days=holdout_days)
    assert split.holdout_start - split.train_end == timedelta(days=7)


def test_the_delay_of_labels_lies_between_training_and_holdout() -> None:
    learned, holdout = split_by_time(world(5_000), SPLIT)
    assert len(learned) and len(holdout)
    assert learned.event_time.max() < moment(14)
    assert holdout.event_time.min() >= moment(21)


@pytest.mark.parametrize(
    ("known_at", "learned_as_fraud"),
    [(moment(20.9), True), (moment(21.1), False), (np.datetime64("NaT", "ms"), False)],
    ids=["reported before the model is made", "reported after it", "never reported"],
)
def test_a_label_of_the_future_is_not_learned(known_at: np.datetime64, learned_as_fraud: bool) -> None:
    learned, _ = split_by_time(few([13.0], is_fraud=[True], fraud_type=["spree"], known_at=[known_at]), SPLIT)
    assert list(learned.is_fraud) == [learned_as_fraud]


def test_later_labels_change_nothing_that_is_learned() -> None:
    examples = world(5_000)
    before, _ = split_by_time(examples.where(np.ones(len(examples), dtype=bool)), SPLIT)
    # From the day on which the model is made, every label is reversed.
    later = ~(examples.known_at <= moment(21))
    reversed_labels = dataclasses.replace(
        examples,
        is_fraud=np.where(later, ~examples.is_fraud, examples.is_fraud),
        known_at=np.where(later, moment(25), examples.known_at),
    )
    after, _ = split_by_time(reversed_labels, SPLIT)
    assert np.array_equal(before.is_fraud, after.is_fraud)
    assert np.array_equal(before.matrix, after.matrix)


def test_the_holdout_has_all_labels_that_are_known_today() -> None:
    _, holdout = split_by_time(few([27.0], is_fraud=[True], fraud_type=["spree"], known_at=[moment(40)]), SPLIT)
    assert list(holdout.is_fraud) == [True]
