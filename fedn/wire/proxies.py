"""Which HTTP proxy a gRPC connection goes through, by the same variables that HTTP clients read.

gRPC by itself reads only the lower-case ones. The tunnel carries any protocol, so that TLS stays between
the two ends.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from fedn.domain.errors import InvalidConfig

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The first that is set counts; in lower or upper case, the lower first."""


def proxy_for(address: str, environ: Mapping[str, str] = os.environ) -> str:
    """The proxy's URL for ``host:port``; '' to connect directly, as ``no_proxy`` may demand.

    Raises InvalidConfig for a proxy that gRPC can't use, without its text, which may hold a password.
    """
    host = address.rpartition(":")[0].strip("[]").lower()
    excepted = _first(environ, "no_grpc_proxy", "no_proxy")[1].lower().split(",")
    if any(_covers(entry.strip(), host, address.lower()) for entry in excepted):
        return ""
    variable, value = _first(environ, *VARIABLES)
    if not value:
        return ""
    url = value if "://" in value else f"http://{value}"
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise InvalidConfig(variable, "is not a proxy that gRPC can go through",
                            "give http://host:port; what goes through it is TLS all the same")  # fmt: skip
    return url


def _covers(entry: str, host: str, address: str) -> bool:
    """Whether an entry of ``no_proxy`` means it: a name and all below, a network, host:port, or *."""
    if not entry:
        return False
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        name = entry.lstrip(".")
        return entry == "*" or name in (host, address) or host.endswith(f".{name}")


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    for name in names:
        # HTTP_PROXY could be a header named Proxy in a CGI process; this is none.
        for variable in (name, name.upper()):
            if value := environ.get(variable, "").strip():
                return variable, value
    return "", ""
