"""The reducer over HTTP, as combiners and clients see it: registration, discovery, models by digest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import httpx

from fedn.domain.errors import FednError, LinkBroken, error_from
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName
from fedn.domain.messages import Assignment, FetchRequest, Registration
from fedn.ports import Buffer
from fedn.wire.channel import is_loopback
from fedn.wire.chunks import CHUNK_BYTES

TIMEOUT = httpx.Timeout(10.0, connect=3.0)

T = TypeVar("T")


class HttpReducer:
    """Implements ports.ReducerLink. ``url`` is the reducer's, such as http://127.0.0.1:8090."""

    def __init__(self, url: str) -> None:
        loopback = is_loopback(f"{httpx.URL(url).host}:0")
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=f"{self._url}/api/v1", timeout=TIMEOUT, trust_env=not loopback, follow_redirects=True,
            headers={"Fedn-Protocol": str(PROTOCOL_VERSION)},
        )  # fmt: skip

    async def register(self, registration: Registration) -> None:
        await self._post("/combiners", {
            "protocol": registration.protocol, "combiner": registration.combiner,
            "address": registration.address, "incarnation": registration.incarnation,
        }, _protocol)  # fmt: skip

    async def assign(self, client: ClientId, prefer: str, avoid: str) -> Assignment:
        wanted = {"client": client, "prefer": prefer, "avoid": avoid, "protocol": PROTOCOL_VERSION}
        return await self._post("/clients/assignment", wanted, _assignment)

    async def fetch_model(self, request: FetchRequest) -> AsyncIterator[Buffer]:
        headers = {"Range": f"bytes={request.offset}-"} if request.offset else {}
        try:
            async with self._http.stream("GET", f"/models/{request.digest}", headers=headers) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise self._error(answer)
                async for chunk in answer.aiter_raw(CHUNK_BYTES):
                    yield chunk
        except httpx.HTTPError as error:
            raise self._broken(error) from None

    async def close(self) -> None:
        await self._http.aclose()

    async def _post(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        """What ``read`` makes of the answer; one that it can't read is a stranger's, and a broken link."""
        try:
            answer = await self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise self._broken(error) from None
        if answer.is_error:
            raise self._error(answer)
        try:
            return read(answer.json())
        except (ValueError, KeyError, TypeError):
            raise self._stranger(answer) from None

    def _broken(self, error: httpx.HTTPError) -> LinkBroken:
        return LinkBroken(
            f"no reducer at {self._url} ({type(error).__name__}); is `fedn reducer start` running?"
        )

    def _error(self, answer: httpx.Response) -> FednError:
        """The error that the reducer raised, by its code."""
        try:
            shape = answer.json()
            error = error_from(shape["code"], str(shape["error"]))
        except (ValueError, KeyError, TypeError):
            error = None
        return error or self._stranger(answer)

    def _stranger(self, answer: httpx.Response) -> LinkBroken:
        return LinkBroken(f"{self._url} answered {answer.status_code}, not as a reducer would; is it one?")


def _protocol(answer: Any) -> int:
    return int(answer["protocol"])


def _assignment(answer: Any) -> Assignment:
    return Assignment(CombinerName(str(answer["combiner"])), str(answer["address"]))
