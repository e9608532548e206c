"""Which versions of the model stay when old ones are deleted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.entities.model_registry.model_version_tag import ModelVersionTag
from mlflow.exceptions import MlflowException
from training import prune, registry
from training.prune import ROLLBACKS, kept

NOW = datetime(2026, 3, 4, tzinfo=UTC)
OLDER_THAN = NOW - timedelta(days=180)


def version(number: int, days: int, stage: str = "None", promoted: str = "", aliases: tuple[str, ...] = ()) -> Any:
    """A version that was made so many days ago."""
    made = round((NOW - timedelta(days=days)).timestamp() * 1000)
    tags = [ModelVersionTag(registry.PROMOTED_AT, promoted)] if promoted else []
    return ModelVersion("m", str(number), made, current_stage=stage, tags=tags, aliases=list(aliases))


@pytest.mark.parametrize(
    ("candidate", "stays"),
    [
        (version(1, 179), True),
        (version(1, 181), False),
        (version(1, 181, "Archived"), False),
        (version(1, 999, "Production"), True),
        (version(1, 999, "Staging"), True),
        (version(1, 999, aliases=("pinned",)), True),
        (version(1, 999, "Archived", promoted="2025-01-01"), True),
    ],
)
def test_what_stays(candidate: Any, stays: bool) -> None:
    assert kept([candidate], OLDER_THAN) == ({"1"} if stays else set())


def test_as_many_stay_for_a_rollback() -> None:
    promoted = [version(n, 999, "Archived", promoted=f"2024-{n:02}-01T00:00:00") for n in range(1, 10)]
    assert kept(promoted, OLDER_THAN) == {str(n) for n in range(10 - ROLLBACKS, 10)}


def test_a_registry_that_fails_does_not_fail_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Any) -> list[Any]:
        raise MlflowException("no answer")

    monkeypatch.setattr(registry, "versions", fail)
    client: Any = None
    prune.prune(client, 180, NOW)
    assert "the next training run tries again: no answer" in capsys.readouterr().err
    # 0 asks for nothing.
    prune.prune(client, 0, NOW)
    assert capsys.readouterr().err == ""
