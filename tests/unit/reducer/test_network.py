"""Where a client is sent, and what a session sees of the network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedn.domain.errors import Conflict, NotFound, Unavailable
from fedn.domain.ids import ClientId, CombinerName, Incarnation, SessionId
from fedn.domain.messages import ClientInfo, RoundHeld
from fedn.reducer.network import (
    CombinerView,
    NetworkView,
    Station,
    attached,
    check_drain,
    choose_combiner,
    of_session,
)

NEW = ClientId("new")


def view(**clients: int | None) -> NetworkView:
    """Combiners by name with so many clients each; None is out of reach."""
    return NetworkView(1, tuple(
        CombinerView(CombinerName(name), f"{name}:12080", "i", count is not None,
                     tuple(ClientInfo(ClientId(f"{name}{i}"), "") for i in range(count or 0)))
        for name, count in clients.items()
    ))  # fmt: skip


def choose(network: NetworkView, prefer: str = "", avoid: str = "", **expected: str) -> str:
    coming = {ClientId(c): CombinerName(n) for c, n in expected.items()}
    return choose_combiner(network, coming, NEW, prefer, avoid).combiner


def test_the_one_with_the_fewest_clients_and_the_first_of_equals() -> None:
    assert choose(view(a=3, b=1, c=2)) == "b"
    assert choose(view(b=1, a=1)) == "a"


def test_the_preferred_one_however_full() -> None:
    assert choose(view(a=9, b=0), prefer="a") == "a"


@pytest.mark.parametrize("prefer", ["b", "unknown"])
def test_a_preferred_one_that_is_not_live_is_no_reason_to_wait(prefer: str) -> None:
    assert choose(view(a=9, b=None, c=1), prefer=prefer) == "c"


def test_the_one_just_lost_is_avoided_even_if_preferred_unless_there_is_no_other() -> None:
    assert choose(view(a=0, b=5), avoid="a") == "b"
    assert choose(view(a=0, b=5), prefer="a", avoid="a") == "b"
    assert choose(view(a=0, b=None), avoid="a") == "a"


def test_one_that_drains_is_taken_by_nobody() -> None:
    def drained(**clients: int | None) -> NetworkView:
        one, *others = view(**clients).combiners
        return NetworkView(1, (replace(one, drained_at=5.0), *others))

    assert choose(drained(a=0, b=5), prefer="a") == "b"
    assert choose(drained(a=0, b=5), avoid="b") == "b"
    with pytest.raises(Unavailable, match="all combiners that are live drain"):
        choose(drained(a=0, b=None))
    check_drain(drained(a=1, b=1), CombinerName("a"))  # again: nothing against it
    with pytest.raises(Conflict, match="no other combiner is live that could take the clients of b"):
        check_drain(drained(a=1, b=1), CombinerName("b"))
    with pytest.raises(NotFound):
        check_drain(view(a=1, b=1), CombinerName("c"))


def test_where_an_open_round_waits_for_a_client_it_goes_unless_it_prefers_or_avoids() -> None:
    def back(prefer: str = "", avoid: str = "") -> str:
        return choose_combiner(view(a=9, b=0), {}, NEW, prefer, avoid, place="a").combiner

    assert [back(), back(prefer="b"), back(avoid="a")] == ["a", "b", "b"]


def test_clients_on_their_way_count_as_load_but_not_the_asking_one() -> None:
    assert choose(view(a=0, b=1), x="a", y="a") == "b"
    assert choose(view(a=0, b=1), new="a") == "a"


def test_many_clients_that_ask_at_once_are_spread_evenly() -> None:
    expected: dict[ClientId, CombinerName] = {}
    for number in range(30):
        client = ClientId(f"client{number}")
        expected[client] = choose_combiner(view(a=0, b=0, c=0), expected, client, "", "").combiner
    assert sorted(list(expected.values()).count(name) for name in "abc") == [10, 10, 10]


def test_no_live_combiner_says_what_to_do() -> None:
    for network in (view(), view(a=None)):
        with pytest.raises(Unavailable, match="combiner start"):
            choose(network)


def station(*clients: str, held: tuple[RoundHeld, ...] = ()) -> Station:
    return Station(Incarnation("i"), frozenset(map(ClientId, clients)), held)


def test_attached_names_the_combiner_of_every_client() -> None:
    network = {CombinerName("a"): station("x", "y"), CombinerName("b"): station("z")}
    assert attached(network) == {"x": "a", "y": "a", "z": "b"}


def test_a_session_sees_only_its_own_parts() -> None:
    mine, other = (RoundHeld(SessionId(s), 1, 0, (ClientId("x"),)) for s in ("mine", "other"))
    seen = of_session({CombinerName("a"): station("x", held=(other, mine))}, SessionId("mine"))
    assert seen == {"a": station("x", held=(mine,))}
