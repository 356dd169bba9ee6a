"""The embedded StateStore: SQLite, no server to install, every write on disk when the call returns.

The trail is kept as the exact canonical bytes that were hashed. A commit is one transaction that
compares and sets the head; in the write-ahead log that is one fsync. Connections are in
`fedn.stores.database`, tables in `fedn.stores.schema`, the rules shared with the memory twin in
`fedn.stores.rules`, and who is who in `fedn.stores.identity_sqlite`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged, Incompatible, InvalidInput
from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId
from fedn.domain.plan import plan_from
from fedn.domain.round import Head, StoredRecord, head_of
from fedn.domain.update import finite_metrics
from fedn.ports import CombinerInfo, EventRow, MetricRow, ModelInfo, PackageInfo, SessionInfo
from fedn.stores import events_sqlite, rules
from fedn.stores.database import BUSY_SECONDS, Database
from fedn.stores.event_rows import Wanted
from fedn.stores.identity_sqlite import SqliteIdentity
from fedn.stores.leadership_sqlite import SqliteLeadership, newest_term
from fedn.stores.schema import PACKAGE_VERSION, PRUNED_VERSION

_SESSION = (
    "SELECT session, name, plan, state, reason, created_at, "
    "head_round, head_record, head_model, head_model_size FROM sessions"
)
_IMPORT_SESSION = (
    "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (session) DO UPDATE SET "
    "name = excluded.name, plan = excluded.plan, state = excluded.state, reason = excluded.reason, "
    "created_at = excluded.created_at, head_round = excluded.head_round, head_record = excluded.head_record, "
    "head_model = excluded.head_model, head_model_size = excluded.head_model_size"
)
_PACKAGE = "SELECT digest, size, name, manifest, created_at FROM packages"


class SqliteState:
    """A StateStore in one file. Several processes may open it; one reducer at a time is in charge."""

    def __init__(
        self, path: str | Path, *, read_only: bool = False, oldest: int = 1,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:  # fmt: skip
        self._database = Database(Path(path), read_only=read_only, oldest=oldest, busy_seconds=busy_seconds)
        self.identity = SqliteIdentity(self._database)
        self.leadership = SqliteLeadership(self._database)
        self._events = events_sqlite.SqliteEvents(self._database)

    def take_term(self) -> int:
        return self.leadership.take_term()

    def newest_term(self) -> int:
        with self._database.read() as connection:
            return newest_term(connection)

    def raise_term(self, term: int) -> None:
        with self._database.write() as connection:
            connection.execute("UPDATE term SET value = max(value, ?)", (term,))

    def add_session(self, info: SessionInfo, genesis: StoredRecord) -> None:
        rules.check_genesis(info, genesis)
        with self._database.write() as connection:
            rules.check_term(genesis.record.term, newest_term(connection))
            if _exists(connection, info.session):
                raise rules.session_exists(info.session)
            if _pruned(connection, info.head.model) is not None:
                raise rules.was_pruned(info.head.model)
            connection.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _session_columns(info)
            )
            _insert(connection, genesis)

    def set_session_state(self, session: SessionId, state: str, reason: str, term: int) -> None:
        with self._database.write() as connection:
            rules.check_term(term, newest_term(connection))
            changed = connection.execute(
                "UPDATE sessions SET state = ?, reason = ? WHERE session = ?", (state, reason, session)
            )
            if not changed.rowcount:
                raise rules.no_session(session)

    def session(self, session: SessionId) -> SessionInfo:
        with self._database.read() as connection:
            rows = connection.execute(f"{_SESSION} WHERE session = ?", (session,)).fetchall()
        if not rows:
            raise rules.no_session(session)
        return _session(rows[0])

    def sessions(self) -> Sequence[SessionInfo]:
        with self._database.read() as connection:
            rows = connection.execute(f"{_SESSION} ORDER BY created_at DESC, rowid DESC").fetchall()
        return [_session(row) for row in rows]

    def commit_round(self, stored: StoredRecord, term: int) -> Head:
        rules.check_bytes(stored)
        record, head = stored.record, head_of(stored)
        with self._database.write() as connection:
            rules.check_term(term, newest_term(connection))
            moved = connection.execute(
                "UPDATE sessions SET head_round = ?, head_record = ?, head_model = ?, head_model_size = ? "
                "WHERE session = ? AND head_record = ? AND head_round = ?",
                (*_columns(head), record.session, record.parent, record.round - 1),
            )
            if moved.rowcount:
                _insert(connection, stored)
                _drop_left_behind(connection, stored)
                _unmark(connection, [head.model])
                return head
            return _settle_repeat(connection, stored)

    def record(self, session: SessionId, round: int) -> StoredRecord:
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT round, digest, raw FROM records WHERE session = ? AND round = ?",
                (session, rules.clamp(round)),
            ).fetchone()
        if row is None:
            raise rules.no_record(session, round)
        return rules.read_stored(session, *row)

    def records(self, session: SessionId, after: int = -1, limit: int = 1000) -> Sequence[StoredRecord]:
        return [rules.read_stored(session, *row) for row in self.raw_records(session, after, limit)]

    def raw_records(
        self, session: SessionId, after: int = -1, limit: int = 1000
    ) -> Sequence[tuple[int, str, bytes]]:
        query = (
            "SELECT round, digest, raw FROM records WHERE session = ? AND round > ? ORDER BY round LIMIT ?"
        )
        return self._page(query, session, after, limit)

    def add_metrics(self, rows: Iterable[MetricRow], term: int) -> None:
        kept = list(rows)
        with self._database.write() as connection:
            rules.check_term(term, newest_term(connection))
            for session in {row.session for row in kept}:
                if not _exists(connection, session):
                    raise rules.no_session(session)
            connection.executemany(
                "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
                map(_metric_columns, kept),
            )

    def metrics(self, session: SessionId, after: int = -1, limit: int = 10_000) -> Sequence[MetricRow]:
        query = (
            "SELECT session, round, kind, client, examples, metrics FROM metrics "
            "WHERE session = ? AND round > ? ORDER BY round, kind, client LIMIT ?"
        )
        return [_metric(row) for row in self._page(query, session, after, limit)]

    def remove_session(self, session: SessionId) -> None:
        with self._database.write() as connection:
            row = connection.execute("SELECT state FROM sessions WHERE session = ?", (session,)).fetchone()
            if row is None:
                raise rules.no_session(session)
            rules.check_over(session, row[0])
            connection.execute("DELETE FROM metrics WHERE session = ?", (session,))
            events_sqlite.drop(connection, session)
            connection.execute("DELETE FROM records WHERE session = ?", (session,))
            connection.execute("DELETE FROM sessions WHERE session = ?", (session,))

    def forget_metrics(self, client: ClientId) -> int:
        with self._database.write() as connection:
            return connection.execute("DELETE FROM metrics WHERE client = ?", (client,)).rowcount

    def add_events(self, rows: Sequence[EventRow], term: int | None = None) -> None:
        self._events.add(rows, term)

    def events(
        self, after: int = 0, limit: int = 1000, session: str = "", round: int | None = None,
        names: Collection[str] = (), newest: bool = False, before: int | None = None,
    ) -> Sequence[EventRow]:  # fmt: skip
        return self._events.read(Wanted(after, limit, session, round, names, newest, before))

    def trim_events(self, keep: int) -> None:
        self._events.trim(keep)

    def forget_events(self, client: ClientId, name: str = "") -> int:
        return self._events.forget(client, name)

    def import_session(self, info: SessionInfo, rows: Sequence[tuple[int, str, bytes]], term: int) -> None:
        with self._database.write() as connection:
            rules.check_term(term, newest_term(connection))
            there = connection.execute(f"{_SESSION} WHERE session = ?", (info.session,)).fetchone()
            for row in rows:
                _import_record(connection, info.session, row)
            if there:
                _check_head(connection, info, _head(there))
            connection.execute(_IMPORT_SESSION, _session_columns(info))

    def mark_pruned(self, digests: Collection[Digest], at: float) -> None:
        rows = [(digest, rules.check_time(at)) for digest in digests]
        with self._database.write() as connection:
            connection.executemany("INSERT OR IGNORE INTO pruned VALUES (?, ?)", rows)

    def unmark_pruned(self, digests: Collection[Digest]) -> None:
        with self._database.write() as connection:
            _unmark(connection, digests)

    def pruned(self, digest: Digest) -> float | None:
        with suppress(Incompatible), self._database.read(PRUNED_VERSION) as connection:
            return _pruned(connection, digest)
        return None  # the file is older: nothing was ever pruned

    def pruned_marks(self, after: str = "", limit: int = 1000) -> Sequence[tuple[Digest, float]]:
        query = "SELECT digest, at FROM pruned WHERE digest > ? ORDER BY digest LIMIT ?"
        bounds = (after, rules.check_limit(limit))
        with suppress(Incompatible), self._database.read(PRUNED_VERSION) as connection:
            return [(Digest(row[0]), row[1]) for row in connection.execute(query, bounds).fetchall()]
        return []

    def add_model(self, info: ModelInfo) -> None:
        with self._database.write() as connection:
            _unmark(connection, [info.digest])
            connection.execute(
                "INSERT INTO models VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET name = excluded.name, created_at = excluded.created_at",
                (info.digest, info.size, info.name, info.origin, info.created_at),
            )

    def models(self, limit: int = 1000) -> Sequence[ModelInfo]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT digest, size, name, origin, created_at FROM models "
                "ORDER BY created_at DESC, rowid DESC LIMIT ?", (rules.check_limit(limit),)
            ).fetchall()  # fmt: skip
        return [ModelInfo(Digest(row[0]), *row[1:]) for row in rows]

    def add_package(self, info: PackageInfo) -> None:
        manifest = rules.manifest_text(info.manifest)
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO packages VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                "name = excluded.name, manifest = excluded.manifest, created_at = excluded.created_at",
                (info.digest, info.size, info.name, manifest, info.created_at),
            )

    def package(self, digest: Digest) -> PackageInfo:
        with self._database.read(PACKAGE_VERSION) as connection:
            row = connection.execute(f"{_PACKAGE} WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise rules.no_package(digest)
        return _package(row)

    def packages(self, limit: int = 1000) -> Sequence[PackageInfo]:
        with self._database.read(PACKAGE_VERSION) as connection:
            rows = connection.execute(
                f"{_PACKAGE} ORDER BY created_at DESC, rowid DESC LIMIT ?", (rules.check_limit(limit),)
            ).fetchall()
        return [_package(row) for row in rows]

    def put_combiner(self, info: CombinerInfo) -> None:
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO combiners VALUES (?, ?, ?, ?, ?)",
                (info.combiner, info.address, info.incarnation, info.registered_at, info.drained_at),
            )

    def combiners(self) -> Sequence[CombinerInfo]:
        with self._database.read() as connection:
            rows = connection.execute("SELECT * FROM combiners ORDER BY combiner").fetchall()
        return [CombinerInfo(CombinerName(row[0]), *row[1:]) for row in rows]  # an older file: one less

    def close(self) -> None:
        self._database.close()

    def _page(self, query: str, session: SessionId, after: int, limit: int) -> list[Any]:
        """Rows of one session; an empty page is an answer only if the session exists."""
        with self._database.read() as connection:
            bounds = (rules.clamp(after), rules.check_limit(limit))
            rows = connection.execute(query, (session, *bounds)).fetchall()
            if not rows and not _exists(connection, session):
                raise rules.no_session(session)
        return rows


def _settle_repeat(connection: sqlite3.Connection, stored: StoredRecord) -> Head:
    """The head did not move: either these very bytes are in the trail already, or it is a conflict."""
    record = stored.record
    row = connection.execute(f"{_SESSION} WHERE session = ?", (record.session,)).fetchone()
    if row is None:
        raise rules.no_session(record.session)
    head = _head(row)
    known = connection.execute(
        "SELECT raw FROM records WHERE session = ? AND round = ?", (record.session, rules.clamp(record.round))
    ).fetchone()
    if known is None or known[0] != stored.raw:
        rules.refuse_commit(stored, head)
    return head


def _insert(connection: sqlite3.Connection, stored: StoredRecord) -> None:
    connection.execute(
        "INSERT INTO records VALUES (?, ?, ?, ?)",
        (stored.record.session, stored.record.round, stored.digest, stored.raw),
    )


def _drop_left_behind(connection: sqlite3.Connection, stored: StoredRecord) -> None:
    place = stored.record.session, stored.record.round
    query = "SELECT kind, client FROM metrics WHERE session = ? AND round = ?"
    keys = rules.left_behind(stored, connection.execute(query, place).fetchall())
    connection.executemany(
        "DELETE FROM metrics WHERE session = ? AND round = ? AND kind = ? AND client = ?",
        [(*place, *key) for key in keys],
    )


def _import_record(connection: sqlite3.Connection, session: SessionId, row: tuple[int, str, bytes]) -> None:
    added = connection.execute("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?)", (session, *row))
    if added.rowcount:
        return
    known = connection.execute(
        "SELECT round, digest, raw FROM records WHERE session = ? AND round = ?", (session, row[0])
    ).fetchone()
    if known != tuple(row):
        raise rules.other_record(session, row[0])


def _check_head(connection: sqlite3.Connection, info: SessionInfo, there: Head) -> None:
    """Refuse a head that does not go on from the one that is ``there``."""
    near = connection.execute(
        "SELECT round, raw FROM records WHERE session = ? AND round BETWEEN ? AND ?",
        (info.session, there.round, there.round + 1),
    ).fetchall()
    rules.check_head_goes_on(info.session, there, info.head, dict(near))


def _unmark(connection: sqlite3.Connection, digests: Collection[Digest]) -> None:
    connection.executemany("DELETE FROM pruned WHERE digest = ?", [(digest,) for digest in digests])


def _pruned(connection: sqlite3.Connection, digest: Digest) -> float | None:
    row = connection.execute("SELECT at FROM pruned WHERE digest = ?", (digest,)).fetchone()
    return None if row is None else float(row[0])


def _exists(connection: sqlite3.Connection, session: SessionId) -> bool:
    return connection.execute("SELECT 1 FROM sessions WHERE session = ?", (session,)).fetchone() is not None


def _session_columns(info: SessionInfo) -> tuple[Any, ...]:
    plan = canonical_json(info.plan.as_dict()).decode()
    return (info.session, info.name, plan, info.state, info.reason, info.created_at, *_columns(info.head))


def _columns(head: Head) -> tuple[int, str, str, int]:
    return head.round, head.record, head.model, head.model_size


def _metric_columns(row: MetricRow) -> tuple[str, int, str, str, int, str]:
    metrics = canonical_json(finite_metrics(row.metrics)).decode()
    return row.session, row.round, row.kind, row.client, row.examples, metrics


def _head(row: Sequence[Any]) -> Head:
    return Head(row[6], Digest(row[7]), Digest(row[8]), row[9])


def _session(row: Sequence[Any]) -> SessionInfo:
    try:
        plan = plan_from(json.loads(row[2]))
    except (ValueError, TypeError, AttributeError, InvalidInput) as error:
        raise Damaged(f"the stored plan of session {row[0]} can't be read: {error}") from None
    return SessionInfo(SessionId(row[0]), row[1], plan, row[3], row[4], row[5], _head(row))


def _package(row: Sequence[Any]) -> PackageInfo:
    digest = Digest(row[0])
    return PackageInfo(digest, row[1], row[2], rules.read_manifest(digest, row[3]), row[4])


def _metric(row: Sequence[Any]) -> MetricRow:
    return MetricRow(SessionId(row[0]), row[1], row[2], ClientId(row[3]), row[4], json.loads(row[5]))
