"""Stands in for `python -m fedn` in the chaos suite: notes durable trainings, applies a mutation.

    python launch.py NOTES MUTATION client start …     (MUTATION: a name from `mutants`, or -)

A line is noted right after an update is in the client's journal. A kill between the two misses one note
and never invents one: two lines of one (client, session, round) are a training done twice.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def note_trainings(path: str) -> None:
    """Append one line to ``path`` for every update that was journaled."""
    from fedn.client.journal import FileJournal

    notes = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    add = FileJournal.add

    def noted(self: FileJournal, header: Any, file: bytes) -> None:
        add(self, header, file)
        line = f"{time.time():.3f} {header.client} {header.session} {header.round} {header.digest}\n"
        os.write(notes, line.encode())

    FileJournal.add = noted  # type: ignore[method-assign]


def main() -> None:
    notes, mutation, tier, *arguments = sys.argv[1:]
    if tier == "client":
        note_trainings(notes)
    if mutation != "-":
        import mutants

        mutants.MUTATIONS[mutation].apply()
    from fedn.cli import main as fedn

    sys.argv = ["fedn", tier, *arguments]
    fedn()


if __name__ == "__main__":
    main()
