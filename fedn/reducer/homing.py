"""Where a session runs whose aggregator's parts don't merge: at one combiner, with the clients there.

Pure. `driver.py` shows the session's machine no clients but those; within a round the machine sees to it that
there is only one part (`machine.py`, `_begin_again`).
"""

from __future__ import annotations

from dataclasses import replace

from fedn.domain.ids import CombinerName, SessionId
from fedn.reducer.network import Network, attached


def home_of(network: Network, session: SessionId, home: str) -> str:
    """The combiner to run at: ``home`` while anybody is there, else where most clients are; '' for none.

    After a restart of the reducer: one that still holds something of the session, if clients are there.
    """
    if home in network and (network[CombinerName(home)].clients or not attached(network)):
        return home

    def worth(name: CombinerName) -> tuple[bool, int]:
        station = network[name]
        holds = any(held.session == session for held in station.held)
        return holds and not home and bool(station.clients), len(station.clients)

    return max(sorted(network), key=worth, default="")


def homed(network: Network, home: str) -> Network:
    """What the session may see of the network: other combiners, for what they still hold, without clients."""
    return {
        name: station if name == home else replace(station, clients=frozenset())
        for name, station in network.items()
    }


def left_out(network: Network, home: str, aggregator: str) -> str:
    """In words, who can't take part for being elsewhere; '' if nobody."""
    clients = sum(len(station.clients) for name, station in network.items() if name != home)
    if not clients:
        return ""
    takes = f"only clients of {home} take part, not {clients} elsewhere"
    return f"the parts of {aggregator!r} don't merge: {takes}"
