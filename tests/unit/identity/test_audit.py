from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlite_files import flipped, run_raw

from fedn.domain.errors import Damaged, FednError, StoreUnavailable
from fedn.domain.identity import AUDIT_GENESIS, AuditNote, read_entry, store_entry
from fedn.domain.ids import digest_of
from fedn.identity.audit import PAGE, AuditReport, verify_audit
from fedn.stores.identity_memory import MemoryIdentity
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.samples import build_audit

ENTRIES = 40


@pytest.fixture
def store() -> MemoryIdentity:
    store = MemoryIdentity()
    build_audit(store, 5)
    return store


def test_a_whole_log_verifies(store: MemoryIdentity):
    assert verify_audit(store) == AuditReport(True, 5, store.audit()[-1].digest)


def test_an_empty_log_verifies():
    assert verify_audit(MemoryIdentity()) == AuditReport(True, 0, AUDIT_GENESIS)


@pytest.mark.parametrize("entries", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 3])
def test_a_log_of_many_pages_verifies(entries: int):
    store = MemoryIdentity()
    build_audit(store, entries)
    assert verify_audit(store) == AuditReport(True, entries, store.audit(entries - 1)[0].digest)
    store._audit[-1] = (*store._audit[-1][:2], b"{}")
    assert verify_audit(store).at == entries


def test_every_bit_of_every_entry_counts(store: MemoryIdentity):
    for index, row in enumerate(list(store._audit)):
        number, digest, raw = row
        changed = [(number, digest, flipped(raw, bit)) for bit in range(8 * len(raw))]
        changed += [
            (number, flipped(digest.encode(), bit).decode("utf-8", "replace"), raw) for bit in range(8 * 64)
        ]
        changed += [(number ^ 1 << bit, digest, raw) for bit in range(63)]
        head = store._audit[index - 1][1] if index else AUDIT_GENESIS
        for wrong in changed:
            store._audit[index] = wrong
            report = verify_audit(store)
            assert (report.ok, report.at, report.entries, report.head) == (False, index + 1, index, head)
            assert report.problem.startswith(f"Entry {index + 1} is ")
        store._audit[index] = row
    assert verify_audit(store).ok


@pytest.mark.parametrize("index", [0, 1, 3])
def test_a_missing_entry_is_noticed(store: MemoryIdentity, index: int):
    del store._audit[index]
    report = verify_audit(store)
    assert (report.ok, report.at, report.entries) == (False, index + 1, index)
    assert report.problem == f"Entry {index + 1} is missing: entry {index + 2} comes after entry {index}."


def test_a_missing_entry_is_noticed_if_the_rest_closed_up(store: MemoryIdentity):
    rows = [row for row in store._audit if row[0] != 3]
    store._audit[:] = [(number, digest, raw) for number, (_, digest, raw) in enumerate(rows, start=1)]
    report = verify_audit(store)
    assert (report.at, report.problem) == (3, "Entry 3 says that it is entry 4.")


def test_any_other_order_is_noticed(store: MemoryIdentity):
    rows = list(store._audit)
    for order in permutations(rows):
        first = next((k for k, row in enumerate(order) if row != rows[k]), None)
        store._audit[:] = order
        assert verify_audit(store).at == (0 if first is None else first + 1)
        # ... and if the rows are numbered anew
        store._audit[:] = [(number, digest, raw) for number, (_, digest, raw) in enumerate(order, start=1)]
        assert verify_audit(store).at == (0 if first is None else first + 1)


def test_an_entry_that_is_there_twice_is_noticed(store: MemoryIdentity):
    store._audit.insert(2, store._audit[1])
    assert verify_audit(store).at == 3


