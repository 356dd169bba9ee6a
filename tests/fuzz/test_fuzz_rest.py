"""The REST API as everybody: what its own document says may be sent, what it says may not, and spoilt bytes.

The real WSGI application over the small reducer of its unit tests. Whatever comes, the answer is of the
form that the document promises, and never the fault of the reducer.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from random import Random
from typing import Any

import pytest
import schemathesis
from hostile import RUNS, SEED, fuzzed, resident, spoilt
from hypothesis import given, settings
from hypothesis.errors import Unsatisfiable
from package_files import archive
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from werkzeug.test import Client

from fedn.config import ReducerSettings
from fedn.domain.identity import MEMBERS, PEOPLE, Role
from fedn.domain.ids import CombinerName, Incarnation
from fedn.domain.messages import Registration, TaskKind
from fedn.domain.plan import Plan
from fedn.reducer.inquiries import Question
from fedn.reducer.rest import create_app

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
ENDLESS = "GET /api/v1/events/stream"
ROLES = [*sorted(PEOPLE), *sorted(MEMBERS), Role.REDUCER, Role.NOBODY, Role.ANYBODY]
MAY_MOST = {Role.ADMIN, Role.ANYBODY}
"""These are tried most; the others are mostly refused."""
FRESH = 300
"""Requests after which limits start anew: they are not what is tried here."""


class Seen:
    """The application as somebody sees it, from another address each time."""

    def __init__(self, made: Callable[[], Any], shown: Mapping[str, str]) -> None:
        self._made = made
        self._shown = shown
        self._requests = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self._requests % FRESH == 0:
            self._app = self._made()
        self._requests += 1
        address = f"10.0.{self._requests // 250 % 250}.{self._requests % 250}"
        environ = {**environ, **self._shown, "REMOTE_ADDR": address}
        environ["HTTP_HOST"] = environ.pop("HTTP_X_HOST", environ["HTTP_HOST"])
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


def seen_as(net: Any, role: Role) -> Seen:
    """As this role; anybody is everybody in a network without identity."""
    if role is Role.ANYBODY:
        return Seen(lambda: create_app(net.service, ReducerSettings(max_model_bytes=10_000)), {})
    shown: dict[str, str] = {}
    if role in PEOPLE:
        shown = {"HTTP_AUTHORIZATION": f"Bearer {net.token(role)}"}
    elif role in MEMBERS or role is Role.REDUCER:
        credentials = net.wallet.current if role is Role.REDUCER else net.join(role, "c1")
        shown = {"SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_CERT": credentials.certificate.decode()}
    return Seen(lambda: net.app(max_model_bytes=10_000), shown)


def document(net: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {net.admin}"}
    made: dict[str, Any] = net.app().test_client().get("/api/v1/openapi.json", headers=headers).get_json()
    return made


@pytest.fixture
def there(net: Any) -> dict[str, Any]:
    """Things to ask for: a session with rounds, its model, a member, a token. There is a combiner, too."""
    digest = net.service.seed_model([net.small.model_file()], "zeros", 0).digest
    session = net.service.start_session("one", digest, Plan()).session
    net.service.commit(session, 0.5)
    net.service.commit(session, 0.75)
    net.service.register(Registration(1, CombinerName("c9"), "127.0.0.1:1", Incarnation("i9")))
    net.join("client", "ann")
    token = net.registrar.tokens()[0].token
    return {
        "session": session,
        "number": 1,
        "digest": digest,
        "other": net.service.state.session(session).head.model,
        "name": "fedn.yaml",
        "role": "client",
        "member": "ann",
        "client": "client-a",
        "combiner": "c9",
        "token": token,
        "inquiry": net.service.ask_clients(session, Question(TaskKind.PREDICT)).inquiry,
    }


@pytest.fixture
def faults(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged as an error."""
    caplog.set_level(logging.ERROR)
    return lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def checks(mode: GenerationMode) -> list[Any]:
    return [*CHECKS, refused] if mode is GenerationMode.NEGATIVE else CHECKS


