"""Who is who, over HTTP: forms, fields that are wrong, hostile bodies, and no secret where none belongs."""

from __future__ import annotations

import json

import pytest

from fedn.domain.identity import Role, parse_token
from fedn.identity.certificates import fingerprint, new_key, new_request, read_certificate


@pytest.fixture
def http(net):
    return net.app().test_client()


@pytest.fixture
def admin(net, beside):
    return {"headers": dict(beside("small_network").bearer(net.admin))}


def joining(net, role: str = "client", member: str = "ann", **body) -> dict:
    request = new_request(new_key(), Role(role), member).decode()
    return {"token": net.token(role), "request": request, "name": ""} | body


def test_the_authority_is_what_the_fingerprint_is_of(net, http):
    body = http.get("/api/v1/authority").get_json()
    assert body["name"] == "clinics"
    assert (
        body["fingerprint"]
        == fingerprint(body["certificate"].encode())
        == parse_token("", net.admin).fingerprint
    )


def test_a_member_joins_renews_and_is_listed(net, http, admin):
    key = new_key()
    request = new_request(key, Role.CLIENT, "ann").decode()
    answer = http.post(
        "/api/v1/join", json=joining(net, request=request, name="Ann", labels={"site": "north"})
    )
    assert answer.status_code == 201
    body = answer.get_json()
    assert set(body) == {"certificate", "authority", "expires_at"}
    assert read_certificate(body["certificate"].encode()).principal.name == "ann"
    assert body["authority"].encode() == net.dir.authority.certificate
    net.clock.ahead = 600
    renewed = http.post("/api/v1/renew", json={"request": request})
    assert renewed.status_code == 200
    assert renewed.get_json()["expires_at"] > body["expires_at"]
    (member,) = http.get("/api/v1/members", **admin).get_json()["members"]
    times = {"joined_at", "renewed_at", "expires_at", "revoked_at"}
    assert set(member) == {"role", "member", "name", "labels", "token"} | times
    assert (member["role"], member["member"], member["name"]) == ("client", "ann", "Ann")
    assert (member["labels"], member["revoked_at"]) == ({"site": "north"}, None)
    assert member["expires_at"] == renewed.get_json()["expires_at"]


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"token": "sesame"}, 401, "token"),
        ({"token": 5}, 400, "token"),
        ({"request": "nonsense"}, 400, "request"),
        ({"request": "\ud800"}, 400, "request"),
        ({"request": "x" * 20_000}, 400, "request"),
        ({"name": "a b"}, 400, "name"),
        ({"name": "\ud800"}, 400, "name"),
        ({"labels": []}, 400, "labels"),
        ({"labels": {"k": 5}}, 400, "labels"),
        ({"labels": {"k": {"k": {}}}}, 400, "labels"),
        ({"role": "admin"}, 400, "role"),
        ({"token": "fedn1." + "0" * 64 + "." + "0" * 16 + "." + "A" * 43}, 401, "another network"),
    ],
)
def test_a_wrong_join_names_what_is_wrong(net, http, change, status, named):
    answer = http.post("/api/v1/join", json=joining(net) | change)
    assert answer.status_code == status, answer.get_json()
    assert named in answer.get_json()["error"]
    assert not net.registrar.members()


def test_a_used_up_token_another_role_and_an_id_that_is_taken(net, http, beside):
    first = joining(net)
    assert http.post("/api/v1/join", json=first).status_code == 201
    assert http.post("/api/v1/join", json=joining(net, member="bob", token=first["token"])).status_code == 401
    assert (
        http.post("/api/v1/join", json=joining(net, member="bob", token=net.token("combiner"))).status_code
        == 403
    )
    assert http.post("/api/v1/join", json=joining(net)).status_code == 409
    net.registrar.revoke_member(Role.CLIENT, "ann", beside("small_network").BY)
    answer = http.post("/api/v1/join", json=joining(net))
    assert (answer.status_code, answer.get_json()["code"]) == (403, "revoked")
    assert {entry.event for entry in net.audit()} >= {"joined", "join_refused"}
    assert not net.audit("refused"), "each refusal is there once"


