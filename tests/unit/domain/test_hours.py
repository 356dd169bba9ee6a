"""Hours of the week: what owners write, and when that is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fedn.domain.errors import InvalidInput
from fedn.domain.hours import WEEK, parse_hours

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)


def at(day: int, time: str) -> datetime:
    """A moment of a week that begins on a Monday; day 0 is that Monday."""
    hours, minutes = map(int, time.split(":"))
    return MONDAY + timedelta(days=day, hours=hours, minutes=minutes)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (
            "20:00-06:00",
            [(0, "20:00"), (3, "23:59"), (4, "05:59"), (6, "21:00")],
            [(0, "06:00"), (5, "19:59")],
        ),
        ("8:00-17:30", [(0, "08:00"), (6, "17:29")], [(0, "07:59"), (0, "17:30")]),
        (
            "mon-fri 18:00-08:00",
            [(0, "18:00"), (1, "07:59"), (4, "23:00"), (5, "07:59")],
            [(0, "07:59"), (5, "08:00"), (5, "18:00"), (6, "20:00")],
        ),
        ("sat-sun", [(5, "00:00"), (6, "23:59")], [(4, "23:59"), (0, "00:00")]),
        ("fri-mon 22:00-02:00", [(4, "22:00"), (0, "23:00"), (1, "01:59")], [(4, "01:59"), (1, "22:00")]),
        ("SUN 23:00-01:00", [(6, "23:30"), (0, "00:30")], [(0, "01:00"), (5, "23:30")]),
        ("wed 00:00-24:00, thu 24:00-01:00", [(2, "00:00"), (2, "23:59"), (3, "00:59")], [(3, "01:00")]),
        ("", [(0, "00:00"), (6, "23:59")], []),
    ],
)
def test_when_it_is(text: str, inside: list[tuple[int, str]], outside: list[tuple[int, str]]) -> None:
    hours = parse_hours("hours", text)
    assert [moment for moment in inside if not hours.open_at(at(*moment))] == []
    assert [moment for moment in outside if hours.open_at(at(*moment))] == []


@pytest.mark.parametrize("text", ["20:00-06:00", "mon-fri 18:00-08:00, sat-sun", "sun 23:00-01:00", "tue"])
def test_they_begin_when_they_say(text: str) -> None:
    """Minute by minute through a week: what is said of the next beginning is what comes."""
    hours, following = parse_hours("hours", text), 0
    for minute in reversed(range(2 * WEEK)):
        moment = MONDAY + timedelta(minutes=minute)
        following = 0 if hours.open_at(moment) else following + 1
        if minute < WEEK:
            assert hours.opens_in(moment) == following


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("always", "'always' is not a range of hours"),
        ("20:00-06:00,", "'' is not a range of hours"),
        ("20-6", "'20-6' is not a range of hours"),
        ("20:00", "'20:00' is not a range of hours"),
        ("25:00-06:00", "'25:00' is not a time of the day"),
        ("20:60-06:00", "'20:60' is not a time of the day"),
        ("08:00-08:00", "'08:00-08:00' is a range without length"),
        ("mon-fry 08:00-09:00", "'fry' is not a day of the week"),
        (",".join(["mon"] * 33), "has 33 ranges"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match="hours: ") as refused:
        parse_hours("hours", text)
    assert words in refused.value.message
