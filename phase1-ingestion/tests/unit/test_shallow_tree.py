"""No two questions find the fraud: the simulator is hard enough that a model must earn its place."""

import pytest
from producer.simulator.stream import Stream
from shallow_tree import START, shallow_tree_precision


# The model reaches at least 0.50 in the world of cards, and 0.70 in that of terminals.
@pytest.mark.parametrize(("profile", "at_most"), [("cards", 0.25), ("terminal", 0.35)])
def test_a_tree_of_depth_2_reaches_less_than_half_of_the_model(profile: str, at_most: float) -> None:
    found = shallow_tree_precision(Stream(42, 8_000, START, profile=profile))
    print(profile, found)
    assert 0.01 < found["all"] < at_most
