"""The way through a company's network: proxies that are asked by CONNECT, and one port for all."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from doors import ConnectProxy, SniFront
from identities import https_server, member, reducer

from fedn.domain.errors import InvalidConfig, LinkBroken
from fedn.domain.identity import Role
from fedn.domain.ids import ClientId
from fedn.identity.authority import Authority
from fedn.identity.certificates import server_name
from fedn.identity.credentials import Wallet
from fedn.wire.channel import new_server, open_channel
from fedn.wire.guard import caller
from fedn.wire.proxies import proxy_for
from fedn.wire.reducer_link import HttpReducer
from fedn.wire.security import REDUCER, https_principal, https_server_context, server_credentials
from fedn.wire.status import rpc_errors

AUTHORITY = Authority.create("n", time.time())
ANN = member(AUTHORITY, Role.CLIENT, "ann")
CANARY = b"sphinx of black quartz"
FETCH = "/fedn.v1.Combiner/Submit"
ANYWHERE = "0.0.0.0"

# --- which -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ""),
        ({"https_proxy": "http://low:3128"}, "http://low:3128"),
        ({"HTTPS_PROXY": "http://up:3128"}, "http://up:3128"),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, "http://low:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://up:1"}, "http://up:1"),
        ({"grpc_proxy": "http://own:1", "https_proxy": "http://low:1"}, "http://own:1"),
        ({"http_proxy": "http://plain:1"}, "http://plain:1"),
        ({"http_proxy": "http://plain:1", "HTTPS_PROXY": "http://up:1"}, "http://up:1"),
        ({"https_proxy": " proxy:3128 "}, "http://proxy:3128"),
        ({"https_proxy": "http://ann:hunter2@proxy:3128"}, "http://ann:hunter2@proxy:3128"),
    ],
)
def test_the_proxy_is_the_one_that_other_programs_would_take(environ: dict[str, str], expected: str) -> None:
    assert proxy_for("b.example.org:12080", environ) == expected


@pytest.mark.parametrize(
    ("address", "no_proxy", "through"),
    [
        ("b.example.org:1", "", True),
        ("b.example.org:1", "*", False),
        ("b.example.org:1", "b.example.org", False),
        ("B.Example.org:1", "b.example.ORG", False),
        ("b.example.org:1", "example.org", False),
        ("b.example.org:1", ".example.org", False),
        ("b.example.org:1", "other.org, example.org", False),
        ("badexample.org:1", "example.org", True),
        ("example.org.evil:1", "example.org", True),
        ("b.example.org:12080", "b.example.org:12080", False),
        ("b.example.org:12081", "b.example.org:12080", True),
        ("b.example.org:1", ",,", True),
        ("10.1.2.3:1", "10.0.0.0/8", False),
        ("11.1.2.3:1", "10.0.0.0/8", True),
        ("10.1.2.3:1", "10.1.2.3", False),
        ("10.1.2.3:1", "10.1.2", True),
        ("[2001:db8::1]:1", "2001:db8::/32", False),
        ("[2001:db8::1]:1", "10.0.0.0/8", True),
        ("b.example.org:1", "10.0.0.0/8", True),
    ],
)
@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY", "no_grpc_proxy"])
def test_no_proxy_is_respected(address: str, no_proxy: str, through: bool, variable: str) -> None:
    environ = {"https_proxy": "http://proxy:1", variable: no_proxy}
    assert bool(proxy_for(address, environ)) is through


@pytest.mark.parametrize(
    "url", ["https://ann:hunter2@proxy:443", "socks5://proxy:1", "http://", "http://:80"]
)
def test_a_proxy_that_grpc_can_t_use_is_named_without_its_password(url: str) -> None:
    with pytest.raises(InvalidConfig, match="HTTPS_PROXY: is not a proxy that gRPC can go through") as caught:
        proxy_for("b.example.org:1", {"HTTPS_PROXY": url})
    assert "hunter2" not in str(caught.value) + str(caught.value.details)


# --- through a real one ----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
async def combiners() -> AsyncIterator[dict[str, int]]:
    """Two combiners that take anything, and the port of each, on all addresses of this machine."""

    async def submit(raws: AsyncIterator[bytes], _: Any) -> bytes:
        received = [raw async for raw in raws]
        return b"%d bytes of %s" % (sum(map(len, received)), str(caller.get()).encode())

    ports = {}
    async with AsyncExitStack() as stack:
        for name in ("b", "c"):
            server = new_server()
            table = {"Submit": grpc.stream_unary_rpc_method_handler(submit)}
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler("fedn.v1.Combiner", table),)
            )
            wallet = Wallet(member(AUTHORITY, Role.COMBINER, name))
            ports[name] = server.add_secure_port(f"{ANYWHERE}:0", server_credentials(wallet))
            await server.start()
            stack.push_async_callback(server.stop, None)
        yield ports


@pytest.fixture
def https_port() -> Iterator[int]:
    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "application/json")])
        who = https_principal(environ["test.certificate"], environ["REMOTE_ADDR"])
        return [b'{"combiner": "%s", "address": "x"}' % str(who).encode()]

    with https_server(app, https_server_context(Wallet(reducer(AUTHORITY))), ANYWHERE) as port:
        yield port


async def by_grpc(address: str, name: str = "b") -> bytes:
    async with open_channel(address, ANN, server_name(Role.COMBINER, name)) as channel:
        submit: Any = channel.stream_unary("/fedn.v1.Combiner/Submit")
        with rpc_errors():
            answer: bytes = await submit(iter([CANARY * 100]), timeout=30)
            return answer


async def by_https(address: str) -> str:
    link = HttpReducer(f"https://{address}", Wallet(ANN))
    try:
        return str((await link.assign(ClientId(CANARY.decode().replace(" ", "-")), "", "")).combiner)
    finally:
        await link.close()


ANSWER = b"2200 bytes of client:ann"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
async def test_both_wires_go_through_a_proxy_and_stay_secret(
    variable: str, combiners: dict[str, int], https_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody here knows these names: only the proxy does."""
    routes = {"combiner.hospital.example:12080": combiners["b"], "fl.hospital.example:443": https_port}
    async with ConnectProxy(routes) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        assert await by_grpc("combiner.hospital.example:12080") == ANSWER
        assert await by_https("fl.hospital.example") == "client:ann"
        assert proxy.asked == list(routes)
        assert CANARY not in proxy.passed
        assert CANARY.replace(b" ", b"-") not in proxy.passed
        assert b"/fedn.v1" not in proxy.passed
        assert b"/api/v1" not in proxy.passed
        assert server_name(Role.COMBINER, "b").encode() in proxy.passed  # the SNI is all that it sees


