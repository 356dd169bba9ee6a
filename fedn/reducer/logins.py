"""Browsers that have shown a token, by the random text in their cookie. A restart ends them all."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from threading import Lock

from fedn.domain.identity import Principal
from fedn.domain.ids import Digest, digest_of

LOGIN_SECONDS = 12 * 3600.0
MAX_LOGINS = 1000
MAX_OF_ONE = 20
"""Browsers that one token is used in at once; beyond it the one that was not seen longest is logged out."""
COOKIE_LETTERS = 43


class Logins:
    """Thread-safe. Kept by the digest of what is in the cookie, so that reading memory lets nobody in."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = Lock()
        self._known: OrderedDict[Digest, Principal] = OrderedDict()

    def begin(self, principal: Principal) -> tuple[str, Principal]:
        """What to put into the cookie, and who that is from now on: ``principal``, for at most so long."""
        cookie = secrets.token_urlsafe(32)
        until = min(principal.expires_at, self._clock() + LOGIN_SECONDS)
        login = replace(principal, expires_at=until)
        with self._lock:
            of_one = [key for key, known in self._known.items() if known.token == principal.token]
            for key in of_one[: max(0, len(of_one) - MAX_OF_ONE + 1)]:
                del self._known[key]
            while len(self._known) >= MAX_LOGINS:
                self._known.popitem(last=False)
            self._known[digest_of(cookie.encode())] = login
        return cookie, login

    def find(self, cookie: str) -> Principal | None:
        """Who it is; None for a cookie of a login that has ended. Its token is for the registrar to check."""
        if len(cookie) != COOKIE_LETTERS or not cookie.isascii():
            return None
        key = digest_of(cookie.encode())
        with self._lock:
            if known := self._known.get(key):
                self._known.move_to_end(key)
        return known if known and self._clock() < known.expires_at else None

    def end(self, cookie: str) -> Principal | None:
        """Forget a login; returns who it was."""
        with self._lock:
            return self._known.pop(digest_of(cookie.encode("utf-8", "replace")), None)
