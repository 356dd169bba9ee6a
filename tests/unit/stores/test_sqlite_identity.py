from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_files import child, run_raw

from fedn.domain.errors import Damaged, StoreUnavailable
from fedn.domain.identity import Role
from fedn.domain.ids import digest_of
from fedn.identity.audit import verify_audit
from fedn.stores.identity_sqlite import SqliteIdentity
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.audit_log import AGAIN, ONCE
from fedn.testing.contracts.identity_store import IdentityStoreContract
from fedn.testing.contracts.samples import build_audit, join_token, joining, note_of

CLIENT = Role.CLIENT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteIdentity]:
    state = SqliteState(path)
    yield state.identity
    state.close()


class TestSqliteIdentity(IdentityStoreContract):
    @pytest.fixture
    def store(self, path: Path) -> Iterator[SqliteIdentity]:
        state = SqliteState(path)
        yield state.identity
        state.close()


def fill(store: SqliteIdentity) -> None:
    """Something in every table, with a token and a member that were revoked."""
    first, second = join_token(uses=0), join_token("b" * 16, role=Role.VIEWER, created_at=11.0)
    store.add_token(first)
    store.add_token(second)
    store.enroll(joining(first), 100.0)
    store.enroll(joining(first, "c2"), 100.0)
    store.revoke_member(CLIENT, "c2", 120.0)
    store.revoke_token(second.token, 130.0)
    build_audit(store, 5)


def answers(store: SqliteIdentity) -> object:
    return store.tokens(), store.members(), store.revoked(0.0), store.audit()


def test_everything_is_there_after_reopening(path: Path):
    state = SqliteState(path)
    fill(state.identity)
    before = answers(state.identity)
    state.close()

    again = SqliteState(path)
    assert answers(again.identity) == before
    again.identity.append_audit(note_of())
    assert verify_audit(again.identity).entries == 6
    again.close()


def test_tools_read_beside_the_writer(path: Path, store: SqliteIdentity):
    tool = SqliteState(path, read_only=True)
    assert tool.identity.audit() == []
    fill(store)
    assert answers(tool.identity) == answers(store)
    assert verify_audit(tool.identity).ok
    for write in (
        lambda: tool.identity.add_token(join_token("c" * 16)),
        lambda: tool.identity.append_audit(note_of()),
    ):
        with pytest.raises(StoreUnavailable, match="open for reading only"):
            write()
    tool.close()


def test_a_closed_store_says_so(path: Path):
    state = SqliteState(path)
    state.close()
    for call in (state.identity.tokens, state.identity.audit):
        with pytest.raises(StoreUnavailable, match="is closed"):
            call()


JOIN = """
import sys
from fedn.domain.errors import Unauthenticated
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.samples import joining, note_of
store = SqliteState(sys.argv[1]).identity
sys.stdin.readline()
for number in range(10):
    token = store.token(f"{number:016x}")
    try:
        store.enroll(joining(token, f"{sys.argv[2]}-{number}"), 100.0)
    except Unauthenticated as error:
        assert "used up" in error.message
    else:
        print(number)
    store.append_audit(note_of("join_tried", sys.argv[2], number=number))
"""


def test_processes_never_share_a_token_nor_fork_the_chain(path: Path, store: SqliteIdentity):
    for number in range(10):
        store.add_token(join_token(f"{number:016x}"))
    children = [child(JOIN, path, name) for name in ("a", "b", "c")]
    outputs = [process.communicate("go\n")[0] for process in children]
    assert [process.returncode for process in children] == [0, 0, 0]
    winners = sorted(int(word) for output in outputs for word in output.split())
    assert winners == list(range(10))
    assert len(store.members()) == 10
    report = verify_audit(store)
    assert (report.problem, report.entries) == ("", 30)


JOIN_FOREVER = """
import itertools, sys
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.samples import joining, note_of
store = SqliteState(sys.argv[1]).identity
token = store.token("a" * 16)
for number in itertools.count(token.used):
    member = store.enroll(joining(token, f"c{number}"), 100.0, note_of("joined", f"c{number}"))
    print(member.member, number + 1, flush=True)
"""


def test_a_killed_writer_keeps_what_it_told(path: Path, store: SqliteIdentity):
    store.add_token(join_token(uses=0))
    for lines in (1, 13, 25):
        writer = child(JOIN_FOREVER, path)
        assert writer.stdout is not None
        told = [line.split() for line in itertools.islice(writer.stdout, lines)]
        writer.kill()
        writer.communicate()
        for member, number in told:
            assert store.member(CLIENT, member).member == member
            assert store.audit(int(number) - 1, 1)[0].entry.subject == member
        report = verify_audit(store)
        assert report.ok
        assert store.token("a" * 16).used == len(store.members(10_000)) == report.entries


