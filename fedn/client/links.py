"""The way out: a client's calls on its combiner, over gRPC. Outbound only."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fedn.domain import messages as m
from fedn.ports import Buffer
from fedn.wire import calls
from fedn.wire.calls import COMBINER, reader, writer
from fedn.wire.channel import open_channel
from fedn.wire.chunks import unframe
from fedn.wire.pb import fedn_pb2 as pb

_READ = reader(pb.CombinerMessage, envelope=True)
_WRITE = writer(pb.ClientMessage)


class GrpcCombiner:
    """Implements ports.ClientLink. Make it inside the event loop that uses it."""

    def __init__(self, address: str) -> None:
        self._channel = open_channel(address)

    def attach(self, messages: AsyncIterator[m.ClientMessage]) -> AsyncIterator[m.CombinerMessage]:
        return calls.duplex(self._channel, f"/{COMBINER}/Attach", messages, _WRITE, _READ)

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
        return calls.stream(self._channel, f"/{COMBINER}/Fetch", request, unframe)

    async def submit(self, grant: str, offset: int, chunks: AsyncIterator[Buffer]) -> None:
        metadata = (("fedn-grant", grant), ("fedn-offset", str(offset)))
        await calls.upload(self._channel, f"/{COMBINER}/Submit", chunks, metadata)

    async def close(self) -> None:
        await self._channel.close()
