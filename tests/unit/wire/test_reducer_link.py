"""Whatever answers at the reducer's address, its callers live on and ask again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from identities import member

from fedn.domain.errors import Busy, InvalidConfig, LinkBroken
from fedn.domain.identity import Role
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Incarnation
from fedn.domain.messages import Assignment, Registration
from fedn.identity.authority import Authority
from fedn.identity.credentials import Wallet
from fedn.wire.reducer_link import HttpReducer

ME = Registration(PROTOCOL_VERSION, CombinerName("c"), "127.0.0.1:1", Incarnation("i"))


def answer(status: int, body: bytes = b"", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def told(value: object, status: int = 200) -> bytes:
    return answer(status, json.dumps(value).encode())


@pytest.fixture
async def reducer() -> AsyncIterator[Callable[[bytes], HttpReducer]]:
    """Makes a link to something that answers every request with these bytes."""
    answers = [b""]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(size.split(b":")[1]))
        writer.write(answers[0])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = HttpReducer(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    def answering(text: bytes) -> HttpReducer:
        answers[0] = text
        return link

    yield answering
    await link.close()
    server.close()


async def assign(link: HttpReducer) -> Assignment:
    return await link.assign(ClientId("ann"), "", "")


async def test_what_a_reducer_answers_is_understood(reducer: Callable[[bytes], HttpReducer]) -> None:
    link = reducer(told({"combiner": "c", "address": "127.0.0.1:1", "protocol": PROTOCOL_VERSION}))
    assert await assign(link) == Assignment(CombinerName("c"), "127.0.0.1:1")
    assert await link.register(ME) == ()


async def test_a_combiner_learns_who_is_revoked(reducer: Callable[[bytes], HttpReducer]) -> None:
    link = reducer(told({"protocol": PROTOCOL_VERSION, "revoked": ["client:ann", "client:bob"]}))
    assert await link.register(ME) == ("client:ann", "client:bob")


async def test_an_error_comes_back_by_its_code(reducer: Callable[[bytes], HttpReducer]) -> None:
    with pytest.raises(Busy, match="full"):
        await assign(reducer(told({"code": "busy", "error": "full"}, 429)))


@pytest.mark.parametrize(
    "text",
    [
        answer(200, b"<h1>Back soon</h1>", "text/html"),
        answer(200, b"\xff\xfe\xfd"),
        answer(200),
        told({"hello": "world"}),
        told(["combiner", "address"]),
        told({"protocol": PROTOCOL_VERSION, "revoked": 7}),
        told(None),
        answer(204),
        answer(304),
        answer(502, b"<h1>Bad gateway</h1>", "text/html"),
        told({"code": ["odd"], "error": 1}, 404),
    ],
)
async def test_a_stranger_at_its_address_is_a_broken_link(
    text: bytes, reducer: Callable[[bytes], HttpReducer]
) -> None:
    link = reducer(text)
    for asked in (assign(link), link.register(ME)):
        with pytest.raises(LinkBroken, match=r"http://127.0.0.1:\d+ answered \d+, not as a reducer would"):
            await asked


async def test_nobody_there_is_a_broken_link() -> None:
    link = HttpReducer("http://127.0.0.1:1")
    with pytest.raises(LinkBroken, match=r"no reducer at http://127.0.0.1:1 \(ConnectError\)"):
        await assign(link)
    await link.close()


def test_a_certificate_is_not_shown_over_plain_http() -> None:
    wallet = Wallet(member(Authority.create("n", 1e9), Role.CLIENT, "ann"))
    with pytest.raises(InvalidConfig, match=r"reducer: 'http://fl.example.org' is plain HTTP"):
        HttpReducer("http://fl.example.org", wallet)
