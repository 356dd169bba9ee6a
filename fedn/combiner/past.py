"""What is over at a combiner: a late copy of a call must not open it again. Pure."""

from __future__ import annotations

from fedn.domain.ids import SessionId
from fedn.domain.round import RoundSpec

MAX_SESSIONS = 1024
MAX_DROPPED = 4096
"""Of more, the oldest are forgotten."""


class Past:
    """Rounds that are committed, and parts that were dropped in rounds that may still be open."""

    def __init__(self) -> None:
        self._committed: dict[SessionId, int] = {}
        self._dropped: dict[tuple[SessionId, int, int], int] = {}

    def commit(self, session: SessionId, round_: int) -> None:
        """This round, and all before it, never open again."""
        self._committed[session] = max(round_, self._committed.pop(session, 0))
        if len(self._committed) > MAX_SESSIONS:
            del self._committed[next(iter(self._committed))]

    def drop(self, session: SessionId, round_: int, part: int, term: int) -> None:
        """This part is not opened again in this term; the next reducer, which has not heard of it, may."""
        self._dropped[session, round_, part] = term
        if len(self._dropped) > MAX_DROPPED:
            del self._dropped[next(iter(self._dropped))]

    def over(self, spec: RoundSpec) -> str:
        """Why this part can't be opened (any more); '' if it can."""
        if spec.round <= self._committed.get(spec.session, 0):
            return f"round {spec.round} is committed"
        if self._dropped.get((spec.session, spec.round, spec.part), 0) >= spec.term:
            return f"part {spec.part} was dropped"
        return ""
