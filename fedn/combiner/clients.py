"""The clients attached to a combiner: one bounded outbox each, and the roster that the reducer watches.

`entrance.py` lets them in and out; `Parked` holds what they offer until the reducer has decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fedn.combiner.limits import Limits
from fedn.domain.errors import Busy, FednError
from fedn.domain.gauges import Gauges, Level
from fedn.domain.ids import ClientId, SessionId
from fedn.domain.messages import ClientInfo, CombinerMessage
from fedn.domain.update import UpdateHeader


class Attachment:
    """One Attach stream. ``outbox`` ends with an error, or with None, when the stream is to end.

    ``heard`` is when this client last said something, or was asked to.
    """

    def __init__(self, info: ClientInfo, now: float, level: Level) -> None:
        self.info = info
        self.heard = now
        self._level = level
        self.outbox: asyncio.Queue[CombinerMessage | FednError | None] = asyncio.Queue(level.limit)

    def send(self, message: CombinerMessage) -> None:
        """Queue a message; a client that does not read its stream is cut off instead of waited for."""
        try:
            self.outbox.put_nowait(message)
            self._level.note(self.outbox.qsize())
        except asyncio.QueueFull:
            self.end()

    def cut(self, error: FednError) -> None:
        """End the stream at once, and let nothing out that still waits."""
        while not self.outbox.empty():
            self.outbox.get_nowait()
        self.outbox.put_nowait(error)

    def end(self, error: FednError | None = None) -> None:
        """End the stream once what waits has gone out; with an error, if it says why."""
        while self.outbox.full():
            self.outbox.get_nowait()
        self.outbox.put_nowait(error)


class Clients:
    """Who is attached. The newest stream of a client wins."""

    def __init__(self, limits: Limits, gauges: Gauges) -> None:
        self._limit = limits.max_clients
        self._attached: dict[ClientId, Attachment] = {}
        self._level = gauges.add("clients", limits.max_clients, self.__len__)
        self._outboxes = gauges.add("outbox", limits.outbox, self._fullest)

    def add(self, info: ClientInfo, now: float) -> Attachment:
        """Attach a client; its older stream, if any, is ended. Raises Busy at the limit."""
        older = self._attached.get(info.client)
        if older is None and len(self._attached) >= self._limit:
            raise Busy(f"this combiner has its {self._limit} clients (max_clients)")
        if older:
            older.end()
        self._attached[info.client] = attachment = Attachment(info, now, self._outboxes)
        self._level.note(len(self._attached))
        return attachment

    def get(self, client: ClientId) -> Attachment | None:
        return self._attached.get(client)

    def remove(self, attachment: Attachment) -> bool:
        """Detach; False if a newer stream of the same client has taken its place."""
        if self._attached.get(attachment.info.client) is not attachment:
            return False
        del self._attached[attachment.info.client]
        return True

    def send(self, client: ClientId, message: CombinerMessage) -> None:
        """Send to a client if it is here; whoever is not asks again when it is."""
        if attachment := self._attached.get(client):
            attachment.send(message)

    def end_all(self, error: FednError | None = None) -> None:
        for attachment in self._attached.values():
            attachment.end(error)

    def __contains__(self, client: object) -> bool:
        return client in self._attached

    def __iter__(self) -> Iterator[ClientInfo]:
        return (attachment.info for attachment in self._attached.values())

    def __len__(self) -> int:
        return len(self._attached)

    def _fullest(self) -> int:
        return max((attachment.outbox.qsize() for attachment in self._attached.values()), default=0)


class Parked:
    """Offers that the reducer has to decide on: their clients are here, but not listed here."""

    def __init__(self, limits: Limits, gauges: Gauges) -> None:
        self._limit, self._each = limits.max_parked, limits.parked_each
        self._offers: dict[ClientId, dict[tuple[SessionId, int], UpdateHeader]] = {}
        self._count = 0
        self._level = gauges.add("parked", limits.max_parked, lambda: self._count)

    def add(self, header: UpdateHeader) -> bool:
        """Note an offer; False where this client has too many, and offers again on its next attach.

        Raises:
            Busy: too many are parked altogether.
        """
        own = self._offers.get(header.client, {})
        key = (header.session, header.round)
        if key not in own:
            if len(own) >= self._each:
                return False
            if self._count >= self._limit:
                raise Busy(f"{self._limit} offers wait for the reducer (max_parked)")
            self._count += 1
            self._level.note(self._count)
        self._offers[header.client] = {**own, key: header}
        return True

    def drop(self, client: ClientId, session: SessionId, round_: int) -> bool:
        """It is decided; returns whether it was here."""
        own = self._offers.get(client, {})
        here = own.pop((session, round_), None) is not None
        self._count -= here
        if not own:
            self._offers.pop(client, None)
        return here

    def leave(self, client: ClientId) -> None:
        """The client is gone, and its offers with it."""
        self._count -= len(self._offers.pop(client, {}))

    def __iter__(self) -> Iterator[UpdateHeader]:
        return iter([header for own in self._offers.values() for header in own.values()])
