"""Predictions and evaluations over HTTP: asked for with POST, answered as clients report."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from fedn.domain.errors import NotFound
from fedn.domain.ids import SessionId, check_digest, check_id
from fedn.domain.messages import TaskKind
from fedn.reducer.front import Front
from fedn.reducer.gate import audited
from fedn.reducer.inquiries import Inquiry, Question
from fedn.reducer.metrics import summary
from fedn.reducer.rest_forms import json_body, plain


def inquiry_routes(front: Front) -> Blueprint:
    """Routes under /api/v1/sessions/<session>."""
    routes = Blueprint("inquiries", __name__, url_prefix="/api/v1/sessions")

    @routes.post("/<session>/predict")
    def predict(session: str) -> tuple[Response, int]:
        """Have clients predict: {"model": digest, or "round"}, else the newest. Predictions stay there."""
        return _asked(front, session, TaskKind.PREDICT)

    @routes.post("/<session>/evaluate")
    def evaluate(session: str) -> tuple[Response, int]:
        """Have clients evaluate a model: {"model": digest, or "round"}, else the newest."""
        return _asked(front, session, TaskKind.VALIDATE)

    @routes.get("/<session>/inquiries")
    def listing(session: str) -> Response:
        """Predictions and evaluations, newest first; forgotten when the reducer stops."""
        found = front.inquiries(front.state.session(_id(session)).session)
        return jsonify(inquiries=[inquiry_form(inquiry) for inquiry in found])

    @routes.get("/<session>/inquiries/<inquiry>")
    def show(session: str, inquiry: str) -> Response:
        """One prediction or evaluation: what each client answered so far, or why it did not."""
        info = front.state.session(_id(session))
        return jsonify(inquiry_form(front.inquiry(info.session, check_id("inquiry", inquiry))))

    return routes


def _asked(front: Front, session: str, kind: TaskKind) -> tuple[Response, int]:
    info = front.state.session(_id(session))
    body = json_body({"model": str, "round": int})
    model, round_ = body.get("model", ""), body.get("round")
    if model:
        check_digest("model", model)
    if round_ is not None and not 0 <= round_ <= info.head.round:
        raise NotFound(f"session {info.session} has no round {round_}; its last is {info.head.round}")
    made = front.ask_clients(info.session, Question(kind, model, round_))
    audited(info.session, inquiry=made.inquiry, model=made.model, clients=len(made.asked))
    return jsonify(inquiry_form(made)), 202


def inquiry_form(inquiry: Inquiry) -> dict[str, Any]:
    """An inquiry with its answers by client, and their example-weighted means."""
    form = {name: plain(getattr(inquiry, name)) for name in
            ("inquiry", "session", "kind", "round", "model", "started_at", "running", "asked")}  # fmt: skip
    answers = [{"client": row.client, "examples": row.examples, "metrics": row.metrics}
               for row in inquiry.answers]  # fmt: skip
    failed = [{"client": client, "reason": reason} for client, reason in inquiry.failed.items()]
    return form | {"answers": plain(answers), "failed": failed, "means": plain(summary(inquiry.answers))}


def _id(session: str) -> SessionId:
    return SessionId(check_id("session", session))
