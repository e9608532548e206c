"""Which simulation a stack has, and what is missing of it in Kafka."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from fraud_common.errors import UserError
from fraud_common.settings import load_settings
from producer.resume import NOTHING_SENT, Resume
from producer.settings import Settings
from producer.simulation import Simulation, load_or_start, new_simulation
from producer.simulator.payments import DAY_MS
from producer.simulator.stream import POSITIONS_A_DAY, Labels
from producer.simulator.world import FIRST_SCHEME, SCHEME

NEW = Simulation(
    sim_seed=42,
    sim_users=100,
    label_delay_scale=1.0,
    start_day=20_000,
    live_day=20_045,
    sim_profile="cards",
    scheme=SCHEME,
)


def test_a_fresh_stack_has_a_backfill_and_then_a_runway() -> None:
    now_ms = 21_000 * DAY_MS + 5
    settings = load_settings(Settings, backfill_days=45, runway_days=90)
    simulation = new_simulation(settings, now_ms)
    assert (simulation.start_day, simulation.live_day) == (21_000 - 90 - 45, 21_000 - 90)
    natural = new_simulation(settings.model_copy(update={"producer_tps": "natural"}), now_ms)
    assert (natural.start_day, natural.live_day) == (21_000 - 45, 21_000)


def test_the_first_simulation_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "simulation.json"
    assert load_or_start(file, NEW) == NEW
    assert load_or_start(file, replace(NEW, start_day=20_010, live_day=20_055)) == NEW


def test_a_fresh_stack_has_the_newest_ids_and_one_that_began_before_them_keeps_its_own(tmp_path: Path) -> None:
    """The state of an earlier release names neither scheme nor profile."""
    fresh, file = tmp_path / "fresh.json", tmp_path / "simulation.json"
    assert load_or_start(fresh, NEW).scheme == load_or_start(fresh, NEW).scheme == SCHEME
    assert load_or_start(fresh, NEW).stream().world.users[7] == "U0007"
    earlier = {name: value for name, value in asdict(NEW).items() if name not in ("sim_profile", "scheme")}
    file.write_text(json.dumps(earlier))
    kept = load_or_start(file, NEW)
    assert kept == replace(NEW, scheme=FIRST_SCHEME)
    assert kept.stream().world.users[7] == "u0000007"
    assert kept.stream().world.shops[1].merchant_id == "m00001"


def test_a_profile_is_a_world_of_its_own(tmp_path: Path) -> None:
    terminal = replace(NEW, sim_profile="terminal")
    kept = load_or_start(tmp_path / "simulation.json", terminal)
    assert load_or_start(tmp_path / "simulation.json", terminal) == kept
    assert kept.stream().world.shops[1].merchant_id == "T001"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sim_seed": 43}, "SIM_SEED=43: this stack's history was made with 42; set it back in .env, or start over"),
        ({"sim_profile": "terminal"}, "SIM_PROFILE=terminal: this stack's history was made with cards"),
        ({"sim_users": 7}, "SIM_USERS=7: this stack's history was made with 100"),
        ({"label_delay_scale": 0.5}, "LABEL_DELAY_SCALE=0.5: this stack's history was made with 1.0"),
    ],
)
def test_a_change_that_no_longer_fits_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    load_or_start(tmp_path / "simulation.json", NEW)
    with pytest.raises(UserError, match=message):
        load_or_start(tmp_path / "simulation.json", replace(NEW, **change))


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "simulation.json").write_text('{"sim_seed"')
    with pytest.raises(UserError, match=r"simulation\.json: .*; the volume producer-state must be writable"):
        load_or_start(tmp_path / "simulation.json", NEW)


def test_an_empty_kafka_misses_everything() -> None:
    nothing = Resume(*(np.full(2, NOTHING_SENT) for _ in range(3)))
    assert not nothing.found_anything
    assert (nothing.first_day(20_000), nothing.first_label_day(20_000)) == (20_000, 20_000)
    assert nothing.missing_payments(np.array([20_000 * POSITIONS_A_DAY]), np.array([0])).all()


def test_only_what_comes_after_the_last_of_its_partition_is_missing() -> None:
    day = 20_003 * POSITIONS_A_DAY
    resume = Resume(
        payments=np.array([day + 10, day + POSITIONS_A_DAY + 4]),
        label_reported=np.array([20_002 * DAY_MS + 500, 20_001 * DAY_MS]),
        label_position=np.array([7, 3]),
    )
    assert resume.found_anything
    assert (resume.first_day(20_000), resume.first_label_day(20_000)) == (20_003, 20_001)
    missing = resume.missing_payments(day + np.array([10, 11, 10, 11]), np.array([0, 0, 1, 1]))
    assert missing.tolist() == [False, True, False, False]
    reported = 20_002 * DAY_MS + np.array([499, 500, 500, 501])
    labels = Labels(np.array([9, 7, 8, 1]), *(np.zeros(4, np.int64),) * 2, reported, np.zeros(4, np.int64))
    assert resume.missing_labels(labels, np.zeros(4, np.int64)).tolist() == [False, False, True, True]
