"""One round at the reducer, told as transcripts: parts, lost combiners and clients that move."""

from __future__ import annotations

from rounds import ANN, BOB, BOOM, CAT, DAN, LATE, A, B, C, at, head, held, key, offer, sealed

from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, digest_of
from fedn.domain.update import Absence
from fedn.reducer import legs as lg
from fedn.reducer import round as rd
from fedn.reducer.legs import Phase
from fedn.reducer.network import Network, Station

BASE = head(0).model


class Story:
    """A round that remembers its state and its network; every call returns the commands."""

    def __init__(self, *stations: tuple[CombinerName, Station], quorum: int = 3) -> None:
        self.network: Network = dict(stations)
        everyone = [c for _, station in stations for c in station.clients]
        self.round, self.opened = rd.open_round(1, BASE, self.network, everyone, quorum)

    def do(self, outcome: rd.Outcome) -> tuple[lg.Command, ...]:
        self.round, commands = outcome
        return commands

    def sees(self, *stations: tuple[CombinerName, Station]) -> tuple[lg.Command, ...]:
        self.network = dict(stations)
        return self.do(rd.network_changed(self.round, self.network))

    def loses(self, combiner: CombinerName, now: float = 0.0, incarnation: int = 1) -> None:
        self.network = {n: there for n, there in self.network.items() if n != combiner}
        name = Incarnation(f"{combiner}{incarnation}")
        self.round = rd.combiner_lost(self.round, combiner, name, now)

    def seals(self, of: lg.PartKey, *clients: ClientId, **absent: str) -> tuple[lg.Command, ...]:
        told = self.do(rd.part_sealed(self.round, of, sealed(of, *clients, **absent), now=0.0))
        return told + self.do(rd.network_changed(self.round, self.network))

    def fetches(self, of: lg.PartKey) -> tuple[lg.Command, ...]:
        return self.do(rd.part_fetched(self.round, of, self.network))

    def merges(self, of: lg.PartKey, *clients: ClientId) -> tuple[lg.Command, ...]:
        return self.seals(of, *clients) + self.fetches(of)

    def offers(self, client: ClientId, there: CombinerName, base: Digest = BASE) -> tuple[lg.Command, ...]:
        return self.do(rd.release_requested(self.round, offer(client, base=base), there, self.network))

    def answers(self, client: ClientId, folded: bool) -> tuple[lg.Command, ...]:
        return self.do(rd.release_answered(self.round, client, folded, self.network))

    def admits(self, of: lg.PartKey, client: ClientId, admitted: bool = True) -> tuple[lg.Command, ...]:
        return self.do(rd.admit_answered(self.round, of, client, admitted))

    def phase(self, of: lg.PartKey) -> Phase:
        return self.round.legs[of].phase

    @property
    def counted(self) -> list[ClientId]:
        return sorted(c.client for part in self.round.merged for c in part.contributors)


def two(quorum: int = 3) -> Story:
    return Story(at("A", ANN, BOB), at("B", CAT), quorum=quorum)


# --- the ordinary way ------------------------------------------------------------------------------


def test_two_combiners_seal_and_are_merged() -> None:
    story = two()
    assert story.opened == (lg.OpenPart(key("A"), (ANN, BOB)), lg.OpenPart(key("B"), (CAT,)))
    header = sealed(key("A"), ANN, BOB)
    assert story.seals(key("A"), ANN, BOB) == (lg.FetchPart(key("A"), header),)
    assert story.fetches(key("A")) == (lg.MergePart(key("A")),)
    assert not story.round.settled
    story.merges(key("B"), CAT)
    assert story.round.settled
    assert story.counted == [ANN, BOB, CAT]


def test_only_the_selected_are_asked() -> None:
    _, commands = rd.open_round(1, BASE, two().network, [CAT, DAN], quorum=1)
    assert commands == (lg.OpenPart(key("B"), (CAT,)),)


def test_the_same_seal_and_the_same_fetch_again_change_nothing() -> None:
    story = two()
    story.merges(key("A"), ANN, BOB)
    before = story.round
    assert story.seals(key("A"), ANN, BOB) == ()
    assert story.fetches(key("A")) == ()
    assert story.round == before


def test_the_merged_parts_come_in_the_same_order_however_they_arrive() -> None:
    first, second = two(), two()
    for story, order in ((first, "AB"), (second, "BA")):
        for name in order:
            story.merges(key(name), *((ANN, BOB) if name == "A" else (CAT,)))
    assert first.round.merged == second.round.merged


