"""Who a client may be, and for how long: its certificate says who, the reducer who is revoked.

Where the network has no identity everybody may be anybody. `entrance.py` and `driver.py` ask here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from fedn.domain.errors import Forbidden, Revoked
from fedn.domain.identity import Principal, Role
from fedn.domain.ids import ClientId
from fedn.ports import Buffer

MAX_REVOKED = 1_000_000
ANYBODY = Principal(Role.ANYBODY, "")


def check_is(who: Principal, client: ClientId) -> None:
    """Raise Forbidden if whoever calls is not this client."""
    if who.role is not Role.ANYBODY and (who.role is not Role.CLIENT or who.name != client):
        raise Forbidden(f"the certificate is of {who}, which may not act for client {client}")


class Members:
    """Who is revoked, as the reducer has said. Nobody comes back: a revoked name can't join again."""

    def __init__(self) -> None:
        self._revoked: dict[str, None] = {}

    def revoke(self, revoked: Iterable[str]) -> frozenset[str]:
        """These are revoked, too, as role:member; returns who was not before. Of too many the oldest go."""
        fresh = frozenset(revoked) - self._revoked.keys()
        self._revoked |= dict.fromkeys(fresh)
        while len(self._revoked) > MAX_REVOKED:
            del self._revoked[next(iter(self._revoked))]
        return fresh

    def check(self, who: Principal) -> None:
        """Raises Revoked; cheap enough for every chunk."""
        if self._revoked and str(who) in self._revoked:
            raise revoked(who)

    async def while_admitted(self, who: Principal, chunks: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        """The chunks that ``who`` sends; raises Revoked at the next one when it is."""
        self.check(who)
        async for chunk in chunks:
            self.check(who)
            yield chunk


def revoked(who: Principal) -> Revoked:
    """What a member is told that was thrown out."""
    return Revoked(f"{who} was revoked; ask whoever runs this network, and join anew with another token")
