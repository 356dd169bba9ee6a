"""The reducer over HTTP, as combiners and clients see it: registration, discovery, models by digest."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import httpx

from fedn.domain.errors import FednError, Incompatible, InvalidConfig, LinkBroken, error_from
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName
from fedn.domain.messages import Assignment, FetchRequest, Registration
from fedn.identity.credentials import Credentials, Wallet
from fedn.ports import Buffer
from fedn.wire.channel import is_loopback
from fedn.wire.chunks import CHUNK_BYTES
from fedn.wire.security import https_context
from fedn.wire.store_link import FOLLOWS, StoreLink
from fedn.wire.tls_reasons import tls_reason

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
HTTP_ERRORS = (httpx.HTTPError, ssl.SSLError)
"""What an httpx call raises when it fails; what TLS says after the handshake comes through unchanged."""

FETCHES = 4
"""Models fetched at once; others wait. The reducer answers only so many requests of one member (`gate`)."""

TEMPORARY_REDIRECT = 307

T = TypeVar("T")


class HttpReducer:
    """Implements ports.ReducerLink. ``url`` is the reducer's, such as http://127.0.0.1:8090.

    With a ``wallet`` it is called by TLS and shown whatever the wallet holds then; ``ca_bundle`` is as in
    `https_context`. With a ``store``, models come from there where the reducer offers it.
    """

    def __init__(
        self, url: str, wallet: Wallet | None = None, ca_bundle: str = "", store: StoreLink | None = None
    ) -> None:
        if wallet is not None and not _is_https(url):
            raise InvalidConfig(
                "reducer", f"{url[:200]!r} is plain HTTP", "give the https:// address of the network"
            )
        self._url = url.rstrip("/")
        self._wallet = wallet
        self._ca_bundle = ca_bundle
        self._store = store
        self._pool = self._new_pool()
        self._places = asyncio.Semaphore(FETCHES)

    async def register(self, registration: Registration) -> Sequence[str]:
        return await self._post("/combiners", {
            "protocol": registration.protocol, "combiner": registration.combiner,
            "address": registration.address, "incarnation": registration.incarnation,
        }, _revoked)  # fmt: skip

    async def assign(self, client: ClientId, prefer: str, avoid: str) -> Assignment:
        wanted = {"client": client, "prefer": prefer, "avoid": avoid, "protocol": PROTOCOL_VERSION}
        return await self._post("/clients/assignment", wanted, _assignment)

    async def fetch_model(self, request: FetchRequest) -> AsyncIterator[Buffer]:
        """From the store itself where the reducer offers that; through the reducer where it gives nothing."""
        async with self._places:
            directly = self._store is not None and not self._store.avoided
            address = ""
            async with self._asked(request, directly) as answer:
                if answer.status_code == TEMPORARY_REDIRECT:
                    address = answer.headers.get("Location", "")
                else:
                    async for chunk in answer.aiter_raw(CHUNK_BYTES):
                        yield chunk
            if self._store is not None and address:
                async with aclosing(self._from_store(self._store, address, request)) as chunks:
                    async for piece in chunks:
                        yield piece

    async def _from_store(
        self, store: StoreLink, address: str, request: FetchRequest
    ) -> AsyncGenerator[Buffer, None]:
        """What breaks off in the middle is a broken link: whoever goes on gets a new address."""
        begun = False
        try:
            async with aclosing(store.fetch(address, request.offset)) as chunks:
                async for chunk in chunks:
                    begun = True
                    yield chunk
            return
        except LinkBroken as error:
            if begun:
                raise
            store.avoid(error)
        async with self._asked(request, directly=False) as answer:
            async for piece in answer.aiter_raw(CHUNK_BYTES):
                yield piece

    @asynccontextmanager
    async def _asked(self, request: FetchRequest, directly: bool) -> AsyncIterator[httpx.Response]:
        """The reducer's answer: the bytes, or where they are, if that was asked for."""
        headers = {"Range": f"bytes={request.offset}-"} if request.offset else {}
        headers |= {FOLLOWS: "1"} if directly else {}
        path = f"/models/{request.digest}"
        async with self._http() as http, http.stream("GET", path, headers=headers) as answer:
            if answer.is_error:
                await answer.aread()
                raise answered(self._url, answer)
            if not answer.is_success and not (directly and answer.status_code == TEMPORARY_REDIRECT):
                raise stranger(self._url, answer)
            yield answer

    async def close(self) -> None:
        await self._pool.http.aclose()

    async def _post(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        """What ``read`` makes of the answer; one that it can't read is a stranger's, and a broken link."""
        async with self._http() as http:
            answer = await http.post(path, json=body)
        if answer.is_error:
            raise answered(self._url, answer)
        try:
            return read(answer.json())
        except (ValueError, KeyError, TypeError, RecursionError):
            raise stranger(self._url, answer) from None

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[httpx.AsyncClient]:
        """Connections that show what the wallet holds now. What fails inside is a broken link."""
        before = self._pool
        if self._wallet is not None and self._wallet.current is not before.shown:
            self._pool = self._new_pool()
        pool = self._pool
        pool.users += 1
        try:
            if before is not pool:
                await before.close_if_idle()
            yield pool.http
        except HTTP_ERRORS as error:
            raise broken(self._url, error) from None
        finally:
            pool.users -= 1
            if pool is not self._pool:
                await pool.close_if_idle()

    def _new_pool(self) -> _Pool:
        shown = self._wallet.current if self._wallet is not None else None
        authority = shown.authority if shown is not None else None
        context = https_context(authority, shown, self._ca_bundle) if _is_https(self._url) else True
        return _Pool(httpx.AsyncClient(verify=context, **http_options(self._url)), shown)


def http_options(url: str) -> dict[str, Any]:
    """How this system's HTTP clients call the reducer at ``url``; whom they believe is said beside it.

    A proxy from the environment can't reach this machine's own loopback.
    """
    loopback = is_loopback(f"{httpx.URL(url).host}:0")
    return {
        "base_url": f"{url.rstrip('/')}/api/v1", "timeout": TIMEOUT, "trust_env": not loopback,
        "follow_redirects": False, "headers": {"Fedn-Protocol": str(PROTOCOL_VERSION)},
    }  # fmt: skip


def broken(url: str, error: Exception) -> LinkBroken:
    """Why the reducer at ``url`` can't be asked."""
    if reason := tls_reason(error):
        return LinkBroken(f"no reducer of this network at {url}: {reason}")
    if _is_https(url) and isinstance(error, (httpx.ReadError, httpx.WriteError)):
        # With TLS 1.3 a refused certificate looks so, if the reason does not come before the end.
        return LinkBroken(f"{url} hung up; does it go down, or does it not take our certificate?")
    return LinkBroken(f"no reducer at {url} ({type(error).__name__}); is `fedn reducer start` running?")


def answered(url: str, answer: httpx.Response) -> FednError:
    """The error that the reducer raised, by its code; a stranger's answer is a broken link."""
    try:
        shape = answer.json()
        error = error_from(shape["code"], str(shape["error"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        error = None
    if isinstance(error, InvalidConfig) and not _is_https(url):  # it is there, and waiting does not mend it
        return Incompatible(f"{url}: {error.message}")
    return error or stranger(url, answer)


def stranger(url: str, answer: httpx.Response) -> LinkBroken:
    return LinkBroken(f"{url} answered {answer.status_code}, not as a reducer would; is it one?")


def _is_https(url: str) -> bool:
    return url.startswith("https://")


class _Pool:
    """Connections that show one certificate."""

    def __init__(self, http: httpx.AsyncClient, shown: Credentials | None) -> None:
        self.http = http
        self.shown = shown
        self.users = 0

    async def close_if_idle(self) -> None:
        if not self.users:
            await self.http.aclose()


def _revoked(answer: Any) -> tuple[str, ...]:
    """Who is revoked; a reducer without identity says nothing of it."""
    int(answer["protocol"])
    return tuple(str(member) for member in answer.get("revoked", ()))


def _assignment(answer: Any) -> Assignment:
    return Assignment(CombinerName(str(answer["combiner"])), str(answer["address"]))
