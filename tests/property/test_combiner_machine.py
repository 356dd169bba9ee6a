"""One part of a round under random events, repeated and out of order: nothing is folded or counted twice."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedn.combiner import events as ev
from fedn.combiner import machine as mc
from fedn.combiner.ledger import Standing
from fedn.domain.errors import RefusalCode, Refused
from fedn.domain.ids import ClientId, Digest, Incarnation, SessionId, digest_of
from fedn.domain.round import RoundSpec
from fedn.domain.update import UpdateHeader

CLIENTS = [ClientId(name) for name in ("ann", "bob", "cat", "zoe")]
BASE, LAYOUT = digest_of(b"base"), digest_of(b"layout")
clients = st.sampled_from(CLIENTS)


@st.composite
def headers(draw: st.DrawFn) -> UpdateHeader:
    """One of two updates of a client; now and then one that the header alone condemns."""
    client = draw(clients)
    digest = digest_of(client.encode() + draw(st.sampled_from([b"1", b"2"])))
    base = draw(st.sampled_from([BASE, BASE, BASE, digest_of(b"older")]))
    return UpdateHeader(SessionId("s"), 1, client, base, 7, 100, digest, LAYOUT)


class CombinerPart(RuleBasedStateMachine):
    """The driver's promises are kept (a fold is answered once); all else comes as it likes."""

    @initialize(listed=st.sets(clients, max_size=3), here=st.sets(clients))
    def begin(self, listed: set[ClientId], here: set[ClientId]) -> None:
        names = tuple(sorted(listed))
        spec = RoundSpec(
            1, SessionId("s"), 1, 0, BASE, 1000, LAYOUT, names, "{}", 0, 20.0, "mean", Incarnation("i")
        )
        self.now = 0.0
        self.folding: list[UpdateHeader] = []
        self.folded: list[UpdateHeader] = []
        self.released: set[ClientId] = set()
        self.waiting: set[tuple[ClientId, Digest]] = set()
        self.hashing = 0
        self.seals: list[ev.AnnounceSeal] = []
        self.sealed: mc.Sealed | None = None
        self.take(mc.open_part(spec, frozenset(here), self.now, grace=3.0, max_update_bytes=2**20))

    def take(self, outcome: mc.Outcome) -> tuple[ev.Command, ...]:
        self.state, commands = outcome
        for command in commands:
            match command:
                case ev.FoldUpdate(header):
                    self.folding.append(header)
                case ev.HashSum():
                    self.hashing += 1
                case ev.AnnounceSeal():
                    self.seals.append(command)
                case ev.AnswerRelease(client, folded):
                    if not folded:
                        self.released.add(client)
                case ev.GrantUpload(header):
                    self.waiting.add((header.client, header.digest))
                case ev.RefuseUpdate(header):
                    self.waiting.discard((header.client, header.digest))
                case ev.SettleClient(client) | ev.AskReoffer(client):
                    self.forget(client)
                case _:
                    pass
        if isinstance(self.state, mc.Sealed) and self.sealed is None:
            self.sealed = self.state
        return commands

    def forget(self, client: ClientId) -> None:
        self.waiting = {(c, digest) for c, digest in self.waiting if c != client}

    def tell(self, event: ev.Event) -> tuple[ev.Command, ...]:
        return self.take(mc.step(self.state, event))

    @rule(header=headers(), times=st.integers(1, 2))
    def offer(self, header: UpdateHeader, times: int) -> None:
        answers = [self.tell(ev.OfferMade(header)) for _ in range(times)]
        assert all(answer[0] == answers[0][0] for answer in answers)

    @rule(header=headers())
    def verify(self, header: UpdateHeader) -> None:
        self.tell(ev.UpdateVerified(header.client, header.digest))

    @rule(header=headers())
    def reject(self, header: UpdateHeader) -> None:
        refused = Refused(RefusalCode.DIGEST_MISMATCH, "the bytes that arrived are not the ones offered")
        self.tell(ev.UpdateRejected(header.client, header.digest, refused))

    @precondition(lambda self: self.folding)
    @rule(choice=st.randoms(use_true_random=False))
    def finish_a_fold(self, choice) -> None:
        self.finish(choice.choice(self.folding))

    def finish(self, header: UpdateHeader) -> None:
        self.folding.remove(header)
        aborted = isinstance(self.state, mc.Aborted)
        receipts = self.tell(ev.UpdateFolded(header.client, header.digest))
        assert (ev.SendReceipt(header) in receipts) is not aborted
        if not aborted:
            self.folded.append(header)

    @precondition(lambda self: self.hashing)
    @rule()
    def hash_the_sum(self) -> None:
        self.hashing -= 1
        if isinstance(self.state, mc.Closing):
            self.tell(ev.SumHashed(digest_of(b"sum"), 8))

    @rule(client=clients)
    def arrive(self, client: ClientId) -> None:
        self.tell(ev.ClientArrived(client))

    @rule(client=clients)
    def leave(self, client: ClientId) -> None:
        self.tell(ev.ClientLeft(client, self.now))
        self.forget(client)  # it offers again when it is back

    @rule(client=clients)
    def release(self, client: ClientId) -> None:
        (answer,) = [c for c in self.tell(ev.ClientReleased(client)) if isinstance(c, ev.AnswerRelease)]
        counts = {h.client for h in self.folding + self.folded}
        assert answer.folded == (client in counts and not isinstance(self.state, mc.Aborted))

    @rule(client=clients, attached=st.booleans())
    def admit(self, client: ClientId, attached: bool) -> None:
        if isinstance(self.state, mc.Open):
            self.released.discard(client)
        self.tell(ev.ClientAdmitted(client, attached, self.now))

    @rule(client=clients)
    def fail(self, client: ClientId) -> None:
        self.tell(ev.TrainingFailed(client, "boom"))

    @rule(seconds=st.sampled_from([0.0, 1.0, 3.0, 8.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.tell(ev.Tick(self.now))

    @precondition(lambda self: not isinstance(self.state, mc.Open) or self.now > 6)
    @rule(counted=st.booleans())
    def acknowledge(self, counted: bool) -> None:
        """Only a part that is sealed can count, whatever is said."""
        self.end(counted)

    @precondition(lambda self: self.waiting or self.now > 6)
    @rule(counted=st.booleans())
    def take_its_course(self, counted: bool) -> None:
        """The deadline comes, what is under way is finished, and the round ends."""
        self.wait(20.0)
        while self.folding:
            self.finish(self.folding[0])
        while self.hashing:
            self.hash_the_sum()
        self.end(counted)

    def end(self, counted: bool) -> None:
        sealed = isinstance(self.state, mc.Sealed)
        settled = [c for c in self.tell(ev.RoundAcked(counted)) if isinstance(c, ev.SettleClient)]
        told = {c.client for c in settled if c.counted}
        assert told == ({h.client for h in self.folded} if counted and sealed else set())
        self.nobody_waits_for_an_answer()

    @precondition(lambda self: not isinstance(self.state, mc.Open) or self.now > 6)
    @rule(reoffer=st.booleans())
    def abort(self, reoffer: bool) -> None:
        self.tell(ev.AbortAsked("dropped", reoffer))
        self.sealed = None
        self.nobody_waits_for_an_answer()

    def nobody_waits_for_an_answer(self) -> None:
        """Whoever was granted an upload, and has not left, was told how it ended, or to offer again."""
        assert not self.waiting

    @invariant()
    def offers_add_up(self) -> None:
        counts = self.state.ledger.counts
        places = (counts.pending, counts.folded, counts.refused, counts.lost, counts.discarded)
        assert counts.offered == sum(places)
        assert min(places) >= 0

    @invariant()
    def a_client_is_folded_at_most_once(self) -> None:
        names = [h.client for h in self.folding + self.folded]
        assert len(names) == len(set(names))

    @invariant()
    def contributors_are_the_folds_that_were_answered(self) -> None:
        if not isinstance(self.state, mc.Aborted):
            contributors = {(c.client, c.digest) for c in self.state.ledger.contributors}
            assert contributors == {(h.client, h.digest) for h in self.folded}
            assert self.state.ledger.counts.folded == len(self.folded)

    @invariant()
    def a_sealed_part_is_final(self) -> None:
        assert len(self.seals) <= 1
        if self.sealed is not None:
            assert self.state == self.sealed

    @invariant()
    def who_is_released_does_not_contribute(self) -> None:
        if not isinstance(self.state, mc.Aborted):
            assert not self.released & {c.client for c in self.state.ledger.contributors}

    @invariant()
    def only_those_expected_can_run_out_of_time(self) -> None:
        expected = {Standing.WAITING, Standing.GRANTED}
        away = {e.standing for e in self.state.ledger.entries.values() if e.away_since is not None}
        assert isinstance(self.state, mc.Aborted) or away <= expected


CombinerPart.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCombinerPart = CombinerPart.TestCase
