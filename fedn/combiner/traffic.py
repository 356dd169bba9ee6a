"""Bytes of models, packages and updates from and to clients, as they are told to whoever watches.

Headers and small messages are not counted. A client's counts begin anew whenever it attaches.
"""

from __future__ import annotations

from fedn.domain.ids import ClientId
from fedn.domain.messages import Traffic, TrafficChanged

MOST_TOLD = 1000
"""Clients of whom is told at once; the others follow a second later."""


class Counts:
    """What one client has sent, and was sent."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = self.sent = 0


class Meter:
    """Counts by client while it is attached, and in all for as long as this process runs."""

    def __init__(self) -> None:
        self._all = Counts()
        self._each: dict[ClientId, Counts] = {}
        self._changed: dict[ClientId, None] = {}

    def begin(self, client: ClientId) -> None:
        self._each[client] = Counts()

    def forget(self, client: ClientId) -> None:
        self._each.pop(client, None)
        self._changed.pop(client, None)

    def received(self, client: str, size: int) -> None:
        """From that client, if one of that name is here; in all it counts anyway."""
        self._all.received += size
        if size and (counts := self._each.get(ClientId(client))):
            counts.received += size
            self._changed[ClientId(client)] = None

    def sent(self, client: str, size: int) -> None:
        """To that client, likewise."""
        self._all.sent += size
        if size and (counts := self._each.get(ClientId(client))):
            counts.sent += size
            self._changed[ClientId(client)] = None

    def changes(self) -> TrafficChanged | None:
        """What has changed since the last time, of some of the clients; None for nothing."""
        if not self._changed:
            return None
        some = list(self._changed)[:MOST_TOLD]
        for client in some:
            del self._changed[client]
        return self._told(some)

    def everything(self) -> TrafficChanged:
        """For one who has just begun to watch: all who have sent or got anything."""
        return self._told([client for client, c in self._each.items() if c.received or c.sent])

    def _told(self, clients: list[ClientId]) -> TrafficChanged:
        each = ((client, self._each[client]) for client in clients)
        told = tuple(Traffic(client, counts.received, counts.sent) for client, counts in each)
        return TrafficChanged(self._all.received, self._all.sent, told)
