"""Terms and the lease in the state store's SQLite file.

Whoever opens that file is on one machine, so its clock is everybody's.
"""

from __future__ import annotations

import sqlite3
import time

from fedn.ports import Lease
from fedn.stores import rules
from fedn.stores.database import Database


class SqliteLeadership:
    """Who leads, in the file of a `SqliteState`, which opens and closes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, holder: str, seconds: float, instead_of: str = "") -> Lease:
        with self._database.write() as connection:
            now = time.time()
            leader, until = connection.execute("SELECT holder, until FROM lease").fetchone()
            if leader not in ("", holder, instead_of) and now < until:
                return Lease(leader, newest_term(connection), until - now)
            connection.execute("UPDATE term SET value = value + 1")
            connection.execute("UPDATE lease SET holder = ?, until = ?", (holder, now + seconds))
            return Lease(holder, newest_term(connection), seconds)

    def renew(self, lease: Lease, seconds: float) -> None:
        with self._database.write() as connection:
            newest = newest_term(connection)
            changed = connection.execute(
                "UPDATE lease SET until = ? WHERE holder = ? AND ? = ?",
                (time.time() + seconds, lease.holder, lease.term, newest),
            )
            if not changed.rowcount:
                raise rules.lease_lost(lease, newest)

    def give_up(self, lease: Lease) -> None:
        with self._database.write() as connection:
            connection.execute(
                "UPDATE lease SET holder = '' WHERE holder = ? AND ? = (SELECT value FROM term)",
                (lease.holder, lease.term),
            )

    def take_term(self) -> int:
        """The next term, whoever leads; who held the lease does not any more."""
        with self._database.write() as connection:
            connection.execute("UPDATE term SET value = value + 1")
            connection.execute("UPDATE lease SET holder = ''")
            return newest_term(connection)


def newest_term(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT value FROM term").fetchone()[0])
