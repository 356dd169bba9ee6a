"""Joining a real reducer over real TLS, staying a member, and not being taken in by somebody else."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from doors import Ear
from identities import reducer as reducers_own

from fedn.client.ledger import Ledger
from fedn.client.ledger_check import entries
from fedn.client.noting import Notes
from fedn.config import ReducerSettings
from fedn.domain.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    LinkBroken,
    Revoked,
    Unauthenticated,
)
from fedn.domain.identity import Role, parse_token
from fedn.domain.ids import digest_of
from fedn.identity import joining, network_dir
from fedn.identity.authority import Authority
from fedn.identity.certificates import new_key, new_request, private_key, read_certificate, read_request
from fedn.identity.credentials import Credentials, Keyring, Wallet
from fedn.identity.entering import Applicant, enter
from fedn.identity.joining import MAX_ANSWER, fetch_authority, join, keep_renewed, renew
from fedn.identity.network_dir import NetworkDir
from fedn.reducer.app import serve
from fedn.wire.security import https_context, https_server_context


class Running:
    """A reducer of a network of its own, in this loop."""

    def __init__(self, directory: Path, hours: float) -> None:
        self.directory = directory
        self.created = network_dir.create(directory, "test", (), time.time())
        self.network = NetworkDir.open(directory)
        self.hours = hours
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the same port as before."""
        loop, up = asyncio.get_running_loop(), asyncio.Event()

        class Listener(logging.Handler):
            def emit(handler, record: logging.LogRecord) -> None:  # noqa: N805
                if record.msg.startswith("reducer is up") and isinstance(record.args, tuple):
                    self.port = int(str(record.args[-1]))
                    loop.call_soon_threadsafe(up.set)

        settings = ReducerSettings(
            network_dir=str(self.directory), port=self.port, certificate_hours=self.hours, http_threads=4,
            event_streams=2, state_store=f"sqlite:///{self.directory}/state.db", model_store="memory://",
        )  # fmt: skip
        logger, listener = logging.getLogger("fedn.reducer"), Listener()
        level = logger.level
        logger.addHandler(listener)
        logger.setLevel(logging.INFO)
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(serve(settings, self._stop))
        coming = asyncio.create_task(up.wait())
        try:
            await asyncio.wait([coming, self._task], return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                await self._task
        finally:
            coming.cancel()
            logger.removeHandler(listener)
            logger.setLevel(level)

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    async def post(self, path: str, **body: Any) -> Any:
        """As the administrator."""
        headers = {"Authorization": f"Bearer {self.created.token.reveal()}"}
        context = https_context(self.network.authority.certificate)
        async with httpx.AsyncClient(verify=context, headers=headers, timeout=30) as http:
            answer = await http.post(f"{self.url}/api/v1{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def token(self, role: Role = Role.CLIENT, **body: Any) -> str:
        return str((await self.post("/tokens", role=role, **body))["text"])


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    made: list[Running] = []

    async def make(name: str = "network", hours: float = 24.0) -> Running:
        made.append(Running(tmp_path / name, hours))
        await made[-1].start()
        return made[-1]

    yield make
    for running in made:
        await running.stop()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "identity")


Make = Callable[..., Awaitable[Running]]

# --- joining ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.CLIENT, Role.COMBINER])
async def test_one_token_makes_a_member(role: Role, make: Make, keyring: Keyring) -> None:
    here = await make()
    held = await join(here.url, await here.token(role), role, "ann", "ann", keyring)
    assert str(held.principal) == f"{role}:ann"
    assert held.authority == here.network.authority.certificate
    assert held.expires_at == pytest.approx(time.time() + 24 * 3600, abs=60)
    assert keyring.load() == held
    assert keyring.key() == held.key


async def test_a_token_that_was_used_up_lets_nobody_else_in(
    make: Make, keyring: Keyring, tmp_path: Path
) -> None:
    here = await make()
    token = await here.token()
    await join(here.url, token, Role.CLIENT, "ann", "ann", keyring)
    with pytest.raises(Unauthenticated, match="used up"):
        await join(here.url, token, Role.CLIENT, "bob", "bob", Keyring(tmp_path / "bob"))


async def test_a_join_that_was_cut_short_is_repeated_by_the_same_token(make: Make, keyring: Keyring) -> None:
    here = await make()
    token = await here.token()
    await join(here.url, token, Role.CLIENT, "ann", "ann", keyring)
    for file in ("certificate.pem", "authority.pem"):  # the answer never came
        (keyring.directory / file).unlink()
    assert keyring.load() is None
    assert str((await join(here.url, token, Role.CLIENT, "ann", "ann", keyring)).principal) == "client:ann"


async def test_nobody_takes_over_the_id_of_another(make: Make, keyring: Keyring, tmp_path: Path) -> None:
    here = await make()
    await join(here.url, await here.token(), Role.CLIENT, "ann", "ann", keyring)
    with pytest.raises(Conflict):
        await join(here.url, await here.token(), Role.CLIENT, "ann", "ann", Keyring(tmp_path / "thief"))


async def test_a_token_is_good_for_its_role_alone(make: Make, keyring: Keyring) -> None:
    here = await make()
    with pytest.raises(Forbidden, match="this token is for a client"):
        await join(here.url, await here.token(Role.CLIENT), Role.COMBINER, "b", "b", keyring)
    with pytest.raises(Unauthenticated, match="for a person"):
        await join(here.url, here.created.token, Role.CLIENT, "ann", "ann", keyring)
    assert keyring.load() is None


async def test_what_is_no_token_goes_nowhere_and_is_not_repeated(keyring: Keyring) -> None:
    with pytest.raises(InvalidInput, match="join: is not a token") as caught:
        await join("https://127.0.0.1:1", "hunter2", Role.CLIENT, "ann", "ann", keyring)
    assert "hunter2" not in str(caught.value)


async def test_a_token_is_never_shown_over_plain_http(make: Make, keyring: Keyring) -> None:
    token = network_token()
    with pytest.raises(InvalidInput, match="plain HTTP, on which everybody could read a token") as caught:
        await join("http://127.0.0.1:1", token, Role.CLIENT, "ann", "ann", keyring)
    assert token not in str(caught.value)


def network_token() -> str:
    return f"fedn1.{'ab' * 32}.{'0' * 16}.{'s' * 43}"


# --- what travels ----------------------------------------------------------------------------------


def listening(there: Running) -> Ear:
    """In front of a reducer, with that reducer's own certificate."""
    wallet = there.network.wallet
    return Ear(https_server_context(wallet), https_context(wallet.current.authority), there.port)


def forms_of(key: bytes) -> list[bytes]:
    """Every way in which a private key might be written down."""
    number = private_key(key).private_numbers().private_value
    raw = number.to_bytes(32, "big")
    lines = [line for line in key.splitlines() if not line.startswith(b"-----")]
    return [
        b"PRIVATE KEY", *lines, raw, raw.hex().encode(), raw.hex().upper().encode(),
        *(base64.b64encode(b"x" * pad + raw)[4 if pad else 0 : -4] for pad in range(3)), str(number).encode(),
    ]  # fmt: skip


async def test_the_key_never_leaves_and_the_token_only_to_join(make: Make, keyring: Keyring) -> None:
    here = await make()
    token = await here.token()
    async with listening(here) as door:
        held = await join(door.url, token, Role.CLIENT, "ann", "ann", keyring)
        assert held.certificate.replace(b"\n", b"\\n") in door.passed  # it is this that was recorded
        assert token.encode() in door.passed
        joining_ = bytes(door.passed)
        door.passed.clear()
        held = await renew(door.url, keyring)
        assert held.certificate.replace(b"\n", b"\\n") in door.passed
        assert token.encode() not in door.passed
        assert token.rpartition(".")[2].encode() not in door.passed
        for form in forms_of(held.key):
            assert form not in joining_ + door.passed
    assert any(form in held.key for form in forms_of(held.key))


async def test_a_ledger_has_what_a_client_asks_for_its_identity_and_no_token(
    make: Make, keyring: Keyring, tmp_path: Path
) -> None:
    here = await make()
    token = await here.token()
    notes = Notes(Ledger(tmp_path / "ledger"), "https://reducer")
    async with listening(here) as door:
        who = Applicant(Role.CLIENT, "ann", "ann", keyring.directory)
        await enter(door.url, lambda: parse_token("join", token), who, tell=notes.identity_asked)
        await renew(door.url, keyring, tell=notes.identity_asked)
        sent = re.findall(rb'"request": ?"([^"]+)"', bytes(door.passed))
    requests = [request.replace(b"\\n", b"\n") for request in sent]
    noted = [(e.what, e.to, e.size, e.digest) for e in entries(tmp_path / "ledger")]
    assert noted == [
        (what, "reducer", len(request), digest_of(request))
        for what, request in zip(("join_asked", "renewal_asked"), requests, strict=True)
    ]
    [file] = (tmp_path / "ledger").iterdir()
    assert token.rpartition(".")[2].encode() not in file.read_bytes()


# --- somebody else answers -------------------------------------------------------------------------


async def test_a_token_of_another_network_is_told_apart_and_not_shown(make: Make, keyring: Keyring) -> None:
    here, there = await make("here"), await make("there")
    token = await there.token()
    async with listening(here) as door:
        with pytest.raises(Unauthenticated, match="not the one of this token") as caught:
            await join(door.url, token, Role.CLIENT, "ann", "ann", keyring)
        assert b"GET /api/v1/authority" in door.passed
        assert b"POST" not in door.passed
        assert token.rpartition(".")[2].encode() not in door.passed
    assert here.created.fingerprint in str(caught.value)
    assert there.created.fingerprint in str(caught.value)
    assert token not in str(caught.value)


Answers = Callable[[str], bytes]


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers))
    return head.encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def scripted(answers: Answers, shows: Credentials) -> AsyncIterator[tuple[str, list[str]]]:
    """A server with these credentials that answers as told by request line; the lines it was asked."""
    asked: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.append(head.partition(" HTTP/")[0])
            writer.write(answers(asked[-1]))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=https_server_context(Wallet(shows)))
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    server.close()


