"""The last log lines of combiners, and of clients whose owners share them; in memory alone."""

from __future__ import annotations

from fedn.domain.hosts import MAX_LINES, known_lines
from fedn.domain.messages import LogLine

MAX_MEMBERS = 1000
"""Of whom lines are kept; of more, those who said nothing for the longest time are forgotten."""


class LogBook:
    """By member, as role:name. ``lines`` may be read from any thread."""

    def __init__(self, max_members: int = MAX_MEMBERS) -> None:
        self.lines: dict[str, tuple[LogLine, ...]] = {}
        self._max_members = max_members

    def note(self, member: str, lines: tuple[LogLine, ...]) -> None:
        """What a member has said since, or, after a link that broke, once more."""
        before = self.lines.pop(member, ())
        known = set(before)
        fresh = tuple(line for line in known_lines(lines) if line not in known)
        self.lines[member] = (before + fresh)[-MAX_LINES:]
        while len(self.lines) > self._max_members:
            del self.lines[next(iter(self.lines))]
