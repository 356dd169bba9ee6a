"""A whole network from one pair of stores to another: `fedn store copy`, to move it or to keep a backup.

What is there already is not copied again, so what broke off goes on where it was. Blobs go before the
records that name them, records in order, the head last; until then a copied session is in the state
`COPYING`, with which no reducer does anything. Everything is copied as it is, damage included: that is
for the verification to find, on both sides.

While it copies it leads the target, by the lease that reducers take: none begins there meanwhile, and what
it writes carries its term. The source may be in use: a session is copied as it was at one of its commits.
What is written on the source after its part was copied comes with the next run.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

from fedn.domain.errors import Conflict, Damaged, InvalidInput, NotFound
from fedn.domain.ids import Digest, SessionId, check_digest
from fedn.domain.round import read_record
from fedn.ports import Buffer, MetricRow, ModelStore, SessionInfo, StateStore
from fedn.stores.holding import Lead, leading
from fedn.stores.naming import LISTED, Told, unheard

_Item = TypeVar("_Item")

COPYING = "copying"
"""The state of a session whose records are not all there yet."""
PAGE = 64
"""Records, entries and members written at once."""
BYTES_AT_ONCE = 4 * 2**20
"""Of records, or one that is larger: MongoDB refuses a transaction that fills its cache."""
EVENTS_AT_ONCE = 1000
"""Small rows, so more of them."""

Row = tuple[int, str, bytes]
"""(round, stored digest, stored bytes)"""
Metrics = Callable[[StateStore, SessionId], Iterable[Sequence[MetricRow]]]
"""Every metric row of a session, page by page."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The two stores of a network."""

    state: StateStore
    models: ModelStore


@dataclass(slots=True)
class Copied:
    """What was copied now, and what was there already. ``problems`` are blobs that could not be copied."""

    sessions: int = 0
    records: int = 0
    blobs: int = 0
    bytes: int = 0
    there: int = 0
    problems: list[str] = field(default_factory=list)


def copy_network(source: Stores, target: Stores, metrics: Metrics, told: Told = unheard) -> Copied:
    """Copy everything that ``target`` lacks. Nothing at the source is changed.

    Raises:
        Conflict: the target holds another network, or this one has gone on there, or somebody leads there, or
            it is the source; nothing was changed.
        StaleTerm: somebody took the lead from this copy.
        StoreUnavailable: call again; it goes on from there.
    """
    check_target(source, target)
    with leading(target.state, source.state.newest_term()) as lead:
        check_apart(source, target, lead.term)
        check_target(source, target)  # again: until now somebody else could have led there
        copying = _Copying(source, target, lead, told)
        copying.identity()
        copying.network()
        copying.marks()
        for info in reversed(source.state.sessions()):  # oldest first, so that they are listed alike
            with suppress(NotFound):  # removed meanwhile
                copying.session(info)
                copying.metrics(info.session, metrics)
        copying.marks()  # again: some may have been made meanwhile
        copying.events()
        return copying.report


def check_apart(source: Stores, target: Stores, term: int) -> None:
    """Raise Conflict if both are one place, whatever it is called: what is written to one is in the other.

    ``term``: newly taken at the target, and higher than the source's was.
    """
    blob, _ = target.models.put([secrets.token_bytes(32)])
    try:
        source.models.size(blob)
        same = "model store"
    except NotFound:
        same = "state store" if source.state.newest_term() >= term else ""
    finally:
        target.models.delete(blob)
    if same:
        raise Conflict(f"the target's {same} is the source's, by another name: name others for both")


