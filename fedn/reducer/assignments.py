"""Which clients were sent to which combiner and have not appeared there yet; they count as its load."""

from __future__ import annotations

from collections.abc import Collection

from fedn.domain.gauges import Gauges
from fedn.domain.ids import ClientId, CombinerName
from fedn.domain.messages import Assignment
from fedn.reducer.network import NetworkView, choose_combiner

MAX_EXPECTED = 10_000
"""Clients that are expected somewhere; of more, the first are forgotten."""


class Assignments:
    """Sends clients to combiners. For one event loop."""

    def __init__(self, gauges: Gauges) -> None:
        self._expected: dict[ClientId, CombinerName] = {}
        gauges.add("assignments", MAX_EXPECTED, lambda: len(self._expected))

    def assign(self, view: NetworkView, client: ClientId, prefer: str, avoid: str, place: str) -> Assignment:
        """Where `choose_combiner` sends this client. Raises Unavailable."""
        chosen = choose_combiner(view, self._expected, client, prefer, avoid, place)
        self._expected[client] = CombinerName(chosen.combiner)
        while len(self._expected) > MAX_EXPECTED:
            self._expected.pop(next(iter(self._expected)))
        return Assignment(CombinerName(chosen.combiner), chosen.address)

    def arrived(self, clients: Collection[ClientId]) -> None:
        """They are attached somewhere."""
        for client in self._expected.keys() & clients:
            del self._expected[client]

    def forget(self, combiner: CombinerName) -> None:
        """Nobody is expected there any more."""
        for client in [client for client, at in self._expected.items() if at == combiner]:
            del self._expected[client]
