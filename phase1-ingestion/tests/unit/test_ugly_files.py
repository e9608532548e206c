"""Each ugly file has exactly the outcome that it must have; every row is sent or a dead letter (D2 to D7)."""

from pathlib import Path

import pytest
from replayed import replayed
from ugly_files import UGLY, Ugly


@pytest.mark.parametrize("ugly", UGLY, ids=lambda ugly: ugly.name)
def test_an_ugly_file(ugly: Ugly, tmp_path: Path) -> None:
    """D2, D3, D4, D5, D6, D7."""
    result = replayed(*ugly.write(tmp_path))
    assert (len(result.payments), dict(result.reasons), len(result.labels)) == (ugly.sent, ugly.refused, ugly.labels)
    assert result.summary.refused == sum(ugly.refused.values())
