"""Where the reducer keeps what must outlive it: state, and models as blobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from fedn.domain.ids import ClientId, Digest, SessionId
from fedn.domain.round import Head, StoredRecord
from fedn.ports.buffers import Buffer
from fedn.ports.identity import IdentityStore
from fedn.ports.leadership import Leadership
from fedn.ports.stored import BlobInfo, CombinerInfo, EventRow, MetricRow, ModelInfo, PackageInfo, SessionInfo


class StateStore(Protocol):
    """Sessions, trail, metrics, network. Every write is durable when the call returns.

    Safe to use from many threads. Raises NotFound, TrailConflict, StaleTerm, StoreUnavailable.
    """

    @property
    def identity(self) -> IdentityStore:
        """Who is who, kept in the same place."""

    @property
    def leadership(self) -> Leadership:
        """Which reducer is in charge, kept in the same place."""

    def take_term(self) -> int:
        """The next term, higher than any before, whoever leads; a lease that somebody has is over then."""

    def newest_term(self) -> int:
        """The highest term that was taken; 0 before the first."""

    def raise_term(self, term: int) -> None:
        """Every `take_term` from now on gives more than ``term``; a lower one than the newest does nothing.

        It is a write for those who may write: ``raise_term(0)`` changes nothing and shows that one may.
        """

    def add_session(self, info: SessionInfo, genesis: StoredRecord) -> None:
        """Create a session with its round-0 record.

        Raises Conflict if the id exists, and, in the same step, if the record's model is marked as pruned;
        StaleTerm if a newer term was taken than the record's.
        """

    def set_session_state(self, session: SessionId, state: str, reason: str, term: int) -> None:
        """Raises StaleTerm if a newer term was taken."""

    def session(self, session: SessionId) -> SessionInfo: ...

    def sessions(self) -> Sequence[SessionInfo]:
        """Newest first."""

    def commit_round(self, stored: StoredRecord, term: int) -> Head:
        """Append a record and move the head, in one step.

        Raises TrailConflict unless the record's parent is the head and its round the next one, and
        StaleTerm if a newer term was taken. Committing the very same bytes again returns the head. The
        model is not marked as pruned then, and metrics of this round go that are by clients who don't
        count in it: a leader before this one may have left them.
        """

    def record(self, session: SessionId, round: int) -> StoredRecord: ...

    def records(self, session: SessionId, after: int = -1, limit: int = 1000) -> Sequence[StoredRecord]:
        """Records of rounds > after, oldest first."""

    def raw_records(
        self, session: SessionId, after: int = -1, limit: int = 1000
    ) -> Sequence[tuple[int, str, bytes]]:
        """(round, stored digest, stored bytes) of rounds > after, oldest first, neither read nor checked."""

    def add_metrics(self, rows: Iterable[MetricRow], term: int) -> None:
        """Idempotent by (session, round, kind, client): the last one stays.

        Raises StaleTerm if a newer term was taken, and NotFound for a session that is not there, both seen
        in the same step as rows are written; of very many rows, which may take several steps, in each.
        """

    def metrics(self, session: SessionId, after: int = -1, limit: int = 10_000) -> Sequence[MetricRow]:
        """Rows of rounds > after, by round, kind, client."""

    def add_events(self, rows: Sequence[EventRow], term: int | None = None) -> None:
        """Idempotent by number: the last one stays. Raises InvalidInput if fields are no JSON.

        With a ``term``, StaleTerm if a newer one was taken.
        """

    def events(
        self, after: int = 0, limit: int = 1000, session: str = "", round: int | None = None,
        names: Collection[str] = (), newest: bool = False, before: int | None = None,
    ) -> Sequence[EventRow]:  # fmt: skip
        """Of those with after < number < before that match, the first ``limit``, or with ``newest`` the last.

        Oldest first in any case. No ``names``: all. Raises Damaged for rows that can't be read.
        """

    def trim_events(self, keep: int) -> None:
        """Drop all but the ``keep`` newest."""

    def forget_events(self, client: ClientId, name: str = "") -> int:
        """Drop a client's events, and its id and ``name`` from the others; returns in how many it was."""

    def remove_session(self, session: SessionId) -> None:
        """Drop a session with its records, metrics and events; other sessions are as they were.

        Raises Conflict unless its state is one of `fedn.domain.round.OVER`, which is seen in the same step
        as it goes. What breaks off leaves a session that this can be called for again; NotFound says that
        nothing of it is left.
        """

    def forget_metrics(self, client: ClientId) -> int:
        """Drop every metric row of a client, in all sessions; returns how many there were."""

    def import_session(self, info: SessionInfo, rows: Sequence[tuple[int, str, bytes]], term: int) -> None:
        """Take over a page of another store's session, in one step; for `fedn store copy`.

        The session is as ``info`` says then (name, plan, state, reason, created_at, head), whether it was
        there or not; its head may be ahead of the rows. ``rows`` are those of `raw_records`, kept as they
        are, neither read nor checked: damage is copied too, and found by who verifies. The very same rows
        again change nothing. Nothing is changed either by what raises Conflict: other bytes of a round that
        is there, a head before the one that is there, and one whose trail does not go on from that, as far
        as the record after it can be read; or StaleTerm, if a newer term was taken.
        """

    def mark_pruned(self, digests: Collection[Digest], at: float) -> None:
        """Note that these blobs are being removed on purpose; marked before, one keeps its first time."""

    def unmark_pruned(self, digests: Collection[Digest]) -> None:
        """They stay after all, or are there again. Nothing happens for those that are not marked."""

    def pruned(self, digest: Digest) -> float | None:
        """When a blob was removed on purpose (Unix time); None if it was not."""

    def pruned_marks(self, after: str = "", limit: int = 1000) -> Sequence[tuple[Digest, float]]:
        """(digest, when) of marked blobs with digests > after, by digest."""

    def add_model(self, info: ModelInfo) -> None:
        """Idempotent by digest: added again it has its newest name and time. Not marked as pruned then."""

    def models(self, limit: int = 1000) -> Sequence[ModelInfo]:
        """Newest first."""

    def add_package(self, info: PackageInfo) -> None:
        """Idempotent by digest, as with models. Raises InvalidInput if the manifest is no JSON."""

    def package(self, digest: Digest) -> PackageInfo:
        """Raises NotFound, and Damaged if what is stored of it can't be read."""

    def packages(self, limit: int = 1000) -> Sequence[PackageInfo]:
        """Newest first. Raises Damaged."""

    def put_combiner(self, info: CombinerInfo) -> None: ...

    def combiners(self) -> Sequence[CombinerInfo]: ...

    def close(self) -> None: ...


