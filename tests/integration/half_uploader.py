"""A client that uploads half of its update, says so on stdout, and hangs until it is killed."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator

import httpx

from fedn.client.links import GrpcCombiner
from fedn.domain import messages as m
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Digest
from fedn.domain.model import layout_of
from fedn.domain.update import UpdateHeader

NAME = ClientId("half-00000000")


async def main(address: str, name: str) -> None:
    outbox: asyncio.Queue[m.ClientMessage] = asyncio.Queue()

    async def messages() -> AsyncIterator[m.ClientMessage]:
        while True:
            yield await outbox.get()

    link = GrpcCombiner(address, CombinerName(name))
    outbox.put_nowait(m.Hello(PROTOCOL_VERSION, NAME, "half"))
    file = b""
    async for message in link.attach(messages()):
        if isinstance(message, m.Task) and not file:
            file = b"".join([bytes(c) async for c in link.fetch_model(m.FetchRequest(message.model, 0))])
            digest, layout = Digest(hashlib.sha256(file).hexdigest()), layout_of(file).digest
            offer = UpdateHeader(
                message.session, message.round, NAME, message.model, 7, len(file), digest, layout
            )
            outbox.put_nowait(m.UpdateOffered(offer))
        if isinstance(message, m.Granted):
            await link.submit(message.grant, 0, half(file))


async def half(file: bytes) -> AsyncIterator[bytes]:
    yield file[: len(file) // 2]
    print("half", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    url = sys.argv[1]
    combiner = httpx.get(f"{url}/api/v1/combiners", trust_env=False).json()["combiners"][0]
    asyncio.run(main(combiner["address"], combiner["combiner"]))
