"""How a client or combiner comes to hold an identity: from its folder, or by joining with a token.

`joining.py` speaks with the reducer, `credentials.py` keeps what comes of it. The composition roots of both
tiers call `enter` before they do anything else.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fedn.domain.errors import InvalidConfig, Unauthenticated, Unavailable
from fedn.domain.identity import Principal, Role, TokenText
from fedn.identity.certificates import fingerprint, read_certificate
from fedn.identity.credentials import Credentials, Keyring, Wallet
from fedn.identity.joining import Tell, join, keep_renewed, nobody, renew

log = logging.getLogger("fedn.identity")

PAUSE_FIRST, PAUSE_MOST = 0.2, 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who wants in, what it is called, and the folder for its identity."""

    role: Role
    member: str
    name: str
    directory: Path

    @property
    def principal(self) -> Principal:
        return Principal(self.role, self.member)


class Membership:
    """A place in the network of the reducer at ``url``: what is shown there, and how it stays valid."""

    def __init__(self, url: str, keyring: Keyring, held: Credentials, ca_bundle: str, tell: Tell) -> None:
        """Made by `enter`."""
        self.wallet = Wallet(held)
        self._url, self._keyring, self._ca_bundle = url, keyring, ca_bundle
        self._tell = tell

    async def keep(self) -> None:
        """Renew in good time, for ever. Raises Revoked, Unauthenticated."""
        await keep_renewed(self._url, self._keyring, self.wallet, self._ca_bundle, self._tell)

    async def fresh(self) -> None:
        """Await this before dialling: what has expired, as after a long sleep, is renewed first."""
        if time.time() >= self.wallet.current.expires_at:
            self.wallet.replace(await renew(self._url, self._keyring, self._ca_bundle, self._tell))


async def enter(
    url: str, token: Callable[[], TokenText | None], who: Applicant, ca_bundle: str = "", tell: Tell = nobody
) -> Membership | None:
    """The place of ``who`` in the network of the reducer at ``url``; None where nobody asks (http://).

    An identity that is there is used, and renewed first if it has expired; else ``token`` is asked for.
    Waits for as long as no reducer answers; ``tell`` hears of all that is asked. Raises InvalidConfig,
    Unauthenticated, Revoked, Damaged, and what else joining raises.
    """
    keyring = Keyring(who.directory)
    held = keyring.load()
    if not url.startswith("https://"):
        if held is not None:
            problem = (
                f"{url} is plain HTTP, and {who.directory} holds an identity of a network that asks for one"
            )
            raise InvalidConfig("reducer", problem, "give its https:// address, or remove that folder")
        return None
    if held is None:
        held = await _joined(url, _wanted(token, who), who, ca_bundle, tell)
    else:
        _check_whose(held, who, token)
        if time.time() >= held.expires_at:
            held = await _renewed(url, token, who, ca_bundle, tell)
    _check_clock(held)
    return Membership(url, keyring, held, ca_bundle, tell)


async def _joined(url: str, token: TokenText, who: Applicant, ca_bundle: str, tell: Tell) -> Credentials:
    keyring, me = Keyring(who.directory), (who.role, who.member, who.name)
    held = await _patiently(lambda: join(url, token, *me, keyring, ca_bundle, tell=tell))
    log.info("joined the network %s as %s", token.fingerprint[:16], who.principal)
    return held


async def _renewed(
    url: str, token: Callable[[], TokenText | None], who: Applicant, ca_bundle: str, tell: Tell
) -> Credentials:
    """Whoever has been away for too long to renew may join anew."""
    try:
        return await _patiently(lambda: renew(url, Keyring(who.directory), ca_bundle, tell))
    except Unauthenticated as error:
        given = token()
        if given is None:
            raise
        log.warning("%s; joining anew", error.message)
        return await _joined(url, given, who, ca_bundle, tell)


async def _patiently(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What ``ask`` comes to, as soon as a reducer answers."""
    pause = PAUSE_FIRST
    while True:
        try:
            return await ask()
        except Unavailable as error:
            log.warning("not in the network yet: %s", error.message)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(PAUSE_MOST, pause * 2)


def _wanted(token: Callable[[], TokenText | None], who: Applicant) -> TokenText:
    given = token()
    if given is None:
        problem = f"is missing, and {who.directory} holds no identity yet"
        remedy = (
            f"ask for a token (`fedn token create --role {who.role}`) and give it as --join-file or --join"
        )
        raise InvalidConfig("join", problem, remedy)
    return given


def _check_whose(held: Credentials, who: Applicant, token: Callable[[], TokenText | None]) -> None:
    """Raises InvalidConfig if the folder holds the identity of somebody else, or of another network."""
    mine = held.principal
    if (mine.role, mine.name) != (who.role, who.member):
        problem = f"this is {who.principal}, and {who.directory} holds the identity of {mine}"
        raise InvalidConfig("name", problem, "give that name, or another folder")
    given = None
    with suppress(InvalidConfig):  # the file of a token that was used long ago may be gone
        given = token()
    if given is not None and given.fingerprint != fingerprint(held.authority):
        problem = f"is a token of another network than the one joined in {who.directory}"
        raise InvalidConfig("join", problem, "leave it out, or remove that folder to join the other network")


def _check_clock(held: Credentials) -> None:
    """Raises InvalidConfig if the certificate is for another time than this machine believes it to be."""
    now, certified = time.time(), read_certificate(held.certificate)
    if not certified.not_before <= now < certified.not_after:
        begin, end = _moment(certified.not_before), _moment(certified.not_after)
        problem = f"it is {_moment(now)} here, and the certificate is valid from {begin} to {end}"
        raise InvalidConfig("clock", problem, "set the clock of this machine, or of the reducer's")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
