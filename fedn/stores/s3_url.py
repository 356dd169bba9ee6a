"""Where a model store in S3 lies, and the keys to it: ``s3://bucket/prefix?option=value&…``.

The options, all of which may be left out:

    endpoint=https://host:port    the service; Amazon's by default
    public_endpoint=https://…     how combiners reach it, where that is not the endpoint
    proxy=true                    combiners don't reach it: models go through the reducer
    region=eu-north-1             us-east-1 by default
    path_style=true|false         bucket in the path or in the host name; by default as the service likes it
    ca=/path.pem                  authorities of the endpoint's certificate; this machine's by default
    insecure=true                 allow plain http:// beyond this machine
    cache=/folder                 where models on their way lie, unlinked; TMPDIR or /var/tmp by default
    cache_bytes=8589934592        how many bytes of models are kept there between two uses

Keys never stand in the URL. They come from FEDN_S3_ACCESS_KEY and FEDN_S3_SECRET_KEY, or from files that
these names with _FILE at their end point to, or from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_SESSION_TOKEN. Used by `fedn.stores.s3`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from fedn.domain.errors import InvalidConfig
from fedn.wire.channel import is_loopback

FIELD = "model_store"
AMAZON = "https://s3.amazonaws.com"
KEPT_BYTES = 8 * 2**30
OPTIONS = (
    "endpoint", "public_endpoint", "proxy", "region", "path_style", "ca", "insecure", "cache", "cache_bytes",
)  # fmt: skip
SECRET_FILE_BYTES = 4096

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_PREFIX = re.compile(r"(?:[\w-][\w.-]{0,99}/){0,8}\Z", re.ASCII)
_ENDPOINT = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?/?\Z", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,63}\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket and a prefix in it, ``''`` or with a slash at its end; and how to get there."""

    bucket: str
    prefix: str
    endpoint: str
    public_endpoint: str
    proxy: bool
    region: str
    path_style: bool | None
    ca: str
    cache: Path
    cache_bytes: int

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix} at {self.endpoint}"


@dataclass(frozen=True, slots=True)
class Keys:
    """What the store is opened with; never shown."""

    access: str
    secret: str = field(repr=False)
    session: str | None = field(default=None, repr=False)


def place_from(url: str, environ: Mapping[str, str] = os.environ) -> Place:
    """Read a URL. Raises InvalidConfig, which repeats nothing that could be a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidConfig(FIELD, "has a URL that can't be read", _FORM) from None
    if "@" in parts.netloc:
        raise InvalidConfig(FIELD, "has keys in its URL", _KEYS)
    if not _BUCKET.match(parts.netloc):
        raise InvalidConfig(f"{FIELD}, bucket", "is no name of a bucket", _FORM)
    prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
    if not _PREFIX.match(prefix) or parts.fragment:
        raise _wrong("prefix", prefix, "use letters, digits, dot, dash and underscore between slashes")
    options = _options(parts.query)
    insecure = _flag(options, "insecure")
    endpoint = _endpoint(options, "endpoint", AMAZON, insecure)
    return Place(
        bucket=parts.netloc,
        prefix=prefix,
        endpoint=endpoint,
        public_endpoint=_endpoint(options, "public_endpoint", endpoint, insecure),
        proxy=_flag(options, "proxy"),
        region=_region(options),
        path_style=_flag(options, "path_style") if "path_style" in options else None,
        ca=options.get("ca", ""),
        cache=Path(options.get("cache") or environ.get("TMPDIR") or "/var/tmp"),  # noqa: S108 — unlinked
        cache_bytes=_whole_number(options, "cache_bytes", KEPT_BYTES),
    )


def keys_from(environ: Mapping[str, str] = os.environ) -> Keys:
    """The keys in the environment. Raises InvalidConfig naming the variable."""
    access = _given("FEDN_S3_ACCESS_KEY", environ)
    secret = _given("FEDN_S3_SECRET_KEY", environ)
    if access or secret:
        return Keys(access or _missing("FEDN_S3_ACCESS_KEY"), secret or _missing("FEDN_S3_SECRET_KEY"))
    access = environ.get("AWS_ACCESS_KEY_ID", "") or _missing("FEDN_S3_ACCESS_KEY")
    secret = environ.get("AWS_SECRET_ACCESS_KEY", "") or _missing("AWS_SECRET_ACCESS_KEY")
    return Keys(access, secret, environ.get("AWS_SESSION_TOKEN") or None)


_FORM = "give s3://bucket/prefix?endpoint=https://host:port"
_KEYS = "keys are FEDN_S3_ACCESS_KEY and FEDN_S3_SECRET_KEY in the environment, or files that …_FILE names"


def _missing(variable: str) -> str:
    raise InvalidConfig(variable, "is not set, and a model store in S3 needs it", _KEYS)


def _given(variable: str, environ: Mapping[str, str]) -> str:
    """What a variable says, or the file that it with _FILE names; '' if neither is set."""
    text, path = environ.get(variable, ""), environ.get(f"{variable}_FILE", "")
    if text and path:
        raise InvalidConfig(variable, f"is given beside {variable}_FILE", "leave one of the two out")
    if not path:
        return text
    try:
        with Path(path).open("rb") as file:
            raw = file.read(SECRET_FILE_BYTES)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or "no such path"
        raise InvalidConfig(
            f"{variable}_FILE", f"{path} can't be read ({why})", "check the path and its rights"
        ) from None
    return raw.decode("ascii", "replace").strip() or _missing(f"{variable}_FILE")


# --- options ---------------------------------------------------------------------------------------


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=20)
    except ValueError:
        raise InvalidConfig(
            FIELD, "has options that can't be read", "give ?option=value&option=value"
        ) from None
    options = dict(pairs)
    for name in options:
        if name not in OPTIONS:
            remedy = f"known are {', '.join(OPTIONS)}; {_KEYS}"
            raise InvalidConfig(FIELD, f"has an unknown option {name[:40]!r}", remedy)
    if len(options) < len(pairs):
        raise InvalidConfig(FIELD, "has an option twice", "give each once")
    return options


def _endpoint(options: Mapping[str, str], name: str, default: str, insecure: bool) -> str:
    value = options.get(name) or default
    if not _ENDPOINT.match(value):
        hidden = "an address with more than a host and a port" if "@" in value else value
        raise _wrong(name, hidden, "give https://host:port")
    host = urlsplit(value).hostname or ""
    if value.startswith("http://") and not insecure and not is_loopback(f"{host}:0"):
        problem = f"{value!r} is plain HTTP: whoever is on the way reads and changes every model"
        raise _wrong(name, problem, "give its https:// address; or insecure=true on a network of your own")
    return value.rstrip("/")


def _region(options: Mapping[str, str]) -> str:
    region = options.get("region") or "us-east-1"
    if not _REGION.match(region):
        raise _wrong("region", region, "give one such as eu-north-1")
    return region


def _flag(options: Mapping[str, str], name: str) -> bool:
    value = options.get(name, "false")
    if value not in ("true", "false"):
        raise _wrong(name, value, "give true or false")
    return value == "true"


def _whole_number(options: Mapping[str, str], name: str, default: int) -> int:
    value = options.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise _wrong(name, value, "give a number of bytes")
    return int(value)


def _wrong(name: str, value: str, remedy: str) -> InvalidConfig:
    problem = value if " " in value else f"{value[:100]!r} can't be used"
    return InvalidConfig(f"{FIELD}, {name}", problem, remedy)
