"""The live side of the comparison: a sample of the payments of the last hour."""

from collections import OrderedDict
from collections.abc import Iterable

from monitoring.sources import Scored


class Window:
    """The samples of the last seconds. A payment that is in two samples counts once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._rows: OrderedDict[str, tuple[float, Scored]] = OrderedDict()

    def add(self, sample: Iterable[Scored], now: float) -> None:
        """Add a sample taken at `now` (seconds of a monotonic clock) and drop rows that are too old."""
        for row in sample:
            self._rows.setdefault(row.prediction_id, (now, row))
        while self._rows and next(iter(self._rows.values()))[0] < now - self._seconds:
            self._rows.popitem(last=False)

    def of(self, version: str) -> list[Scored]:
        """The payments that this version of the model scored."""
        return [row for _, row in self._rows.values() if row.model_version == version]
