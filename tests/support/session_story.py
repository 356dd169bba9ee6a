"""A session's machine at the reducer, told one event at a time."""

from __future__ import annotations

from typing import Any

from rounds import (
    ANN,
    BOB,
    CAT,
    S,
    at,
    head,
    key,
    sealed,
)

from fedn.domain.ids import ClientId, CombinerName
from fedn.domain.plan import plan_from
from fedn.reducer import legs as lg
from fedn.reducer import machine as mc
from fedn.reducer.network import Station


class Story:
    """A session that remembers its state; every call is one event and returns its commands."""

    def __init__(
        self, *stations: tuple[CombinerName, Station], done: int = 0, pause: str = "",
        unvalidated: bool = False, **plan: Any,
    ) -> None:  # fmt: skip
        made = plan_from({"rounds": 2, "validate": False, **plan})
        self.state, self.started = mc.start(S, made, head(done), dict(stations), 5.0, pause, unvalidated)

    def __call__(self, event: mc.Event) -> tuple[mc.Command, ...]:
        self.state, commands = mc.step(self.state, event)
        return commands

    def sees(self, *stations: tuple[CombinerName, Station]) -> tuple[mc.Command, ...]:
        return self(mc.NetworkChanged(dict(stations)))

    def selects(self, *clients: ClientId) -> tuple[mc.Command, ...]:
        return self(mc.ClientsSelected(clients))

    def merges(self, of: lg.PartKey, *clients: ClientId, **absent: str) -> tuple[mc.Command, ...]:
        self(mc.PartSealed(self.open, of, sealed(of, *clients, round_=self.open, **absent)))
        return self(mc.PartFetched(self.open, of))

    def commits(self) -> tuple[mc.Command, ...]:
        return self(mc.RoundCommitted(head(self.state.head.round + 1)))

    @property
    def open(self) -> int:
        return self.state.head.round + 1

    @property
    def reason(self) -> str:
        assert isinstance(self.state.phase, mc.Waiting | mc.Running | mc.Ended)
        return self.state.phase.reason


def running(**plan: Any) -> Story:
    """Ann and Bob at A, Cat at B; round 1 is open with all three."""
    story = Story(at("A", ANN, BOB), at("B", CAT), **plan)
    story.selects(ANN, BOB, CAT)
    return story


def committing(**plan: Any) -> Story:
    story = running(**plan)
    story.merges(key("A"), ANN, BOB)
    story.merges(key("B"), CAT)
    return story


def ended(story: Story) -> str:
    assert isinstance(story.state.phase, mc.Ended)
    return story.state.phase.outcome
