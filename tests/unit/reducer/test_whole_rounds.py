"""Sessions whose aggregator's parts don't merge: one combiner, and every round in one part."""

from __future__ import annotations

from typing import Any

from rounds import ANN, BOB, BOOM, CAT, A, B, S, at, head, held, key, merged, offer, sealed

from fedn.domain.ids import ClientId
from fedn.domain.plan import plan_from
from fedn.domain.update import Absence
from fedn.reducer import legs as lg
from fedn.reducer import machine as mc
from fedn.reducer.homing import home_of, homed, left_out

AGAIN = "all updates of the round are asked for in one part"


class Story:
    """A session that remembers its state; every call is one event and returns its commands."""

    def __init__(self, *stations: Any, done: int = 0, **plan: Any) -> None:
        made = plan_from({"rounds": 2, "validate": False, **plan})
        self.state, self.started = mc.start(S, made, head(done), dict(stations), 5.0, whole=True)

    def __call__(self, event: mc.Event) -> tuple[mc.Command, ...]:
        self.state, commands = mc.step(self.state, event)
        return commands

    def sees(self, *stations: Any) -> tuple[mc.Command, ...]:
        return self(mc.NetworkChanged(dict(stations)))

    def selects(self, *clients: ClientId) -> tuple[mc.Command, ...]:
        return self(mc.ClientsSelected(clients))

    def merges(self, of: lg.PartKey, *clients: ClientId, **absent: str) -> tuple[mc.Command, ...]:
        self(mc.PartSealed(1, of, sealed(of, *clients, **absent)))
        return self(mc.PartFetched(1, of))


def short_of_one() -> Story:
    """Ann's update is in, Bob's is refused, and two are needed; nobody else is here."""
    story = Story(at("A", ANN, BOB), min_clients=2)
    story.selects(ANN, BOB)
    story.merges(key("A"), ANN, refused="bob")
    return story


def test_a_round_in_one_part_is_committed_as_ever() -> None:
    story = Story(at("A", ANN, BOB))
    story.selects(ANN, BOB)
    commit = story.merges(key("A"), ANN, BOB)[-1]
    assert commit == mc.CommitRound(1, (merged(key("A"), ANN, BOB),), (), ())


def test_without_a_quorum_the_part_is_kept_as_long_as_nobody_could_make_it_up() -> None:
    story = short_of_one()
    assert isinstance(story.state.phase, mc.Running)
    assert story.state.phase.reason.startswith("1 of 2 updates")
    assert story.state.phase.round.accepted == {ANN}


def test_who_makes_up_the_quorum_comes_with_the_rest_in_a_new_part() -> None:
    story = short_of_one()
    told = story.sees(at("A", ANN, BOB, CAT))
    assert told == (
        lg.AbortPart(key("A"), AGAIN, reoffer=True), mc.DropSums(), mc.SelectClients(1, (ANN, CAT), 0),
    )  # fmt: skip
    opened = story.selects(ANN, CAT)
    assert opened[-1] == lg.OpenPart(key("A", part=1), (ANN, CAT))
    commit = story.merges(key("A", part=1), ANN, CAT)[-1]
    assert commit == mc.CommitRound(1, (merged(key("A", part=1), ANN, CAT),), (Absence(BOB, BOOM),), ())


def test_parts_that_came_one_after_the_other_are_asked_for_together() -> None:
    """Bob's offer was late: with a part that merges he would simply be added."""
    story = Story(at("A", ANN, BOB))
    story.selects(ANN)
    story(mc.PartSealed(1, key("A"), sealed(key("A"), ANN)))
    story(mc.ReleaseRequested(A, offer(BOB)))
    told = story(mc.PartFetched(1, key("A")))
    assert told == (lg.MergePart(key("A")), lg.OpenPart(key("A", part=1), (BOB,)))
    told = story.merges(key("A", part=1), BOB)
    assert told == (
        lg.MergePart(key("A", part=1)),
        lg.AbortPart(key("A"), AGAIN, reoffer=True), lg.AbortPart(key("A", part=1), AGAIN, reoffer=True),
        mc.DropSums(), mc.SelectClients(1, (ANN, BOB), 0),
    )  # fmt: skip
    assert story.selects(ANN, BOB)[-1] == lg.OpenPart(key("A", part=2), (ANN, BOB))


def test_an_empty_part_is_no_second_one_and_goes_when_the_next_is_asked_for() -> None:
    story = Story(at("A", ANN, BOB), min_clients=1)
    story.selects(ANN, BOB)
    story(mc.PartAborted(1, key("A"), 0.0))
    story.sees(at("A", ANN, BOB))
    story.merges(key("A", part=1), lost="ann bob")
    drops, opens = story.selects(ANN, BOB)
    assert drops == lg.AbortPart(key("A", part=1), "it holds no update", reoffer=True)
    assert opens == lg.OpenPart(key("A", part=2), (ANN, BOB))
    commit = story.merges(key("A", part=2), ANN, BOB)[-1]
    assert isinstance(commit, mc.CommitRound)
    assert [part.part for part in commit.parts] == [2]


