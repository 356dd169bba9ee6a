"""Real TLS connections of both kinds: who gets in, who is refused, and what they are told."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from identities import expired, https_server, member, reducer

from fedn.domain.errors import InvalidConfig, LinkBroken
from fedn.domain.identity import Role
from fedn.domain.ids import ClientId, Digest
from fedn.domain.messages import Assignment, FetchRequest
from fedn.identity.authority import Authority
from fedn.identity.certificates import load_certificate, server_name
from fedn.identity.credentials import Credentials, Wallet
from fedn.wire.channel import new_server, open_channel
from fedn.wire.guard import caller
from fedn.wire.reducer_link import HttpReducer
from fedn.wire.security import (
    REDUCER,
    https_context,
    https_principal,
    https_server_context,
    server_credentials,
)
from fedn.wire.status import rpc_errors

NOW = time.time()
OURS, THEIRS, NAMESAKE = (Authority.create(name, NOW) for name in ("ours", "theirs", "ours"))
B, C = (server_name(Role.COMBINER, name) for name in "bc")
OTHER_NETWORK = "is not by the authority of this network"
DRAIN = "/fedn.v1.CombinerControl/Drain"


def impostor(credentials: Credentials) -> Credentials:
    """Has a certificate of another network, and the certificate of our authority, which is no secret."""
    return replace(credentials, authority=OURS.certificate)


# --- gRPC ------------------------------------------------------------------------------------------


@pytest.fixture
def combiner() -> Wallet:
    return Wallet(member(OURS, Role.COMBINER, "b"))


@pytest.fixture
async def grpc_port(combiner: Wallet) -> AsyncIterator[int]:
    async def drain(_: bytes, __: Any) -> bytes:
        return str(caller.get()).encode()

    server = new_server()
    table = {"Drain": grpc.unary_unary_rpc_method_handler(drain)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("fedn.v1.CombinerControl", table),))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(combiner))
    await server.start()
    yield port
    await server.stop(None)


async def drained(channel: grpc.aio.Channel) -> bytes:
    ask: Any = channel.unary_unary(DRAIN)
    with rpc_errors():
        answer: bytes = await ask(b"", timeout=30)
        return answer


async def by_grpc(port: int, credentials: Credentials | None, name: str = B) -> bytes:
    async with open_channel(f"127.0.0.1:{port}", credentials, name) as channel:
        return await drained(channel)


async def test_a_reducer_is_let_in_by_grpc(grpc_port: int) -> None:
    assert await by_grpc(grpc_port, reducer(OURS)) == b"reducer:reducer"


HUNG_UP = "it hung up at once; is it of another network, has our certificate expired"


@pytest.mark.parametrize(
    ("credentials", "name", "told"),
    [
        pytest.param(reducer(THEIRS), B, OTHER_NETWORK, id="another network"),
        pytest.param(reducer(NAMESAKE), B, OTHER_NETWORK, id="of the same name"),
        pytest.param(impostor(reducer(THEIRS)), B, HUNG_UP, id="impostor"),
        pytest.param(impostor(reducer(NAMESAKE)), B, HUNG_UP, id="certificate of a namesake"),
        pytest.param(expired(OURS, Role.COMBINER, "c"), B, HUNG_UP, id="expired"),
        pytest.param(reducer(OURS), C, "is for another name", id="another combiner"),
        pytest.param(reducer(OURS), REDUCER, "is for another name", id="not the reducer"),
        pytest.param(None, "", HUNG_UP, id="no TLS"),
    ],
)  # fmt: skip
async def test_a_stranger_is_refused_by_grpc(
    credentials: Credentials | None, name: str, told: str, grpc_port: int
) -> None:
    with pytest.raises(LinkBroken, match=told):
        await by_grpc(grpc_port, credentials, name)


async def test_nobody_is_let_in_by_grpc_without_a_certificate(grpc_port: int) -> None:
    bare = grpc.ssl_channel_credentials(OURS.certificate)
    options = [("grpc.ssl_target_name_override", B)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{grpc_port}", bare, options=options) as channel:
        with pytest.raises(LinkBroken, match=HUNG_UP):
            await drained(channel)


async def test_a_client_s_certificate_is_not_that_of_a_combiner(combiner: Wallet, grpc_port: int) -> None:
    combiner.replace(member(OURS, Role.CLIENT, "b"))
    with pytest.raises(LinkBroken, match="UNAVAILABLE"):
        await by_grpc(grpc_port, reducer(OURS))


async def test_an_expired_combiner_is_refused_until_it_has_renewed(combiner: Wallet, grpc_port: int) -> None:
    combiner.replace(expired(OURS, Role.COMBINER, "b"))
    with pytest.raises(LinkBroken, match="its certificate has expired; are the clocks right"):
        await by_grpc(grpc_port, reducer(OURS))
    combiner.replace(member(OURS, Role.COMBINER, "b"))
    assert await by_grpc(grpc_port, reducer(OURS)) == b"reducer:reducer"


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    combiner: Wallet, grpc_port: int
) -> None:
    before = combiner.current
    async with open_channel(f"127.0.0.1:{grpc_port}", reducer(OURS), B) as channel:
        assert await drained(channel)
        assert await asyncio.to_thread(shown, grpc_port, B) == der(before)
        combiner.replace(member(OURS, Role.COMBINER, "b"))
        assert await asyncio.to_thread(shown, grpc_port, B) == der(combiner.current) != der(before)
        assert await drained(channel)


def test_a_secure_channel_has_to_know_whom_it_wants() -> None:
    with pytest.raises(ValueError, match="needs the name of the server"):
        open_channel("127.0.0.1:1", reducer(OURS))


# --- HTTPS -----------------------------------------------------------------------------------------


@pytest.fixture
def wallet() -> Wallet:
    return Wallet(reducer(OURS))


def app(environ: dict[str, Any], start: Any) -> list[bytes]:
    """Tells whom it takes the caller for, and which connection it is."""
    who = https_principal(environ["test.certificate"], environ["REMOTE_ADDR"])
    if environ["PATH_INFO"].startswith("/api/v1/models/"):
        start("200 OK", [("Content-Length", "3000000")])
        return [bytes(1_000_000)] * 3
    start("200 OK", [("Content-Type", "application/json")])
    told = {"combiner": str(who), "address": environ["REMOTE_PORT"], "certificate": ""}
    return [json.dumps(told).encode()]


@pytest.fixture
def https_port(wallet: Wallet) -> Iterator[int]:
    with https_server(app, https_server_context(wallet)) as port:
        yield port


async def by_https(port: int, credentials: Credentials | None, ca_bundle: str = "") -> str:
    held = Wallet(credentials) if credentials else None
    link = HttpReducer(f"https://127.0.0.1:{port}", held, ca_bundle)
    try:
        return str((await link.assign(ClientId("c"), "", "")).combiner)
    finally:
        await link.close()


@pytest.mark.parametrize("role", [Role.CLIENT, Role.COMBINER])
async def test_a_member_is_known_by_its_certificate_over_https(role: Role, https_port: int) -> None:
    assert await by_https(https_port, member(OURS, role, "ann")) == f"{role}:ann"


async def test_people_come_without_a_certificate_and_are_nobody_yet(https_port: int) -> None:
    async with httpx.AsyncClient(verify=https_context(OURS.certificate)) as http:
        answer = await http.get(f"https://127.0.0.1:{https_port}/")
    assert answer.json()["combiner"] == "nobody:127.0.0.1"


REFUSED = "hung up; .* does it not take our certificate|does not know the authority of our certificate"


@pytest.mark.parametrize(
    ("credentials", "told"),
    [
        pytest.param(member(THEIRS, Role.CLIENT, "x"), OTHER_NETWORK, id="another network"),
        pytest.param(member(NAMESAKE, Role.CLIENT, "x"), OTHER_NETWORK, id="a namesake"),
        pytest.param(impostor(member(THEIRS, Role.CLIENT, "x")), REFUSED, id="impostor"),
        pytest.param(impostor(member(NAMESAKE, Role.CLIENT, "x")), REFUSED, id="certificate of a namesake"),
        pytest.param(expired(OURS, Role.CLIENT, "x"), "hung up|our certificate has expired", id="expired"),
        pytest.param(None, OTHER_NETWORK, id="this machine's authorities"),
    ],
)  # fmt: skip
async def test_a_stranger_is_refused_by_https(
    credentials: Credentials | None, told: str, https_port: int
) -> None:
    with pytest.raises(LinkBroken, match=told):
        await by_https(https_port, credentials)


@pytest.mark.parametrize(
    ("shows", "told"),
    [
        pytest.param(member(OURS, Role.COMBINER, "b"), "is for another name", id="a combiner"),
        pytest.param(member(OURS, Role.CLIENT, "reducer"), "is not that of a server", id="a client"),
        pytest.param(reducer(OURS, ago=7200), "its certificate has expired", id="expired"),
        pytest.param(
            reducer(OURS, seconds=9000, ago=-7200), "not valid yet; are the clocks right", id="to come"
        ),
    ],
)
async def test_whoever_is_not_the_reducer_is_not_believed(
    shows: Credentials, told: str, wallet: Wallet, https_port: int
) -> None:
    wallet.replace(shows)
    with pytest.raises(LinkBroken, match=told):
        await by_https(https_port, member(OURS, Role.CLIENT, "ann"))


async def test_a_server_without_tls_is_named_so() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    with pytest.raises(LinkBroken, match="does not speak TLS"):
        await by_https(server.sockets[0].getsockname()[1], member(OURS, Role.CLIENT, "ann"))
    server.close()


async def test_a_renewed_reducer_shows_itself_to_new_connections(wallet: Wallet, https_port: int) -> None:
    assert await asyncio.to_thread(shown, https_port, REDUCER) == der(wallet.current)
    before = der(wallet.current)
    wallet.replace(reducer(OURS))
    assert await asyncio.to_thread(shown, https_port, REDUCER) == der(wallet.current) != before


async def test_a_renewed_member_shows_its_new_certificate_from_the_next_request_on(https_port: int) -> None:
    held = Wallet(member(OURS, Role.CLIENT, "ann"))
    link = HttpReducer(f"https://127.0.0.1:{https_port}", held)

    async def ask() -> Assignment:
        return await link.assign(ClientId("c"), "", "")

    first, again = await ask(), await ask()
    assert first == again  # over the same connection
    held.replace(member(OURS, Role.CLIENT, "bob"))
    renewed = await ask()
    assert str(renewed.combiner) == "client:bob"
    assert renewed.address != first.address
    assert await ask() == renewed
    await link.close()


async def test_a_download_goes_on_while_the_certificate_is_renewed(https_port: int) -> None:
    held = Wallet(member(OURS, Role.COMBINER, "b"))
    link = HttpReducer(f"https://127.0.0.1:{https_port}", held)
    chunks = link.fetch_model(FetchRequest(Digest("0" * 64), 0))
    size = len(await anext(chunks))
    before = link._pool
    held.replace(member(OURS, Role.COMBINER, "b"))
    await link.assign(ClientId("c"), "", "")
    assert not before.http.is_closed
    async for chunk in chunks:
        size += len(chunk)
    assert size == 3_000_000
    assert before.http.is_closed
    await link.close()
    assert link._pool.http.is_closed


# --- a certificate of the company's own ------------------------------------------------------------


@pytest.fixture
def company(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Files of a company's authority, and of a certificate and key that it gave for fl.example.org."""
    authority = Authority.create("company", NOW)
    issued = authority.issue_reducer(("fl.example.org",), NOW, 3600)
    files = [tmp_path / name for name in ("company.pem", "own.pem", "own.key")]
    for file, content in zip(files, (issued.authority, issued.certificate, issued.key), strict=True):
        file.write_bytes(content)
    return files[0], files[1], files[2]


