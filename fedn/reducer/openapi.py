"""GET /api/v1/openapi.json: the REST API as an OpenAPI 3.1 document, made from what runs.

Paths come from Flask's own routes, sentences from their docstrings, who may from the table in
`fedn.identity.roles`, forms from `openapi_shapes`; nothing is said twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from flask import Blueprint, Flask, Response, current_app, jsonify, request
from werkzeug.routing import Rule

import fedn
from fedn.domain.identity import MEMBERS, PEOPLE, Role
from fedn.identity.roles import row_of
from fedn.reducer.openapi_shapes import PARAMETERS, SHAPES, Json, Schemas, Shape

PREFIX = "/api/v1/"
ERRORS = ("4XX", "503")
"""What every route may answer beside its own. Anything else above 400 is a fault of the reducer."""

_VARIABLE = re.compile(r"<(?:\w+:)?(\w+)>")
_ABOUT = (
    "Train models where the data is. In a network without identity nothing is asked of who calls, and "
    "everybody may do everything; `x-roles` says who may in a network with one, `x-audit` under which name "
    "a call is written into its audit log."
)
_SCHEMES: Json = {
    "person": {"type": "http", "scheme": "bearer", "description": "The token of one of the people."},
    "browser": {"type": "apiKey", "in": "cookie", "name": "__Host-fedn_login", "description": "A login."},
    "member": {"type": "mutualTLS", "description": "The certificate that a combiner or client joined with."},
}  # fmt: skip


def openapi_routes() -> Blueprint:
    """/api/v1/openapi.json."""
    routes = Blueprint("openapi", __name__, url_prefix="/api/v1")

    @routes.get("/openapi.json")
    def openapi() -> Response:
        """This document."""
        return jsonify(made() | {"servers": [{"url": request.script_root or "/"}]})

    @cache
    def made() -> Json:
        return document(current_app)

    return routes


def document(app: Flask) -> Json:
    """The OpenAPI document of every route of ``app`` under /api/v1."""
    schemas = Schemas()
    paths: dict[str, Json] = {}
    for rule, method in _operations(app):
        words = app.view_functions[rule.endpoint].__doc__ or ""
        path = paths.setdefault(_VARIABLE.sub(r"{\1}", rule.rule), {})
        path[method.lower()] = _operation(rule, method, words, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "fedn", "version": fedn.__version__, "description": _ABOUT},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas.named, "securitySchemes": _SCHEMES},
    }


def _operations(app: Flask) -> Iterator[tuple[Rule, str]]:
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(PREFIX):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method


def _operation(rule: Rule, method: str, words: str, schemas: Schemas) -> Json:
    shape = SHAPES.get(f"{method} {rule.rule}", Shape())
    summary, _, description = words.strip().partition("\n")
    operation: Json = {
        "operationId": f"{rule.endpoint}.{method.lower()}",
        "summary": summary,
        "description": " ".join(description.split()),
        "tags": [rule.endpoint.partition(".")[0]],
        "parameters": [*_in_path(rule), *_in_query(shape)],
        "responses": _responses(shape, schemas),
        **_who(method, rule.rule),
    }
    if shape.body is not None:
        content = {"application/json": {"schema": schemas.of(shape.body)}}
        operation["requestBody"] = {
            "required": len(shape.body.optional) < len(shape.body.forms),
            "content": content,
        }
    if shape.upload:
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": {shape.upload: binary}}
    return {key: value for key, value in operation.items() if value or key == "security"}


def _in_path(rule: Rule) -> Iterator[Json]:
    for name in _VARIABLE.findall(rule.rule):
        yield {"name": name, "in": "path", "required": True, "schema": PARAMETERS[name]}


def _in_query(shape: Shape) -> Iterator[Json]:
    for name, schema in shape.query.items():
        yield {"name": name, "in": "query", "required": False, "schema": schema}


def _responses(shape: Shape, schemas: Schemas) -> Json:
    content = {shape.media: {"schema": schemas.of(shape.answer)}}
    answers: Json = {str(shape.status): {"description": "Done.", "content": content}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    also = {str(status): {"description": words} for status, words in shape.also.items()}
    refused: Json = {"description": "Refused, and why.", "content": error}
    return answers | also | dict.fromkeys(ERRORS, refused)


def _who(method: str, rule: str) -> Json:
    """Who may, as our table has it, and by what they show that they are."""
    row = row_of(method, rule)
    if row is None:
        return {"x-roles": [], "security": []}
    people, members = sorted(row.roles & PEOPLE), sorted(row.roles & MEMBERS)
    ways: list[Json] = []
    if people and Role.NOBODY not in row.roles:
        ways += [{"person": people}, {"browser": people}]
    if members and Role.NOBODY not in row.roles:
        ways.append({"member": members})
    return {"x-roles": sorted(row.roles), "x-audit": row.audit, "security": ways}
