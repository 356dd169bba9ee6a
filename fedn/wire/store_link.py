"""Models straight from their store, by addresses that the reducer gives; see `ports.Presigning`.

An address is a secret: it carries its own right to read. It is shown to the store it names and to nobody
else, stands in no log and no error, and is followed once, without any certificate or token of ours.
Used by `reducer_link.py`.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx

from fedn.domain.errors import InvalidConfig, LinkBroken
from fedn.ports import Buffer
from fedn.wire.channel import is_loopback
from fedn.wire.chunks import CHUNK_BYTES
from fedn.wire.security import https_context
from fedn.wire.tls_reasons import tls_reason

FOLLOWS = "Fedn-Follows"
"""The header by which a combiner says that it takes a model from elsewhere, too."""
AVOIDED_SECONDS = 60.0
TIMEOUT = httpx.Timeout(10.0, connect=3.0)

log = logging.getLogger("fedn.wire")


class StoreLink:
    """The way to the model store. A store that gave nothing is avoided for a minute.

    ``ca_bundle`` (the path of a PEM file) has the authorities of its certificate; this machine's without.
    Raises InvalidConfig for one that can't be used.
    """

    def __init__(self, ca_bundle: str = "") -> None:
        try:
            self._context = https_context(None, None, ca_bundle)
        except InvalidConfig as error:
            problem, remedy = str(error.details["problem"]), str(error.details["remedy"])
            raise InvalidConfig("store_ca_bundle", problem, remedy) from None
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
        async with _broken(url), self._http(url) as http:
            request = http.build_request("GET", url, headers=headers)
            request.url = url  # httpx logs it, and its own copy would show all
            answer = await http.send(request, stream=True)
            if answer.status_code != (206 if offset else 200) or not _begins(answer, offset):
                raise LinkBroken(f"the model store at {url} answered {answer.status_code}{_hint(answer)}")
            async for chunk in answer.aiter_raw(CHUNK_BYTES):
                yield chunk

    def _http(self, url: _Address) -> httpx.AsyncClient:
        """Of one call: it has no cookies, and no connection outlives the address."""
        environment = not is_loopback(f"{url.host}:0")  # whose proxy can't reach our loopback
        return httpx.AsyncClient(
            verify=self._context, timeout=TIMEOUT, follow_redirects=False, trust_env=environment
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
