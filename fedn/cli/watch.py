"""`fedn session watch`, drawn: two progress bars and a line per round, or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fedn.cli import screen
from fedn.cli.follow import LATE_ROUNDS, Fact, Follower

if TYPE_CHECKING:
    from rich.progress import Progress

    from fedn.cli.rest_client import Reducer


def watch_session(reducer: Reducer, session: str, as_json: bool, patience: float = 300.0) -> bool:
    """Tell a session's story until it ends; returns whether it finished well."""
    facts = Follower(reducer, session, patience).facts()
    return _as_json(facts) if as_json else _as_bars(facts, session)


def _as_json(facts: Iterator[Fact]) -> bool:
    state = ""
    for fact in facts:
        screen.put_json({"event": fact.event, **fact.fields})
        state = fact.fields.get("state", state)
    return state == "finished"


def _as_bars(facts: Iterator[Fact], session: str) -> bool:
    with drawn(session) as story:
        for fact in facts:
            story.tell(fact)
    return story.state == "finished"


@contextmanager
def drawn(session: str, stderr: bool = False) -> Iterator[Story]:
    """A story on the terminal, with its bars."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = screen.console(stderr)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Story(progress, session)


class Story:
    """Draws facts. A round's line waits for its metrics, so that it is one line."""

    def __init__(self, progress: Progress, session: str) -> None:
        self.state = ""
        self._progress = progress
        self._rounds = progress.add_task(f"session {session}  rounds", total=None)
        self._updates = progress.add_task("updates in this round", total=None, visible=False)
        self._held: dict[int, dict[str, Any]] = {}
        self._validated: dict[int, dict[str, Any]] = {}

    def tell(self, fact: Fact) -> None:
        """Draw one fact."""
        fields = fact.fields
        match fact.event:
            case "session":
                self.state = fields["state"]
                self._progress.update(self._rounds, total=fields["rounds"])
            case "progress":
                self._bar(fields)
            case "waiting" | "reducer_away":
                self._line(f"… {fields['reason']}")
            case "round_committed":
                self._held[fields["round"]] = fields
                self._progress.update(self._rounds, completed=fields["round"])
                self._release(before=fields["round"] - LATE_ROUNDS)
            case "round_validated":
                self._validated[fields["round"]] = fields
                self._release(before=fields["round"] - LATE_ROUNDS)
            case "session_ended":
                self._release(before=fields["round"] + 1)
                self._end(fields)

    def _bar(self, fields: dict[str, Any]) -> None:
        expected, received = fields.get("expected", 0), fields.get("received", 0)
        words = f"round {fields.get('round', '')}  updates"
        self._progress.update(
            self._updates, total=expected or None, completed=received, description=words, visible=True
        )

    def _release(self, before: int) -> None:
        """Print held rounds in order, as far as their metrics are there or no longer expected."""
        for number in sorted(self._held):
            if number not in self._validated and number >= before:
                return
            self._round(self._held.pop(number), self._validated.pop(number, {}))

    def _round(self, fields: dict[str, Any], validated: dict[str, Any]) -> None:
        """The metrics are those of the clients that validated; the updates may be of others."""
        parts = [f"round {fields['round']:>4}"]
        if metrics := screen.metrics_text(validated.get("metrics", {})):
            parts.append(f"{metrics} at {screen.counted(validated['clients'], 'client')}")
        absent = [f"{len(fields[word])} {word}" for word in ("refused", "lost") if fields[word]]
        updates = screen.counted(fields["contributors"], "update")
        parts.append(f"({', '.join([updates, screen.counted(fields['examples'], 'example'), *absent])})")
        self._line("  ".join([*parts, f"model {fields['model'][:12]}"]))

    def _end(self, fields: dict[str, Any]) -> None:
        self.state = fields["state"]
        self._progress.update(self._updates, visible=False)
        reason = f": {fields['reason']}" if fields["reason"] else ""
        self._line(
            f"Session {fields['state']} after round {fields['round']}{reason}. Model {fields['model']}"
        )

    def _line(self, text: str) -> None:
        self._progress.console.print(screen.clean(text), soft_wrap=True)
