"""Whatever answers at the address that a token's owner was given: refused in words, and asked again or not.

It has proved nothing yet: only the fingerprint in the token says whether it is the network's reducer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import identities
import pytest
from hostile import RUNS, SEED, spoilt

from fedn.domain.errors import FednError
from fedn.domain.identity import Role
from fedn.identity.authority import Authority
from fedn.identity.certificates import new_key, new_request, read_request
from fedn.identity.credentials import Keyring, Wallet
from fedn.identity.joining import fetch_authority, join
from fedn.identity.tokens import new_token
from fedn.wire.security import https_server_context

FEWER = max(100, RUNS // 10)
"""Each is a connection with its own handshake."""


class Stranger:
    """Answers each request with the next of ``answers``."""

    def __init__(self, answers: Iterable[tuple[str, bytes]]) -> None:
        self._answers = iter(answers)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        status, body = next(self._answers)
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def answers(good: list[bytes]) -> Iterator[tuple[str, bytes]]:
    random = Random(SEED)
    deep = [b"[" * 100_000, b'{"a":' * 50_000, b'{"certificate":' * 40_000, b" " * 300_000, b"9" * 10_000]
    for _ in range(FEWER):
        status = random.choice(
            ("200 OK", "200 OK", "201 Created", "401 No", "302 Found", "503 Later", "599 ?")
        )
        kinds = (random.choice(deep), random.choice(good), *(spoilt(random, good) for _ in range(8)))
        yield status, random.choice(kinds)


@pytest.fixture
def authority() -> Authority:
    return Authority.create("fuzz", time.time())


def test_an_authority_that_is_none(authority: Authority, tally: Callable[[int], None]) -> None:
    other = Authority.create("other", time.time())
    shown = ({"name": "n", "certificate": a.certificate.decode()} for a in (authority, other))
    good = [*(json.dumps(one).encode() for one in shown), ERROR]
    kinds, context = Counter[str](), https_server_context(Wallet(identities.reducer(other)))
    with identities.https_server(Stranger(answers(good)), context) as port:
        for _ in range(FEWER):
            try:
                found = fetch_authority(f"https://127.0.0.1:{port}", authority.fingerprint)
            except FednError as error:
                kinds[error.code] += 1
            else:
                assert found.strip() == authority.certificate.strip()
    assert kinds.keys() >= {"unauthenticated", "link_broken"}, kinds
    tally(FEWER)


ERROR = json.dumps({"code": "conflict", "error": "no", "details": {}, "status": 409}).encode()


def test_a_certificate_that_is_none(
    authority: Authority, tmp_path: Path, tally: Callable[[int], None]
) -> None:
    """The reducer is the right one here, and may still be of another version, or broken."""
    token, _ = new_token(authority.fingerprint, Role.CLIENT, uses=0, created_at=0, seconds=1e9, created_by="")
    first = json.dumps({"name": "n", "certificate": authority.certificate.decode()}).encode()
    keyring = Keyring(tmp_path / "identity")
    issued = [authority.issue(read_request(new_request(key, role, who)), time.time(), 3600).decode()
              for key, role, who in ((keyring.key(), Role.CLIENT, "ann"), (new_key(), Role.CLIENT, "ann"),
                                     (keyring.key(), Role.CLIENT, "bob"))]  # fmt: skip
    good = [json.dumps({"certificate": pem, "authority": "", "expires_at": 1.5}).encode() for pem in issued]
    both = (answer for second in answers([*good, ERROR]) for answer in (("200 OK", first), second))
    kinds, context = Counter[str](), https_server_context(Wallet(identities.reducer(authority)))
    with identities.https_server(Stranger(both), context) as port:
        url = f"https://127.0.0.1:{port}"
        for _ in range(FEWER):
            try:
                held = asyncio.run(join(url, token, Role.CLIENT, "ann", "Ann", keyring))
            except FednError as error:
                kinds[error.code] += 1
                assert token.secret not in error.message  # noqa: PT017
            else:
                kinds[""] += 1
                assert str(held.principal) == "client:ann"
    assert kinds.keys() >= {"unauthenticated", "link_broken", ""}, kinds
    tally(FEWER)
