"""Whether there are enough matured payments and frauds for a model; if not, what is missing, and what to do about it.

Pure; gold.py counts. Every message is one line: what is there, what is needed, and the next step.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

from fraud_common.errors import UserError

from training.examples import Periods, periods
from training.settings import Settings

# A payment becomes an example when the newest payment is so much later; label_maturity_days in dbt_project.yml.
MATURITY = timedelta(days=14)
LONGEST_DAYS = 3650
# With a larger share of examples whose history came late, payments come in no order of time at all, as from a file that
# is not sorted: then arrival says nothing of what a scorer would have had.
MOST_LATE_HISTORY = 0.1
# With fewer frauds than this a lower TRAINING_MINIMUM_FRAUDS is not proposed.
FEWEST_FRAUDS = 10


class TooFewExamples(UserError):  # noqa: N818 - more data is the remedy
    """A model needs more matured payments or frauds than there are."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many payments there are in the training period and in the holdout.

    `frauds` had a label by the start of the holdout; `late_frauds`, which happened in the training period, too, got
    theirs afterwards, so a model that was made then could not have learned from them.
    """

    frauds: int
    legitimate: int
    holdout_frauds: int
    holdout_legitimate: int
    late_frauds: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """All matured payments, of which a model learns from the last TRAINING_DAYS."""

    start: datetime
    end: datetime
    payments: int
    frauds: int
    # Those with features that no scorer had, since a payment of their user arrived after them.
    late_history: int = 0

    @property
    def days(self) -> float:
        """From the first payment to the last."""
        return (self.end - self.start) / timedelta(days=1)

    @property
    def frauds_per_day(self) -> float:
        """The mean over the history; at least one day is assumed."""
        return self.frauds / max(self.days, 1.0)


def holdout_minimum(settings: Settings) -> int:
    """How many frauds the holdout needs: half of TRAINING_MINIMUM_FRAUDS."""
    return ceil(settings.training_minimum_frauds / 2)


def check_enough(settings: Settings, counts: Counts, split: Periods, history: History) -> None:
    """Check that a model can be trained and evaluated.

    Raises:
        TooFewExamples: it can't.
    """
    minimum, in_holdout = settings.training_minimum_frauds, holdout_minimum(settings)
    if not history.frauds:
        raise TooFewExamples(
            f"none of the {history.payments:,} matured payments from {history.start:%Y-%m-%d} to "
            f"{history.end:%Y-%m-%d} is labelled as fraud, and a model needs {minimum + in_holdout} frauds "
            "(TRAINING_MINIMUM_FRAUDS and half as many): send labels to transactions.labels, or replay a file with a "
            "label column (docs/own-data.md); then make dbt-run, make ml-train"
        )
    if min(counts.legitimate, 2 * counts.holdout_legitimate) < minimum:
        raise TooFewExamples(
            f"too few legitimate payments to learn from: {_found(counts.legitimate, counts.holdout_legitimate, split)}"
            f"; {minimum} and {in_holdout} are needed. Send all payments, not only the frauds; then make dbt-run, "
            "make ml-train"
        )
    if counts.frauds >= minimum and counts.holdout_frauds >= in_holdout:
        return
    if counts.frauds + counts.late_frauds >= minimum and counts.holdout_frauds >= in_holdout:
        raise TooFewExamples(
            f"too few frauds whose label was known in time: {counts.frauds} of {counts.frauds + counts.late_frauds} "
            f"from {split.start:%Y-%m-%d} to {split.train_end:%Y-%m-%d} had one by {split.holdout_start:%Y-%m-%d}, "
            f"when the model would have been made; {minimum} are needed (TRAINING_MINIMUM_FRAUDS). A label counts from "
            "its reported_at: if that is when a file was sent, send the labels again with the time at which they were "
            "known (label_delay_days in the map of make replay); then make dbt-run, make ml-train"
        )
    raise TooFewExamples(
        f"too few frauds to learn from: {_found(counts.frauds, counts.holdout_frauds, split)}; {minimum} and "
        f"{in_holdout} are needed (TRAINING_MINIMUM_FRAUDS and half as many). {_next_step(settings, history)}"
    )


def leave_out_warm_up(settings: Settings, split: Periods, warm: Periods, counts: Counts) -> tuple[bool, str]:
    """Whether to learn only from examples with full windows, and what was decided, for the log.

    Frauds that are learned with windows that are too short are better than too few frauds; and so are many days better
    than a few, since those have only the fraud campaigns of a few days.

    Args:
        settings: TRAINING_MINIMUM_FRAUDS is needed.
        split: with the first days of the history, which is what is decided about.
        warm: the same periods without them.
        counts: of the latter.
    """
    if warm == split:
        return False, "all examples have full windows"
    first = f"the warm-up, from {split.start:%Y-%m-%d} to {min(warm.start, split.train_end):%Y-%m-%d},"
    if split.train_end - warm.start < (split.train_end - split.start) / 2:
        return False, f"{first} is kept, since less than half of the training period would remain"
    minimum = settings.training_minimum_frauds
    if min(counts.frauds, counts.legitimate) < minimum:
        return False, f"{first} is kept, since only {counts.frauds} frauds would remain, and {minimum} are needed"
    return True, f"{first} is left out: until then the windows of features are not full"


def leave_out_late_history(history: History) -> tuple[bool, str]:
    """Whether to leave out the payments that were scored before an earlier one of their user arrived, and why."""
    late, share = history.late_history, history.late_history / history.payments
    if not late:
        return False, "no payment arrived after a later one of its user"
    counted = f"{late:,} of {history.payments:,} matured payments ({share:.2%})"
    if share > MOST_LATE_HISTORY:
        return False, f"{counted} arrived before an earlier one of their user; so many that none of them is left out"
    return True, f"{counted} are left out: an earlier one of their user arrived later, so no scorer had their features"


def nothing_matured(payments: int, start: datetime | None, end: datetime | None) -> str:
    """Why there is not a single example, from the payments in Silver and their first and last event time."""
    empty = "no payment has matured yet (gold.mart_training_examples is empty)"
    if not payments or start is None or end is None:
        return f"{empty}: Silver has none; send payments (docs/own-data.md), then make dbt-run, make ml-train"
    there = f"Silver has {payments:,} payments from {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    if end - start >= MATURITY:
        return f"{empty}: {there}; build the examples with make dbt-run, then make ml-train"
    return (
        f"{empty}: {there}, and a payment matures when the newest is {MATURITY.days} days later: the first when "
        f"payments of {start + MATURITY:%Y-%m-%d} arrive; then make ml-train says whether there are enough"
    )


def days_needed(frauds_per_day: float, minimum: int) -> int | None:
    """How many days of matured payments have `minimum` frauds to learn from, and half as many to evaluate with.

    None if that takes more than ten years.
    """
    if frauds_per_day <= 0:
        return None
    start, half = datetime(2000, 1, 1, tzinfo=UTC), ceil(minimum / 2)
    for days in range(4, LONGEST_DAYS + 1):
        end = start + timedelta(days=days)
        split = periods(start, end, end - timedelta(days=min(half / frauds_per_day, days)))
        learned, evaluated = split.train_end - start, end - split.holdout_start
        # In seconds of the whole history; a millionth more, since fractions of days are not exact.
        if (
            learned.total_seconds() * frauds_per_day * 1.000001 >= minimum * 86_400
            and evaluated.total_seconds() * frauds_per_day * 1.000001 >= half * 86_400
        ):
            return days
    return None


def _found(learned: int, evaluated: int, split: Periods) -> str:
    return (
        f"{learned} from {split.start:%Y-%m-%d} to {split.train_end:%Y-%m-%d} and {evaluated} in the holdout from "
        f"{split.holdout_start:%Y-%m-%d} to {split.end:%Y-%m-%d}"
    )


def _next_step(settings: Settings, history: History) -> str:
    """Use more of the history, or wait for more of it, or accept fewer frauds."""
    rate, have = history.frauds_per_day, int(history.days)
    needed = days_needed(rate, settings.training_minimum_frauds)
    if needed is not None and settings.training_days < needed <= have:
        return (
            f"There are {have} days with {rate:.2g} frauds a day: TRAINING_DAYS={have} make ml-train uses all of them, "
            "and the same setting in .env is for every run"
        )
    if needed is None:
        steps = f"At {rate:.2g} frauds a day more history is no remedy"
    else:
        needed = max(needed, have + 1)
        until = history.end + timedelta(days=needed - have) + MATURITY
        days = f"TRAINING_DAYS={needed} " if needed > settings.training_days else ""
        steps = (
            f"At {rate:.2g} frauds a day it takes about {needed} days of matured payments, and there are {have}: when "
            f"payments of about {until:%Y-%m-%d} have arrived, {days}make ml-train"
        )
    fewer = next(
        (m for m in range(settings.training_minimum_frauds - 1, FEWEST_FRAUDS - 1, -1) if _has(m, rate, have)), None
    )
    if fewer is None:
        return f"{steps}. Fewer than {FEWEST_FRAUDS} are too few to tell a good model from a bad one"
    days = f"TRAINING_DAYS={max(have, 4)} " if have > settings.training_days else ""
    return f"{steps}. To try with fewer: {days}TRAINING_MINIMUM_FRAUDS={fewer} make ml-train (less certain)"


def _has(minimum: int, rate: float, days: int) -> bool:
    """Whether so many days have enough frauds for this minimum, with a fifth to spare."""
    needed = days_needed(0.8 * rate, minimum)
    return needed is not None and needed <= days
