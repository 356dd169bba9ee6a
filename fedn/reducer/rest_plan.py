"""The compute plan over HTTP: what can be said in it, and whether what somebody wants to say can be run."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from fedn.domain.plan import plan_from
from fedn.reducer import planning
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
        """Look a plan over without starting anything: all that is wrong with it, or what it will do here."""
        values = json_body({"plan": dict}, required=("plan",))["plan"]
        network = front.network()
        wrong = planning.errors(values, front.state, [one.combiner for one in network.combiners if one.live])
        preview = () if wrong else planning.preview(plan_from(values), network)
        return jsonify(ok=not wrong, errors=[plain(error.details) for error in wrong], preview=preview)

    return routes
