"""F3: frauds that are not known yet count, too; otherwise a model made today expects too few."""

import numpy as np
import pytest
from training.delays import LARGEST_WEIGHT, REPORT_DAYS, represented_frauds
from training.examples import split_by_time
from training_world import SPLIT, few, moment

DAY_MS = 86_400_000
NOW = moment(40)


def frauds(days: np.ndarray, delays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    event_time = moment(0) + (days * DAY_MS).astype("timedelta64[ms]")
    return event_time, event_time + (delays * DAY_MS).astype("timedelta64[ms]")


@pytest.mark.parametrize("seed", range(3))
def test_known_frauds_represent_all_that_will_be_known(seed: int) -> None:
    """Delays as the simulator has them: a median of 6 days; the youngest payments are 7 days old."""
    random = np.random.default_rng(seed)
    event_time, known_at = frauds(random.uniform(10, 33, 20_000), random.lognormal(1.8, 0.6, 20_000))
    known = known_at <= NOW
    assert known.mean() < 0.93
    weight = represented_frauds(event_time[known], known_at[known], NOW)
    assert weight.sum() == pytest.approx(len(event_time), rel=0.02)
    young = event_time[known] > moment(31)
    assert weight[young].sum() == pytest.approx((event_time > moment(31)).sum(), rel=0.06)
    assert weight.min() >= 1 and weight.max() <= LARGEST_WEIGHT


def test_where_every_label_is_there_each_represents_itself() -> None:
    random = np.random.default_rng(0)
    event_time, known_at = frauds(random.uniform(0, 33, 500), random.uniform(0, 3, 500))
    assert represented_frauds(event_time, known_at, NOW) == pytest.approx(np.ones(500))


def test_labels_that_came_in_one_file_say_nothing_about_delays() -> None:
    event_time, _ = frauds(np.linspace(0, 30, 300), np.zeros(300))
    days = np.arange(300) % (REPORT_DAYS - 1)
    known_at = moment(30) + days.astype("timedelta64[D]")
    assert represented_frauds(event_time, known_at, NOW).tolist() == [1.0] * 300


def test_without_frauds_there_is_nothing_to_represent() -> None:
    empty = np.array([], dtype="datetime64[ms]")
    assert len(represented_frauds(empty, empty, NOW)) == 0


def test_a_late_fraud_counts_once_as_legitimate() -> None:
    """Its label came after the model would have been made."""
    examples = few([13.0, 12.0], is_fraud=[True, False], known_at=[moment(25), moment(40)], weight=[1.7, 3.0])
    learned, _ = split_by_time(examples, SPLIT)
    assert (learned.is_fraud.tolist(), learned.weight.tolist()) == ([False, False], [1.0, 3.0])