OURS, THEIRS = Authority.create("ours", time.time()), Authority.create("theirs", time.time())
AUTHORITY = http(json.dumps({"certificate": OURS.certificate.decode()}).encode())
OUR_TOKEN = f"fedn1.{OURS.fingerprint}.{'0' * 16}.{'s' * 43}"


async def test_the_authority_s_certificate_alone_opens_nothing(keyring: Keyring) -> None:
    """It is public: whoever repeats it, with a certificate of his own, is not shown the token."""
    async with scripted(lambda _: AUTHORITY, reducers_own(THEIRS)) as (url, asked):
        with pytest.raises(LinkBroken, match="is not by the authority of this network"):
            await join(url, OUR_TOKEN, Role.CLIENT, "ann", "ann", keyring)
    assert asked == ["GET /api/v1/authority"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(http(b"<h1>Hello</h1>"), "not as a reducer would", id="a page"),
        pytest.param(http(b"{}"), "did not show the authority", id="no certificate"),
        pytest.param(http(b"[]"), "did not show the authority", id="no object"),
        pytest.param(http(b"null"), "did not show the authority", id="null"),
        pytest.param(http(b'{"certificate": "\\u00fc"}'), "did not show the authority", id="not ASCII"),
        pytest.param(http(b'{"certificate": ["x"]}'), "did not show the authority", id="no text"),
        pytest.param(http(b"x" * (MAX_ANSWER + 1)), "more than 262144 bytes", id="too long"),
        pytest.param(http(b"", "302 Found", "Location: http://127.0.0.1:1/"), "answered 302", id="elsewhere"),
        pytest.param(http(b"{}", "503 Busy"), "answered 503", id="an error"),
        pytest.param(b"SSH-2.0\r\n\r\n", "no reducer at", id="no HTTP"),
        pytest.param(b"", "no reducer at", id="nothing"),
        pytest.param(http(gzip.compress(bytes(2**26)), "200 OK", "Content-Encoding: gzip"),
                     "not as a reducer would", id="a bomb"),
    ],
)  # fmt: skip
async def test_whatever_answers_is_not_believed(answer: bytes, told: str) -> None:
    async with scripted(lambda _: answer, reducers_own(THEIRS)) as (url, _):
        with pytest.raises((Unauthenticated, LinkBroken), match=told):
            await asyncio.to_thread(fetch_authority, url, OURS.fingerprint)


