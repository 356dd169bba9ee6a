"""In front of every route: who asks, own names, how often, and what the audit log has of it."""

from __future__ import annotations

import time

import pytest

from fedn.config import ReducerSettings
from fedn.domain.errors import Revoked, StoreUnavailable
from fedn.domain.identity import Principal, Role, parse_token
from fedn.domain.ids import PROTOCOL_VERSION
from fedn.domain.rates import Rate, Rates
from fedn.identity.credentials import Credentials
from fedn.identity.network_dir import NetworkDir, create
from fedn.reducer.auditing import ELSEWHERE, EVERY_SECONDS, Auditor, address_of
from fedn.reducer.rest import create_app

DAY = 86_400.0


@pytest.fixture
def helper(beside):
    return beside("small_network")


@pytest.fixture
def http(net):
    return net.app().test_client()


def refused(answer, status: int, *words: str) -> dict:
    body = answer.get_json()
    assert (answer.status_code, body["status"]) == (status, status), body
    for word in words:
        assert word in body["error"]
    return body


# --- who asks --------------------------------------------------------------------------------------


def test_people_are_known_by_their_token(net, http, helper):
    for role in ("admin", "operator", "viewer"):
        who = http.get("/api/v1/whoami", headers=helper.bearer(net.token(role, name="ada"))).get_json()
        assert (who["role"], who["name"]) == (role, "ada")
        assert who["expires_at"] == pytest.approx(time.time() + 90 * DAY, abs=60)


def test_members_are_known_by_their_certificate(net, http, helper):
    ann = net.join("client", "ann")
    who = http.get("/api/v1/whoami", environ_overrides=helper.shown(ann)).get_json()
    assert who == {"role": "client", "name": "ann", "expires_at": ann.expires_at}


def test_a_certificate_counts_only_where_tls_has_checked_it(net, http, helper):
    environ = helper.shown(net.join("client", "ann")) | {"SSL_CLIENT_VERIFY": "NONE"}
    refused(http.get("/api/v1/whoami", environ_overrides=environ), 401)
    headers = {f"Ssl-{name}": value.replace("\n", "") for name, value in environ.items()}
    refused(http.get("/api/v1/whoami", headers=headers | {"Ssl-Client-Verify": "SUCCESS"}), 401)


def wrong_tokens(net) -> dict[str, str]:
    shown = parse_token("token", net.token("viewer"))
    other = "fedn1." + "0" * 64 + net.admin[70:]
    return {
        "nothing": "",
        "not a token": "sesame",
        "of another network": other,
        "an unknown one": f"fedn1.{shown.fingerprint}.{'0' * 16}.{shown.secret}",
        "another's secret": f"fedn1.{shown.fingerprint}.{shown.token}.{parse_token('', net.admin).secret}",
        "one to join with": net.token("client"),
        "a huge one": net.admin * 100_000,
    }


def test_a_wrong_token_is_refused_and_never_repeated(net, http, helper):
    for what, token in wrong_tokens(net).items():
        answer = http.get("/api/v1/network", headers=helper.bearer(token))
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        text = refused(answer, 401)["error"]
        assert token[-20:] not in text or not token, what
        assert len(text) < 300
    for entry in net.audit("refused"):
        assert not any(token[-20:] in str(entry) for token in wrong_tokens(net).values() if token)


def test_another_scheme_is_refused_even_beside_a_certificate(net, http, helper):
    environ = helper.shown(net.join("client", "ann"))
    basic = {"Authorization": "Basic YTpi"}
    refused(http.get("/api/v1/whoami", headers=basic, environ_overrides=environ), 401, "Bearer")


def test_a_token_ends_when_it_expires_or_is_revoked(net, http, helper):
    token = net.token("viewer", seconds=60)
    assert http.get("/api/v1/network", headers=helper.bearer(token)).status_code == 200
    net.clock.ahead = 61
    refused(http.get("/api/v1/network", headers=helper.bearer(token)), 401, "expired")
    net.clock.ahead = 0
    net.registrar.revoke_token(parse_token("", token).token, False, helper.BY)
    refused(http.get("/api/v1/network", headers=helper.bearer(token)), 403, "revoked", "another")


