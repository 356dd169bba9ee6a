"""The reducer's REST API under /api/v1, for people, combiners and clients.

Reads come straight from the stores; everything that acts goes through the service. Neighbours: `gate`
(who may), `rest_errors` (limits and error shape), `rest_forms` (JSON), `rest_network`, `rest_models` (bytes),
`rest_inspecting`, `rest_packages`, `rest_inquiries`, `rest_events` (live), `rest_identity`
and `rest_login` (who is who), `openapi` (all of it in words), `pages` (for people with a browser).
`fedn.reducer.app` runs it in a threaded web server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from flask import Blueprint, Flask, Response, jsonify, request

from fedn.config import ReducerSettings
from fedn.domain.errors import InvalidInput, NotFound, Unavailable
from fedn.domain.ids import PROTOCOL_VERSION, SessionId, check_id
from fedn.domain.plan import plan_from
from fedn.domain.round import StoredRecord
from fedn.reducer.auditing import Auditor
from fedn.reducer.front import Front
from fedn.reducer.gate import Gate, audited
from fedn.reducer.metrics import KINDS, best_model, by_round, whole_rounds
from fedn.reducer.openapi import openapi_routes
from fedn.reducer.pages import Site, page_routes
from fedn.reducer.participation import participation
from fedn.reducer.prometheus import metrics_routes
from fedn.reducer.proxying import behind_proxies
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest_charts import chart_routes
from fedn.reducer.rest_errors import guard
from fedn.reducer.rest_events import event_routes
from fedn.reducer.rest_forms import (
    MAX_PAGE,
    json_body,
    plain,
    query_choice,
    query_number,
    record_form,
    round_form,
    session_form,
)
from fedn.reducer.rest_identity import identity_routes
from fedn.reducer.rest_inquiries import inquiry_routes
from fedn.reducer.rest_inspecting import inspecting_routes
from fedn.reducer.rest_login import login_routes
from fedn.reducer.rest_models import model_routes
from fedn.reducer.rest_network import network_routes
from fedn.reducer.rest_packages import package_routes
from fedn.reducer.rest_plan import plan_routes
from fedn.reducer.rest_why import why_routes
from fedn.reducer.spooling import Few
from fedn.reducer.tallies import Tallies
from fedn.reducer.timing import stored_seconds

PAGE_BYTES = 8 * 2**20
"""Of records on one page; who wants more of them goes on with ``next``."""
RECORDS_AT_ONCE = 20


def create_app(
    service: Front,
    settings: ReducerSettings,
    registrar: Registrar | None = None,
    hosts: Sequence[str] = (),
) -> Flask:
    """The WSGI application over a running ``service``.

    With a ``registrar`` everybody is asked who they are. ``hosts`` are the names that browsers may use.
    """
    app = Flask("fedn.reducer", static_folder=None)
    app.url_map.strict_slashes = False
    behind_proxies(app, settings)
    auditor = registrar.auditor if registrar else Auditor(service.state.identity)
    gate = Gate(auditor, registrar, hosts, settings.http_threads)
    guard(app, settings, identity=registrar is not None)
    gate.install(app)
    tallies = Tallies(service.state)
    for routes in (
        health_routes(service),
        network_routes(service, registrar),
        session_routes(service),
        plan_routes(service),
        trail_routes(service),
        inquiry_routes(service),
        why_routes(service),
        model_routes(service),
        inspecting_routes(service),
        package_routes(service),
        event_routes(service),
        openapi_routes(),
        metrics_routes(service),
        identity_routes(service.state.identity, registrar),
        login_routes(gate, auditor),
        chart_routes(service, tallies),
        page_routes(Site(service, registrar, settings, gate, tallies)),
    ):
        app.register_blueprint(routes)
    return app


def health_routes(front: Front) -> Blueprint:
    """Is it alive, is it ready."""
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    @routes.get("/api/v1/healthz")
    def healthz() -> Response:
        """The process answers."""
        return jsonify(status="alive", protocol=PROTOCOL_VERSION)

    @routes.get("/readyz")
    @routes.get("/api/v1/readyz")
    def readyz() -> Response:
        """The process does its work; 503 with the reason otherwise."""
        if reason := front.ready():
            raise Unavailable(reason)
        return jsonify(status="ready", protocol=PROTOCOL_VERSION)

    return routes


def session_routes(front: Front) -> Blueprint:
    """Sessions: start, look, pause, resume, stop."""
    routes = Blueprint("sessions", __name__, url_prefix="/api/v1/sessions")
    state = front.state

    @routes.get("")
    def listing() -> Response:
        """Sessions, newest first."""
        forms = [session_form(info) for info in state.sessions()]
        for form in forms:  # a session that waits says why, here too
            form["reason"] = form["reason"] or _progress(front, form["session"]).get("reason", "")
        return jsonify(sessions=forms)

    @routes.post("")
    def start() -> tuple[Response, int]:
        """Start a session: {"name", "model": digest or '' for the newest seed, "plan": {…}}."""
        body = json_body({"name": str, "model": str, "plan": dict})
        plan = plan_from(body.get("plan", {}))
        info = front.start_session(_title(body), body.get("model", ""), plan)
        audited(info.session, name=info.name, model=info.head.model, plan=plan.digest)
        return jsonify(session_form(info)), 201

    @routes.get("/<session>")
    def show(session: str) -> Response:
        """One session, how its round stands, and who can't take part; null where that is forgotten."""
        info = state.session(_id(session))
        unfit = plain(front.unfit(info.session))
        return jsonify(session_form(info) | {"progress": _progress(front, info.session), "unfit": unfit})

    @routes.post("/<session>/stop")
    def stop(session: str) -> Response:
        """End a session; what is committed stays."""
        return jsonify(session_form(front.stop_session(_id(session))))

    @routes.post("/<session>/pause")
    def pause(session: str) -> Response:
        """Let the open round be committed and begin no other, until it is resumed."""
        return jsonify(session_form(front.pause_session(_id(session))))

    @routes.post("/<session>/resume")
    def resume(session: str) -> Response:
        """Go on with a paused session."""
        return jsonify(session_form(front.resume_session(_id(session))))

    return routes


