"""Phase 1 on the stack as a user has it: the schema registry, the topics, the history and the live rate."""

import re
import time
from pathlib import Path

import httpx2
import pytest
from fraud_common.kafka import wait_for_broker
from fraud_common.settings import load_settings
from fraud_common.topics import SCHEMA_FILES, TOPICS, TRANSACTIONS, subject_of
from ingestion_stack import count_in, wait_until
from layouts import LAYOUTS
from producer.progress import read_gauges
from producer.replay.replay import run_replay
from producer.settings import Settings
from ugly_files import UGLY

METRICS = "http://producer:9400/metrics"
TPS = 100


@pytest.fixture(scope="module")
def settings() -> Settings:
    # A broker that was killed reads its logs first, on a machine that does much else.
    return load_settings(Settings).model_copy(update={"connect_timeout_seconds": 180})


def test_topics_and_schemas_are_there(settings: Settings) -> None:
    topics = wait_for_broker(settings).list_topics(timeout=10).topics
    assert {name: len(topics[name].partitions) for name in TOPICS} == {
        name: topic.partitions for name, topic in TOPICS.items()
    }
    url = settings.schema_registry_url
    assert len(httpx2.get(f"{url}/subjects").json()) == len(SCHEMA_FILES)
    for topic in SCHEMA_FILES:
        assert httpx2.get(f"{url}/config/{subject_of(topic)}").json() == {"compatibilityLevel": "FULL_TRANSITIVE"}


def test_the_history_is_complete_and_the_live_rate_is_the_target_rate(settings: Settings) -> None:
    gauges = read_gauges(METRICS)
    assert gauges["producer_backfill_days_sent"] == gauges["producer_backfill_days"] == 60
    started, before = time.monotonic(), payments(settings)
    wait_until(lambda: time.monotonic() - started > 15, "15 s of live traffic")
    rate = (payments(settings) - before) / (time.monotonic() - started)
    # INVALID_RATE adds 2 % to the target rate, of which three quarters are sent.
    assert rate == pytest.approx(TPS * 1.015, rel=0.05)


def payments(settings: Settings) -> int:
    return count_in(settings, TRANSACTIONS)


def test_files_as_people_have_them(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What follows counts their rows with all others: each is in Bronze, and has a score, or is a dead letter."""

    def replay(name: str, file: Path, column_map: Path | None, expected: tuple[int, int, int]) -> None:
        run_replay(settings, file, column_map)
        said = capsys.readouterr().out
        counts = re.search(r"rows read: (.*); sent: (.*); labels sent: (.*); dead-lettered: (.*)", said)
        assert counts, said
        rows, *counted = (int(number.replace(",", "")) for number in counts.groups())
        assert (name, *counted) == (name, *expected)
        sent, _, dead = expected
        assert rows == sent + dead, name

    for number, ugly in enumerate(UGLY):
        folder = tmp_path / str(number)
        folder.mkdir()
        replay(ugly.name, *ugly.write(folder), (ugly.sent, ugly.labels, sum(ugly.refused.values())))
    for name, (make, suffix) in LAYOUTS.items():
        file = tmp_path / f"{name}{suffix}"
        make(file)
        sent = 3 if name == "ulb" else 2
        replay(name, file, Path(name), (sent, sent, 1))
    with capsys.disabled():
        print(f"| files as people have them | {len(UGLY) + len(LAYOUTS)} | rows that were not sent or dead letters 0 |")
