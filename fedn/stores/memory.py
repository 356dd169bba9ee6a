"""The memory twins of both stores: the same promises as sqlite and files, gone with the process.

Used by the in-process federation and by tests; the rules they share with sqlite are in
`fedn.stores.rules`, and who is who is in `fedn.stores.identity_memory`.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from typing import TypeVar

from fedn.domain.errors import NotFound
from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId, check_digest
from fedn.domain.round import Head, StoredRecord, head_of
from fedn.domain.update import finite_metrics
from fedn.ports import (
    BlobInfo,
    Buffer,
    CombinerInfo,
    EventRow,
    MetricRow,
    ModelInfo,
    PackageInfo,
    SessionInfo,
)
from fedn.stores import rules
from fedn.stores.event_rows import Wanted
from fedn.stores.events_memory import MemoryEvents
from fedn.stores.identity_memory import MemoryIdentity
from fedn.stores.leadership_memory import MemoryLeadership

_Dated = TypeVar("_Dated", SessionInfo, ModelInfo, PackageInfo)


class MemoryState:
    """A StateStore in dictionaries behind one lock. Durable as long as the object lives."""

    def __init__(self) -> None:
        self.identity = MemoryIdentity()
        self._lock = threading.Lock()
        self.leadership = MemoryLeadership(self._lock)
        self._events = MemoryEvents(self._lock, lambda: self.leadership.term)
        self._sessions: dict[SessionId, SessionInfo] = {}
        self._rows: dict[SessionId, list[tuple[int, str, bytes]]] = {}
        self._metrics: dict[SessionId, dict[tuple[int, str, str], MetricRow]] = {}
        self._models: dict[Digest, ModelInfo] = {}
        self._packages: dict[Digest, tuple[PackageInfo, str]] = {}
        self._combiners: dict[CombinerName, CombinerInfo] = {}
        self._pruned: dict[Digest, float] = {}

    def take_term(self) -> int:
        return self.leadership.take_term()

    def newest_term(self) -> int:
        with self._lock:
            return self.leadership.term

    def raise_term(self, term: int) -> None:
        with self._lock:
            self.leadership.term = max(self.leadership.term, term)

    def add_session(self, info: SessionInfo, genesis: StoredRecord) -> None:
        rules.check_genesis(info, genesis)
        with self._lock:
            rules.check_term(genesis.record.term, self.leadership.term)
            if info.session in self._sessions:
                raise rules.session_exists(info.session)
            if info.head.model in self._pruned:
                raise rules.was_pruned(info.head.model)
            self._sessions[info.session] = info
            self._rows[info.session] = [(0, genesis.digest, genesis.raw)]
            self._metrics[info.session] = {}

    def set_session_state(self, session: SessionId, state: str, reason: str, term: int) -> None:
        with self._lock:
            rules.check_term(term, self.leadership.term)
            info = self._session(session)
            self._sessions[session] = replace(info, state=state, reason=reason)

    def session(self, session: SessionId) -> SessionInfo:
        with self._lock:
            return self._session(session)

    def sessions(self) -> Sequence[SessionInfo]:
        with self._lock:
            infos = list(self._sessions.values())
        return _newest_first(infos)

    def commit_round(self, stored: StoredRecord, term: int) -> Head:
        rules.check_bytes(stored)
        record = stored.record
        with self._lock:
            rules.check_term(term, self.leadership.term)
            info = self._session(record.session)
            rows = self._rows[record.session]
            if rules.follows(stored, info.head):
                rows.append((record.round, stored.digest, stored.raw))
                info = replace(info, head=head_of(stored))
                self._sessions[record.session] = info
                self._pruned.pop(record.model, None)
                metrics = self._metrics[record.session]
                keys = [key[1:] for key in metrics if key[0] == record.round]
                for key in rules.left_behind(stored, keys):
                    del metrics[record.round, *key]
            elif (record.round, stored.digest, stored.raw) not in rows:
                rules.refuse_commit(stored, info.head)
            return info.head

    def record(self, session: SessionId, round: int) -> StoredRecord:
        rows = self.raw_records(session, round - 1, 1)
        if not rows or rows[0][0] != round:
            raise rules.no_record(session, round)
        return rules.read_stored(session, *rows[0])

    def records(self, session: SessionId, after: int = -1, limit: int = 1000) -> Sequence[StoredRecord]:
        return [rules.read_stored(session, *row) for row in self.raw_records(session, after, limit)]

    def raw_records(
        self, session: SessionId, after: int = -1, limit: int = 1000
    ) -> Sequence[tuple[int, str, bytes]]:
        limit = rules.check_limit(limit)
        with self._lock:
            self._session(session)
            rows = self._rows[session]
            start = bisect_right(rows, after, key=lambda row: row[0])
            return rows[start : start + limit]

    def add_metrics(self, rows: Iterable[MetricRow], term: int) -> None:
        kept = [replace(row, metrics=finite_metrics(row.metrics)) for row in rows]
        with self._lock:
            rules.check_term(term, self.leadership.term)
            for row in kept:
                self._session(row.session)
            for row in kept:
                self._metrics[row.session][row.round, row.kind, row.client] = row

    def metrics(self, session: SessionId, after: int = -1, limit: int = 10_000) -> Sequence[MetricRow]:
        limit = rules.check_limit(limit)
        with self._lock:
            self._session(session)
            found = [row for row in self._metrics[session].values() if row.round > after]
        return sorted(found, key=lambda row: (row.round, row.kind, row.client))[:limit]

    def remove_session(self, session: SessionId) -> None:
        with self._lock:
            rules.check_over(session, self._session(session).state)
            del self._sessions[session], self._rows[session], self._metrics[session]
            self._events.drop(session)

    def forget_metrics(self, client: ClientId) -> int:
        with self._lock:
            before = sum(map(len, self._metrics.values()))
            for session, rows in self._metrics.items():
                self._metrics[session] = {key: row for key, row in rows.items() if row.client != client}
            return before - sum(map(len, self._metrics.values()))

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
        with self._lock:
            rules.check_term(term, self.leadership.term)
            known = {row[0]: row for row in self._rows.get(info.session, [])}
            for row in rows:
                if known.setdefault(row[0], row) != row:
                    raise rules.other_record(info.session, row[0])
            if there := self._sessions.get(info.session):
                raws = {number: row[2] for number, row in known.items()}
                rules.check_head_goes_on(info.session, there.head, info.head, raws)
            self._sessions[info.session] = info
            self._rows[info.session] = sorted(known.values())
            self._metrics.setdefault(info.session, {})

    def mark_pruned(self, digests: Collection[Digest], at: float) -> None:
        rules.check_time(at)
        with self._lock:
            for digest in digests:
                self._pruned.setdefault(digest, at)

    def unmark_pruned(self, digests: Collection[Digest]) -> None:
        with self._lock:
            for digest in digests:
                self._pruned.pop(digest, None)

    def pruned(self, digest: Digest) -> float | None:
        with self._lock:
            return self._pruned.get(digest)

    def pruned_marks(self, after: str = "", limit: int = 1000) -> Sequence[tuple[Digest, float]]:
        limit = rules.check_limit(limit)
        with self._lock:
            return sorted(mark for mark in self._pruned.items() if mark[0] > after)[:limit]

    def add_model(self, info: ModelInfo) -> None:
        with self._lock:
            self._models[info.digest] = info
            self._pruned.pop(info.digest, None)

    def models(self, limit: int = 1000) -> Sequence[ModelInfo]:
        limit = rules.check_limit(limit)
        with self._lock:
            infos = list(self._models.values())
        return _newest_first(infos)[:limit]

    def add_package(self, info: PackageInfo) -> None:
        text = rules.manifest_text(info.manifest)
        with self._lock:
            self._packages[info.digest] = replace(info, manifest={}), text

    def package(self, digest: Digest) -> PackageInfo:
        with self._lock:
            if (row := self._packages.get(digest)) is None:
                raise rules.no_package(digest)
        return replace(row[0], manifest=rules.read_manifest(digest, row[1]))

    def packages(self, limit: int = 1000) -> Sequence[PackageInfo]:
        limit = rules.check_limit(limit)
        with self._lock:
            infos = [info for info, _ in self._packages.values()]
        return [self.package(info.digest) for info in _newest_first(infos)[:limit]]

    def put_combiner(self, info: CombinerInfo) -> None:
        with self._lock:
            self._combiners[info.combiner] = info

    def combiners(self) -> Sequence[CombinerInfo]:
        with self._lock:
            return sorted(self._combiners.values(), key=lambda info: info.combiner)

    def close(self) -> None:
        """Nothing to release."""

    def _session(self, session: SessionId) -> SessionInfo:
        try:
            return self._sessions[session]
        except KeyError:
            raise rules.no_session(session) from None


class MemoryModels:
    """A ModelStore in one dictionary."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}
        self._written: dict[Digest, float] = {}

    def put(self, chunks: Iterable[Buffer], expected: Digest | None = None) -> tuple[Digest, int]:
        if expected is not None:
            check_digest("expected", expected)
        incoming = self.incoming()
        for chunk in chunks:
            incoming.write(chunk)
        return incoming.publish(expected)

    def incoming(self) -> MemoryIncoming:
        """Room for one more blob, whose bytes may come in several goes."""
        return MemoryIncoming(self._publish)

    def size(self, digest: Digest) -> int:
        return len(self._blob(digest))

    def read(self, digest: Digest, offset: int = 0) -> Iterator[Buffer]:
        blob = self._blob(digest)
        rules.check_offset(digest, offset, len(blob))
        return rules.chunks_of(memoryview(blob), offset)

    @contextmanager
    def map(self, digest: Digest) -> Iterator[memoryview]:
        view = memoryview(self._blob(digest))
        try:
            yield view
        finally:
            with suppress(BufferError):  # somebody still looks at it: the collector releases it later
                view.release()

    def delete(self, digest: Digest) -> None:
        self._blobs.pop(check_digest("digest", digest), None)

    def digests(self) -> Iterator[Digest]:
        return iter(sorted(self._blobs))

    def blobs(self) -> Iterator[BlobInfo]:
        for digest in self.digests():
            with suppress(NotFound):  # deleted meanwhile
                yield self.blob(digest)

    def blob(self, digest: Digest) -> BlobInfo:
        return BlobInfo(digest, len(self._blob(digest)), self._written[digest])

    def close(self) -> None:
        """Nothing to release."""

    def _publish(self, digest: Digest, blob: bytes) -> None:
        self._written[digest] = time.time()
        self._blobs[digest] = blob

    def _blob(self, digest: Digest) -> bytes:
        try:
            return self._blobs[check_digest("digest", digest)]
        except KeyError:
            raise rules.no_model(digest) from None


class MemoryIncoming:
    """A blob on its way in; twin of `fedn.stores.files.FileIncoming`."""

    def __init__(self, place: Callable[[Digest, bytes], None]) -> None:
        self._place = place
        self._hash = sha256()
        self._bytes = bytearray()

    @property
    def offset(self) -> int:
        return len(self._bytes)

    def write(self, chunk: Buffer) -> None:
        self._hash.update(chunk)
        self._bytes += chunk

    def publish(self, expected: Digest | None = None) -> tuple[Digest, int]:
        digest, blob = Digest(self._hash.hexdigest()), bytes(self._bytes)
        if expected is not None and expected != digest:
            raise rules.wrong_digest(expected, digest)
        self._place(digest, blob)
        self.drop()
        return digest, len(blob)

    def drop(self) -> None:
        self._bytes = bytearray()


def _newest_first(infos: list[_Dated]) -> list[_Dated]:
    """By creation time; of equal times the one added last comes first, as in sqlite."""
    infos.reverse()
    infos.sort(key=lambda info: -info.created_at)
    return infos
