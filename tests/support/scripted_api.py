"""An Api that answers from a script and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Wire = dict[str, Any]


class ScriptedApi:
    """A `replicator.ports.Api`: one answer per call, in order; an error among them is raised."""

    def __init__(self, *answers: Wire | Exception) -> None:
        self._answers = list(answers)
        self.calls: list[tuple[str, Wire]] = []

    async def call(self, operation: str, request: Mapping[str, Any]) -> Wire:
        self.calls.append((operation, dict(request)))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def requests(self) -> list[Wire]:
        """What was asked, without the names of the operations."""
        return [request for _, request in self.calls]
