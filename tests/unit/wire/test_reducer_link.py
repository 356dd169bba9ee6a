"""Whatever answers at the reducer's address, its callers live on and ask again."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from fedn.domain.errors import Busy, LinkBroken
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Incarnation
from fedn.domain.messages import Assignment, Registration
from fedn.wire.reducer_link import HttpReducer

ME = Registration(PROTOCOL_VERSION, CombinerName("c"), "127.0.0.1:1", Incarnation("i"))
Answer = Callable[[], httpx.Response]


def reducer(answer: Answer) -> HttpReducer:
    link = HttpReducer("http://reducer:8090")
    transport = httpx.MockTransport(lambda _: answer())
    link._http = httpx.AsyncClient(base_url="http://reducer:8090/api/v1", transport=transport)
    return link


async def assign(link: HttpReducer) -> Assignment:
    return await link.assign(ClientId("ann"), "", "")


async def test_what_a_reducer_answers_is_understood() -> None:
    told = {"combiner": "c", "address": "127.0.0.1:1", "protocol": PROTOCOL_VERSION}
    link = reducer(lambda: httpx.Response(200, json=told))
    assert await assign(link) == Assignment(CombinerName("c"), "127.0.0.1:1")
    await link.register(ME)
    await link.close()


async def test_an_error_comes_back_by_its_code() -> None:
    link = reducer(lambda: httpx.Response(429, json={"code": "busy", "error": "full"}))
    with pytest.raises(Busy, match="full"):
        await assign(link)
    await link.close()


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx.Response(200, html="<h1>Back soon</h1>"),
        lambda: httpx.Response(200, content=b"\xff\xfe\xfd"),
        lambda: httpx.Response(200),
        lambda: httpx.Response(200, json={"hello": "world"}),
        lambda: httpx.Response(200, json=["combiner", "address"]),
        lambda: httpx.Response(200, json=None),
        lambda: httpx.Response(204),
        lambda: httpx.Response(304),
        lambda: httpx.Response(502, html="<h1>Bad gateway</h1>"),
        lambda: httpx.Response(404, json={"code": ["odd"], "error": 1}),
    ],
)
async def test_a_stranger_at_its_address_is_a_broken_link(answer: Answer) -> None:
    link = reducer(answer)
    for asked in (assign(link), link.register(ME)):
        with pytest.raises(LinkBroken, match=r"http://reducer:8090 answered \d+, not as a reducer would"):
            await asked
    await link.close()
