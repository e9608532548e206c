"""Redis pipelines whose results are found by name."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any


class NamedPipeline:
    """A pipeline of redis-py, in which the results that the caller needs have names.

    `pipeline.named("clock").get(CLOCK_KEY)` queues a command; its result is `pipeline.execute()["clock"]`.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self._names: dict[Hashable, int] = {}

    def named(self, kind: str, *rest: Hashable) -> Any:
        """The pipeline, for exactly one command: its result gets this name, a tuple if it has several parts."""
        self._names[(kind, *rest) if rest else kind] = len(self.pipeline)
        return self.pipeline

    def execute(self) -> dict[Hashable, Any]:
        """Send the commands; the results by name."""
        return self.by_name(self.pipeline.execute())

    def by_name(self, results: Sequence[Any]) -> dict[Hashable, Any]:
        """The results of a pipeline that the caller executed."""
        return {name: results[index] for name, index in self._names.items()}


def load_script(name: str) -> str:
    """The text of a Lua script of this package."""
    return (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
