from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlite_files import flipped

from fedn.domain.errors import Damaged, NotFound
from fedn.domain.ids import Digest, SessionId, digest_of
from fedn.domain.round import StoredRecord, head_of, store_record
from fedn.ports import ModelStore, SessionInfo
from fedn.stores import open_models, open_state
from fedn.stores.files import FileModels
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.stores.sqlite import SqliteState
from fedn.stores.trail import PAGE, TrailReport, verify_trail
from fedn.testing.contracts.samples import PLAN, build_trail, genesis, session_info, successor

MNIST = SessionId("mnist")


class Kept:
    """A small trail on disk, and ways to damage it behind the stores' back."""

    def __init__(self, root: Path) -> None:
        self.path, self.blobs = root / "state.db", root / "models"
        self.state, self.models = SqliteState(self.path), FileModels(self.blobs)
        self.trail = build_trail(self.state, self.models, rounds=3)

    def verify(self) -> TrailReport:
        return verify_trail(self.state, self.models, MNIST)

    def execute(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                assert connection.execute(statement, values).rowcount > 0
        finally:
            connection.close()

    def rewrite(self, stored: StoredRecord, **changes: object) -> StoredRecord:
        """Replace a record and its digest, so that only the chain can tell."""
        forged = store_record(replace(stored.record, **changes))
        self.execute("UPDATE records SET raw = ?, digest = ? WHERE round = ?", forged.raw, forged.digest,
                     stored.record.round)  # fmt: skip
        return forged

    def blob(self, digest: Digest) -> Path:
        return self.blobs / digest[:2] / digest


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.state.close()


def test_a_whole_trail_verifies(kept: Kept):
    steps: list[tuple[int, int]] = []
    report = verify_trail(kept.state, kept.models, MNIST, lambda done, total: steps.append((done, total)))
    assert report.ok
    assert report == TrailReport(MNIST, 4, 4, kept.trail[-1].digest, ())
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_tools_verify_beside_the_writer(kept: Kept):
    state = open_state(f"sqlite:///{kept.path}", read_only=True)
    models = open_models(f"file://{kept.blobs}", read_only=True)
    assert verify_trail(state, models, MNIST).ok
    state.close()


def test_memory_stores_verify_over_many_pages():
    state, models = MemoryState(), MemoryModels()
    build_trail(state, models, rounds=2 * PAGE)
    report = verify_trail(state, models, MNIST)
    assert (report.ok, report.rounds) == (True, 2 * PAGE + 1)


def test_an_unknown_session_is_not_found(kept: Kept):
    with pytest.raises(NotFound):
        verify_trail(kept.state, kept.models, SessionId("nobody"))


def test_every_bit_of_every_record_counts(kept: Kept):
    for stored in kept.trail:
        bits = 8 * len(stored.raw)
        for bit in {*range(0, bits, 97), *range(16), bits - 1}:
            kept.execute("UPDATE records SET raw = ? WHERE round = ?", flipped(stored.raw, bit),
                         stored.record.round)  # fmt: skip
            problems = kept.verify().problems
            assert problems[0].startswith(f"The record of round {stored.record.round} is damaged"), bit
        kept.execute("UPDATE records SET raw = ? WHERE round = ?", stored.raw, stored.record.round)
    assert kept.verify().ok


def test_one_damaged_record_in_the_middle_is_one_problem(kept: Kept):
    kept.execute("UPDATE records SET raw = ? WHERE round = 1", flipped(kept.trail[1].raw, 0))
    assert len(kept.verify().problems) == 1


def test_every_bit_of_every_stored_digest_counts(kept: Kept):
    for stored in kept.trail:
        for index in (0, 31, 63):
            wrong = stored.digest[:index] + ("0" if stored.digest[index] != "0" else "1")
            kept.execute("UPDATE records SET digest = ? WHERE round = ?", wrong + stored.digest[index + 1 :],
                         stored.record.round)  # fmt: skip
            assert not kept.verify().ok
        kept.execute("UPDATE records SET digest = ? WHERE round = ?", stored.digest, stored.record.round)


def test_every_bit_of_every_blob_counts(kept: Kept):
    for stored in kept.trail:
        model, path = stored.record.model, kept.blob(stored.record.model)
        blob = path.read_bytes()
        for bit in range(0, 8 * len(blob), 5):
            path.write_bytes(flipped(blob, bit))
            (problem,) = kept.verify().problems
            assert problem.startswith(f"Model {model} of round {stored.record.round} is damaged")
        path.write_bytes(blob)
    assert kept.verify().ok


@pytest.mark.parametrize("change", [lambda blob: blob[:-1], lambda blob: blob + b"!", lambda blob: b""])
def test_a_cut_or_grown_blob_is_damaged(kept: Kept, change):
    path = kept.blob(kept.trail[2].record.model)
    path.write_bytes(change(path.read_bytes()))
    (problem,) = kept.verify().problems
    assert "is damaged" in problem


def test_a_missing_blob_is_missing(kept: Kept):
    kept.models.delete(kept.trail[2].record.model)
    (problem,) = kept.verify().problems
    assert problem == f"Model {kept.trail[2].record.model} of round 2 is missing."


def test_the_blob_of_a_damaged_record_is_checked_by_the_next(kept: Kept):
    kept.execute("UPDATE records SET raw = ? WHERE round = 1", b"nonsense")
    kept.models.delete(kept.trail[1].record.model)
    problems = kept.verify().problems
    assert problems[1] == f"Model {kept.trail[1].record.model} of round 2 is missing."


@pytest.mark.parametrize("round", [0, 1, 2, 3])
def test_a_lost_record_is_noticed(kept: Kept, round: int):
    kept.execute("DELETE FROM records WHERE round = ?", round)
    assert not kept.verify().ok


def test_a_trail_without_records_is_noticed(kept: Kept):
    kept.execute("DELETE FROM records")
    assert kept.verify().problems == ("The trail has no records.",)


@pytest.mark.parametrize("round", [0, 1, 2, 3])
def test_a_rewritten_record_breaks_the_chain(kept: Kept, round: int):
    kept.rewrite(kept.trail[round], committed_at=9.0)
    assert not kept.verify().ok


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"session": "other"}, "belongs to session other"),
        ({"round": 7}, "says that it is round 7"),
        ({"parent": "f" * 64}, "names parent"),
        ({"base_model": digest_of(b"x")}, "was trained from model"),
        ({"plan": PLAN.as_dict() | {"seed": 8}}, "plan in the record of round 3 does not match"),
        ({"plan_digest": "f" * 64}, "plan in the record of round 3 does not match"),
        ({"model": "../../etc/passwd"}, "names no valid model"),
        ({"model": ["nonsense"]}, "names no valid model"),
        ({"model_size": 5}, "its record says 5"),
    ],
)
def test_a_forged_last_record_contradicts_the_rest(kept: Kept, changes: dict[str, object], words: str):
    forged = kept.rewrite(kept.trail[3], **changes)
    kept.execute("UPDATE sessions SET head_record = ?, head_model = ?, head_model_size = ?", forged.digest,
                 str(forged.record.model), forged.record.model_size)  # fmt: skip
    assert any(words in problem for problem in kept.verify().problems)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"parts": 3}', b'{"plan": NaN}'])
