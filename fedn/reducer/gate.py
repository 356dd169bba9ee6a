"""In front of every route: who asks, whether they may, how often, and what of it goes into the audit log.

Who may what is the table in `fedn.identity.roles`; who is who the registrar knows. Handlers find who asks
in `principal`, and say with `audited` what they did. In a network without identity everybody is `anybody`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import ceil
from threading import Lock
from typing import Any, cast

from flask import Flask, Response, g, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fedn.config import is_loopback
from fedn.domain.errors import Busy, FednError, Forbidden, InvalidInput, Revoked, Unauthenticated
from fedn.domain.identity import MEMBERS, Principal, Role
from fedn.domain.rates import Rates
from fedn.identity.certificates import read_certificate
from fedn.identity.roles import may_rest, row_of
from fedn.reducer.auditing import Auditor, Scalar, address_of, stranger
from fedn.reducer.forgery import HEADER, PageTokens
from fedn.reducer.logins import Logins
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest_errors import browsed, error_form, host_asked
from fedn.reducer.web_connection import DONE

INTAKE = {"/api/v1/join": "join", "/api/v1/renew": "renew", "/login": "login"}
"""What strangers may post: counted by address."""
MAX_EACH_MEMBER = 8
"""Requests of one member that are answered at once; a combiner makes fewer (`fedn.wire.reducer_link`)."""
MAX_EACH = 24
"""The same of a person, whose browser keeps event streams open, and of strangers at one address.

