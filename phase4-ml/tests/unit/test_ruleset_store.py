"""Rules in a worker: the newest from Postgres, the last good ones on disk, and what happens when either is broken."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psycopg2
import pytest
from rules.decide import Policy, decide
from rules.lists import ListValues
from rules.ruleset import InForce
from ruleset_world import NOW, entry, facts, ruleset
from serving import ruleset_store
from serving.ruleset_store import RulesetStore, pack, unpack, write_atomically
from serving.settings import Settings

BLOCKED = entry(1, when="in_list(user_id, 'blocked')", answer="decline")


class FakePostgres:
    """The tables that rules are read from, and what was asked of them."""

    def __init__(self) -> None:
        self.rulesets: dict[int, Any] = {}
        self.changes = 0
        self.lists: list[str] = []
        self.members: list[tuple[Any, ...]] = []
        self.suppressions: list[tuple[Any, ...]] = []
        self.down = False
        self.asked: list[str] = []
        self._answer: list[tuple[Any, ...]] = []

    def connect(self, *_: Any) -> Self:
        self.check()
        return self

    def check(self) -> None:
        if self.down:
            raise psycopg2.OperationalError("connection refused")

    def set_session(self, *_: Any, **__: Any) -> None:
        pass

    def cursor(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def execute(self, query: str, values: tuple[Any, ...] = ()) -> None:
        self.check()
        self.asked.append(query)
        answers: dict[str, Any] = {
            ruleset_store.STATEMENT_TIMEOUT: lambda: [],
            ruleset_store.VERSIONS: lambda: [(max(self.rulesets, default=None), self.changes)],
            ruleset_store.RULESET: lambda: [(self.rulesets[values[0]],)],
            ruleset_store.LIST_NAMES: lambda: [(name,) for name in self.lists if name in values[0]],
            ruleset_store.LISTS: lambda: [row for row in self.members if row[0] in values[0]][: values[1]],
            ruleset_store.SUPPRESSIONS: lambda: self.suppressions[: values[0]],
        }
        self._answer = answers[query]()

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._answer

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        rows, self._answer = self._answer[:size], self._answer[size:]
        return rows


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> FakePostgres:
    fake = FakePostgres()
    monkeypatch.setattr(ruleset_store, "connect", fake.connect)
    return fake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path, rules_max_list_entries=5)


@pytest.fixture
def store(postgres: FakePostgres, settings: Settings) -> Iterator[RulesetStore]:
    store = RulesetStore(settings)
    store.refresh()
    assert store.trouble is None
    yield store


def answer(store: RulesetStore, user_id: str = "u1") -> str:
    return decide(facts(user_id=user_id), store.in_force, Policy(), NOW).answer


def test_without_rules_the_model_decides_and_nothing_is_wrong(store: RulesetStore) -> None:
    assert store.in_force.ruleset.ruleset_id is None
    assert answer(store) == "approve"


def test_the_newest_ruleset_is_used_with_its_lists_and_suppressions(
    store: RulesetStore, postgres: FakePostgres
) -> None:
    postgres.rulesets = {3: {"rules": [entry(1), entry(2, when="in_list(user_id, 'blocked')", answer="decline")]}}
    postgres.lists, postgres.members = ["blocked"], [("blocked", "u2", NOW, None), ("other", "u1", NOW, None)]
    store.refresh()
    assert store.in_force.ruleset.ruleset_id == 3
    assert (answer(store), answer(store, "u2")) == ("challenge", "decline")
    # Lists without a change of rules.
    postgres.members.append(("blocked", "u1", NOW, None))
    postgres.suppressions = [(2, "u2", NOW, NOW.replace(year=2027))]
    postgres.changes += 1
    pinned = store.in_force
    store.refresh()
    assert (answer(store), answer(store, "u2")) == ("decline", "challenge")
    # What a request has pinned does not change under it.
    assert decide(facts(), pinned, Policy(), NOW).answer == "challenge"


def test_without_a_change_only_two_numbers_are_asked_for(store: RulesetStore, postgres: FakePostgres) -> None:
    postgres.asked.clear()
    store.refresh()
    assert postgres.asked == [ruleset_store.VERSIONS]


def test_postgres_stopped_and_the_worker_restarted(
    store: RulesetStore, postgres: FakePostgres, settings: Settings
) -> None:
    postgres.rulesets, postgres.lists = {3: {"rules": [entry(1), BLOCKED | {"rule_id": 2}]}}, ["blocked"]
    postgres.members = [("blocked", "u2", NOW, None)]
    store.refresh()
    postgres.down = True
    store.refresh()
    assert "postgres does not answer for rules: connection refused; ruleset 3" in (store.trouble or "")
    restarted = RulesetStore(settings)
    restarted.start()
    restarted.close()
    assert (answer(restarted), answer(restarted, "u2")) == ("challenge", "decline")
    assert restarted.in_force.ruleset.ruleset_id == 3
    postgres.down = False
    restarted.refresh()
    assert restarted.trouble is None


def test_a_ruleset_of_a_newer_release_leaves_the_last_good_one(
    store: RulesetStore, postgres: FakePostgres, settings: Settings
) -> None:
    postgres.rulesets, postgres.lists = {3: {"rules": [BLOCKED]}}, ["blocked"]
    store.refresh()
    postgres.rulesets[4] = {"rules": [entry(1, when="shoe_size > 40")]}
    store.refresh()
    assert "refused: ruleset 4: rule 'rule-1'" in (store.trouble or "")
    assert "shoe_size" in (store.trouble or "") and "ruleset 3 with 1 rules decides" in (store.trouble or "")
    # Its lists go on, and a restart has the same.
    postgres.members, postgres.changes = [("blocked", "u1", NOW, None)], 1
    store.refresh()
    assert answer(store) == "decline"
    assert unpack((settings.state_dir / "rules").read_bytes()).ruleset.ruleset_id == 3
    postgres.rulesets[5] = {"rules": [entry(1)]}
    store.refresh()
    assert (store.trouble, answer(store)) == (None, "challenge")


def test_too_many_entries_are_refused_by_their_setting(store: RulesetStore, postgres: FakePostgres) -> None:
    postgres.rulesets, postgres.lists = {3: {"rules": [BLOCKED]}}, ["blocked"]
    postgres.members = [("blocked", f"u{number}", NOW, None) for number in range(4)]
    store.refresh()
    assert answer(store) == "decline"
    postgres.suppressions = [(1, f"u{number}", NOW, NOW.replace(year=2027)) for number in range(2)]
    postgres.changes += 1
    store.refresh()
    assert "(blocked) and suppressions have more than RULES_MAX_LIST_ENTRIES=5" in (store.trouble or "")
    assert answer(store) == "decline"
    postgres.suppressions.pop(0)
    postgres.changes += 1
    store.refresh()
    assert (store.trouble, answer(store)) == (None, "approve")


def test_another_database_may_have_another_ruleset_of_the_same_number(
    store: RulesetStore, postgres: FakePostgres, settings: Settings
) -> None:
    postgres.rulesets = {3: {"rules": [entry(1)]}}
    store.refresh()
    postgres.rulesets = {3: {"rules": [entry(1, answer="decline")]}}
    restarted = RulesetStore(settings)
    restarted.start()
    restarted.close()
    restarted.refresh()
    assert answer(restarted) == "decline"


IN_FORCE = InForce(
    ruleset(entry(1)),
    {"blocked": ListValues([("u1", NOW, None), ("u1", NOW.replace(year=2020), NOW.replace(year=2021))])},
    {1: ListValues([("u2", NOW, NOW.replace(year=2030))])},
)


def test_what_is_written_is_read() -> None:
    again = unpack(pack(IN_FORCE))
    assert again.ruleset.rules == IN_FORCE.ruleset.rules
    assert again.lists["blocked"].entries() == IN_FORCE.lists["blocked"].entries()
    assert again.suppressions[1].entries() == IN_FORCE.suppressions[1].entries()
    assert unpack(pack(InForce())).ruleset.ruleset_id is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: b"",
        lambda text: text.replace(b"challenge", b"approve  "),
        lambda text: bytes(len(text)),
        lambda text: text[: len(text) // 2] + bytes(100) + text[len(text) // 2 + 100 :],
    ],
)
def test_a_damaged_file_is_ignored_with_a_line_in_the_log(
    damage: Any, postgres: FakePostgres, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    file = settings.state_dir / "rules"
    file.write_bytes(damage(pack(IN_FORCE)))
    postgres.rulesets = {8: {"rules": [entry(1, answer="decline")]}}
    store = RulesetStore(settings)
    store.start()
    store.close()
    assert f"{file} is ignored: its checksum is wrong, so it is damaged; rules come from postgres" in caplog.text
    assert (answer(store), store.in_force.ruleset.ruleset_id) == ("decline", 8)
    # And replaced.
    assert unpack(file.read_bytes()).ruleset.ruleset_id == 8


def test_a_file_of_a_newer_release_is_ignored(postgres: FakePostgres, settings: Settings) -> None:
    newer = InForce(ruleset(entry(1)))
    newer.ruleset.document["rules"][0]["when"] = "shoe_size > 40"
    (settings.state_dir / "rules").write_bytes(pack(newer))
    postgres.down = True
    store = RulesetStore(settings)
    store.start()
    store.close()
    assert "the model decides without rules" in (store.trouble or "")
    assert answer(store) == "approve"


def test_a_full_disk_leaves_the_old_file_and_is_said(
    store: RulesetStore, postgres: FakePostgres, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.rulesets = {3: {"rules": [entry(1)]}}
    store.refresh()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        postgres.rulesets[4] = {"rules": [entry(1, answer="decline")]}
        store.refresh()
    assert answer(store) == "decline"
    assert "not on disk" in (store.trouble or "") and "No space left" in (store.trouble or "")
    assert unpack((settings.state_dir / "rules").read_bytes()).ruleset.ruleset_id == 3
    assert [file.name for file in settings.state_dir.iterdir()] == ["rules"]
    # Once there is space again, a restart has the newest rules too.
    store.refresh()
    assert store.trouble is None
    assert unpack((settings.state_dir / "rules").read_bytes()).ruleset.ruleset_id == 4


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "rules"
    write_atomically(file, b"old")
    with file.open("rb") as reader:
        write_atomically(file, b"new")
        assert reader.read() == b"old"
    assert file.read_bytes() == b"new"
