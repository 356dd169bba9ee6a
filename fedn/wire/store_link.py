"""Models straight from their store, by addresses that the reducer gives; see `ports.Presigning`.

An address is a secret: it carries its own right to read. It is shown to the store it names and to nobody
else, stands in no log and no error, and is followed once, without any certificate, token or proxy of ours.
Nor does a reducer send us wherever it likes: plain HTTP and some addresses are not followed.
Used by `reducer_link.py`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx

from fedn.domain.errors import InvalidConfig, LinkBroken
from fedn.ports import Buffer
from fedn.wire.chunks import CHUNK_BYTES
from fedn.wire.security import https_context
from fedn.wire.tls_reasons import tls_reason

FOLLOWS = "Fedn-Follows"
"""The header by which a combiner says that it takes a model from elsewhere, too."""
AVOIDED_SECONDS = 60.0
CONNECT_SECONDS = 3.0
ADDRESSES = 4
"""Of a store with more than so many the others are not tried."""
TIMEOUT = httpx.Timeout(10.0, connect=CONNECT_SECONDS)
METADATA = {ip_address(it) for it in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")}
"""Where clouds tell a machine its own secrets, beside 169.254.169.254, which is link-local."""

IP = IPv4Address | IPv6Address

log = logging.getLogger("fedn.wire")


class StoreLink:
    """The way to the model store. A store that gave nothing is avoided for a minute.

    ``ca_bundle`` (the path of a PEM file) has the authorities of its certificate; this machine's without.
    ``plain``: plain HTTP is followed beyond loopback, too. Raises InvalidConfig for a bundle of no use.
    """

    def __init__(self, ca_bundle: str = "", plain: bool = False) -> None:
        try:
            self._context = https_context(None, None, ca_bundle)
        except InvalidConfig as error:
            problem, remedy = str(error.details["problem"]), str(error.details["remedy"])
            raise InvalidConfig("store_ca_bundle", problem, remedy) from None
        self._plain = plain
        self._avoided_until = 0.0

    @property
    def avoided(self) -> bool:
        """Whether models had better come through the reducer for now."""
        return time.monotonic() < self._avoided_until

    def avoid(self, why: LinkBroken) -> None:
        log.warning("%s; for a minute models come through the reducer", why.message)
        self._avoided_until = time.monotonic() + AVOIDED_SECONDS

    async def fetch(self, address: str, offset: int) -> AsyncGenerator[Buffer, None]:
        """The bytes from ``offset`` on. Raises LinkBroken."""
        url = _parsed(address)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        async with _broken(url), self._http() as http:
            answer = await self._asked(http, url, headers)
            if answer.status_code != (206 if offset else 200) or not _begins(answer, offset):
                raise LinkBroken(f"the model store at {url} answered {answer.status_code}{_hint(answer)}")
            async for chunk in answer.aiter_raw(CHUNK_BYTES):
                yield chunk

    async def _asked(self, http: httpx.AsyncClient, url: _Address, headers: dict[str, str]) -> httpx.Response:
        """The answer of the first address that takes our call; who was checked is who is called."""
        addresses = await _resolved(url)
        for at in addresses:
            self._check(url, at)
        while True:
            at = addresses.pop(0)
            request = http.build_request("GET", url, headers=headers, extensions={"sni_hostname": url.host})
            request.url = _Address(url, host=str(at))  # its own copy would show all in httpx's log
            try:
                return await http.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if not addresses:
                    raise

    def _check(self, url: _Address, at: IP) -> None:
        """Raises LinkBroken for what is not followed, though the reducer names it."""
        if at.is_link_local or at.is_unspecified or at.is_multicast or at in METADATA:
            raise LinkBroken(f"the model store at {url} is not followed: {at} is no address of a store")
        if url.scheme == "http" and not (at.is_loopback or self._plain):
            problem = f"the model store at {url} is not followed: it is plain HTTP, and the reducer is not"
            raise LinkBroken(f"{problem} — give it https://, or set insecure_store_http here")

    def _http(self) -> httpx.AsyncClient:
        """Of one call: it has no cookies, and no connection outlives the address."""
        return httpx.AsyncClient(
            verify=self._context, timeout=TIMEOUT, follow_redirects=False, trust_env=False
        )


class _Address(httpx.URL):
    """Shows whose it is, and not what makes it a right to read."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc.decode('ascii')}"

    def __repr__(self) -> str:
        return str(self)


def _parsed(address: str) -> _Address:
    try:
        url = _Address(address)
    except (httpx.InvalidURL, ValueError):
        url = _Address("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise LinkBroken("the reducer gave an address that is none of a model store")
    return url


async def _resolved(url: _Address) -> list[IP]:
    """Where its name leads, at most `ADDRESSES`, without any twice."""
    look_up = asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.wait_for(look_up, CONNECT_SECONDS)
    except (OSError, UnicodeError, TimeoutError):
        raise LinkBroken(f"the model store at {url} can't be reached (its name is not known here)") from None
    addresses = (ip_address(entry[4][0]) for entry in found)
    return [getattr(it, "ipv4_mapped", None) or it for it in dict.fromkeys(addresses)][:ADDRESSES]


def _begins(answer: httpx.Response, offset: int) -> bool:
    """Whether the answer starts at ``offset``."""
    return not offset or answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _hint(answer: httpx.Response) -> str:
    return "; has the address expired, or do the clocks differ?" if answer.status_code == 403 else ""


@asynccontextmanager
async def _broken(url: _Address) -> AsyncIterator[None]:
    """Without its cause: what httpx raises knows the whole address."""
    try:
        yield
    except (httpx.HTTPError, ssl.SSLError) as error:
        reason = tls_reason(error)
        if "authority" in reason:
            reason = "its certificate is not by an authority that this combiner knows"
        raise LinkBroken(
            f"the model store at {url} can't be reached ({reason or type(error).__name__})"
        ) from None
