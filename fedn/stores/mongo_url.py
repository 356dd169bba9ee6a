"""Where a state store in MongoDB lies: ``mongodb://user@host:27017,host2:27017/database?option=value&…``

The database is ``fedn`` if none is named. Options are MongoDB's own: replicaSet, authSource, tls, tlsCAFile
and so on; those that would weaken a write are overruled.

The password comes from FEDN_MONGO_PASSWORD, or from a file that FEDN_MONGO_PASSWORD_FILE names; the user may
come from FEDN_MONGO_USER. It may stand in the URL, percent-encoded, which is then a secret itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from fedn.domain.errors import InvalidConfig
from fedn.domain.urls import holds_secret, shown

FIELD = "state_store"
DATABASE = "fedn"
"""Where the address names none."""
USER, PASSWORD, PASSWORD_FILE = "FEDN_MONGO_USER", "FEDN_MONGO_PASSWORD", "FEDN_MONGO_PASSWORD_FILE"
PASSWORD_BYTES = 4096
SELECT_SECONDS = 5.0
"""How long a call looks for a primary, unless serverSelectionTimeoutMS in the address says otherwise."""
_REMEDY = "give mongodb://user@host:27017/database; several hosts are separated by commas"
_KEYLESS = frozenset({"MONGODB-X509", "MONGODB-AWS", "MONGODB-OIDC", "GSSAPI"})
"""Ways to log in without a password of ours."""


@dataclass(frozen=True, slots=True)
class MongoUrl:
    """An address as the driver takes it. ``login`` is empty where the address says it all itself."""

    uri: str = field(repr=False)
    hosts: str
    database: str
    user: str
    login: Mapping[str, Any] = field(repr=False)
    options: frozenset[str]
    select_seconds: float

    def missing(self, **defaults: Any) -> dict[str, Any]:
        """Those of ``defaults`` that the address does not set itself."""
        return {name: value for name, value in defaults.items() if name.lower() not in self.options}

    def safe(self, text: str) -> str:
        """What the driver says of the address, unless a secret in it could be quoted."""
        return "it can't be used as it is" if holds_secret(self.uri) else text


def read_url(url: str, environ: Mapping[str, str] = os.environ) -> MongoUrl:
    """Raises InvalidConfig naming ``state_store``, which repeats nothing that could be a secret."""
    try:
        parsed = parse_uri(url, validate=True, warn=False)
    except (PyMongoError, ValueError) as error:
        # The driver quotes what it can't read, which may be a password.
        why = "; a password in it must be percent-encoded" if holds_secret(url) else f" ({error!s:.200})"
        raise InvalidConfig(FIELD, f"{shown(url)[:200]!r} is no address of MongoDB{why}", _REMEDY) from None
    except OSError as error:
        problem = f"names the file {error.filename}, which can't be read ({error.strerror})"
        raise InvalidConfig(FIELD, problem, "check the path and its rights") from None
    hosts = ", ".join(host if port is None else f"{host}:{port}" for host, port in parsed["nodelist"])
    database = parsed["database"] or DATABASE
    if parsed["collection"] or not re.fullmatch(r"[\w-]{1,38}", database, re.ASCII):
        raise InvalidConfig(FIELD, f"{database!r:.80} is no name for a database",
                            "use at most 38 letters, digits, - and _")  # fmt: skip
    user = parsed["username"] or environ.get(USER, "")
    options = {name.lower(): value for name, value in parsed["options"].items()}
    login: dict[str, Any] = {}
    if user and not parsed["password"] and options.get("authmechanism") not in _KEYLESS:
        source = options.get("authsource") or parsed["database"] or "admin"
        login = {"username": user, "password": _password(user, environ), "authSource": source}
    seconds = float(options.get("serverselectiontimeoutms", SELECT_SECONDS))
    return MongoUrl(url, hosts, database, user, login, frozenset(options), seconds)


def _password(user: str, environ: Mapping[str, str]) -> str:
    text, path = environ.get(PASSWORD, ""), environ.get(PASSWORD_FILE, "")
    if text and path:
        raise InvalidConfig(PASSWORD, f"is given beside {PASSWORD_FILE}", "leave one of the two out")
    if path:
        text = _read(path)
    if not text:
        raise InvalidConfig(PASSWORD, f"is not set, and the user {user!r} of the state store needs it",
                            f"set it, or {PASSWORD_FILE} to a file with it")  # fmt: skip
    return text


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(PASSWORD_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or "no such path"
        problem = f"{path} can't be read ({why})"
        raise InvalidConfig(PASSWORD_FILE, problem, "check the path and its rights") from None
    text = raw.decode("utf-8", "replace").strip("\r\n")
    if not text or len(raw) > PASSWORD_BYTES:
        problem = f"{path} holds too much" if text else f"{path} is empty"
        raise InvalidConfig(PASSWORD_FILE, problem, "put the password into it, and nothing else")
    return text