Not counted in a network without identity: there all have one address, and each could stop it anyway.
"""
LOOK_SECONDS = 1.0
"""How often it is looked whether somebody who reads a long answer still may."""

_LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})
_DONE = frozenset({200, 201, 206, 307})


class Gate:
    """Thread-safe. ``registrar`` is None in a network without identity."""

    def __init__(
        self,
        auditor: Auditor,
        registrar: Registrar | None,
        hosts: Sequence[str] = (),
        threads: int = 48,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """``hosts``: the names under which browsers reach this reducer, besides those of its own machine.

        ``threads``: how many requests are answered at once; of three or more, nobody gets all.
        """
        self.logins = Logins(registrar.clock if registrar else time.time)
        self.page_tokens = PageTokens()
        self.registrar = registrar
        self._auditor = auditor
        self._hosts = frozenset(host.strip("[]").lower() for host in hosts)
        self._ticks = ticks
        self._lock = Lock()
        self._most = max(2, threads - 1)
        self._under_way = Counter[str]()
        self._rates = {
            "failed": Rates(0.5, 30),
            "join": Rates(20.0, 200),
            "renew": Rates(50.0, 1000),
            "login": Rates(1.0, 30),
            "all": Rates(100.0, 500),
        }

    def install(self, app: Flask) -> None:
        """Stand in front of, and behind, every route of ``app``."""
        app.before_request(self._before)
        app.after_request(self._after)

    # --- before ----------------------------------------------------------------------------------------

    def _before(self) -> AnyResponse | None:
        g.principal = stranger(request.remote_addr or "unknown")
        if self.registrar is None:
            g.principal = replace(g.principal, role=Role.ANYBODY)
            self._check_page(browser="Origin" in request.headers)
            return None
        if request.url_rule is None:  # there is no such route, and Flask says so
            return None
        row = row_of(request.method, request.url_rule.rule)
        if row is not None and Role.NOBODY in row.roles:
            self._let_in_strangers(request.url_rule.rule)
        else:
            try:
                g.principal, g.still = self._who(self.registrar)
            except (Unauthenticated, Revoked) as error:
                return self._ask_anew(error)
        self._check_host()
        self._check_page(browser="login" in g)
        self.spend("all", _counted(g.principal))
        self._take_place(g.principal)
        if not may_rest(g.principal.role, request.method, request.url_rule.rule):
            if g.principal.role is Role.NOBODY:
                return self._ask_anew(
                    Unauthenticated("say who you are: send `Authorization: Bearer <token>`")
                )
            raise Forbidden(f"{_a(g.principal.role)} may not {request.method} {request.url_rule.rule}")
        return None

    def _ask_anew(self, error: FednError) -> AnyResponse:
        """Send a browser to the login page; everybody else gets the error."""
        if not (browsed() and "text/html" in request.headers.get("Accept", "")):
            raise self.failed(error)
        return redirect(url_for("login.form", next=request.script_root + request.full_path.rstrip("?")))

    def _let_in_strangers(self, rule: str) -> None:
        """A route for everybody; whoever shows something that is no longer valid is a stranger."""
        if request.method == "POST" and (kind := INTAKE.get(rule)):
            self.spend(kind, address())
            return
        with suppress(FednError):
            g.principal, g.still = self._who(cast(Registrar, self.registrar))

    def _who(self, registrar: Registrar) -> tuple[Principal, Callable[[], None]]:
        """Who asks, and what raises as soon as that is no longer so. Raises Unauthenticated, Revoked."""
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, text = header.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("this way of saying who you are is unknown; send `Bearer <token>`")
            return _watched(registrar, registrar.person(text.strip()))
        if request.environ.get("SSL_CLIENT_VERIFY") == "SUCCESS":
            certificate = request.environ["SSL_CLIENT_CERT"].encode()
            g.certified = read_certificate(certificate).principal
            return _watched(registrar, registrar.member(certificate))
        cookie = request.cookies.get(cookie_name(), "")
        login = self.logins.find(cookie)
        if login is None:
            return stranger(g.principal.name), _nothing
        if request.method not in _LOOKS and "Origin" not in request.headers:
            raise Unauthenticated("a login acts from the reducer's own page alone; programs send a token")

        def still() -> None:
            if self.logins.find(cookie) is None:
                raise Unauthenticated("this login has ended")
            registrar.check(login)

        still()
        g.login = cookie
        return login, still

    def page_token(self) -> str:
        """What pages that are shown in answer to this request carry, for their writes.

        '' for whoever was refused before this gate, as foreign host names are.
        """
        return self.page_tokens.of(g.get("login", "")) if "principal" in g else ""

    def _check_page(self, browser: bool) -> None:
        """Writes of a browser come from a page of ours. At the login there is no login yet to be abused."""
        if not browser or request.method in _LOOKS or request.endpoint == "login.login":
            return
        plain_form = request.mimetype == "application/x-www-form-urlencoded"
        token = request.headers.get(HEADER) or (request.form.get("csrf", "") if plain_form else "")
        self.page_tokens.check(g.get("login", ""), token)

    def _check_host(self) -> None:
        """Refuse names that are not this reducer's where a browser acts by itself.

        Programs verify the reducer's certificate instead, and may come by any address.
        """
        if not browsed() and cookie_name() not in request.cookies:
            return
        host = host_asked().lower()
        starred = f"*.{host.partition('.')[2]}"  # as a company's certificate may have it
        if not is_loopback(host) and not {host, starred} & self._hosts:
            raise InvalidInput("Host", f"{host[:80]!r} is not a name of this network's reducer",
                               "ask for one of those that `fedn network init --host` named")  # fmt: skip

    # --- how often -------------------------------------------------------------------------------------

    def spend(self, kind: str, who: str) -> None:
        """Count a request. Raises Busy when ``who`` has made too many."""
        now = self._ticks()
        with self._lock:
            taken = self._rates[kind].take(who, now)
            wait = 0.0 if taken else self._rates[kind].wait(who, now)
        if not taken:
            seconds = max(1, ceil(wait))
            raise Busy(f"too many requests; try again in {seconds} s", retry_after=seconds)

    def _take_place(self, who: Principal) -> None:
        """Count a request until no thread works on it any more. Raises Busy when ``who`` has too many."""
        done = request.environ.get(DONE)
        if done is None:  # not from the web server, so it holds no thread of it
            return
        name, most = _counted(who), min(_at_once(who.role), self._most)
        with self._lock:
            if self._under_way[name] >= most:
                raise Busy(f"{most} requests of {who} are being answered; let one end first", retry_after=1)
            self._under_way[name] += 1
        done.callback(self._leave_place, name)

    def _leave_place(self, name: str) -> None:
        with self._lock:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]

    def failed(self, error: FednError) -> FednError:
        """Count that somebody could not say who they are; returns what to answer.

        Only failures are counted: whoever shares the address, and has what it takes, is not kept out.
        """
        g.refusal = error
        try:
            self.spend("failed", address())
        except Busy as busy:
            return busy
        return error

    # --- behind ----------------------------------------------------------------------------------------

    def _after(self, response: Response) -> Response:
        if DONE in request.environ:  # cheroot forgets to close an answer whose head finds nobody
            request.environ[DONE].callback(response.close)
        if request.url_rule is None or "principal" not in g:
            return response
        try:
            self._account(response)
        except FednError as error:
            response.close()
            text = f"the audit log can't be written: {error.message}"
            if request.method != "GET":
                text = f"{request.method} {request.path} was done, but {text}"
            return error_form(error.code, text, error.status)
        if response.is_streamed and "still" in g and g.principal.role is not Role.NOBODY:
            open_ended = response.content_length is None
            response.response = _CutOff(response.response, g.still, self._ticks, open_ended)
        return response

    def _account(self, response: Response) -> None:
        """Write what was done, or refused, unless somebody has written it already."""
        rule = cast(str, request.url_rule and request.url_rule.rule)
        if "written" in g:
            return
        if "refusal" in g:
            who = g.get("certified", g.principal)  # TLS knows them, also when they are no longer let in
            known = who.role is not Role.NOBODY
            asked = f"{request.method} {rule}"
            self._auditor.refused(address(), "refused", who, asked, g.refusal.message, known=known)
            return
        row = row_of(request.method, rule)
        if row and row.audit and response.status_code in _DONE and request.method != "HEAD":
            subject, details = g.get("audited") or (_named(request.view_args or {}), {})
            self._auditor.write(g.principal, row.audit, subject, **details)


class _CutOff:
    """The pieces of an answer while whoever reads them may. A stream just ends, a file breaks off."""

    def __init__(
        self, pieces: Iterable[Any], still: Callable[[], None], ticks: Callable[[], float], open_ended: bool
    ) -> None:
        self._pieces = pieces
        self._next = iter(pieces)
        self._still = still
        self._ticks = ticks
        self._open_ended = open_ended
        self._looked = ticks()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        piece = next(self._next)
        if (now := self._ticks()) - self._looked >= LOOK_SECONDS:
            self._looked = now
            try:
                self._still()
            except (Unauthenticated, Revoked):
                if self._open_ended:
                    raise StopIteration from None
                raise
        return piece

    def close(self) -> None:
        if hasattr(self._pieces, "close"):
            self._pieces.close()


# --- for handlers ------------------------------------------------------------------------------------------


def principal() -> Principal:
    """Who asks."""
    return cast(Principal, g.principal)


def address() -> str:
    """From where."""
    return address_of(request.remote_addr)


def own_name(name: str) -> None:
    """Raise Forbidden unless a member asks for itself. Its certificate says who it is."""
    who = principal()
    if who.role is not Role.ANYBODY and who.name != name:
        raise Forbidden(f"{who} may ask for itself alone, not for {name}")


def audited(subject: str, **details: Scalar) -> None:
    """What the audit entry of this request is to say; without, its subject is what the path names."""
    g.audited = (subject, details)


def written() -> None:
    """The audit log has this request's entry already."""
    g.written = True


def cookie_name() -> str:
    """By its prefix browsers know that no plain page may set it, nor another host if all of this is ours."""
    if not request.is_secure:
        return "fedn_login"
    return "__Secure-fedn_login" if request.script_root else "__Host-fedn_login"


def cookie_path() -> str:
    """What lives beside us on the same host gets no login of ours."""
    return request.script_root or "/"


def _watched(registrar: Registrar, who: Principal) -> tuple[Principal, Callable[[], None]]:
    return who, lambda: registrar.check(who)


def _named(view_args: Mapping[str, object]) -> str:
    return "/".join(map(str, view_args.values()))


def _counted(who: Principal) -> str:
    return address_of(who.name) if who.role is Role.NOBODY else str(who)


def _at_once(role: Role) -> int:
    return MAX_EACH_MEMBER if role in MEMBERS else MAX_EACH


def _nothing() -> None:
    """A stranger stays one."""


def _a(role: Role) -> str:
    return f"{'an' if role[0] in 'aeiou' else 'a'} {role}"
