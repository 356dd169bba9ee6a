"""The committer: model, optimizer state and record, in that order, and the same when it is tried again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from fedopt import Settings, trajectory
from safetensors.numpy import load, save

from fedn.aggregation import optimizers
from fedn.domain.errors import Damaged, InvalidInput, NotFound, StoreUnavailable
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId, digest_of
from fedn.domain.model import layout_of
from fedn.domain.part import PartHeader
from fedn.domain.plan import Plan, plan_from
from fedn.domain.round import (
    GENESIS_PARENT,
    Head,
    MergedPart,
    RoundRecord,
    StoredRecord,
    head_of,
    read_record,
    store_record,
)  # fmt: skip
from fedn.domain.update import Contributor
from fedn.ports import Buffer, SessionInfo
from fedn.reducer import numerics
from fedn.reducer.legs import PartKey
from fedn.reducer.merging import Committer, check_part
from fedn.reducer.session import CommitRound
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.stores.trail import verify_trail

S = SessionId("s")
SEED = save({"w": np.array([0.0, 1.0, -2.0]), "steps": np.arange(2)})
LAYOUT = layout_of(SEED)
ADAM = {"server_optimizer": "adam", "server_learning_rate": 0.1, "server_momentum": 0.9}
SETTINGS = Settings("adam", 0.1, 0.9)
MEANS = [np.array([1.0, 1.0, k * 0.5]) for k in range(1, 6)]


class Stores:
    """A session with the stores of a reducer, which can fail."""

    def __init__(self, session: str = S, **plan: Any) -> None:
        self.session = SessionId(session)
        self.plan: Plan = plan_from({"rounds": 9, **plan})
        self.state, self.models = Moody(), Counted()
        digest, size = self.models.put([SEED])
        self.term = self.state.take_term()
        first = store_record(RoundRecord(
            self.session, 0, GENESIS_PARENT, digest, digest, size, self.plan.as_dict(), self.plan.digest,
            self.term, 1.0,
        ))  # fmt: skip
        self.state.add_session(
            SessionInfo(self.session, "s", self.plan, "running", "", 1.0, head_of(first)), first
        )

    @property
    def head(self) -> Head:
        return self.state.session(self.session).head

    def committer(self) -> Committer:
        """As a reducer that has just started has it."""
        committer = Committer(self.state, self.models, self.term, self.session, self.plan)
        committer.prepare(self.head, LAYOUT)
        return committer

    def commit(self, committer: Committer, mean: Any, head: Head | None = None) -> Head:
        head = head or self.head
        command = CommitRound(head.round + 1, (), (), ())
        return committer.commit(command, head, LAYOUT, mean.copy(), 7.0)[0]

    def record(self, round_: int) -> RoundRecord:
        return self.state.record(self.session, round_).record

    @property
    def model(self) -> Any:
        return load(b"".join(bytes(chunk) for chunk in self.models.read(self.head.model)))["w"]

    @property
    def states(self) -> set[str]:
        """Rounds whose optimizer state is still there."""
        here = set(self.models.digests())
        return {str(k) for k in range(1, self.head.round + 1) if self.record(k).optimizer_state in here}


class Moody(MemoryState):
    """Fails as often as told, before or after the record is there."""

    def __init__(self) -> None:
        super().__init__()
        self.before = self.after = 0

    def commit_round(self, stored: StoredRecord, term: int) -> Head:
        if self.before:
            self.before -= 1
            raise StoreUnavailable("the disk is full")
        head = super().commit_round(stored, term)
        if self.after:
            self.after -= 1
            raise StoreUnavailable("the answer was lost")
        return head


class Counted(MemoryModels):
    """Can't delete while ``stuck``."""

    stuck = False

    def delete(self, digest: Digest) -> None:
        if self.stuck:
            raise StoreUnavailable("read-only")
        super().delete(digest)


