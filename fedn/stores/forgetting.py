"""What people may ask to have removed: a whole session, and what a client reported and is called.

No record of a session that stays is changed, so its chain verifies as before. Records name who contributed
by id, and stay; so do the entries of the audit log.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from fedn.domain.errors import Damaged, NotFound
from fedn.domain.identity import AuditNote, Role
from fedn.domain.ids import ClientId, Digest, SessionId
from fedn.domain.round import read_record
from fedn.ports import BlobInfo, ModelStore, StateStore
from fedn.stores.collecting import BATCH, remove
from fedn.stores.naming import PAGE, Trails, listed


@dataclass(slots=True)
class Dropped:
    """A session that is gone. ``kept`` blobs of it are named elsewhere, or too young to be sure."""

    session: SessionId
    records: int = 0
    blobs: int = 0
    bytes: int = 0
    kept: int = 0


@dataclass(slots=True)
class Forgotten:
    """What is gone of a client: metric rows, and events that were about it or named it.

    ``named``: whether there was a member of that id, which has no name now.
    """

    client: ClientId
    metrics: int = 0
    events: int = 0
    named: bool = False


def drop_session(
    state: StateStore, models: ModelStore, session: SessionId, oldest: float, note: AuditNote, now: float
) -> Dropped:
    """Remove a session that is over, and then its models that nothing else names, written before ``oldest``.

    ``oldest`` and ``now`` are Unix times.

    What breaks off after the session has gone leaves blobs that `fedn.stores.collecting` finds.

    Raises:
        NotFound: there is no such session.
        Conflict: it goes on.
        Damaged: a record of another session can't be read, so the blobs were left.
    """
    report = Dropped(session)
    own = _named_by(state, session, report)
    state.remove_session(session)
    state.identity.append_audit(replace(note, details={**note.details, "records": report.records}))
    trails = Trails(state)
    trails.read()
    loose = sorted(own - trails.blobs() - trails.packages() - listed(state))
    for start in range(0, len(loose), BATCH):
        batch = list[BlobInfo]()
        for digest in loose[start : start + BATCH]:
            with suppress(NotFound):
                batch.append(models.blob(digest))
        gone = remove(state, models, trails, batch, oldest, now)
        state.unmark_pruned(loose[start : start + BATCH])  # nobody asks any more why they are missing
        report.blobs += len(gone)
        report.bytes += sum(blob.size for blob in gone)
    report.kept = len(own) - report.blobs
    return report


def _named_by(state: StateStore, session: SessionId, report: Dropped) -> set[Digest]:
    """The blobs that a session's records name, as far as they can be read."""
    found, after = set[Digest](), -1
    while rows := state.raw_records(session, after, PAGE):
        for after, _, raw in rows:  # noqa: B007 — the last one is where the next page begins
            report.records += 1
            with suppress(Damaged):
                record = read_record(raw).record
                found |= {Digest(str(record.model)), Digest(str(record.optimizer_state))}
    return found - {Digest("")}


def forget_client(state: StateStore, client: ClientId, note: AuditNote) -> Forgotten:
    """Remove a client's metrics and events, and its name and labels from the list of members.

    A token that it alone used, and nobody can use again, loses its name and labels, too.

    Raises:
        NotFound: nothing is known of it.
    """
    report, name = Forgotten(client), ""
    try:
        name = state.identity.member(Role.CLIENT, client).name
        member = state.identity.forget_name(Role.CLIENT, client)
        report.named = True
        token = state.identity.token(member.token)
        if token.uses == 1 <= token.used:
            state.identity.import_identity(tokens=[replace(token, name="", labels={})])
    except NotFound:
        pass
    report.metrics, report.events = state.forget_metrics(client), state.forget_events(client, name)
    if not (report.named or report.metrics or report.events):
        problem = f"there are no metrics or events and there is no member of the name {client}"
        raise NotFound(problem, client=client)
    gone = {"metrics": report.metrics, "events": report.events}
    state.identity.append_audit(replace(note, details={**note.details, **gone}))
    return report