async def test_nobody_answers(keyring: Keyring) -> None:
    with pytest.raises(LinkBroken, match=r"no reducer at https://127\.0\.0\.1:1"):
        await join("https://127.0.0.1:1", OUR_TOKEN, Role.CLIENT, "ann", "ann", keyring)


def issued(authority: Authority, role: Role, member: str, key: bytes, seconds: float = 3600) -> bytes:
    return authority.issue(read_request(new_request(key, role, member)), time.time(), seconds)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda key: issued(OURS, Role.CLIENT, "bob", key), "for client:bob, not for client:ann"),
        (lambda key: issued(OURS, Role.COMBINER, "ann", key), "for combiner:ann, not for client:ann"),
        (lambda _: issued(OURS, Role.CLIENT, "ann", new_key()), "not for this key"),
        (lambda key: issued(THEIRS, Role.CLIENT, "ann", key), "not by this authority"),
        (lambda _: b"certificate?", "can't be read"),
        (lambda _: None, "can't be read|without a certificate"),
    ],
)  # fmt: skip
async def test_a_certificate_that_is_not_what_was_asked_for_is_not_kept(
    given: Callable[[bytes], bytes | None], told: str, keyring: Keyring
) -> None:
    def answers(line: str) -> bytes:
        if line.endswith("/authority"):
            return AUTHORITY
        certificate = given(keyring.key())
        return http(json.dumps({"certificate": certificate and certificate.decode()}).encode(), "201 Created")

    async with scripted(answers, reducers_own(OURS)) as (url, asked):
        with pytest.raises(Unauthenticated, match=told):
            await join(url, OUR_TOKEN, Role.CLIENT, "ann", "ann", keyring)
    assert asked == ["GET /api/v1/authority", "POST /api/v1/join"]
    assert keyring.load() is None


