"""The document of the REST API says what the routes, the roles and the plan say, and answers fit it."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from package_files import archive

from fedn.config import ReducerSettings
from fedn.domain.errors import InvalidPlan
from fedn.domain.ids import PROTOCOL_VERSION
from fedn.domain.messages import Gauge
from fedn.domain.plan import Plan, plan_fields, plan_from
from fedn.identity.certificates import new_key
from fedn.identity.roles import REST, may_rest
from fedn.reducer.openapi_shapes import SHAPES
from fedn.reducer.rest import create_app

COMBINER = {"protocol": PROTOCOL_VERSION, "combiner": "c1", "address": "127.0.0.1:12080", "incarnation": "i1"}


@pytest.fixture
def app(service):
    return create_app(service, ReducerSettings())


@pytest.fixture
def http(app):
    return app.test_client()


@pytest.fixture
def document(http) -> dict[str, Any]:
    answer = http.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    return answer.get_json()


def operations(document: dict[str, Any]):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def braced(rule: str) -> str:
    """A rule as OpenAPI writes it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def routes(app) -> set[str]:
    return {
        f"{method} {braced(rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/v1/")
    }


def test_it_has_every_route_and_no_other(app, document):
    assert {name for name, _ in operations(document)} == routes(app)
    assert "GET /api/v1/sessions/{session}/rounds/{number}" in routes(app)


def test_every_route_that_somebody_may_ask_for_has_a_form():
    assert SHAPES.keys() == {key for key in REST if key.partition(" ")[2].startswith("/api/v1/")}


