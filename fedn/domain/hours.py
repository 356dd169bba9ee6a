"""Hours of the week, as an owner writes them: ``20:00-06:00``, ``mon-fri 18:00-08:00, sat-sun``.

They are hours of a wall clock: a range that passes midnight ends on the next day, and in the night in which
the clocks change it is an hour shorter or longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fedn.domain.errors import InvalidInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY, WEEK = 24 * 60, 7 * 24 * 60
"""In minutes."""
MAX_RANGES = 32
_DAYS = r"(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))?"
_TIMES = r"(?P<begin>\d{1,2}:\d{2})-(?P<end>\d{1,2}:\d{2})"
_RANGE = re.compile(rf"(?:{_DAYS})?\s*(?:{_TIMES})?\Z")
_TIME = re.compile(r"(\d{1,2}):([0-5]\d)\Z")
REMEDY = "give ranges such as '20:00-06:00' or 'mon-fri 18:00-08:00, sat-sun'"


@dataclass(frozen=True, slots=True)
class Hours:
    """``ranges`` are (minute of the week at which one begins, its length in minutes); none means always."""

    text: str = ""
    ranges: tuple[tuple[int, int], ...] = ()

    def open_at(self, moment: datetime) -> bool:
        """Whether ``moment``, in local time, is within them."""
        now = _minute(moment)
        return not self.ranges or any((now - begin) % WEEK < length for begin, length in self.ranges)

    def opens_in(self, moment: datetime) -> int:
        """Minutes until they begin next; 0 if ``moment`` is within them."""
        if self.open_at(moment):
            return 0
        now = _minute(moment)
        return min((begin - now) % WEEK for begin, _ in self.ranges)


def parse_hours(field: str, text: str) -> Hours:
    """Read hours; an empty text means always. Raises InvalidInput naming ``field`` and the range."""
    pieces = [piece.strip().lower() for piece in text.split(",")] if text.strip() else []
    if len(pieces) > MAX_RANGES:
        raise InvalidInput(field, f"has {len(pieces)} ranges", f"give at most {MAX_RANGES}")
    return Hours(text.strip(), tuple(found for piece in pieces for found in _ranges(field, piece)))


def _ranges(field: str, piece: str) -> Iterator[tuple[int, int]]:
    found = _RANGE.match(piece)
    if not piece or found is None:
        raise InvalidInput(field, f"{piece[:80]!r} is not a range of hours", REMEDY)
    begin, end = (_time(field, found[name]) for name in ("begin", "end")) if found["begin"] else (0, DAY)
    begin %= DAY
    if begin == end:
        remedy = "give '00:00-24:00' for all day"
        raise InvalidInput(field, f"{piece!r} is a range without length", remedy)
    length = end - begin if end > begin else end - begin + DAY
    for day in _days(field, found["first"], found["last"]):
        yield day * DAY + begin, length


def _time(field: str, text: str) -> int:
    """Minutes since midnight; 24:00 is the end of a day."""
    found = _TIME.match(text)
    minutes = int(found[1]) * 60 + int(found[2]) if found else DAY + 1
    if minutes > DAY:
        raise InvalidInput(field, f"{text!r} is not a time of the day", "give 00:00 to 24:00")
    return minutes


def _days(field: str, first: str | None, last: str | None) -> range | tuple[int, ...]:
    """Weekdays from the first to the last, Monday being 0; all without any."""
    if first is None:
        return range(7)
    for name in (first, last or first):
        if name not in DAYS:
            raise InvalidInput(field, f"{name!r} is not a day of the week", f"known are {', '.join(DAYS)}")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return tuple((begin + step) % 7 for step in range((end - begin) % 7 + 1))


def _minute(moment: datetime) -> int:
    return moment.weekday() * DAY + moment.hour * 60 + moment.minute
