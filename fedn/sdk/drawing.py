"""A session drawn for people: two bars and a line for every round, in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fedn.sdk.facts import Done, Fact, Rounds
from fedn.sdk.terminal import before_fit, clean, console, counted, metrics_text, watched

if TYPE_CHECKING:
    from rich.progress import Progress

More = Callable[[Done], str]
"""Told of every whole round before it is drawn; what it returns stands in the round's line, too."""


def _nothing_more(_: Done) -> str:
    return ""


@contextmanager
def drawn(
    title: str, stderr: bool = False, more: More = _nothing_more, quiet: bool = False
) -> Iterator[Story]:
    """A story with its bars; ``quiet`` draws nothing, and tells ``more`` all the same."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    at = console(stderr)
    at.quiet = quiet
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=at, disable=quiet or not watched(at)) as progress:
        yield Story(progress, title, more)


class Story:
    """Draws facts. A round's line waits for its metrics, so that it is one line."""

    def __init__(self, progress: Progress, title: str, more: More = _nothing_more) -> None:
        self.state = ""
        self.reason = ""
        self._progress = progress
        self._more = more
        self._rounds = Rounds()
        self._failed: set[tuple[str, str]] = set()
        self._all = progress.add_task(f"{title}  rounds", total=None)
        self._updates = progress.add_task("updates in this round", total=None, visible=False)

    def tell(self, fact: Fact) -> None:
        """Draw one fact, and the rounds that are whole with it."""
        for done in self._rounds.tell(fact):
            self._round(done)
        fields = fact.fields
        match fact.event:
            case "session":
                self.state = fields["state"]
                self._progress.update(self._all, total=fields["rounds"])
            case "progress":
                self._bar(fields)
            case "stragglers":
                self._line(f"… {_stragglers(fields)}")
            case "waiting" | "reducer_away":
                self._line(f"… {fields['reason']}")
            case "client_unfit":
                self._line(f"{fields['client']} can't take part: {fields['reason']}")
            case "client_failed" if (fields["client"], fields["reason"]) not in self._failed:
                self._failed.add((fields["client"], fields["reason"]))  # once, not in every round again
                self._line(f"{fields['client']} did not validate round {fields['round']}: {fields['reason']}")
            case "round_committed":
                self._progress.update(self._all, completed=fields["round"])
            case "session_ended":
                self._end(fields)

    def _bar(self, fields: dict[str, Any]) -> None:
        expected, received = fields.get("expected", 0), fields.get("received", 0)
        words = f"round {fields.get('round', '')}  updates"
        self._progress.update(
            self._updates, total=expected or None, completed=received, description=words, visible=True
        )

    def _round(self, done: Done) -> None:
        """The metrics are those of the clients that validated; the updates may be of others."""
        fields, validated = done.committed, done.validated
        parts = [f"round {fields['round']:>4}"]
        if metrics := metrics_text(validated.get("metrics", {})):
            parts.append(f"{metrics} at {counted(validated['clients'], 'client')}")
        if before := metrics_text(before_fit(fields.get("train", {}).get("metrics", {}))):
            parts.append(before)
        if more := self._more(done):
            parts.append(more)
        absent = [f"{len(fields[word])} {word}" for word in ("refused", "lost") if fields[word]]
        updates = counted(fields["contributors"], "update")
        parts.append(f"({', '.join([updates, counted(fields['examples'], 'example'), *absent])})")
        self._line("  ".join([*parts, f"model {fields['model'][:12]}"]))

    def _end(self, fields: dict[str, Any]) -> None:
        self.state, self.reason = fields["state"], fields["reason"]
        self._progress.update(self._updates, visible=False)
        reason = f": {fields['reason']}" if fields["reason"] else ""
        self._line(
            f"Session {fields['state']} after round {fields['round']}{reason}. Model {fields['model']}"
        )

    def _line(self, text: str) -> None:
        self._progress.console.print(clean(text), soft_wrap=True)


def _stragglers(fields: dict[str, Any]) -> str:
    more = f" and {fields['more']} more" if fields["more"] else ""
    return (
        f"round {fields['round']} has taken {fields['seconds']:.1f} s and waits for "
        f"{', '.join(fields['clients'])}{more}; half of the others took {fields['median']:.1f} s or less"
    )
