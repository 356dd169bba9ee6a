"""Joining, renewing, tokens, members, revocation: over a real authority and a real store, with a clock."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from sqlite_files import run_raw

from fedn.domain.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Revoked,
    StoreUnavailable,
    Unauthenticated,
)
from fedn.domain.identity import MEMBERS, PEOPLE, Principal, Role, parse_token
from fedn.identity.certificates import issued_by, new_key, new_request, read_certificate
from fedn.identity.network_dir import AUTHORITY_SECONDS
from fedn.identity.tokens import new_token
from fedn.reducer.auditing import TEXT
from fedn.reducer.registrar import MAX_USES, RENEW_WITHIN, RENEWALS, Registrar
from fedn.reducer.roll import Roll
from fedn.stores.sqlite import SqliteState

HOUR = 3600.0


@pytest.fixture
def by(beside):
    return beside("small_network").BY


def join(net, token: str, role: str = "client", member: str = "ann", key: bytes = b"", **more):
    request = new_request(key or new_key(), Role(role), member)
    name, labels = more.get("name", ""), more.get("labels", {})
    return net.registrar.join(token, request, name, labels, "10.0.0.1")


def id_of(token: str) -> str:
    return parse_token("token", token).token


# --- joining ---------------------------------------------------------------------------------------


def test_a_token_and_a_key_of_ones_own_make_a_member(net):
    key, token = new_key(), net.token("client", labels={"site": "north"})
    issued = join(net, token, key=key, name="Ann-1", labels={"gpu": "no", "site": "south"})
    certified = read_certificate(issued.certificate)
    assert (certified.principal.role, certified.principal.name) == (Role.CLIENT, "ann")
    assert issued_by(issued.certificate, issued.authority)
    assert issued.expires_at == certified.not_after == pytest.approx(net.clock() + HOUR, abs=5)
    member = net.store.member(Role.CLIENT, "ann")
    assert (member.name, member.key, member.token) == ("Ann-1", certified.key, id_of(token))
    assert member.labels == {"gpu": "no", "site": "north"}, "an administrator's word goes before one's own"
    assert net.store.token(id_of(token)).used == 1
    (entry,) = net.audit("joined")
    assert (entry.actor, entry.subject) == ("client:ann", "client:ann")
    assert entry.details["token"] == id_of(token)
    assert net.registrar.member(issued.certificate) == certified.principal


def test_a_join_whose_answer_was_lost_is_answered_again(net):
    key, token = new_key(), net.token("client")
    first = join(net, token, key=key)
    again = join(net, token, key=key)
    assert read_certificate(again.certificate).key == read_certificate(first.certificate).key
    assert net.store.token(id_of(token)).used == 1


def test_a_token_is_used_up(net):
    token = net.token("client", uses=2)
    join(net, token, member="a"), join(net, token, member="b")
    with pytest.raises(Unauthenticated, match="used up"):
        join(net, token, member="c")
    with pytest.raises(NotFound):
        net.store.member(Role.CLIENT, "c")
    (entry,) = net.audit("join_refused")
    assert (entry.actor, entry.details["address"]) == ("client:c", "10.0.0.1")
    assert "used up" in entry.details["reason"]


def test_of_many_at_once_only_as_many_join_as_the_token_is_for(net):
    token, joined, refused = net.token("client", uses=3), [], []
    ready = threading.Barrier(12)

    def one(number: int) -> None:
        ready.wait()
        try:
            join(net, token, member=f"m{number}")
            joined.append(number)
        except Unauthenticated:
            refused.append(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(joined), len(refused)) == (3, 9)
    assert len(net.registrar.members()) == 3


def test_a_token_for_any_number(net):
    token = net.token("client", uses=0)
    for number in range(5):
        join(net, token, member=f"m{number}")


def test_tokens_that_let_nobody_join(net, by):
    wrong = {
        "expired": net.token("client", seconds=60),
        "revoked": net.token("client"),
        "for a person": net.admin,
        "another network": "fedn1." + "0" * 64 + net.admin[70:],
        "not a token": "sesame",
        "too long": net.admin * 1000,
        "not known here": new_token(net.registrar.authority.fingerprint, Role.CLIENT, uses=1, created_at=1,
                                    seconds=1e10, created_by="x")[0].reveal(),
    }  # fmt: skip
    net.registrar.revoke_token(id_of(wrong["revoked"]), False, by)
    net.clock.ahead = 61
    for reason, token in wrong.items():
        with pytest.raises(Unauthenticated, match=reason) as caught:
            join(net, token)
        assert token[-20:] not in str(caught.value)
    assert not net.registrar.members()


def test_a_token_is_for_one_role(net):
    with pytest.raises(Forbidden, match="for a client, and a combiner asks"):
        join(net, net.token("client"), "combiner", "c1")
    with pytest.raises(Forbidden, match="for a combiner, and a client asks"):
        join(net, net.token("combiner"), "client", "c1")


def test_a_token_with_a_name_is_for_that_name(net):
    with pytest.raises(Forbidden, match="'ann' alone"):
        join(net, net.token("client", name="ann"), member="id-1", name="bob")
    join(net, net.token("client", name="ann"), member="id-1", name="ann")
    join(net, net.token("client", name="eve"), member="id-2")
    assert net.store.member(Role.CLIENT, "id-2").name == "eve"
    with pytest.raises(Forbidden, match="'c1' alone"):
        join(net, net.token("combiner", name="c1"), "combiner", "c2", name="c1")
    join(net, net.token("combiner", name="c1"), "combiner", "c1")


def test_an_id_belongs_to_the_key_that_came_first(net):
    join(net, net.token("client"))
    token = net.token("client")
    with pytest.raises(Conflict, match="another key"):
        join(net, token)
    assert net.store.token(id_of(token)).used == 0


def test_a_request_that_is_none(net):
    for request in (b"", b"x" * 20_000, b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"):
        with pytest.raises(InvalidInput, match="request"):
            net.registrar.join(net.token("client"), request, "", {}, "10.0.0.1")
    with pytest.raises(InvalidInput, match="reducer"):
        join(net, net.token("client"), "reducer", "reducer")


def test_names_and_labels_are_few_and_short(net):
    many = {f"k{number}": "v" for number in range(17)}
    for labels in (many, {"": "v"}, {"k" * 65: "v"}, {"k": "v" * 65}, {"k": "a\nb"}, {"k": 5}, {"../k": "v"}):
        with pytest.raises(InvalidInput, match="labels"):
            join(net, net.token("client"), labels=labels)
        with pytest.raises(InvalidInput, match="labels"):
            net.token("client", labels=labels)
    for name in ("../x", "a b", "x" * 65, "<b>"):
        with pytest.raises(InvalidInput, match="name"):
            join(net, net.token("client"), name=name)
        with pytest.raises(InvalidInput, match="name"):
            net.token("viewer", name=name)


def test_nobody_is_called_like_a_server(net):
    for text in ("reducer.fedn.internal", "c1.combiner.FEDN.internal", "fedn.internal", "a.fedn.internal."):
        for role in MEMBERS:
            with pytest.raises(InvalidInput, match=r"member: .* is a name for servers"):
                join(net, net.token(role), role, text)
        with pytest.raises(InvalidInput, match=r"name: .* is a name for servers"):
            join(net, net.token("client"), name=text)
        with pytest.raises(InvalidInput, match=r"name: .* is a name for servers"):
            net.token("client", name=text)
    join(net, net.token("client"), member="notfedn.internal", name="fedn.internal.org")


def test_nobody_can_be_mistaken_for_another(net):
    token = net.token("client", uses=0)
    join(net, net.token("combiner"), "combiner", "south")
    join(net, token, member="north-1", name="north")
    for words in ({"member": "north"}, {"member": "south"}, {"member": "n", "name": "north-1"},
                  {"member": "s", "name": "south"}):  # fmt: skip
        with pytest.raises(Conflict, match="another member"):
            join(net, token, **words)
    (refused,) = net.audit("join_refused")
    assert "another member" in refused.details["reason"]
    join(net, token, member="north-2", name="north")
    assert net.store.token(id_of(token)).used == 2


# --- renewing --------------------------------------------------------------------------------------


def test_a_member_renews_by_its_key(net):
    key = new_key()
    first = join(net, net.token("client"), key=key)
    net.clock.ahead = HOUR / 2
    second = net.registrar.renew(new_request(key, Role.CLIENT, "ann"), "10.0.0.1")
    assert second.expires_at == pytest.approx(first.expires_at + HOUR / 2, abs=5)
    assert net.store.member(Role.CLIENT, "ann").expires_at == second.expires_at
    assert [entry.event for entry in net.audit()][-1] == "renewed"


def test_also_after_it_has_expired_but_not_for_ever(net):
    key = new_key()
    join(net, net.token("client"), key=key)
    request = new_request(key, Role.CLIENT, "ann")
    net.clock.ahead = HOUR + RENEW_WITHIN - 60
    net.registrar.renew(request, "10.0.0.1")
    net.clock.ahead += HOUR + RENEW_WITHIN + 60
    with pytest.raises(Unauthenticated, match="too long ago"):
        net.registrar.renew(request, "10.0.0.1")


def test_nobody_fills_the_audit_log_with_renewals(net):
    keys = {name: new_key() for name in ("ann", "bob")}
    requests = {name: new_request(key, Role.CLIENT, name) for name, key in keys.items()}
    for request in requests.values():
        net.registrar.join(net.token("client"), request, "", {}, "10.0.0.1")
    for _ in range(RENEWALS):
        net.registrar.renew(requests["ann"], "10.0.0.1")
    with pytest.raises(Busy, match="client:ann has renewed too often"):
        net.registrar.renew(requests["ann"], "10.0.0.1")
    net.registrar.renew(requests["bob"], "10.0.0.1")
    net.clock.ahead = HOUR / RENEWALS
    net.registrar.renew(requests["ann"], "10.0.0.1")


def test_nobody_renews_for_another(net):
    join(net, net.token("client"))
    for member, reason in (("ann", "not the key of client ann"), ("bob", "not a member")):
        with pytest.raises(Unauthenticated, match=reason):
            net.registrar.renew(new_request(new_key(), Role.CLIENT, member), "10.0.0.1")
    assert not net.audit("renewed")
    assert len(net.audit("renewal_refused")) == 1, "of an address, once a minute"


def test_no_certificate_outlives_the_authority(net):
    key = new_key()
    request = new_request(key, Role.CLIENT, "ann")
    net.registrar.join(net.token("client", seconds=AUTHORITY_SECONDS), request, "", {}, "10.0.0.1")
    net.clock.ahead = AUTHORITY_SECONDS - 600
    with pytest.raises(Unauthenticated):
        net.registrar.renew(request, "10.0.0.1")
    late = net.registrar.join(net.token("client"), new_request(new_key(), Role.CLIENT, "bob"), "", {}, "-")
    assert late.expires_at <= net.registrar.authority.expires_at < net.clock() + HOUR


# --- the audit log ---------------------------------------------------------------------------------


def test_nothing_changes_that_the_audit_log_can_not_tell(beside, tmp_path):
    path, key, by = tmp_path / "state.db", new_key(), Principal(Role.ADMIN, "ada", "f" * 16)
    state = SqliteState(path)
    net = beside("small_network").SmallNetwork(SimpleNamespace(state=state), tmp_path / "network")
    token, other = net.token("client", uses=0), net.token("client", uses=0)
    join(net, token, member="a"), join(net, token, member="b", key=key), join(net, other, member="c")
    net.registrar.revoke_token(id_of(other), False, by)
    requests = [new_request(new_key(), Role.CLIENT, "d"), new_request(key, Role.CLIENT, "b")]
    changes = {
        "joined client:d": lambda: net.registrar.join(token, requests[0], "", {}, "1" * 2 * TEXT),
        "renewed client:b": lambda: net.registrar.renew(requests[1], "1" * 2 * TEXT),
        "token_created": lambda: net.registrar.create_token(Role.VIEWER, by),
        "member_revoked client:a": lambda: net.registrar.revoke_member(Role.CLIENT, "a", by),
        f"token_revoked {id_of(token)}": lambda: net.registrar.revoke_token(id_of(token), False, by),
        "member_revoked client:c": lambda: net.registrar.revoke_token(id_of(other), True, by),
    }

    def held():
        return state.identity.tokens(), state.identity.members(), net.audit()

    before = held()
    run_raw(path, "CREATE TRIGGER stop BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'stop'); END")
    for change in changes.values():
        with pytest.raises(StoreUnavailable):
            change()
    assert (held(), net.put_out) == (before, [])
    run_raw(path, "DROP TRIGGER stop")
    for change in changes.values():
        change()
    entries = net.audit()[len(before[2]) :]
    assert len(entries) == len(changes)
    for words, entry in zip(changes, entries, strict=True):
        assert f"{entry.event} {entry.subject}".startswith(words)
    assert [entry.details["address"] for entry in entries[:2]] == ["1" * TEXT] * 2
    assert [entry.details["by"] for entry in entries[2:]] == [by.token] * 4
    state.close()


# --- tokens ----------------------------------------------------------------------------------------


def test_what_a_token_is_if_nobody_says(net, by):
    for role in PEOPLE | MEMBERS:
        _, token = net.registrar.create_token(role, by)
        days = 90 if role in PEOPLE else 1
        assert token.uses == (0 if role in PEOPLE else 1)
        assert token.expires_at - token.created_at == pytest.approx(days * 86_400)
        assert token.created_by == "admin:admin"
    entry = net.audit("token_created")[-1]
    assert entry.actor == "admin:admin"


def test_a_token_is_shown_once_and_its_secret_is_nowhere(net):
    text = net.token("viewer")
    secret = parse_token("", text).secret
    assert secret not in repr(net.registrar.tokens())
    assert secret not in repr(net.audit())
    assert net.registrar.person(text).role is Role.VIEWER


def test_what_no_token_can_be(net, by):
    make = net.registrar.create_token
    for role in (Role.REDUCER, Role.ANYBODY, Role.NOBODY):
        with pytest.raises(InvalidInput, match="role"):
            make(role, by)
    for uses in (-1, MAX_USES + 1, 10**400):
        with pytest.raises(InvalidInput, match="uses"):
            make(Role.CLIENT, by, uses=uses)
    for role in PEOPLE:
        with pytest.raises(InvalidInput, match="can't be used up"):
            make(role, by, uses=1)
    for seconds in (0, -5, 1e12, 10**400, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="expires_in"):
            make(Role.CLIENT, by, seconds=seconds)
    assert len(net.registrar.tokens()) == 1  # the first administrator's


def test_revoking_a_token_puts_nobody_out_unless_asked(net, by):
    token = net.token("client", uses=0)
    join(net, token, member="a"), join(net, token, member="b")
    join(net, net.token("client"), member="c")
    net.registrar.revoke_token(id_of(token), False, by)
    assert not net.put_out
    with pytest.raises(Unauthenticated, match="revoked"):
        join(net, token, member="d")
    net.registrar.revoke_token(id_of(token), True, by)
    assert {member.member for member in net.put_out} == {"a", "b"}
    assert {m.member for m in net.registrar.members() if m.revoked_at} == {"a", "b"}
    assert len(net.audit("token_revoked")) == 1
    assert {entry.subject for entry in net.audit("member_revoked")} == {"client:a", "client:b"}


def test_the_last_administrator_can_not_lock_everybody_out(net, by):
    first = id_of(net.admin)
    with pytest.raises(Conflict, match="last"):
        net.registrar.revoke_token(first, False, by)
    second = net.token("admin")
    net.registrar.revoke_token(first, False, by)
    with pytest.raises(Revoked):
        net.registrar.person(net.admin)
    net.token("admin", seconds=60)
    net.clock.ahead = 61
    with pytest.raises(Conflict, match="last"):
        net.registrar.revoke_token(id_of(second), False, by)


def test_a_reducer_that_starts_again_does_not_bring_a_revoked_token_back(net, by):
    net.token("admin")
    net.registrar.revoke_token(id_of(net.admin), False, by)
    again = Registrar(net.store, net.dir.authority, net.auditor, name="clinics", admin=net.dir.admin)
    with pytest.raises(Revoked):
        again.person(net.admin)


# --- members ---------------------------------------------------------------------------------------


def test_a_revoked_member_is_out_for_ever(net, by):
    key = new_key()
    issued = join(net, net.token("combiner"), "combiner", "c1", key=key)
    net.registrar.revoke_member(Role.COMBINER, "c1", by)
    assert [str(member.principal) for member in net.put_out] == ["combiner:c1"]
    assert net.registrar.revoked() == ["combiner:c1"]
    for attempt in (
        lambda: net.registrar.member(issued.certificate),
        lambda: net.registrar.renew(new_request(key, Role.COMBINER, "c1"), "10.0.0.1"),
        lambda: join(net, net.token("combiner"), "combiner", "c1", key=key),
        lambda: join(net, net.token("combiner"), "combiner", "c1"),
    ):
        with pytest.raises(Revoked, match="combiner c1 was revoked"):
            attempt()
    net.registrar.revoke_member(Role.COMBINER, "c1", by)
    assert len(net.audit("member_revoked")) == 1
    net.clock.ahead = HOUR + 10
    assert net.registrar.revoked() == [], "nobody can show its certificate any more"


@pytest.mark.parametrize("read", [False, True])
def test_the_roll_knows_who_is_in_the_network_and_who_was_put_out(net, by, read):
    """As it is told, and as another reducer reads it that begins later."""
    join(net, net.token("client"), member="ann-1", name="ann")
    join(net, net.token("combiner"), "combiner", "c1", name="somebody-else")
    ann = net.store.member(Role.CLIENT, "ann-1")

    def roll() -> Roll:
        begun = Roll()
        begun.read(net.store)
        return begun if read else net.roll

    assert roll().known_as(Role.CLIENT, "ann-1", "somebody else") == "ann"
    assert roll().known_as(Role.COMBINER, "c1", "somebody-else") == "c1"
    assert roll().known_as(Role.COMBINER, "old", "old") is None, "from before there was an identity"
    assert roll().known_as(Role.COMBINER, "ann-1", "ann") is None
    net.registrar.revoke_member(Role.CLIENT, "ann-1", by)
    out = roll()
    assert out.known_as(Role.CLIENT, "ann-1", "ann") is None
    out.note(ann)
    assert out.known_as(Role.CLIENT, "ann-1", "ann") is None, "told late"


def test_who_can_not_be_revoked(net, by):
    with pytest.raises(NotFound):
        net.registrar.revoke_member(Role.CLIENT, "nobody", by)
    for role in set(Role) - MEMBERS:
        with pytest.raises(NotFound, match="no members"):
            net.registrar.revoke_member(role, "ann", by)
    with pytest.raises(InvalidInput):
        net.registrar.revoke_member(Role.CLIENT, "../ann", by)
    with pytest.raises(NotFound):
        net.registrar.revoke_token("0" * 16, True, by)
    with pytest.raises(InvalidInput):
        net.registrar.revoke_token("../token", True, by)
