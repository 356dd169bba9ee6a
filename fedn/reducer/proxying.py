"""The reducer behind proxies: who is believed about where requests come from, and under which path it lives.

Below this, `request` is as the visitor's browser has it: its address, https or not, the host and the path
prefix that it asked for. `url_for` and cookies then fit by themselves.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

from fedn.config import ReducerSettings
from fedn.config.checks import PREFIX
from fedn.domain.errors import NotFound

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]
Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

OUTSIDE = "fedn.outside"
"""In the WSGI environment: the path is not below the prefix."""
DIRECT = re.compile(r"/(healthz|readyz|metrics|api/v1/.*)")
"""What machines ask for past the proxy: answered with and without the prefix."""


def behind_proxies(app: Flask, settings: ReducerSettings) -> None:
    """Put it in front of ``app``. Call it before anything else looks at requests."""
    wsgi: WSGI = Prefixed(app.wsgi_app, settings.path_prefix)
    if settings.trusted_proxies:
        networks = [ipaddress.ip_network(network) for network in settings.proxy_networks]
        wsgi = Believing(wsgi, settings.trusted_proxies, networks)
    app.wsgi_app = wsgi  # type: ignore[method-assign, assignment] # as Flask's documentation has it

    @app.before_request
    def _outside() -> None:
        if OUTSIDE in request.environ:
            raise NotFound(f"there is nothing here; this reducer is at {settings.path_prefix}/")


class Believing:
    """Takes X-Forwarded-For, -Proto, -Host and -Prefix from proxies of these networks alone.

    Combiners and clients come past the proxy, and must not be able to give another address than theirs.
    """

    def __init__(self, app: WSGI, proxies: int, networks: Networks) -> None:
        self._app = app
        self._fixed = ProxyFix(app, x_for=proxies, x_proto=proxies, x_host=proxies, x_prefix=proxies)
        self._networks = networks

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        peer = _address(environ.get("REMOTE_ADDR", ""))
        believed = peer is not None and any(peer in network for network in self._networks)
        return (self._fixed if believed else self._app)(environ, start)


class Prefixed:
    """Moves the prefix from the path into SCRIPT_NAME, unless a proxy has taken it off and says so."""

    def __init__(self, app: WSGI, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path, root = environ.get("PATH_INFO", ""), environ.get("SCRIPT_NAME", "").rstrip("/")
        if not PREFIX.fullmatch(root):
            root = ""
        if self._prefix and f"{path}/".startswith(f"{self._prefix}/"):
            path, root = path[len(self._prefix) :] or "/", self._prefix
        elif self._prefix and root != self._prefix:
            root = "" if DIRECT.fullmatch(path) else self._prefix
            if root:
                environ[OUTSIDE] = True
        environ["PATH_INFO"], environ["SCRIPT_NAME"] = path, root
        return self._app(environ, start)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
