"""Which payments a model learns from: all frauds, and so many legitimate payments for each of them."""

from dataclasses import dataclass

from fraud_common.errors import UserError

from training.examples import Examples, Periods, as_datetime64
from training.settings import Settings

# Legitimate payments are drawn by this many bits of a hash of their id: the same ones in every run.
HASH_BITS = 20


@dataclass(frozen=True, slots=True)
class Counts:
    """How many payments there are in the training period and in the holdout."""

    frauds: int
    legitimate: int
    holdout_frauds: int
    holdout_legitimate: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The legitimate payments of the training period whose hash is below `limit`, of 2 ** HASH_BITS; all others."""

    limit: int
    expected_rows: int

    @property
    def weight(self) -> float:
        """How many legitimate payments a drawn one represents."""
        return (1 << HASH_BITS) / self.limit


def plan_sample(settings: Settings, counts: Counts, split: Periods) -> Sample:
    """Draw TRAINING_LEGITIMATE_PER_FRAUD legitimate payments for each fraud.

    Raises:
        UserError: there are fewer frauds than TRAINING_MINIMUM_FRAUDS.
    """
    if min(counts.frauds, 2 * counts.holdout_frauds) < settings.training_minimum_frauds:
        raise UserError(
            f"too few frauds to learn from: {counts.frauds} from {split.start:%Y-%m-%d} to {split.train_end:%Y-%m-%d} "
            f"and {counts.holdout_frauds} in the holdout from {split.holdout_start:%Y-%m-%d}; at least "
            f"{settings.training_minimum_frauds} and half as many are needed. Wait for more history, or raise "
            f"TRAINING_DAYS ({settings.training_days})"
        )
    share = min(1.0, settings.training_legitimate_per_fraud * counts.frauds / max(counts.legitimate, 1))
    holdout = counts.holdout_frauds + counts.holdout_legitimate
    return Sample(
        limit=round(share * (1 << HASH_BITS)),
        expected_rows=counts.frauds + holdout + int(share * counts.legitimate),
    )


def weigh_sample(examples: Examples, sample: Sample, split: Periods) -> None:
    """Set the weight of the drawn payments; frauds and the holdout are complete, and keep a weight of 1."""
    drawn = ~examples.is_fraud & (examples.event_time < as_datetime64(split.train_end))
    examples.weight[drawn] = sample.weight