def refused(context: Any, answer: Any, case: Any) -> bool | None:
    """What the document says may not be sent is not taken, whichever refusal it meets first."""
    return None if answer.status_code >= 400 else negative_data_rejection(context, answer, case)


@pytest.mark.parametrize("role", ROLES)
def test_what_the_document_says(
    net: Any, there: dict[str, Any], faults: Any, tally: Callable[[int], None], role: Role
) -> None:
    operations = [o.ok() for o in schemathesis.openapi.from_dict(document(net)).get_all_operations()]
    each = max(1, RUNS // len(operations) // (1 if role in MAY_MOST else 6))
    app, codes = seen_as(net, role), Counter[int]()
    for operation, mode in product(operations, GenerationMode):
        known = {name: value for name, value in there.items() if f"{{{name}}}" in operation.path}
        for values in ({"path_parameters": known}, {}) if known else ({},):
            if operation.label != ENDLESS:
                cases = operation.as_strategy(generation_mode=mode, **values)
                codes.update(answers(app, cases, each, checks(mode)))
    tally(codes.total())
    assert codes[200] + codes[201] > 0
    assert not faults()


def answers(app: Seen, cases: Any, count: int, asked: list[Any]) -> Iterator[int]:
    """The status codes that so many of the cases are answered with."""
    codes = []

    @settings(fuzzed, max_examples=count)
    @given(cases)
    def run(case: Any) -> None:
        answer = case.call(app=app)
        codes.append(answer.status_code)
        case.validate_response(answer, checks=asked)

    with suppress(Unsatisfiable):  # nothing can be said to it, so nothing wrong either
        run()
    yield from codes


# --- spoilt bytes ----------------------------------------------------------------------------------


def bodies(net: Any, there: dict[str, Any]) -> dict[str, list[bytes]]:
    """What each route that is posted to takes, as bytes."""
    request = net.request("client", "bob").decode()
    plan = {"rounds": 2, "config": {"lr": 0.1, "deep": [1]}, "round_deadline": 1e3, "validate": False}
    combiner = {"protocol": 1, "combiner": "c1", "address": "[::1]:1", "incarnation": "i"}
    join = {"token": net.token("client", uses=0), "request": request, "name": "b", "labels": {"a": "b"}}
    known: dict[str, Any] = {
        "/api/v1/join": join,
        "/api/v1/renew": {"request": request},
        "/api/v1/tokens": {"role": "client", "name": "x", "uses": 3, "expires_in": 1e3, "labels": {"a": "b"}},
        f"/api/v1/tokens/{there['token']}/revoke": {"members": True},
        "/api/v1/members/client/ann/revoke": {},
        "/api/v1/combiners": combiner,
        "/api/v1/clients/assignment": {"protocol": 1, "client": "c1", "prefer": "c1", "avoid": ""},
        "/api/v1/sessions": {"name": "é", "model": there["digest"], "plan": plan},
        f"/api/v1/sessions/{there['session']}/stop": {},
        f"/api/v1/sessions/{there['session']}/predict": {"round": 1},
        f"/api/v1/sessions/{there['session']}/evaluate": {"model": there["digest"]},
    }  # fmt: skip
    as_json = {path: [json.dumps(body).encode(), json.dumps(body, indent=1, ensure_ascii=False).encode()]
               for path, body in known.items()}  # fmt: skip
    return as_json | {
        "/api/v1/models?name=m": [net.small.model_file()],
        "/api/v1/models/check": [net.small.model_file()],
        "/api/v1/packages": [archive()],
        "/login": [b"token=" + net.admin.encode()],
    }


TYPES = {
    "/api/v1/models?name=m": "application/octet-stream", "/api/v1/packages": "application/octet-stream",
    "/api/v1/models/check": "application/octet-stream",
    "/login": "application/x-www-form-urlencoded",
}  # fmt: skip
QUERIES = [b"after=1&limit=3", b"name=zeros", b"pinned=" + b"0" * 64, b"after=ab12cd34-7&limit=1000"]
HEADERS = {
    "Range": [b"bytes=0-3", b"bytes=-1,5-"],
    "If-None-Match": [b'"' + b"0" * 64 + b'"'],
    "Fedn-Protocol": [b"1"],
    "Origin": [b"http://localhost"],
    "Authorization": [b"Bearer x", b"Basic eDp5"],
    "X-Host": [b"localhost:8090", b"[::1]:8090"],  # as Host it would break the test's own client
    "Cookie": [b"fedn_login=" + b"x" * 43],
    "Last-Event-ID": [b"ab12cd34-7"],
    "Accept": [b"text/html"],
    "Content-Type": [b"application/json; charset=utf-16", b"multipart/form-data; boundary=x"],
    "Content-Length": [b"10"],
    "Content-Encoding": [b"gzip"],
}


def hostile_request(random: Random, posted: dict[str, list[bytes]], read: list[str]) -> dict[str, Any]:
    """A request in which body, path, query or a header, or some of them, are spoilt."""
    asked: dict[str, Any] = {}
    if random.random() < 0.7:
        path = random.choice(list(posted))
        body = random.choice(posted[path]) if random.random() < 0.1 else spoilt(random, posted[path])
        asked = {"method": "POST", "data": body, "content_type": TYPES.get(path, "application/json")}
    else:
        path = random.choice(read)
        asked = {"method": random.choice(("GET", "GET", "HEAD", "PUT", "OPTIONS"))}
    if random.random() < 0.2:
        path = spoilt(random, [path.encode()]).decode("latin-1")
    if random.random() < 0.2:
        asked["query_string"] = spoilt(random, QUERIES).decode("latin-1")
        path = path.partition("?")[0]
    headers = {}
    for name in random.sample(list(HEADERS), random.choice((0, 0, 1, 2))):
        value = random.choice(HEADERS[name]) if random.random() < 0.3 else spoilt(random, HEADERS[name])
        headers[name] = value.decode("latin-1").translate(
            {10: " ", 13: " "}
        )  # a web server lets none through
    return asked | {"path": "/" + path.lstrip("/"), "headers": headers}


@pytest.mark.parametrize("role", [Role.ANYBODY, Role.ADMIN, Role.NOBODY, Role.COMBINER])
def test_spoilt_requests(
    net: Any, there: dict[str, Any], faults: Any, tally: Callable[[int], None], role: Role
) -> None:
    """Answered with what the caller did wrong, in the one form; pages and forms answer as pages."""
    random, posted = Random(SEED), bodies(net, there)
    read = [path.format(**there) for path, item in document(net)["paths"].items() if "get" in item]
    read = [path for path in read if not path.endswith("/stream")] + [
        "/",
        "/people",
        "/static/status.css",
        "/login",
    ]
    http, codes = Client(seen_as(net, role), use_cookies=False), Counter[int]()
    sizes: list[int] = []
    for _ in range(RUNS):
        sizes.append(resident())
        asked = hostile_request(random, posted, read)
        answer = http.open(**asked)
        codes[answer.status_code] += 1
        assert answer.status_code < 500 or answer.status_code == 503, (asked, answer.get_data(as_text=True))
        if answer.status_code >= 400 and answer.mimetype != "text/html" and asked["method"] != "HEAD":
            assert set(answer.get_json()) == {"code", "error", "details", "status"}, asked
            assert len(answer.get_data()) < 20_000
        answer.close()
        tally(1)
    half = RUNS // 2
    assert max(sizes[half:]) - max(sizes[:half]) < 64 * 2**20
    assert codes[400] > 0 or role is Role.NOBODY
    assert not faults()