def _progress(front: Front, session: SessionId) -> dict[str, Any]:
    """What it does just now; empty once it has ended."""
    try:
        return dict(plain(front.round_progress(session)))
    except NotFound:
        return {}


def trail_routes(front: Front) -> Blueprint:
    """What a session has committed: rounds, metrics, trail."""
    routes = Blueprint("trail", __name__, url_prefix="/api/v1/sessions")
    state = front.state
    verifications, searches = Few(2, "verifications of trails"), Few(4, "searches for the best model")

    @routes.get("/<session>/rounds")
    def rounds(session: str) -> Response:
        """Committed rounds above ?after, at most ?limit, with their seconds by phase where they are known."""
        page = _page(front, session, "rounds", round_form)
        known = stored_seconds(state, _id(session), [item["round"] for item in page["rounds"]])
        timed = [item | {"seconds": plain(known[item["round"]])} for item in page["rounds"]]
        return jsonify(page | {"rounds": timed})

    @routes.get("/<session>/rounds/<int:number>")
    def one_round(session: str, number: int) -> Response:
        """One committed round: record, and every client's metrics."""
        stored = state.record(_id(session), number)
        found, _ = whole_rounds(state, _id(session), number - 1)
        rows = [row for row in found if row.round == number]
        means = by_round(rows)
        metrics = {"rows": plain(rows), "metrics": plain(means[0]) if means else {}}
        seconds = plain(stored_seconds(state, _id(session), [number])[number])
        return jsonify(round_form(stored) | record_form(stored) | metrics | {"seconds": seconds})

    @routes.get("/<session>/metrics")
    def metrics(session: str) -> Response:
        """Metrics of rounds above ?after, all or of a ?kind: rows by client, and weighted means by round."""
        info, kind = state.session(_id(session)), query_choice("kind", KINDS)
        found, following = whole_rounds(state, info.session, query_number("after", -1))
        rows = [row for row in found if kind in ("", row.kind)]
        return jsonify(rounds=plain(by_round(rows)), rows=plain(rows), next=following)

    @routes.get("/<session>/best")
    def best(session: str) -> Response:
        """The model with the best mean of a validation ?metric (that of the plan, else accuracy)."""
        info = state.session(_id(session))
        direction = query_choice("direction", ("max", "min"))
        with searches.one():
            return jsonify(plain(best_model(state, info, request.args.get("metric", ""), direction)))

    @routes.get("/<session>/clients")
    def clients(session: str) -> Response:
        """What each client did: rounds, examples, absences, last metrics; ?after an id, at most ?limit."""
        info, after = state.session(_id(session)), request.args.get("after", "")
        limit = query_number("limit", MAX_PAGE, low=1, high=MAX_PAGE)
        found = [one for one in participation(state, info.session) if one.client > after]
        following = found[limit - 1].client if len(found) > limit else None
        return jsonify(clients=plain(found[:limit]), next=following)

    @routes.get("/<session>/trail")
    def trail(session: str) -> Response:
        """The model trail above ?after, at most ?limit records."""
        return jsonify(_page(front, session, "records", record_form))

    @routes.get("/<session>/trail/verify")
    def verify(session: str) -> Response:
        """Check every record and model of the trail, byte by byte."""
        with verifications.one():
            report = front.verify_trail(state.session(_id(session)).session)
        return jsonify(plain(report) | {"ok": bool(report.ok)})

    return routes


def _page(front: Front, session: str, key: str, form: Any) -> dict[str, Any]:
    """Records above ?after under ``key``, the session's head, and the ``after`` of the next page."""
    info = front.state.session(_id(session))
    limit = query_number("limit", 100, low=1, high=MAX_PAGE)
    stored = _records(front, info.session, query_number("after", -1), limit)
    last = stored[-1].record.round if stored else info.head.round
    following = last if last < info.head.round else None
    return {key: [form(item) for item in stored], "head": plain(info.head), "next": following}


def _records(front: Front, session: SessionId, after: int, limit: int) -> list[StoredRecord]:
    """At most ``limit`` of them, and about `PAGE_BYTES`: a record names every contributor."""
    found, size = list[StoredRecord](), 0
    while len(found) < limit and size < PAGE_BYTES:
        more = front.state.records(session, after=after, limit=min(limit - len(found), RECORDS_AT_ONCE))
        if not more:
            break
        found += more
        size += sum(len(stored.raw) for stored in more)
        after = more[-1].record.round
    return found


def _id(session: str) -> SessionId:
    return SessionId(check_id("session", session))


def _title(body: dict[str, Any]) -> str:
    name = cast(str, body.get("name", ""))
    if len(name) > 200 or not name.isprintable():
        raise InvalidInput("name", "is too long or not printable", "give at most 200 letters")
    return name