def test_absences_name_who_did_not_contribute_and_why() -> None:
    story = two()
    story.seals(key("A"), ANN, refused="bob")
    story.fetches(key("A"))
    story.seals(key("B"), lost="cat")
    assert story.round.absences == (
        (Absence(BOB, BOOM),), (Absence(CAT, LATE),),
    )  # fmt: skip


def test_events_of_parts_that_never_were_change_nothing() -> None:
    story = two()
    before = story.round
    assert story.fetches(key("A", 7)) == ()
    assert story.admits(key("C"), ANN) == ()
    assert rd.part_aborted(story.round, key("C"), 0.0) == before
    assert story.answers(DAN, folded=False) == ()
    assert story.round == before


def test_a_part_that_nobody_asked_for_is_dropped_by_its_combiner() -> None:
    story = two()
    (told,) = story.seals(key("C"), DAN)
    assert isinstance(told, lg.AbortPart)
    assert told.reoffer


def test_a_part_that_counts_somebody_twice_is_dropped_as_a_whole() -> None:
    story = two()
    story.merges(key("A"), ANN, BOB)
    told = story.seals(key("B"), CAT, ANN)
    assert told[0] == lg.AbortPart(key("B"), "it counts ann a second time", reoffer=True)
    assert story.phase(key("B")) is Phase.VOID
    assert story.counted == [ANN, BOB]
    assert told[1:] == (lg.OpenPart(key("B", 1), (CAT,)),)


def test_who_was_to_join_a_part_that_is_dropped_gets_the_next_one() -> None:
    story = two()
    story.merges(key("A"), ANN, BOB)
    story.offers(DAN, B)
    opened = story.seals(key("B"), CAT, ANN)
    assert opened[-1] == lg.OpenPart(key("B", 1), (DAN, CAT))


# --- combiners that go -----------------------------------------------------------------------------


def test_clients_of_a_lost_combiner_are_admitted_to_a_running_part() -> None:
    story = two()
    story.loses(A)
    assert set(story.round.orphans) == {ANN, BOB}
    assert story.sees(at("B", CAT, ANN)) == (lg.Admit(key("B"), ANN),)
    story.admits(key("B"), ANN)
    story.merges(key("B"), CAT, ANN)
    assert story.counted == [ANN, CAT]
    assert not story.round.settled  # Bob may still come


def test_or_to_the_next_part_when_that_one_has_sealed() -> None:
    story = two()
    story.merges(key("B"), CAT)
    story.loses(A)
    assert story.sees(at("B", CAT, ANN)) == (lg.OpenPart(key("B", 1), (ANN,)),)
    assert story.sees(at("B", CAT, ANN, BOB)) == (lg.Admit(key("B", 1), BOB),)


def test_a_client_that_is_elsewhere_already_when_its_combiner_is_lost() -> None:
    story = two()
    story.sees(at("A", BOB), at("B", CAT, ANN))
    story.loses(A)
    assert rd.network_changed(story.round, story.network)[1] == (lg.Admit(key("B"), ANN),)


def test_a_fenced_part_that_arrives_late_is_aborted_with_reoffer() -> None:
    story = two()
    story.loses(A)
    (told,) = story.seals(key("A"), ANN, BOB)
    assert told == lg.AbortPart(key("A"), "this part is not wanted any more", reoffer=True)
    assert story.counted == []


def test_a_part_that_was_being_fetched_when_it_was_fenced_is_not_merged() -> None:
    story = two()
    story.seals(key("A"), ANN, BOB)
    story.loses(A)
    assert story.fetches(key("A")) == ()
    assert set(story.round.orphans) == {ANN, BOB}


def test_a_merged_part_outlives_its_combiner() -> None:
    story = two()
    story.merges(key("A"), ANN, BOB)
    story.loses(A)
    assert story.round.orphans == {}
    assert story.counted == [ANN, BOB]


def test_a_fenced_combiner_that_is_back_is_told_to_drop_its_part_once() -> None:
    story = two()
    story.loses(A)
    back = at("A", ANN, BOB), at("B", CAT)
    told = story.sees(*back)
    assert told[0] == lg.AbortPart(key("A"), "the combiner was out of reach for too long", reoffer=True)
    assert told[1:] == (lg.OpenPart(key("A", 1), (ANN, BOB)),)
    assert story.sees(*back) == ()