def test_a_join_that_fails_halfway_uses_nothing(path: Path, store: SqliteIdentity):
    token = join_token()
    store.add_token(token)
    run_raw(path, "CREATE TRIGGER stop BEFORE INSERT ON members BEGIN SELECT RAISE(ABORT, 'stop'); END")
    with pytest.raises(StoreUnavailable):
        store.enroll(joining(token), 100.0)
    run_raw(path, "DROP TRIGGER stop")
    assert store.token(token.token) == token
    assert store.enroll(joining(token), 100.0) == joining(token)


@pytest.mark.parametrize("change", [*ONCE, *AGAIN])
def test_a_change_whose_entry_fails_halfway_does_not_happen(path: Path, store: SqliteIdentity, change: str):
    store.add_token(join_token())
    store.enroll(joining(join_token()), 100.0)
    before = answers(store)
    run_raw(path, "CREATE TRIGGER stop BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'stop'); END")
    with pytest.raises(StoreUnavailable):
        (ONCE | AGAIN)[change](store, note_of(change))
    run_raw(path, "DROP TRIGGER stop")
    assert answers(store) == before
    (ONCE | AGAIN)[change](store, note_of(change))
    assert [stored.entry.event for stored in store.audit()] == [change]


@pytest.mark.parametrize("labels", ["{", "[]", "3", "", "[" * 100_000])
def test_changed_labels_are_damaged_when_they_are_read(path: Path, store: SqliteIdentity, labels: str):
    fill(store)
    for table in ("tokens", "members"):
        run_raw(path, f"UPDATE {table} SET labels = ?", values=(labels,))
    for question in (store.tokens, store.members, lambda: store.token("a" * 16)):
        with pytest.raises(Damaged, match="stored labels of"):
            question()


def test_a_changed_role_is_damaged_when_it_is_read(path: Path, store: SqliteIdentity):
    fill(store)
    run_raw(path, "UPDATE tokens SET role = 'superuser'", "UPDATE members SET role = 'superuser'")
    for question in (store.tokens, store.members, lambda: store.token("a" * 16)):
        with pytest.raises(Damaged, match="stored role of"):
            question()


@pytest.mark.parametrize(
    "change",
    ["raw = CAST(replace(raw, 'client:c1', 'client:c2') AS BLOB)", f"digest = '{'f' * 64}'"],
)  # fmt: skip
def test_a_changed_entry_is_damaged_when_it_is_read(path: Path, store: SqliteIdentity, change: str):
    fill(store)
    run_raw(path, f"UPDATE audit SET {change} WHERE number = 3")
    with pytest.raises(Damaged, match="entry 3 of the audit log does not match its digest"):
        store.audit()
    assert [stored.entry.number for stored in store.audit(after=3)] == [4, 5]
    assert [row[0] for row in store.raw_audit()] == [1, 2, 3, 4, 5]


def test_an_entry_under_another_number_is_damaged_when_it_is_read(path: Path, store: SqliteIdentity):
    fill(store)
    run_raw(path, "UPDATE audit SET number = 7 WHERE number = 5")
    with pytest.raises(Damaged, match="entry 7 of the audit log says that it is 5"):
        store.audit(after=4)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"at": NaN}', b"[" * 100_000, b'{"number":1}'])
def test_bytes_that_are_no_entry_are_damaged_when_they_are_read(
    path: Path, store: SqliteIdentity, raw: bytes
):
    fill(store)
    run_raw(path, "UPDATE audit SET raw = ?, digest = ? WHERE number = 2", values=(raw, digest_of(raw)))
    with pytest.raises(Damaged, match="can't be read"):
        store.audit()


def test_the_log_goes_on_after_a_damaged_entry(path: Path, store: SqliteIdentity):
    fill(store)
    run_raw(path, "UPDATE audit SET raw = x'00' WHERE number = 5")
    assert store.append_audit(note_of()).entry.number == 6


def test_every_question_uses_an_index(path: Path, store: SqliteIdentity):
    questions = [
        "SELECT name FROM tokens ORDER BY created_at DESC, rowid DESC LIMIT 9",
        "SELECT name FROM tokens WHERE token = 'a'",
        "SELECT name FROM members ORDER BY joined_at DESC, rowid DESC LIMIT 9",
        "SELECT name FROM members WHERE role = 'client' AND member = 'a'",
        "SELECT name FROM members WHERE name = 'a' AND revoked_at = 0 LIMIT 2",
        "SELECT name FROM members WHERE revoked_at > 0 AND expires_at > 5 "
        "ORDER BY revoked_at DESC, rowid DESC LIMIT 9",
        "SELECT raw FROM audit WHERE number > 5 ORDER BY number LIMIT 9",
    ]
    for question in questions:
        steps = " ".join(str(step[3]) for step in run_raw(path, f"EXPLAIN QUERY PLAN {question}"))
        assert "USING" in steps
        assert "TEMP B-TREE" not in steps
