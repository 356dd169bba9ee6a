"""A network with an identity over the small reducer: real certificates and tokens, a clock that tests set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedn.config import ReducerSettings
from fedn.domain.identity import Member, Principal, Role
from fedn.identity.certificates import new_key, new_request
from fedn.identity.credentials import Credentials
from fedn.identity.network_dir import NetworkDir, create
from fedn.reducer.auditing import Auditor
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest import create_app
from fedn.reducer.roll import Roll

HOST = "fl.example.org"
BY = Principal(Role.ADMIN, "admin")


class Clock:
    """Now, and later when a test says so."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class SmallNetwork:
    def __init__(self, service: Any, directory: Path) -> None:
        self.clock = Clock()
        self.service = service
        self.store = service.state.identity
        made = create(directory, "clinics", (HOST,), time.time())
        self.admin = made.token.reveal()
        self.dir = NetworkDir.open(directory)
        self.wallet = self.dir.wallet
        self.put_out: list[Member] = []
        self.auditor = Auditor(self.store, self.clock)
        self.roll = Roll()
        self.registrar = Registrar(
            self.store, self.dir.authority, self.auditor, name=self.dir.name, admin=self.dir.admin,
            certificate_seconds=3600.0, on_joined=self.roll.note, on_revoked=self._revoked, clock=self.clock,
        )  # fmt: skip

    def _revoked(self, member: Member) -> None:
        self.roll.note(member)
        self.put_out.append(member)

    def app(self, **settings: Any) -> Any:
        """The web application, as `fedn.reducer.app` makes it."""
        return create_app(self.service, ReducerSettings(**settings), self.registrar, self.dir.hosts)

    def token(self, role: str, **wanted: Any) -> str:
        return self.registrar.create_token(Role(role), BY, **wanted)[0].reveal()

    def request(self, role: str, member: str, key: bytes | None = None) -> bytes:
        return new_request(key or new_key(), Role(role), member)

    def join(self, role: str, member: str) -> Credentials:
        """What somebody has who has joined."""
        key = new_key()
        request = new_request(key, Role(role), member)
        issued = self.registrar.join(self.token(role), request, "", {}, "127.0.0.1")
        return Credentials(key, issued.certificate, issued.authority)

    def audit(self, event: str = "") -> list[Any]:
        """Entries of the audit log, of one kind if named."""
        entries = [stored.entry for stored in self.store.audit()]
        return [entry for entry in entries if event in ("", entry.event)]


def bearer(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}"}


def shown(credentials: Credentials) -> Mapping[str, str]:
    """The WSGI environment behind TLS, for somebody with a certificate."""
    return {"SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_CERT": credentials.certificate.decode()}
