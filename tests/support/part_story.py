"""A part of a round that a transcript is told to: every call is an event and returns the commands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fedn.combiner import events as ev
from fedn.combiner import machine as mc
from fedn.combiner.ledger import Counts, Standing
from fedn.domain.errors import RefusalCode, Refused
from fedn.domain.ids import ClientId, Digest, Incarnation, SessionId, digest_of
from fedn.domain.round import RoundSpec
from fedn.domain.update import UpdateHeader

ANN, BOB, CAT, ZOE = (ClientId(name) for name in ("ann", "bob", "cat", "zoe"))
BASE, LAYOUT = digest_of(b"base"), digest_of(b"layout")
SUM = digest_of(b"sum")
BAD = Refused(RefusalCode.NOT_FINITE, "tensor 'w' holds NaN or infinity")
CLOSED = "the round is closed"


def header(client: ClientId, content: bytes = b"", **changes: Any) -> UpdateHeader:
    digest = digest_of(client.encode() + content)
    made = UpdateHeader(SessionId("s"), 3, client, BASE, 10, 100, digest, LAYOUT)
    return replace(made, **changes)


def digest(client: ClientId) -> Digest:
    return header(client).digest


class Story:
    """A part that remembers its state; every call is one event and returns its commands."""

    def __init__(self, *clients: ClientId, away: frozenset[ClientId] = frozenset()) -> None:
        spec = RoundSpec(
            1, SessionId("s"), 3, 0, BASE, 1000, LAYOUT, clients, "{}", 0, 60.0, "mean", Incarnation("i")
        )
        here = frozenset(clients) - away
        self.state, self.opened = mc.open_part(spec, here, now=0.0, grace=3.0, max_update_bytes=2**20)

    def __call__(self, event: ev.Event) -> tuple[ev.Command, ...]:
        self.state, commands = mc.step(self.state, event)
        return commands

    def fold(self, client: ClientId) -> None:
        """The whole way of one update."""
        self(ev.OfferMade(header(client)))
        self(ev.UpdateVerified(client, digest(client)))
        self(ev.UpdateFolded(client, digest(client)))

    @property
    def counts(self) -> Counts:
        return self.state.ledger.counts

    def standing(self, client: ClientId) -> Standing:
        return self.state.ledger.entries[client].standing
