"""Words for explanations: spans of time, names in a row, reasons in groups. Pure; `why.py` uses them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

NAMES_SHOWN = 4
GROUPS_SHOWN = 3
LETTERS_SHOWN = 240
"""Of one reason, which may come from a client and be as long as that likes."""
_WORD = re.compile(r"[\w-]+(?:\.[\w-]+)*")
_VARYING = re.compile(r"[0-9a-f]{12,}|\d+(?:\.\d+)?")


def span(seconds: float) -> str:
    """How long, as a person would say it."""
    if seconds < 0.05:
        return "less than 0.1 s"
    if seconds < 1:
        return f"{seconds:.1f} s"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{_short(seconds / size)} {unit}"
    return f"{seconds / 86_400:.0f} days"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 10 and round(value, 1) % 1 else f"{value:.0f}"


def counted(number: int, noun: str) -> str:
    """'1 client', '3 clients'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def named(names: Collection[str]) -> str:
    """Some names in a row: 'a, b and 5 more'."""
    some = sorted(names)
    if len(some) > NAMES_SHOWN:
        return f"{', '.join(some[:NAMES_SHOWN])} and {len(some) - NAMES_SHOWN} more"
    return listed(some)


def listed(items: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def by_name(text: str, names: Mapping[str, str]) -> str:
    """The text with clients' ids replaced by what they are called."""
    return _WORD.sub(lambda word: names.get(word[0], word[0]), text)


def short(reason: str) -> str:
    """A reason on one line, not too long."""
    line = " ".join(reason.split())
    return line if len(line) <= LETTERS_SHOWN else line[: LETTERS_SHOWN - 1] + "…"


def grouped(reasons: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """(clients, reason), most clients first. Reasons that differ in numbers and digests alone are one."""
    groups: dict[str, tuple[list[str], str]] = {}
    for client, reason in sorted(reasons.items()):
        groups.setdefault(_VARYING.sub("#", reason), ([], short(reason)))[0].append(client)
    return sorted(groups.values(), key=lambda group: -len(group[0]))


def because(reasons: Mapping[str, str]) -> str:
    """The groups in words: 'a and b: out of memory; c: no data'."""
    groups = grouped(reasons)
    said = [f"{named(clients)}: {reason}" for clients, reason in groups[:GROUPS_SHOWN]]
    rest = sum(len(clients) for clients, _ in groups[GROUPS_SHOWN:])
    return "; ".join([*said, *([f"{counted(rest, 'client')} for other reasons"] if rest else [])])


def paragraph(parts: Iterable[str]) -> str:
    """Sentences after each other, each with its full stop; empty ones are left out."""
    found = [part.strip() for part in parts]
    return " ".join(part if part[-1] in ".…!?" else f"{part}." for part in found if part)
