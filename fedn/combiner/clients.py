"""The clients attached to a combiner: one bounded outbox each, and the roster that the reducer watches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fedn.domain.errors import Busy
from fedn.domain.ids import ClientId, SessionId
from fedn.domain.messages import ClientInfo, CombinerMessage
from fedn.domain.update import UpdateHeader

MAX_PARKED_EACH = 8
"""Offers of one client that may wait for the reducer."""
OUTBOX = 256
"""Messages that may wait for one client before it counts as gone."""


class Attachment:
    """One Attach stream. ``outbox`` ends with None when the stream is to end."""

    def __init__(self, info: ClientInfo) -> None:
        self.info = info
        self.outbox: asyncio.Queue[CombinerMessage | None] = asyncio.Queue(OUTBOX)

    def send(self, message: CombinerMessage) -> None:
        """Queue a message; a client that does not read its stream is cut off instead of waited for."""
        try:
            self.outbox.put_nowait(message)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """End the stream once what waits has gone out."""
        while self.outbox.full():
            self.outbox.get_nowait()
        self.outbox.put_nowait(None)


class Clients:
    """Who is attached. The newest stream of a client wins."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._attached: dict[ClientId, Attachment] = {}

    def add(self, info: ClientInfo) -> Attachment:
        """Attach a client; its older stream, if any, is ended. Raises Busy at the limit."""
        older = self._attached.get(info.client)
        if older is None and len(self._attached) >= self._limit:
            raise Busy(f"this combiner has its {self._limit} clients (max_clients)")
        if older:
            older.end()
        self._attached[info.client] = Attachment(info)
        return self._attached[info.client]

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

    def end_all(self) -> None:
        for attachment in self._attached.values():
            attachment.end()

    def __contains__(self, client: object) -> bool:
        return client in self._attached

    def __iter__(self) -> Iterator[ClientInfo]:
        return (attachment.info for attachment in self._attached.values())

    def __len__(self) -> int:
        return len(self._attached)


class Parked:
    """Offers that the reducer has to decide on: their clients are here, but not listed here."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._offers: dict[tuple[ClientId, SessionId, int], UpdateHeader] = {}

    def add(self, header: UpdateHeader) -> bool:
        """Note an offer; False at the limit, where the client offers again on its next attach."""
        key = (header.client, header.session, header.round)
        own = sum(client == header.client for client, *_ in self._offers)
        if key not in self._offers and (len(self._offers) >= self._limit or own >= MAX_PARKED_EACH):
            return False
        self._offers[key] = header
        return True

    def drop(self, client: ClientId, session: SessionId, round_: int) -> None:
        """It is decided."""
        self._offers.pop((client, session, round_), None)

    def leave(self, client: ClientId) -> None:
        """The client is gone, and its offers with it."""
        self._offers = {key: header for key, header in self._offers.items() if key[0] != client}

    def __iter__(self) -> Iterator[UpdateHeader]:
        return iter(list(self._offers.values()))