def test_browsers_are_shown_the_company_s_certificate_and_machines_the_network_s(
    wallet: Wallet, company: tuple[Path, Path, Path]
) -> None:
    _, certificate, key = company
    own = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)
    with https_server(app, https_server_context(wallet, str(certificate), str(key))) as port:
        assert shown(port, "fl.example.org") == own
        assert shown(port, None) == own
        assert shown(port, REDUCER) == der(wallet.current)
        wallet.replace(reducer(OURS))
        assert shown(port, REDUCER) == der(wallet.current)
        assert shown(port, "fl.example.org") == own


async def test_with_a_bundle_the_url_s_host_is_verified_as_browsers_do(
    wallet: Wallet, company: tuple[Path, Path, Path]
) -> None:
    bundle, certificate, key = company
    with https_server(app, https_server_context(wallet, str(certificate), str(key))) as port:
        ann = member(OURS, Role.CLIENT, "ann")
        assert await by_https(port, ann, str(bundle)) == "client:ann"  # the certificate is for 127.0.0.1, too
        context = https_context(None, None, str(bundle))
        with closing(context.wrap_socket(connected(port), server_hostname="fl.example.org")):
            pass
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            context.wrap_socket(connected(port), server_hostname="other.example.org")
        # Without the bundle a member still finds the network's own certificate there.
        assert await by_https(port, ann) == "client:ann"