def test_stored_bytes_that_are_no_record_are_reported(kept: Kept, raw: bytes):
    kept.execute("UPDATE records SET raw = ?, digest = ? WHERE round = 2", raw, digest_of(raw))
    assert any("record of round 2 can't be read" in problem for problem in kept.verify().problems)


@pytest.mark.parametrize(
    "change",
    ["head_round = 2", "head_round = 4", f"head_record = '{'f' * 64}'", f"head_model = '{'f' * 64}'",
     "head_model_size = 1"],
)  # fmt: skip
def test_a_head_that_is_not_the_last_record_is_noticed(kept: Kept, change: str):
    kept.execute(f"UPDATE sessions SET {change}")
    (problem,) = kept.verify().problems
    assert problem.startswith("The session's head")


def test_a_session_that_can_not_be_read_is_reported(kept: Kept):
    kept.execute("UPDATE sessions SET plan = '{'")
    (problem,) = kept.verify().problems
    assert problem.startswith("The state store can't be read beyond round -1: the stored plan")


def test_a_flipped_bit_in_the_database_file_is_noticed(tmp_path: Path):
    kept = Kept(tmp_path)
    kept.state.close()
    image = kept.path.read_bytes()
    for stored in kept.trail:
        position = image.index(stored.raw[:200])
        for bit in range(8 * position, 8 * (position + 200), 331):
            kept.path.write_bytes(flipped(image, bit))
            kept.state = SqliteState(kept.path)
            assert not kept.verify().ok
            kept.state.close()


