"""Pieces that the transcripts of the reducer's rounds and sessions are made of."""

from __future__ import annotations

from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId, digest_of
from fedn.domain.messages import RoundHeld
from fedn.domain.part import PartHeader
from fedn.domain.round import Head, MergedPart
from fedn.domain.update import Absence, Contributor, UpdateHeader
from fedn.reducer.legs import PartKey
from fedn.reducer.network import Station

S = SessionId("s")
A, B, C = (CombinerName(name) for name in "ABC")
ANN, BOB, CAT, DAN = (ClientId(name) for name in ("ann", "bob", "cat", "dan"))
BOOM, LATE, FAILED = "a value is not finite", "no update by the deadline", "training failed: boom"


def head(round_: int) -> Head:
    return Head(round_, digest_of(b"record %d" % round_), digest_of(b"model %d" % round_), 100)


def key(combiner: str, part: int = 0, incarnation: int = 1) -> PartKey:
    return PartKey(CombinerName(combiner), Incarnation(f"{combiner}{incarnation}"), part)


def at(
    combiner: str, *clients: ClientId, incarnation: int = 1, held: tuple[RoundHeld, ...] = ()
) -> tuple[CombinerName, Station]:
    """A combiner that is there, with these clients; `dict` makes a network of some."""
    return CombinerName(combiner), Station(Incarnation(f"{combiner}{incarnation}"), frozenset(clients), held)


def held(part: int, *clients: ClientId, round_: int = 1, session: str = S) -> RoundHeld:
    return RoundHeld(SessionId(session), round_, part, clients)


def offer(client: ClientId, round_: int = 1, base: Digest | None = None) -> UpdateHeader:
    base = base or head(round_ - 1).model
    return UpdateHeader(S, round_, client, base, 10, 100, digest_of(client.encode()), digest_of(b"layout"))


def sealed(
    of: PartKey, *clients: ClientId, refused: str = "", lost: str = "", failed: str = "", round_: int = 1
) -> PartHeader:
    return PartHeader(
        S, round_, of.combiner, of.incarnation, of.part, digest_of(repr(of).encode()), 8,
        tuple(Contributor(c, 10, digest_of(c.encode())) for c in clients),
        tuple(Absence(ClientId(c), BOOM) for c in refused.split()),
        tuple(Absence(ClientId(c), LATE) for c in lost.split()),
        tuple(Absence(ClientId(c), FAILED) for c in failed.split()),
    )  # fmt: skip


def merged(of: PartKey, *clients: ClientId) -> MergedPart:
    part = sealed(of, *clients)
    return MergedPart(*of, part.digest, part.contributors)