def rewrite(store: MemoryIdentity, number: int, /, **changes: object) -> None:
    """Replace an entry and its digest, so that only the chain can tell."""
    forged = store_entry(replace(read_entry(store._audit[number - 1][2]).entry, **changes))
    store._audit[number - 1] = (number, forged.digest, forged.raw)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_rewritten_entry_breaks_the_link_of_the_next(store: MemoryIdentity, number: int):
    rewrite(store, number, actor="client:somebody-else")
    report = verify_audit(store)
    assert (report.ok, report.at) == (False, number + 1)
    assert report.problem.startswith(f"Entry {number + 1} names parent ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parent": "f" * 64}, f"names parent {'f' * 64}"),
        ({"parent": AUDIT_GENESIS}, f"names parent {AUDIT_GENESIS}"),
        ({"number": 6}, "says that it is entry 6"),
        ({"number": "5"}, "is not a whole entry"),
        ({"at": "yesterday"}, "is not a whole entry"),
        ({"actor": None}, "is not a whole entry"),
        ({"details": []}, "is not a whole entry"),
        ({"details": {"x": None}}, "is not a whole entry"),
    ],
)
def test_a_forged_entry_contradicts_the_rest(store: MemoryIdentity, changes: dict[str, object], words: str):
    rewrite(store, 5, **changes)
    report = verify_audit(store)
    assert (report.ok, report.at) == (False, 5)
    assert words in report.problem


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b"\xff", b"null", b'{"at": NaN}', b"[" * 100_000, b'{"number":' + b"9" * 5000 + b"}"],
)
def test_bytes_that_are_no_entry_are_reported(store: MemoryIdentity, raw: bytes):
    store._audit[2] = (3, digest_of(raw), raw)
    report = verify_audit(store)
    assert report.at == 3
    assert report.problem.startswith("Entry 3 is not a whole entry: ")


def test_an_entry_has_one_form_only(store: MemoryIdentity):
    number, _, raw = store._audit[4]
    for other in (
        raw.replace(b":", b": "),
        raw + b"\n",
        raw.replace(b'{"actor"', b'{"actor":"x","actor"', 1),
    ):
        assert other != raw
        store._audit[4] = (number, digest_of(other), other)
        assert verify_audit(store).problem.startswith("Entry 5 is not a whole entry: ")


@pytest.mark.parametrize("raw", ["text", None, 7, 0.5])
def test_an_entry_that_became_another_type_is_reported(store: MemoryIdentity, raw: object):
    store._audit[2] = (3, digest_of(b"text"), raw)
    assert verify_audit(store).problem == "Entry 3 is damaged: it is not kept as bytes."
    with pytest.raises(Damaged, match="entry 3 of the audit log"):
        store.audit()


@pytest.mark.parametrize("digest", [None, 7, b"f" * 64, "f" * 10_000])
def test_a_digest_that_became_something_else_is_reported(store: MemoryIdentity, digest: object):
    store._audit[2] = (3, digest, store._audit[2][2])
    report = verify_audit(store)
    assert report.problem.startswith("Entry 3 is damaged: ")
    assert len(report.problem) < 300


# --- what the chain alone can't tell


def test_a_log_that_was_cut_is_noticed_by_a_pinned_head_alone(store: MemoryIdentity):
    pinned = verify_audit(store).head
    assert verify_audit(store, pinned).ok
    build_audit(store, 2)
    assert verify_audit(store, pinned).ok
    del store._audit[4:]
    assert verify_audit(store) == AuditReport(True, 4, store.audit()[-1].digest)
    report = verify_audit(store, pinned)
    assert (report.ok, report.entries, report.at) == (False, 4, 5)
    assert report.problem.startswith(f"No entry has the digest {pinned}")


def test_a_log_that_was_written_anew_is_noticed_by_a_pinned_head_alone(store: MemoryIdentity):
    pinned, other = verify_audit(store).head, MemoryIdentity()
    for stored in store.audit():
        entry = stored.entry
        other.append_audit(
            AuditNote(entry.at, "client:somebody-else", entry.event, entry.subject, entry.details)
        )
    assert verify_audit(other).ok
    assert not verify_audit(other, pinned).ok


def test_the_pin_of_an_empty_log_holds_for_ever(store: MemoryIdentity):
    assert verify_audit(store, verify_audit(MemoryIdentity()).head).ok


# --- stores that grow or fail meanwhile


def test_entries_that_are_added_meanwhile_are_checked_too():
    class Growing(MemoryIdentity):
        def raw_audit(self, after: int = 0, limit: int = 1000):
            rows = super().raw_audit(after, limit)
            if not rows and after < 8:
                build_audit(self, 1)
                rows = super().raw_audit(after, limit)
            return rows

    store = Growing()
    build_audit(store, 5)
    assert verify_audit(store).entries == 8