def test_a_combiner_that_restarts_begins_with_part_0_of_its_new_process() -> None:
    story = two()
    story.loses(A)
    told = story.sees(at("A", ANN, BOB, incarnation=2), at("B", CAT))
    new = key("A", 0, incarnation=2)
    assert told == (lg.OpenPart(new, (ANN, BOB)),)
    assert story.phase(key("A")) is Phase.FENCED
    story.merges(new, ANN, BOB)
    assert story.counted == [ANN, BOB]


def test_an_orphan_that_never_comes_back_is_lost_by_name() -> None:
    story = two()
    story.merges(key("B"), CAT)
    story.loses(A, now=10.0)
    story.round = rd.tick(story.round, 14.9, grace=5.0)
    assert not story.round.settled
    story.round = rd.tick(story.round, 15.0, grace=5.0)
    assert story.round.settled
    refused, lost = story.round.absences
    assert [a.client for a in lost] == [ANN, BOB]
    assert "did not come back within 5 s" in lost[0].reason
    assert refused == ()


def test_a_lost_client_that_comes_after_all_is_a_candidate_again() -> None:
    story = two()
    story.loses(A, now=0.0)
    story.round = rd.tick(story.round, 5.0, grace=5.0)
    network = dict([at("B", CAT, ANN)])
    assert rd.candidates(story.round, network) == {ANN}
    assert story.do(rd.extend(story.round, network, [ANN])) == (lg.OpenPart(key("B", 1), (ANN,)),)
    story.merges(key("B", 1), ANN)
    assert ANN not in [a.client for a in story.round.absences[1]]


def test_a_part_that_its_combiner_dropped_is_asked_for_again() -> None:
    story = two()
    story.round = rd.part_aborted(story.round, key("A"), 1.0)
    assert set(story.round.orphans) == {ANN, BOB}
    told = story.do(rd.network_changed(story.round, story.network))
    assert told == (lg.OpenPart(key("A", 1), (ANN, BOB)),)


def test_who_waits_for_the_next_part_at_a_combiner_that_was_away_meanwhile_gets_it() -> None:
    """Admitted while B's part is fetched; B's link is down when the bytes are in, and comes back."""
    story = two()
    story.loses(A)
    story.seals(key("B"), CAT)
    assert story.sees(at("B", CAT, ANN)) == ()
    story.network = {}
    story.fetches(key("B"))
    assert story.sees(at("B", CAT, ANN)) == (lg.OpenPart(key("B", 1), (ANN,)),)


# --- clients that move -----------------------------------------------------------------------------


def test_release_of_a_folded_update_leaves_it_where_it_is() -> None:
    story = two()
    assert story.offers(ANN, B) == (lg.AskRelease(A, ANN),)
    assert not story.round.settled
    assert story.answers(ANN, folded=True) == ()
    story.merges(key("A"), ANN, BOB)
    story.merges(key("B"), CAT)
    assert story.round.settled
    assert story.counted == [ANN, BOB, CAT]


def test_release_of_an_update_that_is_not_folded_admits_it_where_the_client_is() -> None:
    story = two()
    story.offers(ANN, B)
    assert story.answers(ANN, folded=False) == (lg.Admit(key("B"), ANN),)
    story.admits(key("B"), ANN)
    story.merges(key("A"), BOB)
    story.merges(key("B"), CAT, ANN)
    assert story.counted == [ANN, BOB, CAT]


def test_an_admission_that_comes_too_late_opens_the_next_part() -> None:
    story = two()
    story.offers(ANN, B)
    story.answers(ANN, folded=False)
    assert story.admits(key("B"), ANN, admitted=False) == ()
    assert story.merges(key("B"), CAT)[-1] == lg.OpenPart(key("B", 1), (ANN,))
    assert not story.round.admissions


def test_an_admission_answered_after_the_part_has_sealed_with_the_client_in_it() -> None:
    story = two()
    story.offers(ANN, B)
    story.answers(ANN, folded=False)
    assert story.merges(key("B"), CAT, ANN)[-1] == lg.MergePart(key("B"))
    assert story.admits(key("B"), ANN) == ()
    story.merges(key("A"), BOB)
    assert story.round.settled
    assert story.counted == [ANN, BOB, CAT]


