"""Who may take part: clients that checked that they can; the pure part."""

from __future__ import annotations

from fedn.domain.ids import ClientId, CombinerName, Incarnation
from fedn.reducer.network import Network, Station, attached
from fedn.reducer.preflight import Preflight

ANN, BOB, CAT = (ClientId(name) for name in ("ann", "bob", "cat"))
EAST, WEST = CombinerName("east"), CombinerName("west")


def network(**clients: tuple[ClientId, ...]) -> Network:
    return {CombinerName(name): Station(Incarnation("i"), frozenset(here)) for name, here in clients.items()}


def test_everybody_new_is_asked_once_where_it_is() -> None:
    state, asks = Preflight().to_ask(network(east=(ANN, CAT), west=(BOB,)))
    assert asks == {EAST: (ANN, CAT), WEST: (BOB,)}
    state, asks = state.to_ask(network(east=(ANN, CAT), west=(BOB,)))
    assert asks == {}


def test_the_first_ones_begin_together_and_later_ones_when_they_are_ready() -> None:
    here = network(east=(ANN, BOB))
    state, _ = Preflight().to_ask(here)
    state = state.passed(ANN)
    assert not attached(state.view(here))
    state = state.passed(BOB)
    assert attached(state.view(here)).keys() == {ANN, BOB}
    here = network(east=(ANN, BOB, CAT))
    state, asks = state.to_ask(here)
    assert asks == {EAST: (CAT,)}
    assert attached(state.view(here)).keys() == {ANN, BOB}


def test_nobody_waits_for_the_rest_for_ever() -> None:
    here = network(east=(ANN, BOB))
    state = Preflight().to_ask(here)[0].passed(ANN).hurried()
    assert attached(state.view(here)).keys() == {ANN}


def test_who_is_unfit_stays_out_with_a_reason_until_it_comes_back() -> None:
    here = network(east=(ANN, BOB))
    state = Preflight().to_ask(here)[0].passed(ANN).failed(BOB, "9 features, the model has 8")
    assert attached(state.view(here)).keys() == {ANN}
    assert state.reason == "bob can't take part: 9 features, the model has 8"
    state, asks = state.to_ask(here)
    assert asks == {}
    state, _ = state.to_ask(network(east=(ANN,)))
    assert state.reason == ""
    state, asks = state.to_ask(here)
    assert asks == {EAST: (BOB,)}


def test_fit_once_is_fit_wherever_it_goes() -> None:
    state = Preflight().to_ask(network(east=(ANN,)))[0].passed(ANN).failed(ANN, "a late answer")
    _, asks = state.to_ask(network(west=(ANN,)))
    assert asks == {}
    assert attached(state.view(network(west=(ANN,)))) == {ANN: WEST}


def test_who_does_not_answer_is_asked_again() -> None:
    here = network(east=(ANN, BOB))
    state = Preflight().to_ask(here)[0].passed(ANN).unanswered(frozenset({BOB}))
    assert attached(state.view(here)).keys() == {ANN}
    assert state.to_ask(here)[1] == {EAST: (BOB,)}