@pytest.mark.parametrize("content", [None, b"", b"not PEM"])
def test_files_that_can_t_be_used_are_named(content: bytes | None, tmp_path: Path, wallet: Wallet) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidConfig, match=r"ca_bundle: .*file\.pem can't be used"):
        https_context(None, None, str(file))
    with pytest.raises(InvalidConfig, match=r"https_certificate: .*file\.pem can't be used"):
        https_server_context(wallet, str(file), str(file))


def test_a_key_with_a_password_is_named_and_nobody_is_asked_for_it(
    tmp_path: Path, wallet: Wallet, company: tuple[Path, Path, Path]
) -> None:
    from cryptography.hazmat.primitives import serialization as form

    from fedn.identity.certificates import private_key

    _, certificate, key = company
    locked = tmp_path / "locked.key"
    encryption = form.BestAvailableEncryption(b"hunter2")
    parsed = private_key(key.read_bytes())
    locked.write_bytes(parsed.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption))
    with pytest.raises(InvalidConfig, match="the key is encrypted"):
        https_server_context(wallet, str(certificate), str(locked))


# --- what travels, and how -------------------------------------------------------------------------


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def shown(port: int, name: str | None) -> bytes:
    """The certificate (DER) that a server shows to whoever asks for that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with closing(context.wrap_socket(connected(port), server_hostname=name)) as secured:
        return secured.getpeercert(binary_form=True) or b""


def der(credentials: Credentials) -> bytes:
    return load_certificate(credentials.certificate).public_bytes(Encoding.DER)


OLD = [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1]


def shakes_hands(port: int, version: ssl.TLSVersion, pair: Path) -> str:
    """Connect with that version of TLS alone, and a certificate that is good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(pair)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with closing(context.wrap_socket(connected(port))) as secured:
        return str(secured.version())


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A file with a client's certificate and key."""
    ann = member(OURS, Role.CLIENT, "ann")
    (tmp_path / "pair.pem").write_bytes(ann.key + ann.certificate)
    return tmp_path / "pair.pem"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("kind", ["grpc", "https"])
