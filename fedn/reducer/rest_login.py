"""How people come in with a browser: they show their token once, and a cookie stands for it from then on."""

from __future__ import annotations

from flask import Blueprint, Response, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fedn.domain.errors import Conflict, FednError, InvalidInput
from fedn.domain.identity import Role
from fedn.reducer.auditing import Auditor
from fedn.reducer.gate import Gate, address, cookie_name, cookie_path, principal
from fedn.reducer.logins import LOGIN_SECONDS
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest_identity import NO_IDENTITY

FORM = "application/x-www-form-urlencoded"


def login_routes(gate: Gate, auditor: Auditor) -> Blueprint:
    """/login and /logout."""
    routes = Blueprint("login", __name__)

    @routes.get("/login")
    def form() -> AnyResponse:
        """The form; there is nothing to log in to in a network without identity."""
        if gate.registrar is None or principal().role is not Role.NOBODY:
            return redirect(_wanted(), 303)
        return _page("", 200)

    @routes.post("/login")
    def login() -> AnyResponse:
        """Take a token, and give a cookie for it."""
        registrar = _needed(gate)
        try:
            who = registrar.person(_token())
        except InvalidInput as error:
            return _page(error.message, error.status)
        except FednError as error:
            shown = gate.failed(error)
            return _page(shown.message, shown.status)
        cookie, _ = gate.logins.begin(who)
        auditor.write(who, "logged_in", who.token, address=address())
        g.principal = who
        answer = redirect(_wanted(), 303)
        answer.set_cookie(
            cookie_name(), cookie, max_age=int(LOGIN_SECONDS), path=cookie_path(),
            httponly=True, secure=request.is_secure, samesite="Strict",
        )  # fmt: skip
        return answer

    @routes.post("/logout")
    def logout() -> AnyResponse:
        """End this browser's login."""
        _needed(gate)
        gate.logins.end(request.cookies.get(cookie_name(), ""))
        answer = redirect(url_for("login.form"), 303)
        answer.delete_cookie(cookie_name(), path=cookie_path(), secure=request.is_secure, samesite="Strict")
        return answer

    return routes


def _needed(gate: Gate) -> Registrar:
    if gate.registrar is None:
        raise Conflict(NO_IDENTITY)
    return gate.registrar


def _wanted() -> str:
    """The page that was asked for before the login, if it is one of ours; else the overview."""
    asked = request.args.get("next", "")
    away = not asked.startswith("/") or asked[1:2] in ("/", "\\") or not asked.isprintable()
    return asked if not away and len(asked) < 1000 else url_for("page.overview.show")


def _token() -> str:
    if request.mimetype != FORM:
        raise InvalidInput("Content-Type", f"is {request.mimetype or 'missing'!r}", f"send {FORM}")
    return request.form.get("token", "").strip()


def _page(problem: str, status: int) -> Response:
    return make_response(render_template("login.html", problem=problem, next=_wanted()), status)
