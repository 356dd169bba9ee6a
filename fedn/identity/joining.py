"""Becoming a member of a network, and staying one: the way from a join token to a certificate.

The token's fingerprint vouches for the authority, so nothing that answers at the address is believed for
its own sake. The private key stays in the `Keyring`; what travels is a request that it has signed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable
from typing import Any

import httpx

from fedn.domain.errors import FednError, InvalidInput, LinkBroken, Revoked, Unauthenticated
from fedn.domain.identity import Principal, Role, TokenText, parse_token
from fedn.identity.certificates import fingerprint, new_request, read_certificate
from fedn.identity.credentials import Credentials, Keyring, Wallet
from fedn.wire.reducer_link import HTTP_ERRORS, answered, broken, http_options, stranger
from fedn.wire.security import https_context

log = logging.getLogger("fedn.identity")

MAX_ANSWER = 256 * 1024
"""More is not read from whoever answers."""
LOOK_SECONDS = 60.0
"""How often the clock, which may jump, is looked at while a renewal is waited for."""
RETRY_SECONDS = (1.0, 60.0)
Tell = Callable[[str, bytes], None]
"""Told before something is asked: 'join_asked' or 'renewal_asked', and the signing request that goes out.

In a thread, which may wait for the disk."""


def nobody(what: str, request: bytes) -> None:
    """Where nobody keeps a ledger of what is asked."""


def fetch_authority(url: str, fingerprint_: str, ca_bundle: str = "") -> bytes:
    """The certificate (PEM) of the authority whose fingerprint that is, from the reducer at ``url``.

    Raises Unauthenticated when the network there is another one, LinkBroken, InvalidInput.
    """
    _check_https(url)
    with httpx.Client(verify=_unverified(ca_bundle), **_options(url)) as http:
        try:
            with http.stream("GET", "/authority", headers=_PLAINLY) as answer:
                read = b""
                for piece in answer.iter_raw():
                    read = _bounded(url, read + piece)
                body = _understood(url, answer, read)
        except HTTP_ERRORS as error:
            raise broken(url, error) from None
    try:
        authority = str(body["certificate"]).encode("ascii")
        found = fingerprint(authority)
    except (KeyError, TypeError, ValueError):
        raise Unauthenticated(
            f"{url} did not show the authority of a fedn network; is it a reducer?"
        ) from None
    if found != fingerprint_:
        raise Unauthenticated(
            f"the network at {url} is not the one of this token: its fingerprint is {found}, the token's is "
            f"{fingerprint_}; check the address, and ask whoever gave you the token"
        )
    return authority


async def join(
    url: str, token: str | TokenText, role: Role, member: str, name: str, keyring: Keyring,
    ca_bundle: str = "", labels: dict[str, str] | None = None, *, tell: Tell = nobody,
) -> Credentials:  # fmt: skip
    """Show ``token`` and become ``member``; ``name`` is what people call it. May be repeated if cut short.

    Raises Unauthenticated (another network; a token that is wrong, used up or expired), Revoked, Conflict
    (the id belongs to another key), InvalidInput, LinkBroken.
    """
    text = parse_token("join", token) if isinstance(token, str) else token
    authority = await asyncio.to_thread(fetch_authority, url, text.fingerprint, ca_bundle)
    request = await asyncio.to_thread(lambda: new_request(keyring.key(), role, member))
    await asyncio.to_thread(tell, "join_asked", request)
    answer = await _ask(url, authority, ca_bundle, "/join", {
        "token": text.reveal(), "request": request.decode(), "name": name, "labels": labels or {},
    })  # fmt: skip
    return await _keep(url, answer, authority, Principal(role, member), keyring)


async def renew(url: str, keyring: Keyring, ca_bundle: str = "", tell: Tell = nobody) -> Credentials:
    """A new certificate for the same key, also when the old one has expired.

    Raises Revoked, Unauthenticated (the network does not know this key any more), LinkBroken.
    """
    kept = await asyncio.to_thread(keyring.load)
    if kept is None:
        raise Unauthenticated(f"{keyring.directory} holds no certificate to renew; join with a token first")
    who = kept.principal
    request = new_request(kept.key, who.role, who.name)
    await asyncio.to_thread(tell, "renewal_asked", request)
    answer = await _ask(url, kept.authority, ca_bundle, "/renew", {"request": request.decode()})
    return await _keep(url, answer, kept.authority, who, keyring)


async def keep_renewed(
    url: str, keyring: Keyring, wallet: Wallet, ca_bundle: str = "", tell: Tell = nobody
) -> None:
    """Renew whenever half of the certificate's life is over, for ever; what is new goes into ``wallet``.

    While the reducer is away it is asked again and again. Raises Revoked, and Unauthenticated when the
    certificate has expired and the network does not know its key any more.
    """
    pause, due = RETRY_SECONDS[0], _due(wallet.current)
    while True:
        await _until(due)
        try:
            wallet.replace(await renew(url, keyring, ca_bundle, tell))
            log.info("the certificate of %s was renewed", wallet.current.principal)
            # At once again would be due where this machine's clock is far ahead.
            pause, due = RETRY_SECONDS[0], max(_due(wallet.current), time.time() + RETRY_SECONDS[0])
        except Revoked:
            raise
        except FednError as error:
            if isinstance(error, Unauthenticated) and time.time() >= wallet.current.expires_at:
                raise
            log.warning("the certificate is not renewed: %s", error.message)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, RETRY_SECONDS[1])


async def _until(due: float) -> None:
    while (left := due - time.time()) > 0:  # noqa: ASYNC110 — there is no event for a clock that jumps
        await asyncio.sleep(min(left, LOOK_SECONDS))


def _due(credentials: Credentials) -> float:
    """About when half of the life is over: those who joined together need not renew together."""
    left = credentials.expires_at - credentials.renew_at
    return credentials.renew_at + random.uniform(-0.1, 0.1) * left


async def _ask(url: str, authority: bytes, ca_bundle: str, path: str, body: dict[str, Any]) -> Any:
    _check_https(url)
    context = await asyncio.to_thread(https_context, authority, None, ca_bundle)
    async with httpx.AsyncClient(verify=context, **_options(url)) as http:
        try:
            async with http.stream("POST", path, json=body, headers=_PLAINLY) as answer:
                read = b""
                async for piece in answer.aiter_raw():
                    read = _bounded(url, read + piece)
                return _understood(url, answer, read)
        except HTTP_ERRORS as error:
            raise broken(url, error) from None


async def _keep(url: str, answer: Any, authority: bytes, who: Principal, keyring: Keyring) -> Credentials:
    """Save the certificate that was answered, if it is what was asked for."""
    try:
        certificate = str(answer["certificate"]).encode("ascii")
    except (KeyError, TypeError, ValueError):
        raise Unauthenticated(f"{url} answered without a certificate; compare the versions of fedn") from None
    certified = read_certificate(certificate)
    if str(certified.principal) != str(who):
        raise Unauthenticated(f"{url} gave a certificate for {certified.principal}, not for {who}")
    return await asyncio.to_thread(keyring.save, certificate, authority)


def _options(url: str) -> dict[str, Any]:
    """A token goes to the reducer it was meant for, and nowhere it points to."""
    return {**http_options(url), "follow_redirects": False}


_PLAINLY = {"Accept-Encoding": "identity"}
"""Nothing compressed, which could be far larger than it looks."""


def _bounded(url: str, read: bytes) -> bytes:
    if len(read) > MAX_ANSWER:
        raise LinkBroken(f"{url} answered more than {MAX_ANSWER} bytes, not as a reducer would; is it one?")
    return read


def _understood(url: str, answer: httpx.Response, read: bytes) -> Any:
    whole = httpx.Response(answer.status_code, content=read)
    if answer.is_error:
        raise answered(url, whole)
    try:
        return whole.json()
    except (ValueError, RecursionError):
        raise stranger(url, whole) from None


def _unverified(ca_bundle: str) -> ssl.SSLContext:
    """For one question, whose answer the fingerprint vouches for."""
    if ca_bundle:
        return https_context(None, None, ca_bundle)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _check_https(url: str) -> None:
    if not url.startswith("https://"):
        problem = f"{url[:200]!r} is plain HTTP, on which everybody could read a token"
        raise InvalidInput("reducer", problem, "give the https:// address of the network")