async def test_tls_before_1_2_is_refused(kind: str, grpc_port: int, https_port: int, pair: Path) -> None:
    port = grpc_port if kind == "grpc" else https_port
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert await asyncio.to_thread(shakes_hands, port, version, pair) == version.name.replace("_", ".")
    for version in OLD:
        with pytest.raises((ssl.SSLError, ConnectionError), match=r"PROTOCOL_VERSION|EOF|reset"):
            await asyncio.to_thread(shakes_hands, port, version, pair)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
async def test_the_openssl_of_this_test_could_have_spoken_old_tls(pair: Path) -> None:
    """Else the test before this one shows nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    spoken = [await asyncio.to_thread(shakes_hands, port, version, pair) for version in OLD]
    assert spoken == ["TLSv1", "TLSv1.1"]
    server.close()


class OpenSsl:
    """``openssl s_client``, connected to a port under a name of ours."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    @classmethod
    async def start(cls, port: int, name: str, authority: Path, *more: str) -> OpenSsl:
        return cls(await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name,
            "-verify_hostname", name, "-CAfile", str(authority), "-alpn", "h2,http/1.1", "-ign_eof", *more,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ))  # fmt: skip

    async def until(self, sign: str) -> None:
        """Read on until it says so; it may go on afterwards."""
        assert self.process.stdout is not None
        while sign not in self.said:
            read = await self.process.stdout.read(4096)
            assert read, f"it ended without {sign!r}:\n{self.said}"
            self.said += read.decode(errors="replace")

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


@pytest.fixture
def authority_file(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on this machine")
    (tmp_path / "ours.pem").write_bytes(OURS.certificate)
    return tmp_path / "ours.pem"


async def test_what_openssl_says_to_a_combiner(grpc_port: int, authority_file: Path, pair: Path) -> None:
    """It is shown a good certificate, and without one of its own nothing more."""
    bare = await OpenSsl.start(grpc_port, B, authority_file)
    await bare.until("unexpected eof while reading")  # hung up by the combiner
    for said in ("Verification: OK", f"Verified peername: {B}", "Requested Signature Algorithms", "TLSv1.3"):
        assert said in bare.said
    assert "New Session Ticket arrived" not in bare.said
    await bare.close()
    known = await OpenSsl.start(grpc_port, B, authority_file, "-cert", str(pair), "-key", str(pair))
    await known.until("New Session Ticket arrived")  # let in
    assert known.process.returncode is None
    await known.close()


async def test_what_openssl_says_to_a_reducer(https_port: int, authority_file: Path, pair: Path) -> None:
    """Without a certificate it is let in, as nobody; with one it is who that says."""
    for more, who in (((), "nobody:127.0.0.1"), (("-cert", str(pair), "-key", str(pair)), "client:ann")):
        caller_ = await OpenSsl.start(https_port, REDUCER, authority_file, *more)
        assert caller_.process.stdin is not None
        caller_.process.stdin.write(b"GET / HTTP/1.0\r\n\r\n")
        await caller_.until(f'"combiner": "{who}"')
        for said in ("Verification: OK", f"Verified peername: {REDUCER}", "HTTP/1.1 200 OK"):
            assert said in caller_.said
        await caller_.close()
