"""The last log lines of members: bounded for each, and for all."""

from __future__ import annotations

from fedn.domain.hosts import MAX_LETTERS, MAX_LINES
from fedn.domain.messages import LogLine
from fedn.reducer.log_book import LogBook


def lines(*numbers: int) -> tuple[LogLine, ...]:
    return tuple(LogLine(float(number), "info", f"line {number}") for number in numbers)


def test_what_is_told_again_after_a_broken_link_stands_there_once() -> None:
    book = LogBook()
    book.note("combiner:c", lines(1, 2))
    book.note("combiner:c", lines(1, 2, 3))
    assert book.lines["combiner:c"] == lines(1, 2, 3)


def test_the_oldest_lines_go_and_the_longest_silent_members() -> None:
    book = LogBook(max_members=2)
    book.note("client:a", lines(*range(MAX_LINES)))
    book.note("client:b", lines(1))
    book.note("client:a", (LogLine(999.0, "info", "x" * 1000),))
    assert len(book.lines["client:a"]) == MAX_LINES
    assert book.lines["client:a"][0].text == "line 1"
    assert len(book.lines["client:a"][-1].text) == MAX_LETTERS
    book.note("client:c", lines(1))
    assert set(book.lines) == {"client:a", "client:c"}