def check_target(source: Stores, target: Stores) -> None:
    """Raise Conflict unless the target is empty, or holds a part of the very same network."""
    held = target.state.sessions()
    known = {info.session for info in source.state.sessions()}
    for info in held:
        if info.session not in known:
            raise _stranger(f"session {info.session}", "is not one of the source's")
        # A record names the one before it, so where the last ones are the same, all before them are.
        last = _last(target.state, info)
        if last and list(source.state.raw_records(info.session, last[0] - 1, 1)) != [last]:
            raise _stranger(f"session {info.session}", f"has another round {last[0]}")
    entry, number = None, 0
    while entries := target.state.identity.raw_audit(number, PAGE):
        entry = entries[-1]
        number = entry[0]
    if entry and list(source.state.identity.raw_audit(number - 1, 1)) != [entry]:
        raise _stranger("the audit log", f"has another entry {number}")
    _check_listed(source.state, target.state)
    empty = not (held or entry or target.state.models(1) or target.state.packages(1))
    if empty and not target.state.newest_term() and next(iter(target.models.digests()), None) is not None:
        raise Conflict(
            "the target's model store holds blobs, and its state store knows of none: they may be another "
            "network's, and would be collected as nobody's. Choose an empty folder or prefix for the models"
        )


def _last(state: StateStore, info: SessionInfo) -> tuple[int, str, bytes] | None:
    """The newest row that a session has; one that is being copied has a head and not yet all before it."""
    after, last = (-1 if info.state == COPYING else max(-1, info.head.round - 1)), None
    while rows := state.raw_records(info.session, after, PAGE):
        last = rows[-1]
        after = last[0]
    return last


def _check_listed(source: StateStore, target: StateStore) -> None:
    for what, ours, theirs in (
        ("token", {t.token for t in source.identity.tokens(LISTED)},
         [t.token for t in target.identity.tokens(LISTED)]),
        ("member", {(m.role, m.member) for m in source.identity.members(LISTED)},
         [(m.role, m.member) for m in target.identity.members(LISTED)]),
    ):  # fmt: skip
        for one in theirs:
            if one not in ours:
                name = one if isinstance(one, str) else one[1]
                raise _stranger(f"{what} {name}", "is not one of the source's")


def _stranger(what: str, why: str) -> Conflict:
    return Conflict(
        f"the target holds another network, or has gone on by itself: {what} {why}. Nothing was changed; "
        "choose empty stores, or remove what is there yourself"
    )