def test_a_member_ends_when_its_certificate_expires_or_it_is_revoked(net, http, helper):
    ann = helper.shown(net.join("client", "ann"))
    net.clock.ahead = 3601
    refused(http.get("/api/v1/whoami", environ_overrides=ann), 401, "certificate has expired")
    net.clock.ahead = 0
    assert http.get("/api/v1/whoami", environ_overrides=ann).status_code == 200
    net.registrar.revoke_member(Role.CLIENT, "ann", helper.BY)
    body = refused(http.get("/api/v1/whoami", environ_overrides=ann), 403, "client ann was revoked")
    assert body["code"] == "revoked"
    assert net.audit("refused")[0].actor == "client:ann"


def test_a_certificate_of_somebody_the_store_does_not_know_is_refused(net, http, helper):
    request = net.registrar._issue  # issues, and enrols nobody
    from fedn.identity.certificates import read_request

    issued = request(read_request(net.request("client", "eve")))
    stranger = Credentials(b"", issued.certificate, issued.authority)
    refused(http.get("/api/v1/whoami", environ_overrides=helper.shown(stranger)), 401, "not a member")
    net.join("client", "ann")
    issued = request(read_request(net.request("client", "ann")))
    impostor = Credentials(b"", issued.certificate, issued.authority)
    refused(http.get("/api/v1/whoami", environ_overrides=helper.shown(impostor)), 401, "key")


def test_without_identity_everybody_is_anybody_whatever_they_show(service, net, helper):
    plain = create_app(service, ReducerSettings()).test_client()
    who = plain.get("/api/v1/whoami", headers=helper.bearer("nonsense")).get_json()
    assert who == {"role": "anybody", "name": "127.0.0.1", "expires_at": None}


# --- own names -------------------------------------------------------------------------------------


def test_a_combiner_registers_itself_alone(net, http, helper, service):
    me = {"protocol": PROTOCOL_VERSION, "combiner": "c1", "address": "h:1", "incarnation": "i1"}
    c1 = {"environ_overrides": helper.shown(net.join("combiner", "c1"))}
    answer = http.post("/api/v1/combiners", json=me | {"combiner": "c2"}, **c1)
    refused(answer, 403, "combiner:c1 may ask for itself alone, not for c2")
    assert not service.combiners
    assert http.post("/api/v1/combiners", json=me, **c1).status_code == 200
    assert set(service.combiners) == {"c1"}


def test_a_client_is_assigned_as_itself_alone(net, http, helper):
    ann = {"environ_overrides": helper.shown(net.join("client", "ann"))}
    refused(http.post("/api/v1/clients/assignment", json={"client": "bob"}, **ann), 403, "not for bob")
    answer = http.post("/api/v1/clients/assignment", json={"client": "ann"}, **ann)
    assert answer.status_code == 503  # let in; there is only no combiner


def test_without_identity_names_are_believed(service):
    plain = create_app(service, ReducerSettings()).test_client()
    me = {"protocol": PROTOCOL_VERSION, "combiner": "c1", "address": "h:1", "incarnation": "i1"}
    assert plain.post("/api/v1/combiners", json=me).status_code == 200


def test_a_combiner_hears_who_is_revoked(net, http, helper):
    net.join("client", "ann"), net.join("client", "bob")
    c1 = {"environ_overrides": helper.shown(net.join("combiner", "c1"))}
    me = {"protocol": PROTOCOL_VERSION, "combiner": "c1", "address": "h:1", "incarnation": "i1"}
    assert http.post("/api/v1/combiners", json=me, **c1).get_json()["revoked"] == []
    net.registrar.revoke_member(Role.CLIENT, "bob", helper.BY)
    assert http.post("/api/v1/combiners", json=me, **c1).get_json()["revoked"] == ["client:bob"]
    net.clock.ahead = 1800  # c1 renews meanwhile, bob can't
    c1 = {"environ_overrides": helper.shown(net.join("combiner", "c2"))}
    net.clock.ahead = 3605
    answer = http.post("/api/v1/combiners", json=me | {"combiner": "c2"}, **c1)
    assert answer.get_json()["revoked"] == [], "its certificate has expired, too"