def test_an_update_from_another_base_model_or_a_refused_client_is_settled_at_once() -> None:
    story = two()
    (told,) = story.offers(ANN, B, base=digest_of(b"older"))
    assert told == lg.Settle(B, ANN, 1, False, "trained from another base model")
    story.seals(key("A"), ANN, refused="bob")
    assert story.offers(BOB, B) == (lg.Settle(B, BOB, 1, False, BOOM),)


def test_an_offer_of_an_update_that_is_accepted_waits_for_the_commit() -> None:
    story = two()
    story.seals(key("A"), ANN, BOB)
    assert story.offers(ANN, B) == ()
    assert story.round.place[ANN] == A


def test_a_late_client_of_a_sealed_part_gets_the_next_one() -> None:
    story = two()
    story.seals(key("A"), ANN, lost="bob")
    assert story.offers(BOB, A) == ()
    assert story.fetches(key("A")) == (lg.MergePart(key("A")), lg.OpenPart(key("A", 1), (BOB,)))


def test_but_not_once_the_quorum_is_there() -> None:
    """Else a client that is too slow for its round would hold it up for one deadline after another."""
    story = two(quorum=1)
    story.seals(key("A"), ANN, lost="bob")
    assert story.offers(BOB, A) == story.offers(BOB, B) == ()
    assert story.fetches(key("A")) == (lg.MergePart(key("A")),)
    story.merges(key("B"), CAT)
    assert story.round.settled
    assert story.counted == [ANN, CAT]


def test_nor_if_it_offers_again_while_its_part_is_closing() -> None:
    story = two(quorum=1)
    assert story.offers(BOB, A) == (lg.Admit(key("A"), BOB),)
    story.seals(key("A"), ANN, lost="bob")
    assert story.admits(key("A"), BOB, admitted=False) == ()
    assert story.fetches(key("A")) == (lg.MergePart(key("A")),)


def test_nor_if_it_has_moved_on_from_there_meanwhile() -> None:
    story = two(quorum=1)
    story.offers(BOB, A)
    assert story.offers(BOB, B) == ()  # asked when the admission is answered
    story.seals(key("A"), ANN, lost="bob")
    assert story.admits(key("A"), BOB, admitted=False) == ()
    story.merges(key("B"), CAT)
    story.fetches(key("A"))
    assert story.round.settled


def test_a_lost_client_is_taken_after_all_if_the_quorum_is_lost_again() -> None:
    story = two(quorum=1)
    story.seals(key("A"), ANN, lost="bob")
    assert story.offers(BOB, B) == ()
    story.loses(A)
    assert story.sees(at("B", BOB, CAT)) == (lg.Admit(key("B"), BOB),)


def test_a_client_that_is_waited_for_elsewhere_is_not_too_late_because_it_was_lost_here() -> None:
    story = two(quorum=1)
    story.offers(BOB, B)
    story.answers(BOB, folded=False)
    story.admits(key("B"), BOB)
    story.seals(key("A"), ANN, lost="bob")
    assert BOB in story.round.lost
    assert story.offers(BOB, C) == (lg.AskRelease(B, BOB),)


def test_a_client_that_moves_on_while_its_release_is_asked_is_admitted_where_it_ends_up() -> None:
    story = two()
    story.network |= dict([at("C", DAN)])
    assert story.offers(ANN, B) == (lg.AskRelease(A, ANN),)
    assert story.offers(ANN, B) == ()
    assert story.offers(ANN, C) == ()
    assert story.answers(ANN, folded=False) == (lg.OpenPart(key("C"), (ANN,)),)


def test_a_release_never_overtakes_an_admission() -> None:
    """Ann is being admitted at B when she offers at C: B may list her, so B must be asked, afterwards."""
    story = two()
    story.network |= dict([at("C", DAN)])
    story.offers(ANN, B)
    story.answers(ANN, folded=False)
    assert story.offers(ANN, C) == ()
    assert story.admits(key("B"), ANN) == (lg.AskRelease(B, ANN),)
    assert story.answers(ANN, folded=False) == (lg.OpenPart(key("C"), (ANN,)),)