class _Copying:
    def __init__(self, source: Stores, target: Stores, lead: Lead, told: Told) -> None:
        self.report = Copied()
        self._source, self._target, self._lead, self._told = source, target, lead, told
        self._there = set(target.models.digests())
        self.report.there = len(self._there)
        self._missing = set[Digest]()

    def identity(self) -> None:
        """Tokens, members and the audit log, oldest first."""
        ours, theirs = self._source.state.identity, self._target.state.identity
        for tokens in _pages(ours.tokens(LISTED)[::-1]):
            self._lead.check()
            theirs.import_identity(tokens=tokens)
        for members in _pages(ours.members(LISTED)[::-1]):
            self._lead.check()
            theirs.import_identity(members=members)
        number = 0
        while entries := ours.raw_audit(number, PAGE):
            self._lead.check()
            theirs.import_identity(audit=entries)
            number = entries[-1][0]
            self._told("audit log", number, number)

    def network(self) -> None:
        """Combiners, and what people gave: seeds and packages."""
        ours, theirs = self._source.state, self._target.state
        for combiner in ours.combiners():
            theirs.put_combiner(combiner)
        for model in reversed(ours.models(LISTED)):
            theirs.add_model(model)
            self._blob(model.digest, f"Model {model.digest}")
        for package in reversed(ours.packages(LISTED)):
            theirs.add_package(package)
            self._blob(package.digest, f"Package {package.digest}")

    def session(self, info: SessionInfo) -> None:
        """Records with their blobs, from where the target ends, and the head when all are there."""
        session, target = info.session, self._target.state
        done = self._begin(info)
        while True:
            while rows := self._source.state.raw_records(session, done, PAGE):
                for row in rows:
                    self._blobs_of(*row)
                for some in _portions(rows):
                    target.import_session(_being_copied(info), some, self._lead.term)
                self.report.records += len(rows)
                done = rows[-1][0]
                self._told(f"session {session}", done + 1, max(done, info.head.round) + 1)
            info = self._source.state.session(session)  # read after the records, so not behind them
            if info.head.round <= done and self._memory(info):
                break
        target.import_session(info, [], self._lead.term)
        self.report.sessions += 1

    def metrics(self, session: SessionId, pages: Metrics) -> None:
        """Those of rounds whose records are there; who began another round may not get to commit it."""
        last = self._target.state.session(session).head.round
        for rows in pages(self._source.state, session):
            if rows and rows[0].round > last:
                return
            self._target.state.add_metrics([row for row in rows if row.round <= last], self._lead.term)

    def _begin(self, info: SessionInfo) -> int:
        """The last round that is there; the session itself is there afterwards."""
        try:
            last = _last(self._target.state, self._target.state.session(info.session))
        except NotFound:
            last = None
            self._target.state.import_session(_being_copied(info), [], self._lead.term)
        return last[0] if last else -1

    def _blobs_of(self, number: int, digest: str, raw: bytes) -> None:
        with suppress(Damaged):  # what it names can't be told; the verification finds the record
            record = read_record(raw).record
            for named in (record.base_model, record.model):
                self._blob(Digest(str(named)), f"Model {named!s:.64} of round {number}")

    def _memory(self, info: SessionInfo) -> bool:
        """Copy the optimizer's state of the head and the round before; False if they are gone already."""
        for stored in self._source.state.records(info.session, info.head.round - 2, 2):
            state = stored.record.optimizer_state
            if state and not self._copy(Digest(state)):
                if self._source.state.session(info.session).head != info.head:
                    return False  # rounds were committed meanwhile
                if stored.record.round == info.head.round:
                    self._problem(Digest(state), f"Optimizer state {state} of round {info.head.round}")
        return True

    def marks(self) -> None:
        """Which models are missing on purpose, and which are not any more."""
        self._lead.check()
        after = ""
        while marks := self._target.state.pruned_marks(after, PAGE):
            again = [digest for digest, _ in marks if self._source.state.pruned(digest) is None]
            self._target.state.unmark_pruned(again)
            after = marks[-1][0]
        after = ""
        while marks := self._source.state.pruned_marks(after, PAGE):
            for at, of_one_time in groupby(marks, itemgetter(1)):
                self._target.state.mark_pruned([digest for digest, _ in of_one_time], at)
            after = marks[-1][0]

    def events(self) -> None:
        """What happened, from where the target ends."""
        there = self._target.state.events(newest=True, limit=1)
        after = there[0].number if there else 0
        while rows := self._source.state.events(after, EVENTS_AT_ONCE):
            self._target.state.add_events(rows)
            after = rows[-1].number
            self._told("events", after, after)

    def _blob(self, digest: Digest, what: str) -> None:
        if not self._copy(digest) and self._source.state.pruned(digest) is None:
            self._problem(digest, what)

    def _problem(self, digest: Digest, what: str) -> None:
        if digest not in self._missing:
            self._missing.add(digest)
            self.report.problems.append(f"{what} is missing at the source, or damaged.")

    def _copy(self, digest: Digest) -> bool:
        """Whether the blob is at the target now; one that is not what its digest says never is."""
        if digest in self._there:
            return True
        self._lead.check()
        try:
            size = self._target.models.put(self._chunks(check_digest("model", digest)), digest)[1]
        except (NotFound, Damaged, InvalidInput):
            return False
        self._there.add(digest)
        self.report.blobs += 1
        self.report.bytes += size
        return True

    def _chunks(self, digest: Digest) -> Iterator[Buffer]:
        size, sent = self._source.models.size(digest), 0
        for chunk in self._source.models.read(digest):
            yield chunk
            sent += len(chunk)
            self._told("bytes of this model", sent, size)


def _being_copied(info: SessionInfo) -> SessionInfo:
    return replace(info, state=COPYING, reason="`fedn store copy` has not finished; run it again")


def _portions(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in order, of each time as many as `BYTES_AT_ONCE` allows."""
    some, size = list[Row](), 0
    for row in rows:
        if some and size + len(row[2]) > BYTES_AT_ONCE:
            yield some
            some, size = [], 0
        some.append(row)
        size += len(row[2])
    yield some


def _pages(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), PAGE):
        yield items[start : start + PAGE]