@pytest.mark.parametrize("path", ["join", "renew"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[" * 60_000,
        b'{"request":' * 5_000,
        b'{"request": ' + b"9" * 50_000 + b"}",
        b'{"request": NaN}',
        b'{"a": 1, "a": 2}',
        b"\xff\xfe{",
        b"null",
        json.dumps({f"k{n}": "v" for n in range(4_000)}).encode(),
    ],
)
def test_hostile_bodies_are_refused_cheaply(http, path, data):
    answer = http.post(f"/api/v1/{path}", data=data, content_type="application/json")
    assert answer.status_code == 400, answer.get_data(as_text=True)[:200]
    assert len(answer.data) < 500


def test_tokens_are_made_listed_and_revoked(net, http, admin):
    wanted = {"role": "client", "uses": 5, "expires_in": 3600, "name": "site-1", "labels": {"site": "north"}}
    made = http.post("/api/v1/tokens", json=wanted, **admin)
    assert made.status_code == 201
    token = made.get_json()
    text = token.pop("text")
    assert parse_token("", text).token == token["token"]
    assert set(token) == {"token", "role", "name", "labels", "uses", "used", "created_at", "expires_at",
                          "created_by", "revoked_at"}  # fmt: skip
    assert (token["uses"], token["used"], token["created_by"]) == (5, 0, "admin:admin")
    assert token["expires_at"] - token["created_at"] == pytest.approx(3600)
    listed = http.get("/api/v1/tokens", **admin)
    assert listed.get_json()["tokens"][0] == token
    for hidden in (parse_token("", text).secret, "digest"):
        assert hidden not in listed.get_data(as_text=True)
    path = f"/api/v1/tokens/{token['token']}/revoke"
    revoked = http.post(path, **admin).get_json()
    assert revoked == token | {"revoked_at": revoked["revoked_at"]}
    assert revoked["revoked_at"] == pytest.approx(net.clock(), abs=60)
    assert http.post(path, json={"members": True}, **admin).get_json() == revoked
    assert http.post(f"/api/v1/tokens/{'0' * 16}/revoke", **admin).status_code == 404


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "role"),
        ({"role": "king"}, "role"),
        ({"role": "reducer"}, "role"),
        ({"role": "anybody"}, "role"),
        ({"role": "client", "uses": -1}, "uses"),
        ({"role": "client", "uses": 10**300}, "uses"),
        ({"role": "client", "uses": True}, "uses"),
        ({"role": "client", "uses": 1.5}, "uses"),
        ({"role": "viewer", "uses": 1}, "uses"),
        ({"role": "client", "expires_in": 0}, "expires_in"),
        ({"role": "client", "expires_in": 1e300}, "expires_in"),
        ({"role": "client", "expires_in": "1h"}, "expires_in"),
        ({"role": "viewer", "name": "<b>"}, "name"),
        ({"role": "viewer", "labels": {"k": "v" * 100}}, "labels"),
        ({"role": "viewer", "secret": "x"}, "secret"),
    ],
)
def test_a_wrong_token_names_the_field(net, http, admin, body, named):
    answer = http.post("/api/v1/tokens", json=body, **admin)
    assert answer.status_code == 400
    assert answer.get_json()["details"]["field"] == named
    assert not net.audit("token_created")


def test_no_number_is_taken_that_is_none(net, http, admin):
    answer = http.post("/api/v1/tokens", data=b'{"role": "client", "expires_in": NaN}',
                       content_type="application/json", **admin)  # fmt: skip
    assert answer.get_json()["details"]["field"] == "expires_in"


def test_members_are_revoked(net, http, admin):
    net.join("combiner", "c1")
    revoked = http.post("/api/v1/members/combiner/c1/revoke", **admin).get_json()
    assert revoked["revoked_at"] == pytest.approx(net.clock(), abs=60)
    assert http.get("/api/v1/members", **admin).get_json()["members"] == [revoked]
    assert [str(member.principal) for member in net.put_out] == ["combiner:c1"]
    (entry,) = net.audit("member_revoked")
    assert (entry.actor, entry.subject) == ("admin:admin", "combiner:c1")
    for path, status in (("combiner/c2", 404), ("client/c1", 404), ("admin/admin", 404), ("king/c1", 400)):
        assert http.post(f"/api/v1/members/{path}/revoke", **admin).status_code == status, path


def test_the_audit_log_is_paged_and_verified(net, http, admin):
    for number in range(5):
        net.join("client", f"m{number}")
    seen, after = [], 0
    while after is not None:
        page = http.get(f"/api/v1/audit?after={after}&limit=4", **admin).get_json()
        seen += page["entries"]
        after = page["next"]
    assert [entry["number"] for entry in seen] == list(range(1, 11))
    assert [entry["parent"] for entry in seen[1:]] == [entry["digest"] for entry in seen[:-1]]
    assert [entry["event"] for entry in seen] == ["token_created", "joined"] * 5
    report = http.get("/api/v1/audit/verify", **admin).get_json()
    assert report == {"ok": True, "entries": 10, "head": seen[-1]["digest"], "problem": "", "at": 0}
    pinned = http.get(f"/api/v1/audit/verify?pinned={seen[3]['digest']}", **admin).get_json()
    assert pinned["ok"] is True
    assert http.get(f"/api/v1/audit/verify?pinned={'0' * 63}1", **admin).get_json()["ok"] is False
    for bad in ("after=-1", "after=x", "limit=0", "limit=1001"):
        assert http.get(f"/api/v1/audit?{bad}", **admin).status_code == 400
    assert http.get("/api/v1/audit/verify?pinned=x", **admin).status_code == 400


def test_no_secret_is_anywhere_but_where_it_was_asked_for(net, http, admin, caplog):
    made = http.post("/api/v1/tokens", json={"role": "client"}, **admin).get_json()
    text, key = made["text"], new_key()
    secret = parse_token("", text).secret
    body = joining(net, token=text, request=new_request(key, Role.CLIENT, "ann").decode())
    assert http.post("/api/v1/join", json=body).status_code == 201
    again = http.post("/api/v1/join", json=joining(net, member="bob", token=text))  # used up
    told = [again.get_data(as_text=True), caplog.text, repr(net.service.hub.recent())]
    for path in ("tokens", "members", "audit", "events", "network", "whoami"):
        told.append(http.get(f"/api/v1/{path}", **admin).get_data(as_text=True))
    told.append(http.get("/", **admin).get_data(as_text=True))
    for where in told:
        assert secret not in where
        assert parse_token("", net.admin).secret not in where
        assert "PRIVATE KEY" not in where