def test_it_is_valid_openapi(document):
    assert document["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document).validate()
    jsonschema_rs.meta.validate(plan_schema(document))
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


@pytest.mark.parametrize("broken", [["info"], ["paths", "/api/v1/plan", "get", "responses"]])
def test_the_check_of_validity_can_fail(document, broken):
    spoilt = deepcopy(document)
    place = spoilt
    for key in broken[:-1]:
        place = place[key]
    place[broken[-1]] = "nothing"
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(spoilt).validate()


def test_every_operation_has_a_name_of_its_own_and_a_sentence(document):
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert not [name for name, operation in operations(document) if not operation.get("summary")]


def test_it_says_who_may_as_the_table_does(document):
    by_name = {key.partition(" ")[0] + " " + braced(key.partition(" ")[2]): row for key, row in REST.items()}
    for name, operation in operations(document):
        row = by_name[name]
        assert set(operation["x-roles"]) == {str(role) for role in row.roles}, name
        assert operation.get("x-audit", "") == row.audit
        named = {role for way in operation["security"] for roles in way.values() for role in roles}
        method, _, path = name.partition(" ")
        everybody = may_rest("nobody", method, path)
        assert named == (set() if everybody else {str(role) for role in row.roles}), name


# --- the plan --------------------------------------------------------------------------------------


def plan_schema(document) -> dict[str, Any]:
    body = document["paths"]["/api/v1/sessions"]["post"]["requestBody"]["content"]["application/json"]
    return body["schema"]["properties"]["plan"]


def values_around(kind: type, metadata) -> list[Any]:
    """Values in and out of a field's bounds."""
    odd = ["text", None, [], True, 1, 0.5]
    if "low" in metadata:
        low, high = metadata["low"], metadata["high"]
        step = 1 if kind is int else 0.01
        return [*odd, low, high, low - step, high + max(step, abs(high) * 1e-9 * (kind is float))]
    if "pattern" in metadata:
        odd += ["", "a" * 64, "a" * 65, "A" * 64]
    return [*odd, *metadata.get("choices", ())]


def test_its_plan_takes_what_a_plan_takes(document):
    check = jsonschema_rs.validator_for(plan_schema(document))
    assert set(plan_schema(document)["properties"]) == {name for name, *_ in plan_fields()}
    assert check.is_valid(Plan().as_dict())
    assert not check.is_valid({"unknown": 1})
    tried = 0
    for name, kind, _, metadata in plan_fields():
        if name == "config":
            continue
        for value in values_around(kind, metadata):
            try:
                plan_from({"max_clients": 0, name: value} if name != "max_clients" else {name: value})
                fits = True
            except InvalidPlan:
                fits = False
            assert check.is_valid({name: value}) == fits, (name, value)
            tried += 1
    assert tried > 80


@pytest.mark.parametrize(
    ("config", "fits"),
    [
        ({"lr": 0.1, "on": True, "n": 3, "word": "adam"}, True),
        ({"": 1}, False),
        ({"n" * 65: 1}, False),
        ({"w": "x" * 4097}, False),
        ({"deep": {}}, False),
        ({"lr": {"1": 0.1, "20": 0.01}}, True),
        ({"lr": {"2": 0.1}}, False),
        ({"lr": {"1": 0.1, "x": 0.1}}, False),
        ({"lr": {"1": {"1": 0.1}}}, False),
        ({"seed": 1}, False),
        ({"none": None}, False),
        ({str(n): n for n in range(64)}, True),
        ({str(n): n for n in range(65)}, False),
        ([], False),
    ],
)
def test_its_plan_takes_the_hyperparameters_that_a_plan_takes(document, config, fits):
    assert jsonschema_rs.validator_for(plan_schema(document)).is_valid({"config": config}) == fits
    try:
        plan_from({"config": config})
    except InvalidPlan:
        assert not fits
    else:
        assert fits


# --- answers ---------------------------------------------------------------------------------------


def check_answer(document, operation: str, answer) -> None:
    method, _, path = operation.partition(" ")
    responses = document["paths"][path][method.lower()]["responses"]
    status = str(answer.status_code)
    found = responses.get(status) or responses[f"{status[0]}XX"]
    schema = found["content"]["application/json"]["schema"]
    check = jsonschema_rs.validator_for(schema | {"components": document["components"]})
    check.validate(answer.get_json())


def test_every_answer_of_a_session_fits(small, service, http, document):
    service.gauges = (Gauge("clients", 1, 2, 1),)
    check_answer(document, "POST /api/v1/combiners", http.post("/api/v1/combiners", json=COMBINER))
    seed = http.post("/api/v1/models?name=zeros", data=small.model_file())
    check_answer(document, "POST /api/v1/models", seed)
    check_answer(document, "GET /api/v1/models/{digest}/info",
                 http.get(f"/api/v1/models/{seed.get_json()['digest']}/info"))  # fmt: skip
    started = http.post("/api/v1/sessions", json={"name": "one", "plan": {"rounds": 2}})
    check_answer(document, "POST /api/v1/sessions", started)
    session = started.get_json()["session"]
    service.commit(session, 0.5)
    service.commit(session, 0.75)
    service.progress = {"state": "running", "round": 3}
    for path in ("", "/rounds", "/rounds/2", "/metrics", "/trail", "/trail/verify"):
        answer = http.get(f"/api/v1/sessions/{session}{path}")
        assert answer.status_code == 200
        rule = path.replace("/2", "/{number}")
        check_answer(document, f"GET /api/v1/sessions/{{session}}{rule}", answer)
    for path in ("plan", "healthz", "network", "combiners", "clients", "sessions", "models", "events"):
        answer = http.get(f"/api/v1/{path}")
        assert answer.status_code == 200
        check_answer(document, f"GET /api/v1/{path}", answer)
    assign = http.post("/api/v1/clients/assignment", json={"client": "client-a"})
    check_answer(document, "POST /api/v1/clients/assignment", assign)
    for verb in ("pause", "resume", "stop"):
        operation = f"POST /api/v1/sessions/{{session}}/{verb}"
        check_answer(document, operation, http.post(f"/api/v1/sessions/{session}/{verb}"))
    check_answer(document, "GET /api/v1/sessions/{session}", http.get("/api/v1/sessions/nobody"))


def test_every_answer_about_what_is_in_models_and_packages_fits(small, service, http, document):
    def fits(operation: str, path: str, **how: Any) -> None:
        method, _, rule = operation.partition(" ")
        answer = http.open(f"/api/v1/{path}", method=method, **how)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        check_answer(document, f"{method} /api/v1/{rule}", answer)

    package = http.post("/api/v1/packages", data=archive()).get_json()["digest"]
    session = small.seeded(service, package=package)
    service.commit(session.session, 0.5)
    first, second = session.head.model, service.state.session(session.session).head.model
    fits("GET models/formats", "models/formats")
    fits("POST models/check", "models/check", data=small.model_file())
    fits("GET models/{digest}/tensors", f"models/{second}/tensors")
    fits("GET models/{digest}/compare/{other}", f"models/{first}/compare/{second}")  # zeros first
    fits("GET models/{digest}/lineage", f"models/{second}/lineage")
    fits("GET packages/{digest}/info", f"packages/{package}/info")
    fits("GET packages/{digest}/files", f"packages/{package}/files")


def test_every_answer_about_who_is_who_fits(net, beside, document):
    http, key = net.app().test_client(), new_key()
    asked = {"request": net.request("client", "ann", key).decode()}
    joining = asked | {"token": net.token("client"), "name": "Ann", "labels": {"site": "north"}}
    wanted = {"role": "combiner", "name": "c1", "uses": 3, "expires_in": 60, "labels": {"a": "b"}}
    token = net.registrar.tokens()[0].token
    for operation, status, body in (
        ("GET /api/v1/authority", 200, None),
        ("POST /api/v1/join", 201, joining),
        ("POST /api/v1/renew", 200, asked),
        ("GET /api/v1/whoami", 200, None),
        ("POST /api/v1/tokens", 201, wanted),
        ("GET /api/v1/tokens", 200, None),
        ("GET /api/v1/members", 200, None),
        ("POST /api/v1/tokens/{token}/revoke", 200, {"members": True}),
        ("POST /api/v1/members/{role}/{member}/revoke", 200, None),
        ("GET /api/v1/audit", 200, None),
        ("GET /api/v1/audit?limit=1", 200, None),
        ("GET /api/v1/audit/verify", 200, None),
        ("GET /api/v1/tokens/nothing", 404, None),
    ):
        method, _, path = operation.partition(" ")
        path = path.format(token=token, role="client", member="ann")
        headers = dict(beside("small_network").bearer(net.admin))
        answer = http.open(path, method=method, json=body, headers=headers)
        assert answer.status_code == status, (operation, answer.get_data(as_text=True))
        if status < 400:
            check_answer(document, operation.partition("?")[0], answer)


def test_the_check_of_answers_can_fail(http, document):
    spoilt = deepcopy(document)
    answer = spoilt["paths"]["/api/v1/healthz"]["get"]["responses"]["200"]["content"]["application/json"]
    del answer["schema"]["properties"]["protocol"]
    with pytest.raises(jsonschema_rs.ValidationError, match="protocol"):
        check_answer(spoilt, "GET /api/v1/healthz", http.get("/api/v1/healthz"))
