"""One validation (or check, or prediction) at a combiner: who has reported, and when it is over.

Pure, like machine.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedn.domain.ids import ClientId
from fedn.domain.messages import TaskKind
from fedn.domain.round import ValidationSpec


@dataclass(frozen=True, slots=True)
class Validation:
    """Clients that were asked, those of them still expected, and those that are through."""

    spec: ValidationSpec
    asked: frozenset[ClientId]
    waiting: frozenset[ClientId]
    reported: frozenset[ClientId]
    closes_at: float

    @property
    def over(self) -> bool:
        return not self.waiting

    @property
    def missing(self) -> tuple[ClientId, ...]:
        """Listed clients without metrics, sorted."""
        return tuple(sorted(set(self.spec.clients) - self.reported))


def open_validation(spec: ValidationSpec, attached: frozenset[ClientId], now: float) -> Validation:
    """Only clients that are here are asked; nobody waits for one that is not."""
    waiting = frozenset(spec.clients) & attached
    return Validation(spec, waiting, waiting, frozenset(), now + spec.deadline)


def extend(state: Validation, spec: ValidationSpec, attached: frozenset[ClientId], now: float) -> Validation:
    """A later call lists more clients: those of them that are here are asked, too."""
    clients = tuple(dict.fromkeys([*state.spec.clients, *spec.clients]))
    known = state.waiting | state.reported if spec.kind is TaskKind.CHECK else state.asked
    new = frozenset(spec.clients) & attached - known  # who failed a check may have been mended since
    return replace(
        state, spec=replace(state.spec, clients=clients), asked=state.asked | new,
        waiting=state.waiting | new,
        closes_at=max(state.closes_at, now + spec.deadline) if new else state.closes_at,
    )  # fmt: skip


def report(state: Validation, client: ClientId) -> tuple[Validation, bool]:
    """A client's metrics came; the flag says whether they are new and wanted.

    One that was given up for its silence may still report, as long as others are waited for.
    """
    if state.over or client not in state.asked - state.reported:
        return state, False
    return replace(state, waiting=state.waiting - {client}, reported=state.reported | {client}), True


def give_up(state: Validation, client: ClientId) -> Validation:
    """The client failed or left."""
    return replace(state, waiting=state.waiting - {client})


def tick(state: Validation, now: float) -> Validation:
    """At the deadline nobody is waited for any more."""
    return replace(state, waiting=frozenset()) if now >= state.closes_at else state
