"""A whole network in other stores: the same, verified, also when the copying broke off anywhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fedn.domain.errors import Conflict, StaleTerm, StoreUnavailable
from fedn.domain.identity import Role
from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId, digest_of
from fedn.identity.audit import verify_audit
from fedn.ports import CombinerInfo, MetricRow, ModelInfo, SessionInfo
from fedn.reducer.metrics import pages
from fedn.stores import copying
from fedn.stores.copying import COPYING, PAGE, Copied, Stores, copy_network
from fedn.stores.files import FileModels
from fedn.stores.holding import Lead, leading
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.stores.retention import Rule, prune
from fedn.stores.sqlite import SqliteState
from fedn.stores.trail import verify_trail
from fedn.testing.contracts.samples import (
    blob_of,
    build_audit,
    build_trail,
    genesis,
    join_token,
    joining,
    note_of,
    session_info,
    successor,
)
from fedn.testing.contracts.state_events import happened
from fedn.testing.contracts.state_store import package

MNIST, OTHER = SessionId("mnist"), SessionId("other")
ROUNDS = 2 * PAGE + 5
NOON = 4_000_000_000.0


def network(stores: Stores) -> Stores:
    """Two sessions, one of them pruned, with metrics, seeds, a package, members, tokens and an audit log."""
    state, models = stores.state, stores.models
    build_trail(state, models, "other", 3)
    trail = build_trail(state, models, rounds=ROUNDS)
    term = state.take_term()
    memory = b"what the optimizer remembers"
    models.put([memory]), models.put([blob_of("mnist", ROUNDS + 1)])
    state.commit_round(successor(trail[-1], optimizer_state=digest_of(memory)), term)
    state.set_session_state(MNIST, "running", "", term)
    state.set_session_state(OTHER, "finished", "done", term)
    prune(state, models, Rule(1), NOON, only=[OTHER])
    for number in (1, ROUNDS):
        row = MetricRow(MNIST, number, "train", ClientId("a"), 10, {"loss": 1 / number})
        state.add_metrics([row], term)
    for number, blob in enumerate((b"seed one", b"seed two")):
        state.add_model(ModelInfo(models.put([blob])[0], len(blob), "seed", "seed", 1.0 + number // 2))
    models.put([b"code"])
    state.add_package(package(b"code", 2.0))
    state.put_combiner(CombinerInfo(CombinerName("north"), "localhost:1", "i1", 1.0))
    token = join_token(uses=0)
    state.identity.add_token(token)
    for name in ("c1", "c2"):
        state.identity.enroll(joining(token, name), 100.0)
    state.identity.revoke_member(Role.CLIENT, "c2", 200.0)
    build_audit(state.identity, PAGE + 3)
    state.add_events([happened(3), happened(5, "mnist", 1, client="c1")])
    return stores


def everything(stores: Stores) -> list[object]:
    """All that is in both stores, in the order in which it is listed."""
    state, models = stores.state, stores.models
    sessions = state.sessions()
    return [
        sessions, state.models(), state.packages(), state.combiners(),
        *(list(state.raw_records(info.session)) for info in sessions),
        *(state.metrics(info.session) for info in sessions), list(state.pruned_marks()), state.events(),
        state.identity.tokens(), state.identity.members(), list(state.identity.raw_audit()),
        {digest: b"".join(models.read(digest)) for digest in models.digests()},
    ]  # fmt: skip


def verified(stores: Stores) -> bool:
    reports = [verify_trail(stores.state, stores.models, info.session) for info in stores.state.sessions()]
    return all(report.ok for report in reports) and verify_audit(stores.state.identity).ok


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Stores]:
    """The network in the embedded stores."""
    state = SqliteState(tmp_path / "state.db")
    yield network(Stores(state, FileModels(tmp_path / "models")))
    state.close()


@pytest.fixture
def source() -> Stores:
    return network(memory())


def memory() -> Stores:
    return Stores(MemoryState(), MemoryModels())


def test_a_copy_is_the_same_and_so_is_the_copy_of_the_copy(kept: Stores, tmp_path: Path):
    source, there = kept, memory()
    copied = copy_network(source, there, pages)
    assert everything(there) == everything(source)
    assert there.state.newest_term() > source.state.newest_term()
    assert verified(source)
    assert verified(there)
    assert (copied.sessions, copied.records, copied.problems) == (2, ROUNDS + 2 + 4, [])
    assert copied.blobs == len(list(source.models.digests()))

    back = Stores(SqliteState(tmp_path / "back.db"), FileModels(tmp_path / "back"))
    copy_network(there, back, pages)
    assert everything(back) == everything(source)
    term = back.state.take_term()
    assert term > source.state.newest_term()
    assert back.state.commit_round(successor(back.state.record(MNIST, ROUNDS + 1)), term).round == ROUNDS + 2
    back.state.close()


def test_large_records_go_a_few_at_a_time(source: Stores, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copying, "BYTES_AT_ONCE", len(source.state.record(MNIST, 1).raw) * 3)
    there, most = memory(), []

    def import_some(info: SessionInfo, rows: Sequence[tuple[int, str, bytes]], term: int) -> None:
        most.append(len(rows))
        MemoryState.import_session(there.state, info, rows, term)

    monkeypatch.setattr(there.state, "import_session", import_some)
    assert copy_network(source, there, pages).records == ROUNDS + 2 + 4
    assert everything(there) == everything(source)
    assert 2 <= max(most) <= 3


def test_metrics_of_a_round_that_is_not_committed_stay_behind(source: Stores):
    there, open_round = memory(), ROUNDS + 2
    rows = [MetricRow(MNIST, number, "train", ClientId("b"), 10, {}) for number in (ROUNDS, open_round)]
    source.state.add_metrics(rows, source.state.newest_term())
    copy_network(source, there, pages)
    assert [row for row in there.state.metrics(MNIST) if row.client == "b"] == rows[:1]
    assert list(there.state.metrics(MNIST)) == list(source.state.metrics(MNIST))[:-1]


def test_again_it_copies_what_is_new_alone(source: Stores):
    there = memory()
    copy_network(source, there, pages)
    blobs = len(list(source.models.digests()))
    assert copy_network(source, there, pages) == Copied(2, 0, 0, 0, blobs)
    source.models.put([blob_of("mnist", ROUNDS + 2)])
    head = source.state.record(MNIST, ROUNDS + 1)
    source.state.commit_round(successor(head), source.state.newest_term())
    source.state.identity.enroll(joining(join_token(uses=0), "c3"), 300.0)
    source.state.unmark_pruned([source.state.pruned_marks()[0][0]])
    copied = copy_network(source, there, pages)
    assert (copied.records, copied.blobs, copied.there) == (1, 1, blobs)
    assert everything(there) == everything(source)


class Breaking(MemoryState):
    """Fails at the ``at``-th write that brings something over."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0

    def import_session(self, info, rows, term):
        self.at -= 1
        if self.at == 0:
            raise StoreUnavailable("the machine went away")
        super().import_session(info, rows, term)


