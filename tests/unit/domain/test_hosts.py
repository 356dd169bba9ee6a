"""What others say of their machines is cut to what may be shown."""

from __future__ import annotations

import math

from fedn.domain.hosts import MAX_LETTERS, MAX_LINES, MAX_NUMBER, MAX_WORD, known, known_lines
from fedn.domain.messages import Host, LogLine
from fedn.helpers.host import this_host


def test_long_words_are_cut_and_what_cannot_be_shown_is_left_out() -> None:
    told = known(Host("1.2", "3" * 1000, "Linux\x1b[31m", 2**63, 2**63, "app"))
    assert told == Host("1.2", "3" * MAX_WORD, "", MAX_NUMBER, MAX_NUMBER, "app")


def test_of_a_log_the_last_lines_stay_each_on_one_line() -> None:
    lines = tuple(LogLine(float(n), "info", f"{n}\n" + "x" * 1000) for n in range(MAX_LINES + 5))
    kept = known_lines(lines)
    assert len(kept) == MAX_LINES
    assert kept[0].text == "5\N{REPLACEMENT CHARACTER}" + "x" * (MAX_LETTERS - 2)


def test_a_time_that_is_in_no_calendar_is_none() -> None:
    said = (12.5, math.nan, math.inf, 1e300, -1.0)
    kept = known_lines(tuple(LogLine(at, "info", "x") for at in said))
    assert [line.at for line in kept] == [12.5, 0.0, 0.0, 0.0, 0.0]


def test_this_process_knows_its_machine_and_says_nothing_of_its_name() -> None:
    told = this_host("app")
    assert told == known(told)
    assert told.cpus > 0
    assert told.memory > 2**20
    assert told.runs == "app"
    assert len(told.system.split()) == 2
