"""What people's programs show the reducer, and whom they believe: a token, and the authority it names.

`http` uses it for every request, for scripts and commands alike. A token goes out on https alone, to a
reducer whose certificate the token's fingerprint vouches for.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fedn.domain.errors import InvalidInput, LinkBroken, Unauthenticated
from fedn.domain.identity import TOKEN_BYTES, TOKEN_PREFIX, Role, parse_token
from fedn.identity.roles import REST

FILE_VARIABLE, VARIABLE = "FEDN_TOKEN_FILE", "FEDN_TOKEN"


class Names(NamedTuple):
    """What the address and the token's file are called where they are given, for errors to name them."""

    url: str
    token_file: str


PYTHON = Names("url", "token_file")


def read_token(file: Path | None, environ: Mapping[str, str] = os.environ, names: Names = PYTHON) -> str:
    """The token's text: from ``file``, else from where the environment says; '' if nobody gave one."""
    if file is None and (named := environ.get(FILE_VARIABLE)):
        if environ.get(VARIABLE):
            raise InvalidInput(FILE_VARIABLE, f"and {VARIABLE} are both set", "unset one of the two")
        file = Path(named)
    if file is None:
        where, text = VARIABLE, environ.get(VARIABLE, "")
    else:
        where, text = str(file), _content(file, names)
        if not text.strip():
            raise InvalidInput(where, "is empty", "put the token into it")
    return parse_token(where, text).reveal() if text else ""


def _content(file: Path, names: Names) -> str:
    """At most what a token needs; more is not one."""
    try:
        with file.open("rb") as source:
            return source.read(TOKEN_BYTES + 1).decode("ascii", errors="replace")
    except OSError as error:
        shown = names.token_file if str(file).startswith(TOKEN_PREFIX) else str(file)
        raise InvalidInput(shown, f"can't be read ({error.strerror})", "give the path of a file") from None


def trust(url: str, token: str, ca_bundle: str, names: Names = PYTHON) -> ssl.SSLContext | bool:
    """How the certificate at ``url`` is checked: as the token's network has it, or by a company's bundle.

    Raises Unauthenticated where nothing says whom to trust, or another network answers; LinkBroken.
    """
    if not url.startswith("https:"):
        return True
    from fedn.wire.security import https_context

    if not token:
        if not ca_bundle:
            how = f"give your token's file with {names.token_file} or {FILE_VARIABLE}"
            raise Unauthenticated(f"{url} asks who you are, and no token is given: {how}", url=url)
        return https_context(None, None, ca_bundle)
    from fedn.identity.joining import fetch_authority

    try:
        authority = fetch_authority(url, parse_token("token", token).fingerprint, ca_bundle)
    except LinkBroken as error:
        raise LinkBroken(
            f"{error.message} (One without an identity speaks http:// alone.)", url=url
        ) from None
    return https_context(authority, None, ca_bundle)


def headers(url: str, token: str, loopback: bool, names: Names = PYTHON) -> dict[str, str]:
    """The header that shows the token. Over plain http it stays here."""
    if not token:
        return {}
    if url.startswith("https:"):
        return {"Authorization": f"Bearer {token}"}
    if not loopback:
        raise InvalidInput(
            names.url,
            "is plain http, and a token must not travel where others can read it",
            f"give https://…; for a network without identity unset {FILE_VARIABLE} and {VARIABLE}",
        )
    return {}


def refusal_of_tls(url: str, error: Exception) -> LinkBroken | None:
    """What went wrong with TLS at ``url``, in words; None if it was something else."""
    if not url.startswith("https:"):
        return None
    from fedn.wire.security import tls_reason

    reason = tls_reason(error)
    return LinkBroken(f"No reducer of your network answers at {url}: {reason}.", url=url) if reason else None


def who_may(method: str, path: str) -> str:
    """Which people may ask for ``path``, in words; '' if no route is like it."""
    for route, row in REST.items():
        wanted, _, rule = route.partition(" ")
        if method == wanted and re.fullmatch(re.sub(r"<[^>]*>", "[^/]+", rule), path):
            return " or ".join(role for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER) if role in row.roles)
    return ""
