"""A combiner's way to models: from a real Swift by an address that the reducer gave, or through it."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("swift")

from proxy import Proxy
from s3_places import Certificates, Places, with_keys
from swift_s3 import Swift

from fedn.domain.errors import InvalidConfig, LinkBroken
from fedn.domain.ids import Digest
from fedn.domain.messages import FetchRequest
from fedn.stores.cache import resumed
from fedn.wire.reducer_link import HttpReducer
from fedn.wire.store_link import StoreLink

MODEL = random.Random(1).randbytes(5 * 2**20 + 3)
HEAD = "HTTP/1.1 {} Whatever\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Swift]:
    home = tmp_path_factory.mktemp("swift")
    with Swift(home, certificates.certificate, certificates.key, in_memory=True) as running:
        yield running


@pytest.fixture
def places(
    swift: Swift, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Places]:
    with_keys(monkeypatch)
    made = Places(f"{swift.url}&ca={certificates.authority}", tmp_path / "cache")
    yield made
    made.close()


@pytest.fixture
def link(certificates: Certificates) -> StoreLink:
    return StoreLink(str(certificates.authority))


async def got(chunks: AsyncIterator[object]) -> bytes:
    return b"".join([bytes(chunk) async for chunk in chunks])  # type: ignore[arg-type]


class Reducer:
    """Answers like one whose store gives ``address``. ``asked`` has every request's head."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        self.asked.append(head)
        if "fedn-follows" in head:
            writer.write(HEAD.format(307, 0, f"Location: {self.address}\r\n").encode())
        else:
            begin = int(head.partition("range: bytes=")[2].partition("-")[0] or 0)
            writer.write(HEAD.format(206 if begin else 200, len(MODEL) - begin, "").encode() + MODEL[begin:])
        await writer.drain()
        writer.close()


@asynccontextmanager
async def reducer(address: str, store: StoreLink) -> AsyncIterator[tuple[Reducer, HttpReducer]]:
    made = Reducer(address)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    link = HttpReducer(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", store=store)
    try:
        yield made, link
    finally:
        await link.close()
        server.close()


async def test_a_model_comes_from_the_store_from_any_offset(places: Places, link: StoreLink):
    store = places.open()
    digest, _ = store.put([MODEL])
    address = store.url(digest, 60)
    assert "secretkey12" not in address
    for offset in (0, 1, len(MODEL) - 1):
        assert await got(link.fetch(address, offset)) == MODEL[offset:]
    async with reducer(address, link) as (asked, through):
        assert await got(through.fetch_model(FetchRequest(digest, 7))) == MODEL[7:]
        assert len(asked.asked) == 1


def test_in_proxy_mode_there_is_no_address(places: Places):
    store = places.open(proxy="true")
    digest, _ = store.put([MODEL])
    assert store.url(digest, 60) == ""


def expired(places: Places, digest: Digest) -> str:
    return places.open().url(digest, 1)


def tampered(places: Places, digest: Digest) -> str:
    address = places.open().url(digest, 60)
    return address[:-1] + ("0" if address[-1] != "0" else "1")


def of_another_model(places: Places, digest: Digest) -> str:
    other, _ = places.open().put([b"another"])
    return places.open().url(other, 60).replace(other, digest).replace(other[:2], digest[:2])


@pytest.mark.parametrize("made", [expired, tampered, of_another_model])
async def test_an_address_that_is_not_right_gives_nothing_and_the_reducer_is_asked_again(
    places: Places, link: StoreLink, caplog: pytest.LogCaptureFixture, made: object
):
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "httpx")
    digest, _ = places.open().put([MODEL])
    address = made(places, digest)  # type: ignore[operator]
    while made is expired:  # it counts whole seconds
        try:
            await got(link.fetch(address, 0))
        except LinkBroken:
            break
    with pytest.raises(LinkBroken, match="answered 403; has the address expired") as caught:
        await got(link.fetch(address, 0))
    async with reducer(address, link) as (asked, through):
        for offset in (0, 9):  # the second does not even try
            assert await got(through.fetch_model(FetchRequest(digest, offset))) == MODEL[offset:]
        assert ["fedn-follows" in head for head in asked.asked] == [True, False, False]
    assert "for a minute models come through the reducer" in caplog.text
    assert "HTTP Request: GET https://127.0.0.1" in caplog.text  # by httpx
    for told in (str(caught.value), repr(caught.value), caplog.text):
        assert address.partition("X-Amz-Signature=")[2] not in told
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_a_download_that_is_cut_goes_on_by_a_new_address(swift: Swift, places: Places, link: StoreLink):
    with Proxy(swift.url.partition("://")[2]) as proxy:
        store = places.open(public_endpoint=f"https://{proxy.address}")
        digest, size = store.put([MODEL])
        proxy.cut_after(2 * 2**20, upwards=False)
        async with reducer(store.url(digest, 60), link) as (asked, through):
            assert await got(resumed(through.fetch_model, digest, 0, size)) == MODEL
            assert ["fedn-follows" in head for head in asked.asked] == [True, True]
        assert proxy.cuts == 1


