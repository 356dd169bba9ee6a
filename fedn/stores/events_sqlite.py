"""Stored events in the state store's SQLite file; `fedn.stores.sqlite` has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fedn.domain.errors import Incompatible
from fedn.domain.ids import ClientId
from fedn.ports import EventRow
from fedn.stores import rules
from fedn.stores.database import Database
from fedn.stores.event_rows import Wanted, fields_text, forgetting, read_fields, traces
from fedn.stores.leadership_sqlite import newest_term
from fedn.stores.schema import EVENTS_VERSION

_EVENTS = "SELECT number, at, event, session, round, fields FROM events"


class SqliteEvents:
    """Events in the file of a `SqliteState`, which opens and closes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, rows: Sequence[EventRow], term: int | None) -> None:
        added = [(*_columns(row), fields_text(row.fields)) for row in rows]
        with self._database.write() as connection:
            if term is not None:
                rules.check_term(term, newest_term(connection))
            connection.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)", added)

    def read(self, wanted: Wanted) -> Sequence[EventRow]:
        limit = rules.check_limit(wanted.limit)
        clause, values = _where(wanted)
        order = "DESC" if wanted.newest else "ASC"
        query = f"{_EVENTS} WHERE {clause} ORDER BY number {order} LIMIT ?"
        rows: list[Any] = []
        with suppress(Incompatible), self._database.read(EVENTS_VERSION) as connection:
            rows = connection.execute(query, (*values, limit)).fetchall()
        return [_row(row) for row in (reversed(rows) if wanted.newest else rows)]

    def trim(self, keep: int) -> None:
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM events WHERE number <= "
                "(SELECT number FROM events ORDER BY number DESC LIMIT 1 OFFSET ?)", (keep,)
            )  # fmt: skip

    def forget(self, client: ClientId, name: str) -> int:
        without, touched = forgetting(client, name), 0
        with self._database.write() as connection:
            query = "SELECT number, fields FROM events WHERE instr(fields, ?) OR instr(fields, ?)"
            for number, text in connection.execute(query, traces(client, name)).fetchall():
                fields = read_fields(number, text)
                left = without(fields)
                touched += left != fields
                if left is None:
                    connection.execute("DELETE FROM events WHERE number = ?", (number,))
                else:
                    changed = (fields_text(left), number)
                    connection.execute("UPDATE events SET fields = ? WHERE number = ?", changed)
        return touched


def drop(connection: sqlite3.Connection, session: str) -> None:
    """Drop a session's events, in the caller's transaction."""
    connection.execute("DELETE FROM events WHERE session = ?", (session,))


def _where(wanted: Wanted) -> tuple[str, list[Any]]:
    clauses = ["number > ?", "number < ?"]
    values: list[Any] = [rules.clamp(wanted.after), wanted.end]
    if wanted.session:
        clauses.append("session = ?")
        values.append(wanted.session)
    if wanted.round is not None:
        clauses.append("round = ?")
        values.append(rules.clamp(wanted.round))
    if wanted.names:
        clauses.append(f"event IN ({', '.join('?' * len(wanted.names))})")
        values += wanted.names
    return " AND ".join(clauses), values


def _columns(row: EventRow) -> tuple[int, float, str, str, int]:
    return row.number, row.at, row.event, row.session, row.round


def _row(row: Sequence[Any]) -> EventRow:
    return EventRow(row[0], row[1], row[2], row[3], row[4], read_fields(row[0], row[5]))
