"""What happens around every HTTP request: limits, where it comes from, and the one shape of an error.

An error is ``{"code", "error", "details", "status"}`` on every route, whoever raised it: us, Flask
(no such route, wrong method, body too large) or a bug. People who asked for a page get a page.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, g, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from fedn.config import ReducerSettings, is_loopback
from fedn.domain.errors import FednError, Incompatible, InvalidInput
from fedn.domain.ids import PROTOCOL_VERSION, compatible
from fedn.packages.members import MAX_BYTES as MAX_PACKAGE_BYTES
from fedn.reducer.rest_forms import plain

PROTOCOL_HEADER = "Fedn-Protocol"
MAX_BODY_BYTES = 2**16
"""Of every request but a model or a package; `web_connection.py` gathers so much before it is answered."""
BODY_HERE = "fedn.body_here"
"""In the WSGI environment: whether the whole body had come before the request was begun (`web.py`)."""
MODEL_ENDPOINTS, PACKAGE_ENDPOINT = ("models.seed", "inspecting.check"), "packages.upload"

PRIVATE_NAMES = (".local", ".lan", ".internal", ".localdomain", ".home.arpa")
"""Ends of names that nobody can buy."""
PAGES = frozenset({"page", "login"})
"""Blueprints that answer with pages; those within them are named `page.…`."""

POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Nothing but from files of ours; Bootstrap has its small pictures in its styles, as data: images."""
STYLED_POLICY = POLICY.replace(" data:;", " data: blob:;") + "; style-src 'self' 'unsafe-inline'"
"""For pages with `g.styled`: plotly and Swagger UI write styles, though no scripts, into the page; a chart is
a blob: before it is a PNG."""

log = logging.getLogger(__name__)


def guard(app: Flask, settings: ReducerSettings, identity: bool) -> None:
    """Put the checks in front of, and the error shape behind, every route of ``app``.

    With an ``identity`` the gate checks the host's name, by who asks.
    """

    @app.before_request
    def _check() -> None:
        _check_size(settings)
        if not identity:
            _check_host(settings)
        if not identity:
            _check_site()
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            _check_origin()
        check_protocol(request.headers.get(PROTOCOL_HEADER))

    @app.after_request
    def _mark(response: Response) -> Response:
        response.headers[PROTOCOL_HEADER] = str(PROTOCOL_VERSION)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Content-Security-Policy"] = STYLED_POLICY if g.get("styled") else POLICY
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.register_error_handler(FednError, _ours)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _of_a_bug)


def error_form(code: str, message: str, status: int, details: Any = None) -> Response:
    """The one error shape."""
    response = jsonify(code=code, error=message, details=plain(details or {}), status=status)
    response.status_code = status
    return response


def browsed() -> bool:
    """Whether a page is asked for, not the API."""
    return (request.blueprint or "").partition(".")[0] in PAGES


def _shown(code: str, message: str, status: int, details: Any = None) -> Response:
    """The error as a page for people who asked for one, else in the one shape."""
    astray = request.blueprint is None and not request.path.startswith("/api")
    if (browsed() or astray) and "text/html" in request.headers.get("Accept", ""):
        return make_response(render_template("error.html", message=message, status=status), status)
    return error_form(code, message, status, details)


def check_protocol(header: str | None) -> None:
    """Refuse a neighbour whose announced protocol does not go with ours; silence is taken as ours."""
    if header is None:
        return
    if not (header.isascii() and header.isdigit() and len(header) < 10):
        raise InvalidInput(PROTOCOL_HEADER, f"{header[:80]!r} is not a version", "give a whole number")
    require_protocol(int(header))


def require_protocol(version: int) -> None:
    """Raise Incompatible with both versions unless ``version`` works together with ours."""
    if not compatible(version):
        raise Incompatible(
            f"you speak protocol {version}, this reducer speaks {PROTOCOL_VERSION}; "
            "install versions of fedn that are at most one protocol version apart",
            theirs=version,
            ours=PROTOCOL_VERSION,
        )


def _check_size(settings: ReducerSettings) -> None:
    uploads = dict.fromkeys(MODEL_ENDPOINTS, int(settings.max_model_bytes))
    uploads[PACKAGE_ENDPOINT] = MAX_PACKAGE_BYTES
    upload = request.endpoint in uploads
    limit = uploads.get(request.endpoint or "", MAX_BODY_BYTES)
    request.max_content_length = limit
    if (request.content_length or 0) > limit:
        word = "max_model_bytes" if request.endpoint in MODEL_ENDPOINTS else "the limit of this route"
        raise RequestEntityTooLarge(f"the body has {request.content_length} bytes; {word} is {limit}")
    if not upload and not request.environ.get(BODY_HERE, True):
        raise InvalidInput("body", "did not come with the request", "send it at once, with its length")


def _check_host(settings: ReducerSettings) -> None:
    """Refuse names that a foreign web page could have bent to this address (DNS rebinding)."""
    host = host_asked().lower()
    if is_loopback(host):
        return
    if not settings.insecure_no_tls_no_auth:
        raise InvalidInput("Host", f"{host[:80]!r} is not this machine", "ask for 127.0.0.1 or localhost")
    if not (_nobodys(host) or host in settings.host_names):
        problem = f"{host[:80]!r} is no name of this reducer, as far as it knows"
        raise InvalidInput("Host", problem, "ask for its address, or list the name in its host_names")


def _nobodys(host: str) -> bool:
    """Whether nobody out there can make this name lead here: an address, or a name of this place alone."""
    with suppress(ValueError):
        return bool(ip_address(host))
    return "." not in host or host.endswith(PRIVATE_NAMES)


def _check_site() -> None:
    """Refuse what a web page of another site loads: without a login, it could take all event streams.

    It may lead people here by a link. Browsers say so to https addresses and to this machine's own.
    """
    foreign = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    if foreign and request.headers.get("Sec-Fetch-Mode") != "navigate":
        raise InvalidInput("Sec-Fetch-Site", "is another site's", "act from the reducer's own page")


def host_asked() -> str:
    """The name or address that the request was sent to, without the port."""
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return ""


def _check_origin() -> None:
    """Refuse to act for a web page of another site."""
    origin = request.headers.get("Origin")
    own = {f"https://{request.host}"} | (set() if request.is_secure else {f"http://{request.host}"})
    if origin is not None and origin not in own:
        raise InvalidInput("Origin", f"{origin[:80]!r} is another site", "act from the reducer's own page")


def _ours(error: FednError) -> Response:
    if error.status >= 500 and error.code != "unavailable":
        log.error("%s %s: %s", request.method, request.path, error.message)
    response = _shown(error.code, error.message, error.status, error.details)
    if error.status in (401, 403):
        g.setdefault("refusal", error)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status == 429:
        response.headers["Retry-After"] = str(error.details.get("retry_after", 1))
    return response


def _of_http(error: HTTPException) -> Response | HTTPException:
    status = error.code or 500
    if status < 400:  # a redirect
        return error
    code = "too_large" if status == 413 else error.name.lower().replace(" ", "_")
    details = {"method": request.method, "path": request.path}
    response = _shown(code, error.description or error.name, status, details)
    for name, value in error.get_headers(request.environ):
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _of_a_bug(error: Exception) -> Response:
    log.exception("%s %s failed", request.method, request.path, exc_info=error)
    return _shown("internal", "the reducer failed here; its log says why", 500)
