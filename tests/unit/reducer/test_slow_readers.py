"""Those who read slowly, or not at all: what they hold is bounded, and given back whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import ssl
import struct
import threading

import pytest
from web_site import PATIENCE, Site, answer_of, head

from fedn.domain.errors import NotFound
from fedn.domain.ids import PROTOCOL_VERSION, CombinerName, Incarnation
from fedn.domain.messages import FetchRequest, Registration
from fedn.identity.credentials import Wallet
from fedn.reducer import gate, web_connection
from fedn.reducer import web as web_module
from fedn.wire import reducer_link
from fedn.wire.reducer_link import HttpReducer


@pytest.fixture
def helper(beside):
    return beside("small_network")


@pytest.fixture
def model(net, small) -> str:
    """The digest of a model that fits into no buffer."""
    return net.service.seed_model([small.model_file(size=1_000_000)], "large", 0).digest


@pytest.fixture
def closed(monkeypatch):
    """One item for each connection that the server has closed."""
    items: queue.Queue[None] = queue.Queue()
    close = web_module.Server.closed

    def noted(server, connection):
        close(server, connection)
        items.put(None)

    monkeypatch.setattr(web_module.Server, "closed", noted)
    return items


def asked(site: Site, credentials, path: str, method: str = "GET") -> ssl.SSLSocket:
    sock = site.tls(credentials=credentials, narrow=True)
    sock.sendall(head(f"{method} {path} HTTP/1.1", "Connection: close"))
    return sock


def told(site: Site, credentials, path: str, method: str = "GET") -> tuple[int, bytes]:
    with asked(site, credentials, path, method) as sock:
        return answer_of(sock)


def stalled(site: Site, credentials, path: str) -> ssl.SSLSocket:
    """Somebody who has read the first line of an answer, and reads no further."""
    sock = asked(site, credentials, path)
    assert sock.recv(12) == b"HTTP/1.1 200"
    return sock


def test_a_member_that_reads_slowly_holds_only_so_many_threads(net, start, model, helper):
    site, path = start(threads=12), f"/api/v1/models/{model}"
    c1, c2 = net.join("combiner", "c1"), net.join("combiner", "c2")
    with contextlib.ExitStack() as stack, site.client(c1) as http, site.client(c2) as other:
        held = [stack.enter_context(stalled(site, c1, path)) for _ in range(gate.MAX_EACH_MEMBER)]
        answer = http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (429, "busy")
        assert "combiner:c1" in answer.json()["error"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert other.get(path).status_code == 200, "nobody pays for another"
        while held[0].recv(65536):
            pass
        assert http.get(path).status_code == 200
        assert http.get(path).status_code == 200, "and that one has ended, too"


def test_a_persons_streams_count_as_well(net, start, helper, monkeypatch):
    monkeypatch.setattr(gate, "MAX_EACH", 2)
    site = start(threads=6)
    with contextlib.ExitStack() as stack:
        vera, adam = (stack.enter_context(site.client()) for _ in range(2))
        vera.headers.update(helper.bearer(net.token("viewer", name="vera")))
        adam.headers.update(helper.bearer(net.admin))
        for _ in range(2):
            stack.enter_context(vera.stream("GET", "/api/v1/events/stream"))
        assert vera.get("/api/v1/whoami").status_code == 429
        assert adam.get("/api/v1/whoami").status_code == 200
        net.service.hub.close()  # which ends the streams


# --- given back ------------------------------------------------------------------------------------


def reset(sock: ssl.SSLSocket) -> None:
    """Leave without a word, so that writing to us fails at once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_whole(site, me, path, net, patch):
    status, body = told(site, me, path)
    assert (status, len(body) > 4_000_000) == (200, True)


def only_its_head(site, me, path, net, patch):
    assert told(site, me, path, "HEAD") == (200, b"")


def unknown(site, me, path, net, patch):
    assert told(site, me, path[:-64] + "0" * 64)[0] == 404


def not_allowed(site, me, path, net, patch):
    assert told(site, me, "/api/v1/sessions")[0] == 403


def a_bug(site, me, path, net, patch):
    def size(_):
        raise RuntimeError("a bug")

    patch.setattr(net.service.models, "size", size)
    assert told(site, me, path)[0] == 500


def broken_off(site, me, path, net, patch):
    def read(*_):
        yield b"x"
        raise NotFound("it went away")

    patch.setattr(net.service.models, "read", read)
    assert told(site, me, path) == (200, b"x")


