"""The compute plan over HTTP: what can be said in it, and whether what somebody wants to say can be run."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from fedn.domain.ids import Digest
from fedn.domain.plan import Plan, plan_from
from fedn.reducer import planning
from fedn.reducer.books import PAUSED, RUNNING
from fedn.reducer.front import Front
from fedn.reducer.rest_forms import json_body, plain, plan_form


def plan_routes(front: Front) -> Blueprint:
    """Routes under /api/v1/plan."""
    routes = Blueprint("plan", __name__, url_prefix="/api/v1/plan")

    @routes.get("")
    def fields() -> Response:
        """The fields of a compute plan with words, bounds and defaults."""
        return jsonify(fields=plan_form())

    @routes.post("/check")
    def check() -> Response:
        """Look a plan over without starting anything: all that is wrong with it, or what it will do here.

        With the session's name it also says whether one of that name runs already.
        """
        body = json_body({"plan": dict, "name": str}, required=("plan",))
        values, network = body["plan"], front.network()
        wrong = planning.errors(values, front.state, [one.combiner for one in network.combiners if one.live])
        preview = () if wrong else sentences(plan_from(values), body.get("name", ""))
        return jsonify(ok=not wrong, errors=[plain(error.details) for error in wrong], preview=preview)

    def sentences(plan: Plan, name: str) -> tuple[str, ...]:
        package = front.state.package(Digest(plan.package)).name if plan.package else ""
        twin = name if name and _runs(front, name) else ""
        return planning.preview(plan, front.network(), package, twin)

    return routes


def _runs(front: Front, name: str) -> bool:
    """Whether a session of this name runs, or rests."""
    return any(info.name == name and info.state in (RUNNING, PAUSED) for info in front.state.sessions())
