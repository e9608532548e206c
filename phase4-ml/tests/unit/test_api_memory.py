"""Field case E2: the API does not start with more workers than its container has memory for."""

import pytest
from fraud_common.errors import UserError
from fraud_common.memory import Memory
from serving import memory


@pytest.mark.parametrize(("workers", "limit_mib"), [(2, 512), (6, 1408), (2, None), (64, None)])
def test_a_limit_that_fits_or_none(monkeypatch: pytest.MonkeyPatch, workers: int, limit_mib: int | None) -> None:
    monkeypatch.setattr(memory, "read_memory", lambda: Memory(limit_mib, 0))
    memory.require_memory(workers)


def test_more_workers_than_the_container_has_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "read_memory", lambda: Memory(512, 0))
    with pytest.raises(UserError, match=r"API_WORKERS=6 needs a container of 1,408 MiB, and this one has 512: make up"):
        memory.require_memory(6)