async def test_a_token_does_not_follow_a_redirect(keyring: Keyring) -> None:
    async with scripted(lambda _: http(b"{}"), reducers_own(OURS)) as (elsewhere, asked):

        def answers(line: str) -> bytes:
            if line.endswith("/authority"):
                return AUTHORITY
            return http(b"", "307 Temporary Redirect", f"Location: {elsewhere}/api/v1/join")

        async with scripted(answers, reducers_own(OURS)) as (url, _):
            with pytest.raises(LinkBroken, match="answered 307"):
                await join(url, OUR_TOKEN, Role.CLIENT, "ann", "ann", keyring)
    assert asked == []


# --- a company's own certificate -------------------------------------------------------------------


async def test_a_bundle_vouches_for_the_reducer_and_the_fingerprint_for_the_network(
    keyring: Keyring, tmp_path: Path
) -> None:
    company = Authority.create("company", time.time())
    bundle, other = tmp_path / "company.pem", tmp_path / "other.pem"
    bundle.write_bytes(company.certificate)
    other.write_bytes(THEIRS.certificate)

    def answers(line: str) -> bytes:
        if line.endswith("/authority"):
            return AUTHORITY
        certificate = issued(OURS, Role.CLIENT, "ann", keyring.key())
        return http(json.dumps({"certificate": certificate.decode()}).encode(), "201 Created")

    async with scripted(answers, reducers_own(company)) as (url, asked):
        with pytest.raises(LinkBroken, match="is not by the authority of this network"):
            await join(url, OUR_TOKEN, Role.CLIENT, "ann", "ann", keyring, str(other))
        assert asked == []
        held = await join(url, OUR_TOKEN, Role.CLIENT, "ann", "ann", keyring, str(bundle))
        assert held.authority == OURS.certificate
        with pytest.raises(Unauthenticated, match="not the one of this token"):
            await join(url, network_token(), Role.CLIENT, "ann", "ann", keyring, str(bundle))


# --- staying ---------------------------------------------------------------------------------------


async def test_a_renewal_keeps_the_key_and_gives_a_new_certificate(make: Make, keyring: Keyring) -> None:
    here = await make()
    before = await join(here.url, await here.token(), Role.CLIENT, "ann", "ann", keyring)
    after = await renew(here.url, keyring)
    assert after.key == before.key
    assert read_certificate(after.certificate).serial != read_certificate(before.certificate).serial
    assert keyring.load() == after


async def test_what_has_expired_can_still_be_renewed(make: Make, keyring: Keyring) -> None:
    here = await make(hours=1 / 3600)
    held = await join(here.url, await here.token(), Role.CLIENT, "ann", "ann", keyring)
    while time.time() < held.expires_at:  # a second, by the clock that counts
        await asyncio.sleep(0.05)
    renewed = await renew(here.url, keyring)
    assert renewed.expires_at > held.expires_at


async def test_a_stranger_can_t_renew(make: Make, keyring: Keyring) -> None:
    here = await make()
    with pytest.raises(Unauthenticated, match="join with a token first"):
        await renew(here.url, keyring)
    ours = here.network.authority
    keyring.save(issued(ours, Role.CLIENT, "mallory", keyring.key()), ours.certificate)
    with pytest.raises(Unauthenticated, match="not a member"):
        await renew(here.url, keyring)


async def test_renewals_go_on_through_an_outage_and_end_with_a_revocation(
    make: Make, keyring: Keyring, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(joining, "RETRY_SECONDS", (0.1, 0.2))
    here = await make(hours=2 / 3600)
    wallet = Wallet(await join(here.url, await here.token(), Role.CLIENT, "ann", "ann", keyring))
    renewed = asyncio.Queue[Credentials]()
    wallet.on_change(renewed.put_nowait)
    keeping = asyncio.create_task(keep_renewed(here.url, keyring, wallet))
    one, two = await renewed.get(), await renewed.get()
    assert one.certificate != two.certificate
    await here.stop()
    while not any("the certificate is not renewed: no reducer at" in text for text in caplog.messages):
        await asyncio.sleep(0.05)
    while not renewed.empty():
        renewed.get_nowait()
    await here.start()
    assert (await renewed.get()) is wallet.current  # also if it had expired meanwhile
    await here.post("/members/client/ann/revoke")
    with pytest.raises(Revoked, match="ann was revoked"):
        await keeping


async def test_a_network_that_has_forgotten_a_member_is_asked_until_the_certificate_ends(
    make: Make, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "RETRY_SECONDS", (0.1, 0.2))
    here = await make()
    ours = here.network.authority
    held = keyring.save(issued(ours, Role.CLIENT, "ann", keyring.key(), 2.0), ours.certificate)
    with pytest.raises(Unauthenticated, match="not a member"):
        await keep_renewed(here.url, keyring, Wallet(held))
    assert time.time() >= held.expires_at
