"""The way out: the client's calls on its combiner, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fedn.domain import messages as m
from fedn.domain.errors import LinkBroken, Unauthenticated
from fedn.domain.identity import Role
from fedn.domain.ids import CombinerName
from fedn.identity.certificates import server_name
from fedn.identity.credentials import Wallet
from fedn.ports import Buffer
from fedn.wire import calls
from fedn.wire.calls import COMBINER, reader, writer
from fedn.wire.channel import open_channel
from fedn.wire.chunks import unframe
from fedn.wire.pb import fedn_pb2 as pb

_READ = reader(pb.CombinerMessage, envelope=True)
_WRITE = writer(pb.ClientMessage)


class GrpcCombiner:
    """Implements ports.ClientLink. Make it inside the event loop that uses it.

    With a ``wallet`` it shows what is in there now, and speaks with the combiner of that name alone.
    """

    def __init__(self, address: str, combiner: CombinerName, wallet: Wallet | None = None) -> None:
        if wallet is None:
            self._channel = open_channel(address)
        else:
            self._channel = open_channel(address, wallet.current, server_name(Role.COMBINER, combiner))

    def attach(self, messages: AsyncIterator[m.ClientMessage]) -> AsyncIterator[m.CombinerMessage]:
        return calls.duplex(self._channel, f"/{COMBINER}/Attach", messages, _WRITE, _READ)

    async def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
        with _to_be_resumed():
            async for chunk in calls.stream(self._channel, f"/{COMBINER}/Fetch", request, unframe):
                yield chunk

    async def submit(self, grant: str, offset: int, chunks: AsyncIterator[Buffer]) -> None:
        metadata = (("fedn-grant", grant), ("fedn-offset", str(offset)))
        with _to_be_resumed():
            await calls.upload(self._channel, f"/{COMBINER}/Submit", chunks, metadata)

    async def close(self) -> None:
        await self._channel.close()


@contextmanager
def _to_be_resumed() -> Iterator[None]:
    """A certificate that ends while bytes travel breaks the link: the next one goes on where they stopped."""
    try:
        yield
    except Unauthenticated as error:
        raise LinkBroken(error.message) from None
