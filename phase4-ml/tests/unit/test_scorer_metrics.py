"""The scorer's counters are 0 before the first event (field case G3), so that the first is seen."""

from prometheus_client import REGISTRY
from scorer import metrics


def total(name: str) -> float:
    found = [sample.value for family in REGISTRY.collect() for sample in family.samples if sample.name == name]
    assert found
    return sum(found)


def test_counters_exist_before_the_first_failure() -> None:
    assert metrics.DEAD_LETTERS
    assert total("scorer_dead_letters_total") == 0
    assert total("scorer_api_failures_total") == 0