@pytest.mark.parametrize("address", [
    "https://127.0.0.1:1/models/x?X-Amz-Signature=1", "ftp://127.0.0.1/x", "https://user:pw@127.0.0.1/x",
    "not an address", "http://[",
])  # fmt: skip
async def test_a_store_that_is_out_of_reach_is_gone_round(address: str, link: StoreLink):
    async with reducer(address, link) as (_, through):
        assert await got(through.fetch_model(FetchRequest(Digest("0" * 64), 0))) == MODEL


async def test_a_store_whose_certificate_nobody_vouches_for_is_gone_round(places: Places):
    store, stranger = places.open(), StoreLink()
    digest, _ = store.put([MODEL])
    with pytest.raises(LinkBroken, match="not by an authority that this combiner knows"):
        await got(stranger.fetch(store.url(digest, 60), 0))
    async with reducer(store.url(digest, 60), stranger) as (_, through):
        assert await got(through.fetch_model(FetchRequest(digest, 0))) == MODEL


def test_authorities_that_can_not_be_read_are_named_by_their_setting(certificates: Certificates):
    with pytest.raises(InvalidConfig, match=r"store_ca_bundle: .*key\.pem can't be used"):
        StoreLink(str(certificates.key))


async def test_the_store_is_shown_nothing_of_ours_and_followed_once(link: StoreLink):
    """What answers in the store's place sends on to somewhere else."""
    elsewhere = Reducer("")
    somewhere = await asyncio.start_server(elsewhere.serve, "127.0.0.1", 0)
    further = f"http://127.0.0.1:{somewhere.sockets[0].getsockname()[1]}/further"
    heads: list[str] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(HEAD.format(307, 0, f"Location: {further}\r\n").encode())
        writer.close()

    server = await asyncio.start_server(store, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/model"
    async with reducer(address, link) as (_, through):
        assert await got(through.fetch_model(FetchRequest(Digest("0" * 64), 0))) == MODEL
    names = {line.partition(":")[0] for line in heads[0].splitlines()[1:] if line}
    assert names == {"host", "accept", "accept-encoding", "connection", "user-agent"}
    assert elsewhere.asked == []
    server.close()
    somewhere.close()


def own_address() -> str:
    """One of this machine's that is not loopback; no packet is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address beyond loopback")
        return probe.getsockname()[0]


async def test_plain_http_beyond_loopback_is_not_followed_unless_a_setting_says_so(
    monkeypatch: pytest.MonkeyPatch,
):
    heads: list[bytes] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD.format(200, len(MODEL), "").encode() + MODEL)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(store, own_address(), 0)
    host, port = server.sockets[0].getsockname()[:2]
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # where nobody is: it must not be asked
    address = f"http://{host}:{port}/model?X-Amz-Signature=secret12"
    with pytest.raises(LinkBroken, match=r"it is plain HTTP, .*set insecure_store_http here") as caught:
        await got(StoreLink().fetch(address, 0))
    assert "secret12" not in str(caught.value)
    async with reducer(address, StoreLink()) as (_, through):
        assert await got(through.fetch_model(FetchRequest(Digest("0" * 64), 0))) == MODEL
    assert heads == []
    assert await got(StoreLink(plain=True).fetch(address, 0)) == MODEL
    assert len(heads) == 1
    server.close()


@pytest.mark.parametrize("host", [
    "169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "[fe80::1]", "[fd00:ec2::254]",
    "100.100.100.200", "0.0.0.0",
])  # fmt: skip
async def test_where_clouds_keep_secrets_is_not_followed(host: str):
    for scheme in ("http", "https"):
        with pytest.raises(LinkBroken, match=r"is not followed: .* is no address of a store"):
            await got(StoreLink(plain=True).fetch(f"{scheme}://{host}/latest", 0))


async def test_a_store_is_called_by_its_name_and_its_certificate_is_checked_for_it(
    swift: Swift, places: Places, link: StoreLink
):
    store = places.open(public_endpoint=swift.url.replace("127.0.0.1", "localhost"))
    digest, _ = store.put([MODEL])
    assert store.url(digest, 60).startswith("https://localhost:")
    assert await got(link.fetch(store.url(digest, 60), 0)) == MODEL