async def test_a_proxy_may_ask_for_a_password(
    combiners: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ConnectProxy({"b.example:1": combiners["b"]}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://ann:hunter2@"))
        assert await by_grpc("b.example:1") == ANSWER
        assert proxy.passwords == ["ann:hunter2"]


async def test_a_proxy_that_says_no_is_a_broken_link(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ConnectProxy({}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(LinkBroken):
            await by_grpc("b.example:1")
        with pytest.raises(LinkBroken, match=r"no reducer at https://fl\.example \(ProxyError\)"):
            await by_https("fl.example")
        assert set(proxy.asked) == {"b.example:1", "fl.example:443"}


def own_address() -> str:
    """An address of this machine that is not loopback, which is where proxies matter."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; only the route is looked up
            address = str(probe.getsockname()[0])
        except OSError:
            address = "127.0.0.1"
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return address


async def test_who_is_excepted_is_called_directly(
    combiners: dict[str, int], https_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = own_address()
    addresses = f"{here}:{combiners['b']}", f"{here}:{https_port}"
    async with ConnectProxy(dict(zip(addresses, (combiners["b"], https_port), strict=True))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", f"example.org,{here}")
        assert (await by_grpc(addresses[0]), await by_https(addresses[1])) == (ANSWER, "client:ann")
        assert proxy.asked == []
        monkeypatch.setenv("NO_PROXY", "example.org")
        assert (await by_grpc(addresses[0]), await by_https(addresses[1])) == (ANSWER, "client:ann")
        assert proxy.asked == list(addresses)


async def test_loopback_needs_no_exception(
    combiners: dict[str, int], https_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ConnectProxy({}) as proxy:
        for variable in ("HTTPS_PROXY", "https_proxy", "http_proxy", "grpc_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        assert await by_grpc(f"127.0.0.1:{combiners['b']}") == ANSWER
        assert await by_https(f"127.0.0.1:{https_port}") == "client:ann"
        assert proxy.asked == []


# --- one port for all ------------------------------------------------------------------------------


def front_door(combiners: dict[str, int], https_port: int) -> SniFront:
    ports = {server_name(Role.COMBINER, name): port for name, port in combiners.items()}
    return SniFront({REDUCER: https_port, **ports}.__getitem__)


async def test_one_port_serves_the_reducer_and_every_combiner(
    combiners: dict[str, int], https_port: int
) -> None:
    async with front_door(combiners, https_port) as front:
        address = f"127.0.0.1:{front.port}"
        assert await by_https(address) == "client:ann"
        assert await by_grpc(address, "b") == ANSWER
        assert await by_grpc(address, "c") == ANSWER
        assert front.names == [REDUCER, "b.combiner.fedn.internal", "c.combiner.fedn.internal"]
        assert CANARY not in front.passed


async def test_a_door_that_leads_to_the_wrong_combiner_is_noticed(
    combiners: dict[str, int], https_port: int
) -> None:
    async with SniFront(lambda _: combiners["c"]) as front:
        with pytest.raises(LinkBroken, match="its certificate is for another name"):
            await by_grpc(f"127.0.0.1:{front.port}", "b")
        with pytest.raises(LinkBroken, match="its certificate is for another name"):
            await by_https(f"127.0.0.1:{front.port}")


async def test_out_by_a_proxy_and_in_by_the_one_door(
    combiners: dict[str, int], https_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it is in a hospital: out by a proxy, to port 443 of one machine, behind which all are."""
    async with (
        front_door(combiners, https_port) as front,
        ConnectProxy({"fl.example.org:443": front.port}) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert await by_https("fl.example.org") == "client:ann"
        assert await by_grpc("fl.example.org:443", "b") == ANSWER
        assert await by_grpc("fl.example.org:443", "c") == ANSWER
        assert proxy.asked == ["fl.example.org:443"] * 3