@pytest.mark.parametrize("error", [Damaged("a bad sector"), StoreUnavailable("locked")])
def test_damage_is_reported_and_absence_raised(error: FednError):
    class Failing(MemoryIdentity):
        def raw_audit(self, after: int = 0, limit: int = 1000):
            if after:
                raise error
            return super().raw_audit(after, limit)

    store = Failing()
    build_audit(store, 5)
    if isinstance(error, StoreUnavailable):
        with pytest.raises(StoreUnavailable):
            verify_audit(store)
        return
    report = verify_audit(store)
    assert (report.ok, report.entries, report.at) == (False, 5, 6)
    assert report.problem == "The state store can't be read beyond entry 5: a bad sector."


# --- the real file, bit by bit


class Image:
    """A state store's file with a log of several pages, as bytes; and its rows as they should be."""

    def __init__(self, root: Path) -> None:
        self.path = root / "state.db"
        state = SqliteState(self.path)
        build_audit(state.identity, ENTRIES)
        self.rows = list(state.identity.raw_audit())
        state.close()
        self.bytes = self.path.read_bytes()
        self.page_bytes = int(run_raw(self.path, "PRAGMA page_size")[0][0])
        leaves = {self.place(number) // self.page_bytes for number in range(1, ENTRIES + 1)}
        (root_page,) = run_raw(self.path, "SELECT rootpage FROM sqlite_schema WHERE name = 'audit'")
        self.pages = sorted(leaves | {root_page[0] - 1})

    def place(self, number: int) -> int:
        """Where an entry's digest starts; its bytes follow."""
        _, digest, raw = self.rows[number - 1]
        return self.bytes.index(digest.encode() + raw)

    def verify(self, bit: int) -> tuple[AuditReport, list[tuple[int, str, bytes]]]:
        """What is found, and what is read, when one bit of the file is another."""
        self.path.write_bytes(flipped(self.bytes, bit))
        state = SqliteState(self.path, read_only=True)
        try:
            report = verify_audit(state.identity)
            return report, list(state.identity.raw_audit()) if report.ok else []
        finally:
            state.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    image = Image(tmp_path_factory.mktemp("audit"))
    assert len(image.pages) > 3
    return image


@settings(deadline=None, max_examples=400)
@given(number=st.integers(1, ENTRIES), where=st.integers(0, 2**20))
@example(number=1, where=0)
@example(number=ENTRIES, where=8 * 64)
def test_any_flipped_bit_of_any_row_in_the_file_is_found_where_it_is(image: Image, number: int, where: int):
    bits = 8 * (64 + len(image.rows[number - 1][2]))
    report, _ = image.verify(8 * image.place(number) + where % bits)
    assert (report.ok, report.at, report.entries) == (False, number, number - 1)
    assert report.problem.startswith(f"Entry {number} is damaged")


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_no_flipped_bit_of_the_logs_pages_changes_what_is_read_unnoticed(image: Image, data: st.DataObject):
    page = data.draw(st.sampled_from(image.pages))
    bit = data.draw(st.integers(0, 8 * image.page_bytes - 1))
    report, rows = image.verify(8 * image.page_bytes * page + bit)
    assert not report.ok or rows == image.rows


@settings(deadline=None, max_examples=300)
@given(where=st.integers(0, 2**40))
def test_no_flipped_bit_of_the_file_raises_anything_else(image: Image, where: int):
    with suppress(
        FednError
    ):  # ... than what says that the file is damaged, if not even its tables can be read
        report, rows = image.verify(where % (8 * len(image.bytes)))
        assert not report.ok or rows == image.rows


@pytest.mark.parametrize("word", [b"TEXT", b"CREATE", b"NOT NULL"])
def test_a_schema_that_is_no_text_is_damaged(image: Image, word: bytes):
    for bit in range(7, 8 * len(word), 8):
        with pytest.raises(Damaged, match="is not a whole SQLite file"):
            image.verify(8 * image.bytes.index(word) + bit)
