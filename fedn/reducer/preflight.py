"""Who may take part in a session: clients that have checked that they can. Pure values and decisions.

`checking.py` asks the clients and tells this what they answered; the session's machine sees `view` of the
network. Fit once is fit for the session; who is not is asked again when it comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fedn.domain.ids import ClientId, CombinerName
from fedn.reducer.network import Network, attached

CHECKING = "clients are checking whether they can take part"
Asks = Mapping[CombinerName, tuple[ClientId, ...]]


@dataclass(frozen=True, slots=True)
class Preflight:
    """``asked`` have not answered yet. While it is ``together``, who is fit waits for the rest of them."""

    fit: frozenset[ClientId] = frozenset()
    unfit: Mapping[ClientId, str] = field(default_factory=dict)
    asked: frozenset[ClientId] = frozenset()
    together: bool = True

    def view(self, network: Network) -> Network:
        """The network with the clients that may take part."""
        shown = frozenset[ClientId]() if self.together and self.asked else self.fit
        return {name: replace(station, clients=station.clients & shown) for name, station in network.items()}

    def to_ask(self, network: Network) -> tuple[Preflight, Asks]:
        """Ask whoever is here and neither known nor asked; forget what was wrong with those that left."""
        here = attached(network)
        unfit = {client: reason for client, reason in self.unfit.items() if client in here}
        new = here.keys() - self.fit - unfit.keys() - self.asked
        asks: dict[CombinerName, tuple[ClientId, ...]] = {}
        for client in sorted(new):
            asks[here[client]] = (*asks.get(here[client], ()), client)
        return replace(self, unfit=unfit, asked=self.asked | new), asks

    def passed(self, client: ClientId) -> Preflight:
        unfit = {other: reason for other, reason in self.unfit.items() if other != client}
        return replace(self, fit=self.fit | {client}, unfit=unfit, asked=self.asked - {client})._settled()

    def failed(self, client: ClientId, reason: str) -> Preflight:
        if client in self.fit:
            return self
        return replace(self, unfit={**self.unfit, client: reason}, asked=self.asked - {client})._settled()

    def unanswered(self, clients: frozenset[ClientId]) -> Preflight:
        """They may be asked again."""
        return replace(self, asked=self.asked - clients)._settled()

    def hurried(self) -> Preflight:
        """Nobody waits for the rest any more."""
        return replace(self, together=False)

    @property
    def reason(self) -> str:
        """In words, who is checking or can't take part; '' if nobody."""
        said = []
        if self.asked and (self.together or not self.fit):
            said.append(CHECKING)
        if self.unfit:
            client, why = min(self.unfit.items())
            rest = f", and {len(self.unfit) - 1} more" if len(self.unfit) > 1 else ""
            said.append(f"{client} can't take part: {why}{rest}")
        return "; ".join(said)

    def _settled(self) -> Preflight:
        """The first clients have all answered: who comes later joins when it is ready."""
        return replace(self, together=self.together and bool(self.asked))
