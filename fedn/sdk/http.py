"""The reducer's REST API as people's programs use it; one place for addresses, time limits and errors."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import httpx

from fedn.domain.errors import (
    FednError,
    Forbidden,
    Incompatible,
    InvalidInput,
    LinkBroken,
    NotFound,
    error_from,
)
from fedn.domain.ids import PROTOCOL_VERSION, compatible
from fedn.sdk import access
from fedn.sdk.access import PYTHON, Names

ORDINARY = httpx.Timeout(30.0, connect=5.0)
PATIENT = httpx.Timeout(900.0, connect=5.0)
"""For answers that hash whole models before they come."""
STREAM = httpx.Timeout(30.0, connect=5.0)
"""The reducer gives a sign of life every 10 seconds."""


class Reducer:
    """A reducer at ``url``, shown ``token`` if it speaks https.

    Raises errors of `fedn.domain.errors` only: LinkBroken when it is not there, Unauthenticated when
    what answers there is not of the token's network.
    """

    def __init__(self, url: str, token: str = "", ca_bundle: str = "", names: Names = PYTHON) -> None:
        if not re.fullmatch(r"https?://[^\s/?#]+/?", url):
            raise InvalidInput(names.url, f"{url!r} is not an address", "give https://host:port")
        self._names = names
        self.url = url.rstrip("/")
        loopback = _loopback(url)
        shown = access.headers(self.url, token, loopback, names)
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            timeout=ORDINARY,
            headers={"Fedn-Protocol": str(PROTOCOL_VERSION), **shown},
            trust_env=not loopback,  # a proxy can't reach this machine's own loopback
            verify=access.trust(self.url, token, ca_bundle, names),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, patient: bool = False, **query: Any) -> Any:
        """The JSON at ``path``."""
        timeout = PATIENT if patient else ORDINARY
        return self._json(self._http.build_request("GET", path, params=query, timeout=timeout))

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON answer to ``body``."""
        return self._json(self._http.build_request("POST", path, json={} if body is None else body))

    def upload(self, path: str, chunks: Iterator[bytes], size: int, **query: Any) -> Any:
        """Send ``size`` bytes as they are read; the JSON answer."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        request = self._http.build_request(
            "POST", path, params=query, content=chunks, headers=headers, timeout=PATIENT
        )
        return self._json(request)

    @contextlib.contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], timeout: httpx.Timeout = ORDINARY
    ) -> Iterator[httpx.Response]:
        """An answer to be read piece by piece; a break while reading is LinkBroken too."""
        headers = {"Accept-Encoding": "identity", **headers}
        request = self._http.build_request("GET", path, headers=headers, timeout=timeout)
        with self._reached():
            answer = self._http.send(request, stream=True, follow_redirects=True)
            try:
                if answer.is_error:
                    answer.read()
                    raise _error(answer)
                yield answer
            finally:
                answer.close()

    def events(self, last: str = "") -> Iterator[dict[str, Any]]:
        """Events behind number ``last``, until the connection ends (LinkBroken or StopIteration)."""
        headers = {"Last-Event-ID": last} if last else {}
        with self.stream("/events/stream", headers, STREAM) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def pages(self, path: str, key: str, after: int | str = -1, **query: Any) -> Iterator[dict[str, Any]]:
        """Every item under ``key`` of a list that comes in pages."""
        following: int | str | None = after
        while following is not None:
            page = self.get(path, after=following, limit=500, **query)
            yield from page[key]
            following = page["next"]

    def _json(self, request: httpx.Request) -> Any:
        with self._reached():
            answer = self._http.send(request)
        if answer.is_error:
            raise _error(answer)
        self._check_protocol(answer)
        try:
            return answer.json()
        except (ValueError, RecursionError):
            raise FednError(
                f"{self.url} answered with something that is not JSON; is it a reducer?"
            ) from None

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            if refusal := access.refusal_of_tls(self.url, error):
                raise refusal from None
            raise LinkBroken(
                f"No reducer answers at {self.url}. Start one with `fedn reducer start`, "
                f"or give its address with {self._names.url} or FEDN_URL.",
                url=self.url,
            ) from None
        except httpx.TimeoutException:
            raise LinkBroken(f"The reducer at {self.url} did not answer in time.", url=self.url) from None
        except httpx.HTTPError as error:
            text = f"The connection to the reducer at {self.url} broke off ({error})."
            raise LinkBroken(text, url=self.url) from None

    def _check_protocol(self, answer: httpx.Response) -> None:
        theirs = answer.headers.get("Fedn-Protocol", "")
        if not theirs.isdigit():
            raise FednError(f"{self.url} answers, but it is not a reducer of fedn")
        if not compatible(int(theirs)):
            raise Incompatible(
                f"the reducer speaks protocol {theirs}, this command speaks {PROTOCOL_VERSION}",
                theirs=int(theirs),
                ours=PROTOCOL_VERSION,
            )


def session_named(reducer: Reducer, text: str, listing: str) -> str:
    """The id of the session that ``text`` names: its id, a part of it, or its name if no other has it."""
    sessions = reducer.get("/sessions")["sessions"]
    named = [item["session"] for item in sessions if item["name"] == text]
    if len(named) == 1:
        return str(named[0])
    return only("session", text, [item["session"] for item in sessions], listing)


def only(word: str, text: str, known: Sequence[str], listing: str) -> str:
    """The one of ``known`` that is ``text``, or begins or ends with it; ``listing`` shows them.

    Raises NotFound or InvalidInput.
    """
    if text in known:
        return text
    found = [item for item in known if text and (item.startswith(text) or item.endswith(text))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(
            f"There is no {word} {text[:80]!r}. `{listing}` shows those there are.", **{word: text}
        )
    some = ", ".join([*found[:3], "…"] if len(found) > 3 else found)
    raise InvalidInput(word, f"{text!r} matches {len(found)} ({some})", "give more letters, or the end")


def _loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _error(answer: httpx.Response) -> FednError:
    """The error that the reducer raised, as the same class here where the code is known."""
    try:
        form = answer.json()
        code, message, details = form["code"], str(form["error"]), dict(form["details"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return FednError(f"{answer.request.url} answered {answer.status_code}; is it a reducer?")
    if code == Forbidden.code and (roles := access.who_may(answer.request.method, answer.request.url.path)):
        message += f"; that takes the role {roles}"
    error = error_from(str(code), message, details)
    if error is None:
        error = FednError(message, **details)
        error.code, error.status = str(code), answer.status_code
    return error
