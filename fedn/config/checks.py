"""What settings are checked for beyond their types: addresses, secrets in files, listening in the open."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from fedn.domain.errors import InvalidConfig, InvalidInput
from fedn.domain.identity import TokenText, parse_token
from fedn.domain.ids import check_id

INSECURE_FLAG = "--insecure-no-tls-no-auth"
SECRET_FILE_BYTES = 4096
PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]{1,64}){0,8}")
"""A path under which a proxy offers the reducer: '' or /fedn."""


class Opening(Protocol):
    """Settings that may open a process to other machines without identity."""

    @property
    def insecure(self) -> bool: ...


class Listening(Opening, Protocol):
    """Settings of a tier that listens."""

    @property
    def host(self) -> str: ...


def is_loopback(host: str) -> bool:
    """Whether ``host`` can only be reached from this machine; no name but localhost is believed."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_insecure(settings: Opening, identified: bool) -> None:
    """Refuse the flag for a network without identity where there is one; raises InvalidConfig."""
    if identified and settings.insecure:
        problem = "contradicts the identity that this network has"
        raise InvalidConfig("insecure_no_tls_no_auth", problem, "leave it out")


def check_listen(settings: Listening, identified: bool, remedy: str, field: str = "host") -> None:
    """Refuse to listen beyond loopback without an identity, unless told loudly; raises InvalidConfig."""
    host = getattr(settings, field)
    if not (identified or settings.insecure or is_loopback(host)):
        raise InvalidConfig(
            field,
            f"{host!r} can be reached from other machines, and nobody is asked who they are",
            f"{remedy}; or use 127.0.0.1; or give {INSECURE_FLAG} if nobody else is on this network",
        )


def check_url(field: str, value: str) -> None:
    """Require http(s)://host[:port]; raises InvalidConfig naming ``field``."""
    if not re.fullmatch(r"https?://[^\s/?#@]+/?", value):
        raise InvalidConfig(
            field, f"{value!r} is not an address", "give http://host:port or https://host:port"
        )


def check_prefix(field: str, value: str) -> None:
    """Require '' or a plain path without a slash at its end; raises InvalidConfig naming ``field``."""
    if not PREFIX.fullmatch(value):
        raise InvalidConfig(field, f"{value!r} is not a path", "give one such as /fedn, or nothing")


def check_networks(field: str, values: Sequence[str]) -> None:
    """Require networks such as 10.0.0.0/8; raises InvalidConfig naming ``field``."""
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise InvalidConfig(field, str(error), "give networks such as 10.1.2.0/24") from None


def read_secret(field: str, path: str) -> str:
    """The secret in a file, without the space around it; raises InvalidConfig naming field and file."""
    raw = beginning(field, path, SECRET_FILE_BYTES + 1)
    text = raw.decode("ascii", "replace").strip()
    if not text or len(raw) > SECRET_FILE_BYTES:
        problem = "holds too much" if text else "is empty"
        raise InvalidConfig(field, f"{path} {problem}", "put the secret into it, and nothing else")
    return text


def beginning(field: str, path: str, size: int) -> bytes:
    """The first bytes of a file; raises InvalidConfig naming field and file."""
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or "no such path"
        raise InvalidConfig(field, f"{path} can't be read ({why})", "check the path and its rights") from None


def parsed_token(field: str, text: str) -> TokenText:
    """A token that was given as a setting; raises InvalidConfig naming ``field``, and never shows it."""
    try:
        return parse_token(field, text)
    except InvalidInput as error:
        raise InvalidConfig(field, str(error.details["problem"]), str(error.details["remedy"])) from None


def checked_id(field: str, value: str) -> None:
    """Refuse what is no id; raises InvalidConfig naming ``field``."""
    as_config(field, check_id, value)


def as_config(field: str, check: Callable[[str, str], object], value: str) -> None:
    """Run a check of the domain over a setting; its InvalidInput becomes an InvalidConfig."""
    try:
        check(field, value)
    except InvalidInput as error:
        raise InvalidConfig(field, str(error.details["problem"]), str(error.details["remedy"])) from None