# --- how often -------------------------------------------------------------------------------------


def test_a_bucket_fills_with_time_and_never_above_its_brim():
    rate = Rate(2.0, 3)
    assert [rate.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert rate.wait(0.0) == pytest.approx(0.5)
    assert not rate.take(0.4)
    assert rate.take(0.5)
    assert [rate.take(1000.0) for _ in range(4)] == [True, True, True, False]
    assert not rate.take(10.0), "a clock that goes back fills nothing"
    assert Rate(1.0, 5).take(0.0, cost=5)
    assert not Rate(1.0, 5).take(0.0, cost=6)


def test_the_table_of_buckets_is_bounded_and_forgets_who_was_quiet_longest():
    rates = Rates(1.0, 1, bound=3)
    for name in "abc":
        assert rates.take(name, 0.0)
    assert not rates.take("a", 0.0)
    assert rates.take("d", 0.0)  # b goes
    assert len(rates) == 3
    assert not rates.take("a", 0.0)
    assert rates.take("b", 0.0)


def test_failures_are_counted_by_address_and_whoever_has_a_token_is_not_kept_out(net, http, helper):
    def ask(token, address="10.1.1.1"):
        return http.get("/api/v1/network", headers=helper.bearer(token),
                        environ_overrides={"REMOTE_ADDR": address})  # fmt: skip

    codes = [ask("wrong").status_code for _ in range(40)]
    assert set(codes[:30]) == {401}
    assert codes[-1] == 429
    last = ask("wrong")
    assert refused(last, 429)["code"] == "busy"
    assert int(last.headers["Retry-After"]) >= 1
    assert ask(net.admin).status_code == 200, "of the same address"
    assert ask("wrong", "10.1.1.2").status_code == 401, "of another"


def test_strangers_post_only_so_often(net, http):
    for path, most in (("/api/v1/join", 200), ("/login", 30)):
        codes = [
            http.post(path, environ_overrides={"REMOTE_ADDR": "10.2.0.1"}).status_code for _ in range(300)
        ]
        assert codes[:most] == [400] * most
        assert 429 in codes[most:]
        assert http.post(path, environ_overrides={"REMOTE_ADDR": "10.2.0.2"}).status_code == 400
    assert http.post("/api/v1/renew", environ_overrides={"REMOTE_ADDR": "10.2.0.1"}).status_code in (400, 429)


def test_everybody_asks_only_so_often_and_nobody_pays_for_another(net, http, helper):
    viewer, other = helper.bearer(net.token("viewer")), helper.bearer(net.token("viewer"))
    codes = [http.get("/api/v1/whoami", headers=viewer).status_code for _ in range(900)]
    assert codes[:500] == [200] * 500
    assert 429 in codes
    assert http.get("/api/v1/whoami", headers=other).status_code == 200


def test_without_identity_nobody_is_counted(service):
    plain = create_app(service, ReducerSettings()).test_client()
    assert {plain.get("/api/v1/whoami").status_code for _ in range(700)} == {200}


def test_an_address_is_counted_as_what_one_has_to_oneself():
    assert address_of("10.0.0.1") == "10.0.0.1"
    assert address_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert address_of("2001:db8:1:2:3:4:5:6") == address_of("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert address_of("::1") == "::1"
    assert address_of("fe80::1%eth0") == "fe80::/64"
    assert address_of("") == address_of(None) == "unknown"


# --- what is large ---------------------------------------------------------------------------------


def test_what_strangers_send_is_bounded_before_it_is_read(net, http):
    class Untouched:
        def read(self, *_):
            raise AssertionError("nobody wanted this")

        readline = read

    bounds = dict.fromkeys(("/api/v1/join", "/api/v1/renew", "/login", "/logout"), 2**16)
    for path, most in (bounds | {"/api/v1/tokens": 2**16}).items():
        environ = {"CONTENT_LENGTH": str(most + 1), "wsgi.input": Untouched()}
        assert http.post(path, environ_overrides=environ).status_code == 413
    environ = {"CONTENT_LENGTH": "1000", "wsgi.input": Untouched()}
    for path in ("/api/v1/models", "/api/v1/sessions", "/api/v1/tokens"):
        assert http.post(path, environ_overrides=environ).status_code == 401
    late = environ | {"fedn.body_here": False}
    for path in ("/api/v1/join", "/api/v1/renew", "/login"):
        refused(http.post(path, environ_overrides=late), 400, "did not come with the request")


# --- where a browser thinks it is ------------------------------------------------------------------


def test_browsers_come_by_this_networks_names_and_programs_by_any(net, http, helper):
    for host in (
        helper.HOST,
        "FL.example.org",
        f"{helper.HOST}:8090",
        "127.0.0.1",
        "[::1]:8090",
        "localhost",
    ):
        assert http.get("/login", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "[::1", "", "fl.example.org.evil.example"):
        refused(http.get("/login", headers={"Host": host}), 400, "Host")
        refused(http.get("/", headers={"Host": host, **helper.bearer(net.admin)}), 400, "Host")
        ask = {"Host": host, **helper.bearer(net.admin)}
        assert http.get("/api/v1/network", headers=ask).status_code == 200


def test_a_star_in_a_companys_certificate_stands_for_one_label(net, service):
    app = create_app(service, ReducerSettings(), net.registrar, ("*.clinic.example",))
    codes = {
        host: app.test_client().get("/login", headers={"Host": host}).status_code
        for host in ("fl.clinic.example", "clinic.example", "a.fl.clinic.example")
    }
    assert codes == {"fl.clinic.example": 200, "clinic.example": 400, "a.fl.clinic.example": 400}


# --- the audit log ---------------------------------------------------------------------------------


def acts(http, small, how) -> list[str]:
    """Everything that people do and the log has, in order; returns what each was done to."""
    seed = http.post("/api/v1/models?name=zeros", data=small.model_file(), **how).get_json()["digest"]
    session = http.post("/api/v1/sessions", json={"name": "digits"}, **how).get_json()["session"]
    for act in ("pause", "resume", "stop"):
        assert http.post(f"/api/v1/sessions/{session}/{act}", **how).status_code == 200
    assert http.get(f"/api/v1/models/{seed}", **how).status_code == 200
    return [seed, session, session, session, session, seed]


EVENTS = ["model_seeded", "session_started", "session_paused", "session_resumed", "session_stopped",
          "model_downloaded"]  # fmt: skip


def test_what_people_do_is_in_the_audit_log(net, http, small, helper):
    subjects = acts(http, small, {"headers": helper.bearer(net.token("operator", name="ada"))})
    entries = net.audit()[1:]  # the first is the token's
    assert [(entry.actor, entry.event, entry.subject) for entry in entries] == [
        ("operator:ada", event, subject) for event, subject in zip(EVENTS, subjects, strict=True)
    ]
    assert entries[0].details["name"] == "zeros"
    assert entries[1].details["model"] == subjects[0]


def test_without_identity_it_says_from_where(service, small, net):
    app = create_app(service, ReducerSettings())
    acts(app.test_client(), small, {"environ_overrides": {"REMOTE_ADDR": "10.0.0.9"}})
    assert [(entry.actor, entry.event) for entry in net.audit()] == [
        ("anybody:10.0.0.9", event) for event in EVENTS
    ]


def test_what_did_not_happen_is_not_in_it(net, http, helper, small):
    how = {"headers": helper.bearer(net.admin)}
    assert http.post("/api/v1/sessions/nobody/stop", **how).status_code == 404
    assert http.post("/api/v1/sessions", json={"plan": {"rounds": 0}}, **how).status_code == 400
    seed = http.post("/api/v1/models", data=small.model_file(), **how).get_json()["digest"]
    assert http.head(f"/api/v1/models/{seed}", **how).status_code == 200
    known = helper.bearer(net.admin) | {"If-None-Match": f'"{seed}"'}
    assert http.get(f"/api/v1/models/{seed}", headers=known).status_code == 304
    assert [entry.event for entry in net.audit()] == ["model_seeded"]


def test_what_can_not_be_audited_is_not_answered(net, http, helper, small, monkeypatch):
    how = {"headers": helper.bearer(net.admin)}
    seed = http.post("/api/v1/models", data=small.model_file(), **how).get_json()["digest"]

    def full(*_):
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(net.store, "append_audit", full)
    answer = http.get(f"/api/v1/models/{seed}", **how)
    assert refused(answer, 503, "the disk is full")["error"].startswith("the audit log can't be written")
    assert small.model_file() not in answer.data
    assert http.get("/api/v1/network").status_code == 401, "a refusal is one all the same"


def test_what_was_done_and_can_not_be_audited_is_said_to_be_done(net, http, helper, small, monkeypatch):
    how = {"headers": helper.bearer(net.admin)}
    session = small.seeded(net.service).session

    def full(*_):
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(net.store, "append_audit", full)
    answer = http.post(f"/api/v1/sessions/{session}/pause", **how)
    refused(answer, 503, f"/{session}/pause was done, but the audit log can't be written: the disk is full")
    assert net.service.state.session(session).state == "paused"
    again = http.post("/api/v1/sessions/nothing/pause", **how)
    assert "was done" not in refused(again, 404)["error"]


def test_refusals_are_in_it_once_a_minute_with_a_count(net, http, helper):
    viewer = helper.bearer(net.token("viewer", name="vera"))
    for _ in range(5):
        assert http.post("/api/v1/sessions", json={}, headers=viewer).status_code == 403
    (first,) = net.audit("refused")
    assert (first.actor, first.subject) == ("viewer:vera", "POST /api/v1/sessions")
    assert "a viewer may not" in first.details["reason"]
    assert (first.details["address"], first.details["count"]) == ("127.0.0.1", 1)
    net.clock.ahead = EVERY_SECONDS + 1
    net.auditor.flush()
    counted = net.audit("refused")[1:]
    assert [entry.details["count"] for entry in counted] == [4]
    assert http.post("/api/v1/sessions", json={}, headers=viewer).status_code == 403
    assert len(net.audit("refused")) == 2, "this minute has its entry already"
    net.auditor.flush(all_of_it=True)
    assert [entry.details["count"] for entry in net.audit("refused")] == [1, 4, 1]


def test_who_asks_for_another_is_in_it(net, http, helper):
    ann = {"environ_overrides": helper.shown(net.join("client", "ann"))}
    http.post("/api/v1/clients/assignment", json={"client": "bob"}, **ann)
    (entry,) = net.audit("refused")
    assert (entry.actor, entry.subject) == ("client:ann", "POST /api/v1/clients/assignment")
    assert "not for bob" in entry.details["reason"]


def test_nobody_hides_behind_the_refusals_of_others_at_the_address(net, http, helper):
    assert http.get("/api/v1/network").status_code == 401
    ann, bob = (helper.shown(net.join("client", name)) for name in ("ann", "bob"))
    for who in (ann, bob, ann):
        http.post("/api/v1/clients/assignment", json={"client": "eve"}, environ_overrides=who)
    assert [entry.actor for entry in net.audit("refused")] == ["nobody:127.0.0.1", "client:ann", "client:bob"]
    net.auditor.flush(all_of_it=True)
    last = net.audit("refused")[-1]
    assert (last.actor, last.details["count"]) == ("client:ann", 1)


def test_who_only_says_a_name_is_counted_by_address(net):
    for number in range(50):
        claimed = Principal(Role.CLIENT, f"c{number}")
        net.auditor.refused("10.0.0.1", "join_refused", claimed, str(claimed), "no")
    assert len(net.audit("join_refused")) == 1


def test_strangers_do_not_use_up_the_entries_of_members(net):
    for number in range(500):
        net.auditor.refused(f"10.0.{number // 250}.{number % 250}", "refused", "nobody", "GET /", "no")
    ann = Principal(Role.CLIENT, "ann")
    net.auditor.refused("10.0.0.1", "refused", ann, "GET /", "no", known=True)
    assert net.audit("refused")[-1].actor == "client:ann"
    for number in range(500):
        member = Principal(Role.CLIENT, f"c{number}")
        net.auditor.refused("10.0.0.1", "refused", member, "GET /", "no", known=True)
    assert len(net.audit("refused")) <= 202, "members can't fill the disk, either"
    assert len(net.auditor._counted) <= 203
    net.auditor.flush(all_of_it=True)
    assert sum(entry.details["count"] for entry in net.audit("refused")) == 1_001, "none is lost"


def test_many_addresses_can_not_fill_the_disk(service, net):
    clock = net.clock
    auditor = Auditor(service.state.identity, clock)
    for number in range(5_000):
        auditor.refused(f"10.0.{number // 250}.{number % 250}", "refused", "nobody", "GET /", "no")
    assert len(net.audit("refused")) <= 101
    assert len(auditor._counted) <= 102
    auditor.flush(all_of_it=True)
    entries = net.audit("refused")
    assert sum(entry.details["count"] for entry in entries) == 5_000, "none is lost"
    assert entries[-1].actor == ELSEWHERE
    for _ in range(60):  # an hour in which they go on
        clock.ahead += EVERY_SECONDS
        for number in range(500):
            auditor.refused(f"10.0.{number // 250}.{number % 250}", "refused", "nobody", "GET /", "no")
    auditor.flush(all_of_it=True)
    assert len(net.audit("refused")) < 101 + 60 * 14
    assert sum(entry.details["count"] for entry in net.audit("refused")) == 5_000 + 60 * 500


# --- long answers ----------------------------------------------------------------------------------


def test_a_stream_ends_when_whoever_reads_it_may_no_longer(net, helper):
    token = net.token("viewer")
    with net.app().test_client().get("/api/v1/events/stream", headers=helper.bearer(token)) as answer:
        lines = iter(answer.response)
        assert b"retry" in next(lines)
        net.registrar.revoke_token(parse_token("", token).token, False, helper.BY)
        assert b"".join(lines) == b"", "nothing more came, and it ended by itself"
    assert net.service.hub.streams_open == 0


def test_a_stream_ends_when_its_token_expires(net, helper):
    token = net.token("viewer", seconds=60)
    with net.app().test_client().get("/api/v1/events/stream", headers=helper.bearer(token)) as answer:
        lines = iter(answer.response)
        next(lines)
        net.clock.ahead = 61
        assert b"".join(lines) == b""


def test_a_download_breaks_off_so_that_nobody_takes_it_for_whole(net, helper, small, monkeypatch):
    from fedn.reducer import gate

    monkeypatch.setattr(gate, "LOOK_SECONDS", 0.0)
    seed = net.service.seed_model([small.model_file(size=800_000)], "large", 0).digest
    c1 = net.join("combiner", "c1")
    answer = net.app().test_client().get(f"/api/v1/models/{seed}", environ_overrides=helper.shown(c1))
    pieces = iter(answer.response)
    assert len(next(pieces)) == 2**20
    net.registrar.revoke_member(Role.COMBINER, "c1", helper.BY)
    with pytest.raises(Revoked, match="c1 was revoked"):
        next(pieces)
    answer.close()


def test_two_networks_do_not_know_each_others_tokens(net, http, helper, tmp_path):
    other = NetworkDir.open(create(tmp_path / "other", "other", (), time.time()).directory)
    assert other.authority.fingerprint != net.dir.authority.fingerprint
    text = (tmp_path / "other" / "admin.token").read_text().strip()
    refused(http.get("/api/v1/network", headers=helper.bearer(text)), 401, "another network")