@pytest.mark.parametrize("at", range(1, 9))
def test_what_broke_off_goes_on_and_nobody_takes_it_for_whole(source: Stores, at: int):
    there = Stores(Breaking(), MemoryModels())
    there.state.at = at
    try:
        copy_network(source, there, pages)
    except StoreUnavailable:
        states = {info.session: info.state for info in there.state.sessions()}
        wholes = [session for session, state in states.items() if state != COPYING]
        assert all(verify_trail(there.state, there.models, session).ok for session in wholes)
        assert MNIST not in wholes
    else:
        assert at > 7
    there.state.at = 0
    copy_network(source, there, pages)
    assert everything(there) == everything(source)


def test_a_round_committed_meanwhile_comes_along(source: Stores):
    """The reducer goes on: the copy is of one of its commits, whole."""
    there, last = memory(), source.state.record(MNIST, ROUNDS + 1)

    def told(what: str, done: int, total: int) -> None:
        nonlocal last
        if what == "session mnist" and done in (PAGE, ROUNDS + 3, ROUNDS + 4):
            last = successor(last)
            source.models.put([blob_of("mnist", last.record.round)])
            source.state.commit_round(last, source.state.newest_term())

    copy_network(source, there, pages, told)
    assert last.record.round == ROUNDS + 4
    assert there.state.session(MNIST).head.round == ROUNDS + 4
    assert verified(there)


