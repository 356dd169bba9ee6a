"""What a process says of its machine, as it may be shown: bounded and printable, whoever said it."""

from __future__ import annotations

from fedn.domain.messages import Host, LogLine

MAX_WORD = 64
"""Letters of one word about a machine."""
MAX_NUMBER = 2**53
"""Beyond it JSON's readers lose digits."""
MAX_LINES, MAX_LETTERS = 100, 300
"""Lines of a log that are kept of one process, and letters of one."""
MAX_TIME = 253_402_300_799.0
"""Unix time at the end of the year 9999; no calendar here goes on behind it."""


def known(host: Host) -> Host:
    """As much of it as fits. Nobody is sent away for what is there for people to look at alone."""
    return Host(
        _word(host.fedn), _word(host.python), _word(host.system),
        min(host.cpus, MAX_NUMBER), min(host.memory, MAX_NUMBER), _word(host.runs),
    )  # fmt: skip


def known_lines(lines: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
    """The last of them, each cut to what is shown."""
    return tuple(LogLine(_time(line.at), _word(line.level), _cut(line.text)) for line in lines[-MAX_LINES:])


def _time(at: float) -> float:
    """0 for what is no time; NaN is none, too."""
    return at if 0 <= at <= MAX_TIME else 0.0


def _word(text: str) -> str:
    return text[:MAX_WORD] if text[:MAX_WORD].isprintable() else ""


def _cut(text: str) -> str:
    shown = text[:MAX_LETTERS]
    return (
        shown
        if shown.isprintable()
        else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    )