@pytest.fixture(autouse=True)
def _built_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes by their names, however this source tree was installed."""
    kinds = {name: getattr(optimizers, name.capitalize()) for name in ("sgd", "adagrad", "adam", "yogi")}
    monkeypatch.setattr(numerics.plugins, "load", lambda group, name: kinds[name])


def reference() -> list[Any]:
    return list(trajectory(SETTINGS, np.array([0.0, 1.0, -2.0]), MEANS))


def test_adam_goes_on_through_restarts_in_every_round() -> None:
    stores = Stores(**ADAM)
    for mean, wanted in zip(MEANS, reference(), strict=True):
        stores.commit(stores.committer(), mean)
        np.testing.assert_allclose(stores.model, wanted, rtol=1e-12)
    assert verify_trail(stores.state, stores.models, S).ok


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_commit_that_is_tried_again_is_the_same(fault: str) -> None:
    """Whether or not the record got in the first time, the step is taken once."""
    stores = Stores(**ADAM)
    committer = stores.committer()
    for mean, wanted in zip(MEANS, reference(), strict=True):
        head = stores.head
        setattr(stores.state, fault, 2)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                stores.commit(committer, mean, head)
        stores.commit(committer, mean, head)
        np.testing.assert_allclose(stores.model, wanted, rtol=1e-12)
    assert len(list(stores.models.digests())) == 1 + len(MEANS) + 2


def test_what_was_not_recorded_has_not_changed_the_state() -> None:
    """A round dies between blobs and record, and comes out otherwise when it is run again."""
    stores = Stores(**ADAM)
    stores.commit(stores.committer(), MEANS[0])
    stores.state.before = 1
    with pytest.raises(StoreUnavailable):
        stores.commit(stores.committer(), np.full(3, 1e6))
    stores.commit(stores.committer(), MEANS[1])
    np.testing.assert_allclose(stores.model, reference()[1], rtol=1e-12)


def test_the_states_of_the_two_newest_rounds_stay() -> None:
    stores = Stores(**ADAM)
    committer = stores.committer()
    kept = []
    for mean in MEANS:
        stores.commit(committer, mean)
        kept.append(stores.states)
    assert kept == [{"1"}, {"1", "2"}, {"2", "3"}, {"3", "4"}, {"4", "5"}]


def test_a_state_that_could_not_be_deleted_goes_at_the_next_start(caplog: pytest.LogCaptureFixture) -> None:
    stores = Stores(**ADAM)
    committer = stores.committer()
    for mean in MEANS[:2]:
        stores.commit(committer, mean)
    stores.models.stuck = True
    assert stores.commit(committer, MEANS[2]).round == 3
    assert "a server optimizer's old state stays: read-only" in caplog.text
    assert stores.states == {"1", "2", "3"}
    stores.models.stuck = False
    stores.committer()
    assert stores.states == {"2", "3"}


def test_no_two_rounds_share_a_state() -> None:
    """Their numbers may be equal, as when nothing moves; deleting one's must not take the other's."""
    one, other = Stores(**ADAM), Stores("t", **ADAM)
    for stores in (one, one, other):
        stores.commit(stores.committer(), np.array([0.0, 1.0, -2.0]))
    digests = {one.record(1).optimizer_state, one.record(2).optimizer_state, other.record(1).optimizer_state}
    assert len(digests) == 3


def test_a_flipped_bit_in_the_newest_state_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Stores(**ADAM)
    stores.commit(stores.committer(), MEANS[0])
    digest = stores.record(1).optimizer_state
    whole = b"".join(bytes(chunk) for chunk in stores.models.read(Digest(digest)))
    read = stores.models.read
    for at in (0, len(whole) // 2, len(whole) - 1):
        flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        monkeypatch.setattr(
            stores.models, "read", lambda d, o=0, f=flipped: iter([f]) if d == digest else read(d, o)
        )
        [problem] = verify_trail(stores.state, stores.models, S).problems
        assert problem.startswith(f"Optimizer state {digest} of round 1 is damaged")


def test_a_state_that_goes_while_the_trail_is_verified_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running session lets go of it two rounds later."""
    stores = Stores(**ADAM)
    committer, rest = stores.committer(), iter(MEANS[1:])
    stores.commit(committer, MEANS[0])
    digest, read = stores.record(1).optimizer_state, stores.models.read

    def busy(asked: Digest, offset: int = 0) -> Any:
        if asked == digest:
            for _ in range(2):
                stores.commit(committer, next(rest))
        return read(asked, offset)

    monkeypatch.setattr(stores.models, "read", busy)
    assert verify_trail(stores.state, stores.models, S).problems == ()
    assert stores.states == {"2", "3"}


@pytest.mark.parametrize("plan", [{}, {"server_learning_rate": 0.5}], ids=["mean", "sgd"])
def test_plain_sgd_keeps_nothing(plan: dict[str, Any]) -> None:
    stores = Stores(**plan)
    for mean in MEANS:
        stores.commit(stores.committer(), mean)
    assert [stores.record(k).optimizer_state for k in range(6)] == [""] * 6
    assert len(list(stores.models.digests())) == 6
    if not plan:
        np.testing.assert_array_equal(stores.model, MEANS[-1])


