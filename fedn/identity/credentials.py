"""What a process shows to say who it is: held (`Credentials`), kept on disk (`Keyring`), in use (`Wallet`).

The private key is made where it is used, and never leaves: what travels is signed with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedn.domain.errors import Conflict, Damaged, Unauthenticated
from fedn.domain.identity import Principal
from fedn.identity.certificates import (
    CLOCK_SLACK,
    issued_by,
    key_digest,
    new_key,
    private_key,
    read_certificate,
)
from fedn.identity.secret_files import create_private, make_private_directory, read_small, write_private

KEY, CERTIFICATE, AUTHORITY = "key.pem", "certificate.pem", "authority.pem"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A private key, the certificate for it, and that of the authority which issued it; all PEM."""

    key: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    authority: bytes = field(repr=False)

    @property
    def principal(self) -> Principal:
        return read_certificate(self.certificate).principal

    @property
    def expires_at(self) -> float:
        return read_certificate(self.certificate).not_after

    @property
    def renew_at(self) -> float:
        """When half of the certificate's life since it was issued is over."""
        certified = read_certificate(self.certificate)
        issued = min(certified.not_before + CLOCK_SLACK, certified.not_after)
        return (issued + certified.not_after) / 2


class Keyring:
    """A member's folder, for its owner alone: ``key.pem``, ``certificate.pem``, ``authority.pem``.

    The key is made once and kept. Every file is replaced in one step, and the certificate last, so that
    whatever a crash leaves is either a pair that belongs together, or taken for none.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        return f"Keyring({str(self.directory)!r})"

    def key(self) -> bytes:
        """The private key (PEM), made at the first call. Raises Damaged, StoreUnavailable."""
        path = self.directory / KEY
        if (pem := read_small(path)) is None:
            make_private_directory(self.directory)
            with suppress(Conflict):  # another process was faster, and its key is as good
                create_private(path, new_key())
            pem = read_small(path) or b""
        try:
            private_key(pem)
        except ValueError as error:
            raise Damaged(f"{path} is {error}; {_ANEW}") from None
        return pem

    def load(self) -> Credentials | None:
        """What was saved last, even if it has expired; None if nothing was. Raises Damaged."""
        certificate = read_small(self.directory / CERTIFICATE)
        authority = read_small(self.directory / AUTHORITY)
        if certificate is None or authority is None or not (self.directory / KEY).exists():
            return None
        key = self.key()
        self._check(key, certificate)
        try:
            paired = issued_by(certificate, authority)
        except ValueError:
            raise Damaged(f"{self.directory / AUTHORITY} is no certificate; {_ANEW}") from None
        # A join to another network that was cut short between the two files: it is still to be done.
        return Credentials(key, certificate, authority) if paired else None

    def save(self, certificate: bytes, authority: bytes) -> Credentials:
        """Keep a certificate for `key`, durably.

        Raises Unauthenticated, with nothing changed, if it is for another key or by another authority.
        """
        credentials = Credentials(self.key(), certificate, authority)
        try:
            fits = issued_by(certificate, authority)
        except ValueError:
            fits = False
        if not fits or read_certificate(certificate).key != _digest(credentials.key):
            raise Unauthenticated("the certificate is not for this key, or not by this authority")
        if read_small(self.directory / AUTHORITY) != authority:
            write_private(self.directory / AUTHORITY, authority)
        write_private(self.directory / CERTIFICATE, certificate)
        return credentials

    def _check(self, key: bytes, certificate: bytes) -> None:
        path = self.directory / CERTIFICATE
        try:
            certified = read_certificate(certificate)
        except Unauthenticated:
            raise Damaged(f"{path} is no certificate of a member; {_ANEW}") from None
        if certified.key != _digest(key):
            raise Damaged(f"{path} is not for the key beside it; {_ANEW}")


class Wallet:
    """The credentials that a process shows now. Safe to use from many threads."""

    def __init__(self, credentials: Credentials) -> None:
        self._current = credentials
        self._lock = threading.Lock()
        self._told: list[Callable[[Credentials], None]] = []

    def __repr__(self) -> str:
        return f"Wallet({self._current.principal})"

    @property
    def current(self) -> Credentials:
        return self._current

    def replace(self, credentials: Credentials) -> None:
        """Show these from now on, and tell whoever asked to be told, in this thread."""
        with self._lock:
            self._current = credentials
            told = tuple(self._told)
        for tell in told:
            tell(credentials)

    def on_change(self, tell: Callable[[Credentials], None]) -> Callable[[], None]:
        """Have ``tell`` called after every `replace`, in whatever thread; returns how to end that."""
        with self._lock:
            self._told.append(tell)

        def end() -> None:
            with self._lock:
                if tell in self._told:
                    self._told.remove(tell)

        return end


_ANEW = "remove it, and join anew with a new token"


def _digest(key: bytes) -> str:
    return key_digest(private_key(key).public_key())
