"""Addresses of stores as they may be shown: whoever logs, lists or refuses one leaves its password out."""

from __future__ import annotations

import re

HIDDEN = "***"
_PATHS = ("sqlite:", "file:", "memory:")
_SECRET_OPTION = re.compile(
    r"([?&;][a-z_-]*(?:password|properties|secret|token|access[_-]?key)[a-z_-]*=)[^&;]*", re.IGNORECASE
)
"""Also those that no store takes: somebody has written them, and they are quoted when they are refused."""


def shown(url: str) -> str:
    """``url`` without its password. What comes before the last @ counts as user and password.

    A password may hold any character if its writer forgot to escape it, so everything up to there is hidden.
    """
    if url.startswith(_PATHS):
        return url
    scheme, slashes, rest = url.partition("://")
    userinfo, at, place = rest.rpartition("@")
    if at:
        user, colon, _ = userinfo.partition(":")
        rest = f"{user}{colon and f':{HIDDEN}'}@{place}"
    return _SECRET_OPTION.sub(rf"\g<1>{HIDDEN}", f"{scheme}{slashes}{rest}")


def holds_secret(url: str) -> bool:
    """Whether there is something in ``url`` that `shown` leaves out."""
    return shown(url) != url