def test_a_session_whose_state_is_gone_does_not_go_on() -> None:
    stores = Stores(**ADAM)
    stores.commit(stores.committer(), MEANS[0])
    stores.models.delete(Digest(stores.record(1).optimizer_state))
    with pytest.raises(NotFound, match="optimizer's state after round 1 is missing"):
        stores.committer()
    [problem] = verify_trail(stores.state, stores.models, S).problems
    assert problem == f"Optimizer state {stores.record(1).optimizer_state} of round 1 is missing."


def test_a_session_that_kept_no_state_is_not_gone_on_with_by_an_optimizer_that_needs_one() -> None:
    stores = Stores()
    stores.commit(stores.committer(), MEANS[0])
    stores.plan = plan_from(ADAM)
    with pytest.raises(InvalidInput, match="'adam' has slots, but round 1 kept none"):
        stores.committer()


def test_an_optimizer_that_fails_leaves_the_trail_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Stores(**ADAM)
    committer = stores.committer()
    stores.commit(committer, MEANS[0])

    def fail(*_: object) -> Any:
        raise MemoryError("too much")

    monkeypatch.setattr(optimizers.Adam, "step", fail)
    with pytest.raises(InvalidInput, match="server_optimizer: Adam failed: MemoryError: too much"):
        stores.commit(committer, MEANS[1])
    assert stores.head.round == 1
    assert verify_trail(stores.state, stores.models, S).ok


def test_records_from_before_there_was_a_state_read_as_ever() -> None:
    stores = Stores()
    old = stores.state.record(S, 0).raw.replace(b'"optimizer_state":"",', b"")
    assert b"optimizer_state" not in old
    stored = read_record(old)
    assert (stored.record.optimizer_state, stored.digest, stored.raw) == ("", digest_of(old), old)


def test_the_blobs_come_before_the_record() -> None:
    order: list[str] = []
    stores = Stores(**ADAM)
    committer = stores.committer()
    put, commit = stores.models.put, stores.state.commit_round

    def noted(chunks: Iterable[Buffer], expected: Digest | None = None) -> tuple[Digest, int]:
        digest = put(chunks, expected)
        order.append("model" if "w" in load(b"".join(stores.models.read(digest[0]))) else "state")
        return digest

    def recorded(stored: StoredRecord, term: int) -> Head:
        order.append("record")
        return commit(stored, term)

    stores.models.put, stores.state.commit_round = noted, recorded  # type: ignore[method-assign]
    stores.commit(committer, MEANS[0])
    assert order == ["model", "state", "record"]


# --- parts -------------------------------------------------------------------------------------------

KEY = PartKey(CombinerName("A"), Incarnation("A1"), 0)


def part(size: int, examples: tuple[int, ...] = (10,)) -> PartHeader:
    folded = tuple(Contributor(ClientId(f"c{k}"), n, digest_of(b"")) for k, n in enumerate(examples))
    return PartHeader(S, 1, *KEY, digest_of(b""), size, folded)


def test_a_part_has_the_length_of_the_aggregators_vector() -> None:
    check_part(part(8 * 7), b"", S, 1, KEY, elements=7)
    check_part(part(0, ()), b"", S, 1, KEY, elements=7)
    with pytest.raises(Damaged, match="has 24 bytes, not 56; both tiers need the same version"):
        check_part(part(8 * 3), b"", S, 1, KEY, elements=7)
    with pytest.raises(Damaged, match="has 56 bytes, not 0"):
        check_part(part(8 * 7, ()), b"", S, 1, KEY, elements=7)
    with pytest.raises(Damaged, match="does not fit its round"):
        check_part(part(8 * 7, (0,)), b"", S, 1, KEY, elements=7)


def test_a_merged_part_is_named_with_its_digest() -> None:
    """Beside the state, so that neither displaces the other in the record."""
    stores = Stores(**ADAM)
    merged = MergedPart(*KEY, digest_of(b"sum"), part(8).contributors)
    command = CommitRound(1, (merged,), (), ())
    stores.committer().commit(command, stores.head, LAYOUT, MEANS[0].copy(), 7.0)
    record = read_record(stores.state.record(S, 1).raw).record
    assert record.parts == (merged,)
    assert record.optimizer_state in set(stores.models.digests())