def test_another_network_is_not_written_into(source: Stores):
    copy = memory()
    copy_network(source, copy, pages)
    before = everything(source)
    strangers = [memory() for _ in range(5)]
    build_trail(strangers[0].state, strangers[0].models, "stranger", 1)
    first = genesis("mnist")  # the very same
    strangers[1].state.add_session(session_info(first), first)
    strangers[1].state.commit_round(successor(first, committed_at=1.0), 0)
    strangers[2].models.put([b"somebody's blob"])
    strangers[3].state.identity.add_token(join_token("b" * 16))
    build_audit(strangers[4].state.identity, 3)  # begins as the source's does
    strangers[4].state.identity.append_audit(note_of())
    for stranger in strangers:
        kept = everything(stranger)
        with pytest.raises(Conflict):
            copy_network(source, stranger, pages)
        assert everything(stranger) == kept
    assert everything(source) == before


def test_a_copy_that_was_gone_on_with_is_not_written_over(source: Stores):
    copy = memory()
    copy_network(source, copy, pages)
    head = copy.state.record(MNIST, ROUNDS + 1)
    copy.state.commit_round(successor(head), copy.state.take_term())
    kept = everything(copy)
    with pytest.raises(Conflict, match="has gone on by itself"):
        copy_network(source, copy, pages)
    assert everything(copy) == kept


def test_damage_is_copied_as_it_is_and_said(kept: Stores, tmp_path: Path):
    source = kept
    missing, damaged = (Digest(digest_of(blob_of("mnist", number))) for number in (4, 5))
    source.models.delete(missing)
    (tmp_path / "models" / damaged[:2] / damaged).write_bytes(b"other bytes")
    there = memory()
    copied = copy_network(source, there, pages)
    assert sorted(copied.problems) == sorted(
        f"Model {digest} of round {number} is missing at the source, or damaged."
        for number, digest in ((4, missing), (5, damaged))
    )
    assert len(verify_trail(source.state, source.models, MNIST).problems) == 2
    assert len(verify_trail(there.state, there.models, MNIST).problems) == 2
    assert list(there.state.raw_records(MNIST)) == list(source.state.raw_records(MNIST))


# --- who leads the target


def test_a_copy_leads_its_target_and_writes_nothing_where_another_does(source: Stores):
    there, asked = memory(), []
    lease = there.state.leadership.take("a reducer", 600.0)
    with pytest.raises(Conflict, match="a reducer leads the target"):
        copy_network(source, there, pages)
    assert there.state.newest_term() == lease.term
    assert (there.state.sessions(), list(there.models.digests())) == ([], [])
    there.state.leadership.give_up(lease)

    def told(what: str, done: int, total: int) -> None:
        asked.append(there.state.leadership.take("a reducer", 600.0).holder)

    copy_network(source, there, pages, told)
    assert "a reducer" not in asked
    assert asked
    assert there.state.leadership.take("a reducer", 600.0).holder == "a reducer"


def test_a_copy_that_has_lost_the_lead_writes_nothing_more(source: Stores):
    there, left = memory(), []

    def told(what: str, done: int, total: int) -> None:
        if what == "session mnist" and not left:
            there.state.take_term()
            left.append(len(there.state.raw_records(MNIST)))

    with pytest.raises(StaleTerm):
        copy_network(source, there, pages, told)
    assert left == [PAGE]
    assert len(there.state.raw_records(MNIST)) == PAGE
    assert there.state.session(MNIST).state == COPYING


def checked(lead: Lead) -> None:
    """Check again and again, for a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        lead.check()


def test_the_lead_is_kept_until_it_is_given_up_or_taken():
    state, renewed = MemoryState(), threading.Semaphore(0)
    renew = state.leadership.renew
    state.leadership.renew = lambda *args: (renew(*args), renewed.release())[0]  # type: ignore[method-assign]
    with leading(state, 41, 0.3) as lead:
        assert state.newest_term() == lead.term > 41
        for _ in range(4):
            assert renewed.acquire(timeout=60)
        lead.check()
        state.take_term()
        with pytest.raises(StaleTerm, match="nothing more is written"):
            checked(lead)
    assert state.leadership.take("another", 600.0).holder == "another"


def test_a_place_is_known_by_any_name(kept: Stores, tmp_path: Path):
    alias = tmp_path / "alias"
    alias.symlink_to(tmp_path, target_is_directory=True)
    state, models = SqliteState(alias / "state.db"), FileModels(alias / "models")
    before, used = everything(kept), MemoryState()
    used.take_term()
    for target, what in ((Stores(state, MemoryModels()), "state"), (Stores(used, models), "model")):
        with pytest.raises(Conflict, match=rf"the target's {what} store is the source's, by another name"):
            copy_network(kept, target, pages)
    assert everything(kept) == before
    state.close()
