"""The folder that is a network's identity: `fedn network init` makes it, the reducer opens it.

``ca.pem`` and ``ca.key`` are the authority, ``admin.token`` the first administrator's token,
``network.json`` the rest; ``reducer/`` is the reducer's own keyring. Who reads ``ca.key`` owns the
network: keep a copy of the folder where only you can reach it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedn.domain.errors import Conflict, Damaged, FednError, InvalidConfig, InvalidInput
from fedn.domain.identity import Role, Token, TokenText
from fedn.domain.ids import check_digest, check_id
from fedn.identity.authority import AUTHORITY_SECONDS, Authority, check_hosts
from fedn.identity.credentials import Credentials, Keyring, Wallet
from fedn.identity.secret_files import create_private, make_private_directory, read_small
from fedn.identity.tokens import new_token

log = logging.getLogger("fedn.identity")

CA, CA_KEY, ADMIN_TOKEN, NETWORK, REDUCER = "ca.pem", "ca.key", "admin.token", "network.json", "reducer"
REDUCER_SECONDS = 90 * 86_400.0
LOOK_SECONDS = 3600.0
"""How often a running reducer looks whether its certificate should be renewed."""
MAX_NAME = 64


@dataclass(frozen=True, slots=True)
class Created:
    """A new network: its folder, fingerprint, and the administrator's token, to be shown once."""

    directory: Path
    name: str
    fingerprint: str
    hosts: tuple[str, ...]
    token: TokenText = field(repr=False)


def create(directory: Path, name: str, hosts: tuple[str, ...], now: float) -> Created:
    """Make a network's identity in ``directory``. Raises InvalidInput, Conflict, StoreUnavailable.

    ``hosts`` are the names by which browsers reach the reducer. ``network.json`` comes last: a folder
    without it is not a network yet.
    """
    _check_name(name)
    check_hosts(hosts)
    make_private_directory(directory)
    if (directory / NETWORK).exists():
        raise Conflict(f"{directory} holds a network already; give another folder")
    for file in (CA_KEY, CA, ADMIN_TOKEN):
        if (directory / file).exists():
            raise Conflict(f"{directory} holds a {file} but no {NETWORK}: an init that was cut short? "
                           "Give another folder")  # fmt: skip
    authority = Authority.create(name, now)
    text, token = new_token(
        authority.fingerprint, Role.ADMIN, name="admin", uses=0, created_at=now, seconds=AUTHORITY_SECONDS,
        created_by="network init",
    )  # fmt: skip
    shape = {"name": name, "fingerprint": authority.fingerprint, "hosts": hosts, "admin": asdict(token)}
    create_private(directory / CA_KEY, authority.reveal_key())
    create_private(directory / CA, authority.certificate)
    create_private(directory / ADMIN_TOKEN, f"{text.reveal()}\n".encode())
    create_private(directory / NETWORK, json.dumps(shape, indent=2).encode() + b"\n")
    return Created(directory, name, authority.fingerprint, hosts, text)


class NetworkDir:
    """An opened network: its authority, and the reducer's own credentials."""

    def __init__(
        self, directory: Path, name: str, hosts: tuple[str, ...], authority: Authority, admin: Token
    ) -> None:
        """Made by `open`."""
        self.directory, self.name, self.hosts = directory, name, hosts
        self.authority, self.admin = authority, admin
        self._keyring = Keyring(directory / REDUCER)
        self.wallet: Wallet

    def __repr__(self) -> str:
        return f"NetworkDir({str(self.directory)!r}, {self.name!r})"

    @classmethod
    def open(cls, directory: Path, now: float | None = None) -> NetworkDir:
        """Read the folder; make the reducer's certificate, or renew it where half of its life is over.

        Raises InvalidConfig when there is no network in it, Damaged, StoreUnavailable.
        """
        now = time.time() if now is None else now
        raw = read_small(directory / NETWORK)
        if raw is None:
            raise InvalidConfig(
                "network_dir", f"{directory} holds no network", "make one with `fedn network init`"
            )
        name, hosts, stated, admin = _read(directory / NETWORK, raw)
        authority = Authority(_file(directory / CA), _file(directory / CA_KEY))
        if authority.fingerprint != stated:
            raise Damaged(
                f"{directory / CA} is not the authority that {NETWORK} names; bring the right one back"
            )
        if now >= authority.expires_at:
            raise InvalidConfig(
                "network_dir", f"the authority in {directory} has expired", "make a new network"
            )
        network = cls(directory, name, hosts, authority, admin)
        kept = network._kept()
        network.wallet = Wallet(kept if kept is not None else network._issue(now))
        network.renew(now)
        return network

    def renew(self, now: float) -> bool:
        """Renew the reducer's certificate if half of its life is over; says whether it was.

        Whoever has the `wallet` is told.
        """
        if now < self.wallet.current.renew_at:
            return False
        self.wallet.replace(self._issue(now))
        return True

    async def keep_renewed(self) -> None:
        """Renew whenever it is time, for ever."""
        while True:
            try:
                if await asyncio.to_thread(self.renew, time.time()):
                    log.info("the reducer's certificate was renewed")
            except FednError as error:
                log.error("the reducer's certificate is not renewed: %s", error.message)
            await asyncio.sleep(LOOK_SECONDS)

    def _issue(self, now: float) -> Credentials:
        issued = self.authority.issue_reducer(self.hosts, now, REDUCER_SECONDS, self._keyring.key())
        return self._keyring.save(issued.certificate, issued.authority)

    def _kept(self) -> Credentials | None:
        """The certificate of an earlier start; None if it is of another authority, or for other hosts."""
        kept = self._keyring.load()
        fits = kept is not None and self.authority.is_reducer(kept.certificate, self.hosts)
        return kept if fits else None


def _read(path: Path, raw: bytes) -> tuple[str, tuple[str, ...], str, Token]:
    try:
        shape: dict[str, Any] = json.loads(raw)
        admin: dict[str, Any] = shape["admin"]
        token = Token(**{**admin, "role": Role(admin["role"]), "labels": dict(admin["labels"])})
        check_id("token", token.token)
        check_digest("secret_digest", token.secret_digest)
        hosts = check_hosts(tuple(str(host) for host in shape["hosts"]))
        return _check_name(str(shape["name"])), hosts, str(shape["fingerprint"]), token
    except (ValueError, KeyError, TypeError, InvalidInput):
        raise Damaged(f"{path} is not what `fedn network init` wrote; bring the right one back") from None


def _file(path: Path) -> bytes:
    data = read_small(path)
    if data is None:
        raise Damaged(f"{path} is missing; bring it back, or make a new network in another folder")
    return data


def _check_name(name: str) -> str:
    if not (0 < len(name) <= MAX_NAME and name.isprintable() and name.strip() == name):
        raise InvalidInput("name", f"{name[:80]!r} is no name", f"give 1–{MAX_NAME} printable characters")
    return name
