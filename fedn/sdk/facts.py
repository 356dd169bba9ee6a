"""What there is to tell of a session while it runs: facts, and rounds that are told once they are whole.

`follow` reads facts from a reducer's REST API, `local` from a federation in this process; `drawing` draws
them, for scripts, notebooks and the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ENDED = ("finished", "failed", "cancelled")
LATE_ROUNDS = 8
"""Rounds that may be validated at once; one that is further behind was skipped."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something to tell: session, progress, stragglers, waiting, client_unfit, client_failed,
    round_committed, round_validated, reducer_away, session_ended."""

    event: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """A committed round with its validation; ``validated`` is empty if none came."""

    round: int
    committed: Mapping[str, Any]
    validated: Mapping[str, Any] = field(default_factory=dict)


class Rounds:
    """Holds every committed round back until its metrics are there, or can be waited for no longer."""

    def __init__(self) -> None:
        self._held: dict[int, dict[str, Any]] = {}
        self._validated: dict[int, dict[str, Any]] = {}

    def tell(self, fact: Fact) -> Iterator[Done]:
        """The rounds, in order, that are whole now that ``fact`` is known."""
        match fact.event:
            case "round_committed":
                self._held[fact.fields["round"]] = fact.fields
                yield from self._release(before=fact.fields["round"] - LATE_ROUNDS)
            case "round_validated":
                self._validated[fact.fields["round"]] = fact.fields
                yield from self._release(before=fact.fields["round"] - LATE_ROUNDS)
            case "session_ended":
                yield from self._release(before=fact.fields["round"] + 1)

    def _release(self, before: int) -> Iterator[Done]:
        for number in sorted(self._held):
            if number not in self._validated and number >= before:
                return
            yield Done(number, self._held.pop(number), self._validated.pop(number, {}))