def left_in_the_middle(site, me, path, net, patch):
    stalled(site, me, path).close()


def left_before_it_began(site, me, path, net, patch):
    gone_before(site, me, path, "GET", net.service.models, "size", patch)


def gone_before(site, me, path, method, owner, name, patch) -> None:
    """Leave while the handler calls ``owner.name``, which waits for that."""
    begun, left, real = threading.Event(), threading.Event(), getattr(owner, name)

    def waits(*arguments):
        begun.set()
        assert left.wait(PATIENCE)
        return real(*arguments)

    patch.setattr(owner, name, waits)
    sock = asked(site, me, path, method)
    assert begun.wait(PATIENCE)
    reset(sock)
    left.set()


@pytest.mark.parametrize(
    "how",
    [read_whole, only_its_head, unknown, not_allowed, a_bug, broken_off, left_in_the_middle,
     left_before_it_began],
    ids=lambda how: how.__name__,
)  # fmt: skip
def test_a_place_is_given_back_once(net, start, model, monkeypatch, closed, how):
    monkeypatch.setattr(gate, "MAX_EACH_MEMBER", 1)
    site, path, me = start(threads=4), f"/api/v1/models/{model}", net.join("combiner", "c1")
    for _ in range(2):
        with monkeypatch.context() as patch:
            how(site, me, path, net, patch)
            closed.get(timeout=PATIENCE)
    with stalled(site, me, path):
        assert told(site, me, path)[0] == 429, "one place, and that is taken"


def test_a_stream_that_nobody_takes_is_closed(net, start, helper, monkeypatch, closed):
    site = start(plain=True)
    site.tls = lambda credentials, narrow: site.connect(narrow)
    gone_before(site, None, "/api/v1/events/stream", "HEAD", net.service.hub, "subscribe", monkeypatch)
    closed.get(timeout=PATIENCE)
    assert net.service.hub.streams_open == 0


# --- who reads nothing -----------------------------------------------------------------------------


FLOOD = 6


def flood(stack: contextlib.ExitStack, site: Site, path: str) -> None:
    """Several who ask again and again, and read no answer."""
    site.narrow()
    for _ in range(FLOOD):
        sock = stack.enter_context(site.secured(site.connect(narrow=True)))
        sock.sendall(head(f"GET {path} HTTP/1.1") * 60)


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/network", "/"])
def test_a_refusal_waits_for_nobody(net, start, monkeypatch, closed, path):
    monkeypatch.setattr(web_connection, "ANSWER_SECONDS", 3600.0)
    site = start()
    with contextlib.ExitStack() as stack:
        flood(stack, site, path)
        for _ in range(FLOOD):
            closed.get(timeout=PATIENCE)
        assert site.alive()


def test_strangers_at_one_address_hold_not_all_threads(net, start, helper, monkeypatch, closed):
    monkeypatch.setattr(web_connection, "ANSWER_SECONDS", 3600.0)
    site = start(threads=4)
    with contextlib.ExitStack() as stack, site.client() as http:
        flood(stack, site, "/healthz")
        for _ in range(FLOOD - 3):  # three are waited for, the others refused
            closed.get(timeout=PATIENCE)
        assert http.get("/api/v1/whoami", headers=helper.bearer(net.admin)).status_code == 200


# --- who has much to fetch -------------------------------------------------------------------------


async def test_a_combiner_that_fetches_many_models_at_once_gets_them_all(net, start, model, small):
    site, c1 = start(threads=12), net.join("combiner", "c1")
    link, go_on, begun = HttpReducer(site.url, Wallet(c1)), asyncio.Event(), asyncio.Semaphore(0)

    async def fetch() -> bytes:
        pieces = []
        async for piece in link.fetch_model(FetchRequest(model, 0)):
            pieces.append(bytes(piece))
            begun.release()
            await go_on.wait()
        return b"".join(pieces)

    fetching = [asyncio.create_task(fetch()) for _ in range(3 * gate.MAX_EACH_MEMBER)]
    try:
        for _ in range(reducer_link.FETCHES):
            await asyncio.wait_for(begun.acquire(), PATIENCE)
        me = Registration(PROTOCOL_VERSION, CombinerName("c1"), "127.0.0.1:1", Incarnation("i1"))
        for _ in range(5):
            assert await link.register(me) == ()
        go_on.set()
        assert set(await asyncio.gather(*fetching)) == {small.model_file(size=1_000_000)}
    finally:
        go_on.set()
        await asyncio.gather(*fetching, return_exceptions=True)
        await link.close()