def test_who_moved_on_from_an_admission_that_was_denied_goes_where_it_is() -> None:
    story = two()
    story.network |= dict([at("C", DAN)])
    story.offers(ANN, B)
    story.answers(ANN, folded=False)
    story.offers(ANN, C)
    assert story.admits(key("B"), ANN, admitted=False) == ()
    assert story.merges(key("B"), CAT)[-1] == lg.OpenPart(key("C"), (ANN,))
    assert not story.round.releasing
    story.merges(key("A"), BOB)
    story.merges(key("C"), ANN)
    assert story.round.settled


def test_a_combiner_lost_before_it_answers_a_release_is_not_waited_for() -> None:
    story = two()
    story.offers(ANN, B)
    story.merges(key("A"), BOB)  # sealed without Ann; the answer is still under way
    story.loses(A)
    assert set(story.round.orphans) == {ANN}
    assert not story.round.releasing
    assert story.sees(at("B", CAT, ANN)) == (lg.Admit(key("B"), ANN),)


def test_a_combiner_lost_after_folding_and_before_it_answers() -> None:
    story = two()
    story.offers(ANN, B)
    story.merges(key("A"), ANN, BOB)
    story.loses(A)
    story.merges(key("B"), CAT)
    assert story.round.settled
    assert story.counted == [ANN, BOB, CAT]


def test_a_combiner_lost_while_it_was_to_take_a_client() -> None:
    story = two()
    story.offers(ANN, B)
    story.answers(ANN, folded=False)
    story.loses(B)
    assert set(story.round.orphans) == {ANN, CAT}
    assert story.sees(at("A", ANN, BOB, CAT)) == (lg.Admit(key("A"), ANN), lg.Admit(key("A"), CAT))


def test_a_client_that_goes_back_to_where_it_was_released() -> None:
    story = two()
    story.offers(ANN, B)
    story.answers(ANN, folded=False)
    story.admits(key("B"), ANN)
    assert story.offers(ANN, A) == (lg.AskRelease(B, ANN),)
    assert story.answers(ANN, folded=False) == (lg.Admit(key("A"), ANN),)


# --- a reducer that was restarted --------------------------------------------------------------------


def test_held_parts_are_adopted_and_the_rest_is_laid_out_around_them() -> None:
    story = Story(at("A", ANN, DAN, held=(held(0, ANN, BOB),)), at("B", CAT, BOB))
    assert story.opened == (
        lg.OpenPart(key("A"), (ANN, BOB)), lg.OpenPart(key("A", 1), (DAN,)), lg.OpenPart(key("B"), (CAT,)),
    )  # fmt: skip


def test_a_held_part_of_a_combiner_that_comes_later_is_adopted_if_its_clients_are_free() -> None:
    story = Story(at("B", CAT))
    assert story.sees(at("A", held=(held(2, ANN),)), at("B", CAT)) == (lg.OpenPart(key("A", 2), (ANN,)),)


def test_and_dropped_if_one_of_its_clients_counts_elsewhere_by_now() -> None:
    story = Story(at("B", CAT, ANN))
    (told,) = story.sees(at("A", held=(held(0, ANN, BOB),)), at("B", CAT, ANN))
    assert told == lg.AbortPart(key("A"), "its clients count elsewhere by now", reoffer=True)
    assert story.offers(BOB, A) == (lg.OpenPart(key("A", 1), (BOB,)),)


def test_held_parts_of_other_rounds_are_not_adopted() -> None:
    story = Story(at("A", ANN, held=(held(0, BOB, round_=2), held(1, BOB, round_=0))))
    assert story.opened == (lg.OpenPart(key("A"), (ANN,)),)


def test_an_adopted_part_is_not_adopted_again() -> None:
    there = at("A", ANN, held=(held(0, ANN),))
    story = Story(there)
    story.merges(key("A"), ANN)
    assert story.sees(there) == ()


def test_a_client_whose_new_combiner_dies_during_its_release_can_be_asked_again() -> None:
    story = Story(at("A"), at("B", ANN, CAT))
    story.sees(at("A", ANN), at("B", CAT))
    assert story.offers(ANN, A) == (lg.AskRelease(B, ANN),)
    story.loses(A)
    # B has put up its tombstone, and there is no new combiner any more.
    assert story.answers(ANN, folded=False) == ()
    story.merges(key("B"), CAT)
    story.sees(at("B", ANN, CAT))
    assert story.round.settled
    assert rd.candidates(story.round, story.network) == {ANN}
    assert story.do(rd.extend(story.round, story.network, [ANN])) == (lg.OpenPart(key("B", 1), (ANN,)),)
