"""Why a session or a round is as it is, over HTTP: one paragraph with its cause, evidence and remedy.

Pages and `fedn why` show what is made here; `why_gathering` reads the facts, `why` finds the cause.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Response, jsonify

from fedn.domain.ids import SessionId, check_id
from fedn.reducer.front import Front
from fedn.reducer.rest_forms import plain
from fedn.reducer.why import explain
from fedn.reducer.why_gathering import gathered


def why_routes(front: Front) -> Blueprint:
    """Routes under /api/v1/sessions/<session>."""
    routes = Blueprint("why", __name__, url_prefix="/api/v1/sessions")

    @routes.get("/<session>/why")
    def of_session(session: str) -> Response:
        """Why the session's present round waits or is slow, or how the session ended."""
        return jsonify(why_form(front, SessionId(check_id("session", session))))

    @routes.get("/<session>/rounds/<int:number>/why")
    def of_round(session: str, number: int) -> Response:
        """Where the time of a committed round went; of the round that follows, as for the session."""
        return jsonify(why_form(front, SessionId(check_id("session", session)), number))

    return routes


def why_form(front: Front, session: SessionId, number: int | None = None) -> dict[str, Any]:
    """The explanation as JSON, for pages, too. Raises NotFound."""
    facts = gathered(front, session, number, time.time())
    about = {"session": session, "round": facts.round, "state": facts.state, "at": facts.now}
    found: dict[str, Any] = plain(explain(facts))
    return about | found
