"""Which payments a model learns from: all frauds, and so many legitimate payments for each of them."""

from dataclasses import dataclass

from training.enough import Counts
from training.examples import Examples, Periods, as_datetime64
from training.settings import Settings

# Legitimate payments are drawn by this many bits of a hash of their id: the same ones in every run.
HASH_BITS = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """The legitimate payments of the training period whose hash is below `limit`, of 2 ** HASH_BITS; all others."""

    limit: int
    expected_rows: int

    @property
    def weight(self) -> float:
        """How many legitimate payments a drawn one represents."""
        return (1 << HASH_BITS) / self.limit


def plan_sample(settings: Settings, counts: Counts) -> Sample:
    """Draw TRAINING_LEGITIMATE_PER_FRAUD legitimate payments for each fraud."""
    share = min(1.0, settings.training_legitimate_per_fraud * counts.frauds / max(counts.legitimate, 1))
    holdout = counts.holdout_frauds + counts.holdout_legitimate
    return Sample(
        limit=round(share * (1 << HASH_BITS)),
        expected_rows=counts.frauds + counts.late_frauds + holdout + int(share * counts.legitimate),
    )


def weigh_sample(examples: Examples, sample: Sample, split: Periods) -> None:
    """Set the weight of the drawn payments; frauds and the holdout are complete, and keep a weight of 1."""
    drawn = ~examples.is_fraud & (examples.event_time < as_datetime64(split.train_end))
    examples.weight[drawn] = sample.weight