class ModelStore(Protocol):
    """Blobs by sha256, written once, checked on write. Safe to use from many threads."""

    def put(self, chunks: Iterable[Buffer], expected: Digest | None = None) -> tuple[Digest, int]:
        """Store a blob durably; returns (digest, size). Raises Damaged if it is not ``expected``.

        A blob that is there already counts as written now, too: who removes old blobs that nobody names
        goes by that, and takes none that is about to be named. One that is damaged is whole afterwards.
        """

    def size(self, digest: Digest) -> int:
        """Raises NotFound."""

    def read(self, digest: Digest, offset: int = 0) -> Iterator[Buffer]:
        """The bytes from ``offset`` on, in chunks of at most 1 MiB. Raises NotFound."""

    def map(self, digest: Digest) -> AbstractContextManager[memoryview]:
        """The whole blob as read-only memory, file-backed where possible. Raises NotFound."""

    def delete(self, digest: Digest) -> None:
        """Forget a blob; nothing happens if it is not there."""

    def digests(self) -> Iterator[Digest]:
        """Every blob there is."""

    def blobs(self) -> Iterator[BlobInfo]:
        """Every blob there is, with its size and time; one that goes meanwhile may be left out."""

    def blob(self, digest: Digest) -> BlobInfo:
        """Raises NotFound."""

    def close(self) -> None: ...


@runtime_checkable
class Presigning(Protocol):
    """A model store that others may read a blob from for a while, without any right of their own."""

    def url(self, digest: Digest, seconds: int) -> str:
        """An address that gives the blob to whoever knows it, for so long; '' if they can't reach the store.

        It is a secret: it is never logged.
        """
