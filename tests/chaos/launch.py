"""Stands in for `python -m fedn` in the chaos suite: takes a client's notes, applies a mutation.

    python launch.py NOTES MUTATION client start …     (MUTATION: a name from `mutants`, or -)

It is noted that a client has trained, right after the update is in its journal: a kill between the two misses
one note and never invents one. What it is told of its update, and that it deletes it, is noted right before.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def take_notes(path: str) -> None:
    """Append lines to ``path``: `audit.Note`."""
    from fedn.client.driver import Client
    from fedn.client.journal import FileJournal
    from fedn.domain.messages import Settled, UpdateRefused

    notes = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    add, settle, receive = FileJournal.add, FileJournal.settle, Client._receive

    def note(what: str, client: str, about: Any) -> None:
        os.write(notes, f"{what} {client} {about.session} {about.round}\n".encode())

    def added(self: FileJournal, header: Any, file: bytes) -> None:
        add(self, header, file)
        note("trained", header.client, header)

    def settled(self: FileJournal, session: Any, round: int) -> None:
        if header := self.get(session, round):
            note("deleted", header.client, header)
        settle(self, session, round)

    def received(self: Client, message: Any) -> None:
        match message:
            case Settled():
                note("counted" if message.counted else "uncounted", self.info.client, message)
            case UpdateRefused():
                note("refused", self.info.client, message)
        receive(self, message)

    FileJournal.add, FileJournal.settle = added, settled  # type: ignore[method-assign]
    Client._receive = received  # type: ignore[method-assign]


def main() -> None:
    notes, mutation, tier, *arguments = sys.argv[1:]
    if tier == "client":
        take_notes(notes)
    if mutation != "-":
        import mutants

        mutants.MUTATIONS[mutation].apply(setattr)
    from fedn.cli import main as fedn

    sys.argv = ["fedn", tier, *arguments]
    fedn()


if __name__ == "__main__":
    main()
