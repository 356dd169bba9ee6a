"""The memory twin of the stored events; `fedn.stores.memory` has it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from fedn.domain.ids import ClientId
from fedn.ports import EventRow
from fedn.stores import rules
from fedn.stores.event_rows import Wanted, fields_text, forgetting, read_fields


class MemoryEvents:
    """Events in a dictionary. ``newest_term`` is called with the lock held."""

    def __init__(self, lock: threading.Lock, newest_term: Callable[[], int]) -> None:
        self._lock = lock
        self._newest_term = newest_term
        self._rows: dict[int, tuple[EventRow, str]] = {}

    def add(self, rows: Sequence[EventRow], term: int | None) -> None:
        kept = {row.number: (replace(row, fields={}), fields_text(row.fields)) for row in rows}
        with self._lock:
            if term is not None:
                rules.check_term(term, self._newest_term())
            self._rows |= kept

    def read(self, wanted: Wanted) -> Sequence[EventRow]:
        limit = rules.check_limit(wanted.limit)
        with self._lock:
            found = [one for _, one in sorted(self._rows.items()) if one[0] in wanted]
        page = found[-limit:] if wanted.newest else found[:limit]
        return [replace(row, fields=read_fields(row.number, text)) for row, text in page]

    def trim(self, keep: int) -> None:
        with self._lock:
            for number in sorted(self._rows)[: max(0, len(self._rows) - keep)]:
                del self._rows[number]

    def drop(self, session: str) -> None:
        """With the lock held."""
        self._rows = {number: one for number, one in self._rows.items() if one[0].session != session}

    def forget(self, client: ClientId, name: str) -> int:
        without, touched = forgetting(client, name), 0
        with self._lock:
            for number, (row, text) in list(self._rows.items()):
                fields = read_fields(number, text)
                left = without(fields)
                touched += left != fields
                if left is None:
                    del self._rows[number]
                else:
                    self._rows[number] = row, fields_text(left)
        return touched