def test_a_torn_database_file_is_reported_not_raised(tmp_path: Path):
    kept = Kept(tmp_path)
    kept.state.close()
    image = bytearray(kept.path.read_bytes())
    root_page = image.index(kept.trail[0].raw[:200]) // 4096
    image[root_page * 4096 : root_page * 4096 + 16] = b"\xff" * 16
    kept.path.write_bytes(image)
    kept.state = SqliteState(kept.path)
    (problem,) = kept.verify().problems
    assert "can't be read beyond round" in problem
    kept.state.close()


def test_damage_that_a_model_store_finds_itself_is_reported():
    class Suspicious(MemoryModels):
        def read(self, digest: Digest, offset: int = 0):
            raise Damaged("a bad sector")

    state, models = MemoryState(), Suspicious()
    build_trail(state, models, rounds=1)
    assert all("a bad sector" in problem for problem in verify_trail(state, models, MNIST).problems)


class Altered(MemoryState):
    """Has one row that damage changed into another."""

    def __init__(self, row: int, altered: tuple[object, ...]) -> None:
        super().__init__()
        self.row, self.altered = row, altered

    def raw_records(self, session: SessionId, after: int = -1, limit: int = 1000):
        rows = list(super().raw_records(session, after, limit))
        return [self.altered if row[0] == self.row else row for row in rows]


@pytest.mark.parametrize("raw", ["text", None, 7])
def test_a_record_that_became_another_type_is_damaged(raw: object):
    state, models = Altered(1, (1, "f" * 64, raw)), MemoryModels()
    build_trail(state, models)
    (problem,) = (text for text in verify_trail(state, models, MNIST).problems if "round 1 " in text)
    assert problem.startswith("The record of round 1 is damaged")
    with pytest.raises(Damaged, match="round 1 of mnist"):
        state.records(MNIST)


def test_a_row_that_calls_itself_an_earlier_one_does_not_lead_round_in_circles():
    last = 2 * PAGE - 1
    state, models = Altered(last, (last - PAGE, "f" * 64, b"")), MemoryModels()
    build_trail(state, models, rounds=last + 3)
    (problem,) = verify_trail(state, models, MNIST).problems
    assert problem.startswith(f"The state store can't be read beyond round {last - 1}: ")
    assert problem.endswith(f"calls itself round {last - PAGE}.")


def test_rounds_that_are_committed_meanwhile_are_checked_too():
    class Growing(MemoryState):
        """Commits one more round whenever its trail has been read to the end, three times."""

        def raw_records(self, session: SessionId, after: int = -1, limit: int = 1000):
            rows = super().raw_records(session, after, limit)
            if not rows and after < 4:
                commit_next(self, models, self.record(session, after))
            return rows

    state, models = Growing(), MemoryModels()
    build_trail(state, models, rounds=1)
    report = verify_trail(state, models, MNIST)
    assert (report.problems, report.rounds) == ((), 5)


def commit_next(state: MemoryState, models: ModelStore, last: StoredRecord) -> None:
    model = b"the same model again"
    models.put([model])
    state.commit_round(successor(last, base_model=last.record.model, model=digest_of(model),
                                 model_size=len(model)), 1)  # fmt: skip


def test_a_head_without_its_record_is_noticed():
    class Ahead(MemoryState):
        def session(self, session: SessionId) -> SessionInfo:
            info = super().session(session)
            return replace(info, head=replace(info.head, round=9))

    state, models, first = Ahead(), MemoryModels(), genesis()
    models.put([b"model of round 0 of mnist"])
    state.add_session(session_info(first), first)
    assert head_of(first).round == 0
    (problem,) = verify_trail(state, models, MNIST).problems
    assert problem.startswith("The session's head is round 9")
