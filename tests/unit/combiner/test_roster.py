"""Whom a combiner lets in, and who is cut off."""

from __future__ import annotations

import pytest

from fedn.combiner.clients import Clients
from fedn.combiner.limits import Limits
from fedn.combiner.members import ANYBODY, Members, check_is, revoked
from fedn.domain import messages as m
from fedn.domain.errors import Forbidden, Revoked
from fedn.domain.gauges import Gauges
from fedn.domain.identity import Principal, Role
from fedn.domain.ids import ClientId, SessionId

ANN = Principal(Role.CLIENT, "ann")


def test_a_certificate_is_good_for_its_own_client_alone() -> None:
    check_is(ANN, ClientId("ann"))
    for who in (Principal(Role.CLIENT, "bob"), *(Principal(role, "ann") for role in Role)):
        if who.role not in (Role.ANYBODY, Role.CLIENT) or who.name != "ann":
            with pytest.raises(Forbidden):
                check_is(who, ClientId("ann"))


def test_where_nobody_is_asked_everybody_is_whom_they_say() -> None:
    check_is(ANYBODY, ClientId("ann"))
    check_is(Principal(Role.ANYBODY, "ipv4:127.0.0.1:1"), ClientId("ann"))


def test_who_is_revoked_stays_so_though_the_reducer_names_it_no_longer() -> None:
    members = Members()
    members.check(ANN)
    assert members.revoke(["client:ann", "combiner:c"]) == {"client:ann", "combiner:c"}
    assert members.revoke(["client:ann", "client:bob"]) == {"client:bob"}
    with pytest.raises(Revoked, match="client:ann was revoked"):
        members.check(ANN)
    members.check(Principal(Role.CLIENT, "c"))  # the combiner of that name is somebody else
    assert members.revoke([]) == frozenset()  # the reducer names only so many
    with pytest.raises(Revoked, match="client:ann was revoked"):
        members.check(ANN)


async def test_whoever_is_cut_off_gets_nothing_that_still_waited() -> None:
    clients = Clients(Limits(outbox=3), Gauges())
    attachment = clients.add(m.ClientInfo(ClientId("ann"), "ann"), 0.0)
    for number in range(3):
        attachment.send(m.Reoffer(SessionId("s"), number))
    attachment.cut(revoked(ANN))
    assert isinstance(attachment.outbox.get_nowait(), Revoked)
    assert attachment.outbox.empty()