def test_offers_that_come_while_all_is_asked_for_again_wait_for_the_new_part() -> None:
    """Otherwise the first of them would open a part of its own."""
    story = short_of_one()
    story.sees(at("A", ANN, BOB, CAT))
    assert story(mc.ReleaseRequested(A, offer(ANN))) == ()
    opened = story.selects(ANN, CAT)
    assert opened[-2:] == (lg.OpenPart(key("A", part=1), (ANN, CAT)), lg.Admit(key("A", part=1), ANN))


def test_what_the_network_shows_as_held_is_not_adopted_once_it_is_void() -> None:
    """The reducer has restarted: the combiner's list is from then."""
    story = Story(at("A", ANN, held=(held(0, ANN),)), min_clients=2)
    story.selects(ANN)
    story.merges(key("A"), ANN)
    story.sees(at("A", ANN, CAT, held=(held(0, ANN),)))
    opened = story.selects(ANN, CAT)
    assert [c for c in opened if isinstance(c, lg.OpenPart)] == [lg.OpenPart(key("A", part=1), (ANN, CAT))]


def test_a_paused_session_does_not_begin_its_round_again() -> None:
    story = short_of_one()
    story(mc.PauseAsked("lunch"))
    assert not any(isinstance(c, mc.SelectClients) for c in story.sees(at("A", ANN, BOB, CAT)))
    assert isinstance(story(mc.ResumeAsked())[-1], mc.SelectClients)


def test_a_session_that_moves_takes_nothing_along() -> None:
    """Its combiner is lost with a merged part in hand; at the other one all are asked again."""
    story = short_of_one()
    story(mc.CombinerLost(A, key("A").incarnation, 0.0))
    told = story.sees(at("B", ANN, CAT))
    assert told[-1] == mc.SelectClients(1, (ANN, CAT), 0)
    opened = story.selects(ANN, CAT)
    assert opened[-1] == lg.OpenPart(key("B"), (ANN, CAT))
    commit = story.merges(key("B"), ANN, CAT)[-1]
    assert commit == mc.CommitRound(1, (merged(key("B"), ANN, CAT),), (Absence(BOB, BOOM),), ())


def test_an_offer_at_another_combiner_is_answered_from_the_record() -> None:
    """Whether it counted where it was before is not known earlier."""
    story = Story(at("A", ANN, BOB), at("B"))
    story.selects(ANN, BOB)
    story.sees(at("A", ANN), at("B"))
    assert story(mc.ReleaseRequested(B, offer(BOB))) == ()
    story.merges(key("A"), ANN, BOB)
    told = story(mc.RoundCommitted(head(1)))
    assert mc.SettleFromRecord(B, offer(BOB)) in told


# --- where it is at home -----------------------------------------------------------------------------


def home(*stations: Any, before: str = "") -> str:
    return home_of(dict(stations), S, before)


def test_it_stays_where_it_is_while_anybody_is_there() -> None:
    assert home(at("A", ANN), at("B", BOB, CAT), before="A") == "A"
    assert home(at("A"), at("B"), before="B") == "B"


def test_it_goes_where_most_clients_are() -> None:
    assert home(at("A", ANN), at("B", BOB, CAT)) == "B"
    assert home(at("A"), at("B", BOB), before="A") == "B"
    assert home(at("B", BOB), at("A", ANN), before="C") == "A"
    assert home() == ""


def test_after_a_restart_it_goes_on_where_something_of_it_is_held() -> None:
    assert home(at("A", ANN, held=(held(0, ANN),)), at("B", BOB, CAT)) == "A"
    assert home(at("A", held=(held(0, ANN),)), at("B", BOB)) == "B"
    assert home(at("A", ANN, held=(held(0, ANN),)), at("B", BOB, CAT), before="C") == "B"
    others = held(0, ANN, session="other")
    assert home(at("A", ANN, held=(others,)), at("B", BOB, CAT)) == "B"


def test_only_clients_at_home_are_shown_and_who_is_left_out_is_said() -> None:
    kept = held(0, BOB)
    network = dict([at("A", ANN), at("B", BOB, CAT, held=(kept,))])
    assert homed(network, "A") == dict([at("A", ANN), at("B", held=(kept,))])
    assert left_out(network, "A", "median") == (
        "the parts of 'median' don't merge: only clients of A take part, not 2 elsewhere"
    )
    assert left_out(dict([at("A", ANN), at("B")]), "A", "median") == ""
