"""What the reducer says from what is stored: how an update of a finished round ended."""

from __future__ import annotations

from fedn.domain import messages as m
from fedn.domain.errors import NotFound
from fedn.domain.ids import Incarnation, SessionId
from fedn.domain.update import UpdateHeader
from fedn.ports import StateStore
from fedn.reducer.books import logged, patiently
from fedn.reducer.peers import Peer


async def settle_from_record(store: StateStore, term: int, peer: Peer | None, header: UpdateHeader) -> None:
    """Tell a client whether its update of a round that is over is in the record."""
    if peer is None:
        return

    def counted() -> tuple[bool, str]:
        try:
            record = store.record(header.session, header.round).record
        except NotFound:
            return False, "the session is over or unknown"
        names = {(c.client, c.digest) for c in record.contributors}
        if (header.client, header.digest) in names:
            return True, ""
        return False, f"stale round: round {header.round} was committed without this update"

    outcome = await patiently(logged("settling an update", header.session), counted)
    told = m.SettleUpdate(term, header.client, header.session, header.round, *outcome)
    await peer.call(peer.incarnation, lambda link: link.settle(told))


async def ack_from_record(
    store: StateStore, term: int, peer: Peer | None, incarnation: Incarnation, session: SessionId, round_: int
) -> None:
    """Tell a combiner which of the parts it still holds of a round that is over counted."""
    if peer is None:
        return

    def counted() -> tuple[int, ...]:
        try:
            parts = store.record(session, round_).record.parts
        except NotFound:
            return ()
        return tuple(p.part for p in parts if (p.combiner, p.incarnation) == (peer.name, incarnation))

    ack = m.AckRound(term, session, round_, await patiently(logged("an ack", session), counted))
    await peer.call(incarnation, lambda link: link.ack(ack))
