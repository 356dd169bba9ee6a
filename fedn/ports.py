"""Every seam of the system: what a plug-in implements, and what one tier needs of the next.

Numerics are plain functions on numpy arrays; the network is async. Everything raises from
``fedn.domain.errors`` only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from fedn.domain import messages as m
from fedn.domain.identity import AuditNote, Member, Role, StoredEntry, Token
from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId
from fedn.domain.model import Layout
from fedn.domain.part import PartHeader
from fedn.domain.plan import Plan
from fedn.domain.round import Head, RoundSpec, StoredRecord, ValidationSpec
from fedn.domain.update import UpdateHeader

Buffer: TypeAlias = bytes | bytearray | memoryview
Vector: TypeAlias = npt.NDArray[np.float64]
Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]

# --- numerics --------------------------------------------------------------------------------------


class Aggregator(Protocol):
    """Four verbs, after TensorFlow Federated's aggregation core: accumulate, merge, can report, report.

    The intermediate is one flat float64 vector per part, such as Σ w·x in layout order. It never surfaces,
    and nothing else travels from combiner to reducer. One object serves any number of vectors and threads:
    it remembers nothing of them.
    """

    @property
    def mergeable(self) -> bool:
        """Whether parts merge: `merge` of two combiners' parts is what one combiner with all updates has.

        Where they don't, a session runs at one combiner, and its rounds come in one part.
        """

    def elements(self, layout: Layout) -> int:
        """The length of the vector; unless a subclass says otherwise that of the mean."""
        return layout.float_elements

    def zero(self, layout: Layout) -> Vector:
        """An empty sum, shape (elements(layout),)."""

    def accumulate(self, total: Vector, data: memoryview, layout: Layout, weight: int) -> None:
        """Add an update of ``weight`` examples in place; ``data`` is its data buffer (without the header).

        Its numbers are finite, its layout is checked, and ``weight`` is at least 1.
        """

    def merge(self, total: Vector, part: Vector) -> None:
        """Add another sum to the running total in place."""

    def report(self, total: Vector, weight: int) -> Vector:
        """The mean, shape (layout.float_elements,), which may lie in ``total``; that is used up.

        ``weight`` is Σ examples. Raises InvalidInput when it is 0.
        """


class ServerOptimizer(Protocol):
    """From the mean of the clients' models to the next global model, elementwise on float64 blocks.

    Built with those of ``learning_rate``, ``momentum``, ``beta2`` and ``epsilon`` that its constructor
    names. What it remembers between rounds is in its slots alone, which are kept with the trail.
    """

    @property
    def slots(self) -> Mapping[str, float]:
        """Names of what is remembered of every averaged element, with its value before the first step."""

    def step(self, base: Vector, mean: Vector, memory: Mapping[str, Vector], number: int) -> Vector:
        """The new values of a block, in its shape, in float64.

        ``base``, ``mean`` and each slot's vector in ``memory`` are the same block; those of ``memory`` are
        updated in place. ``number`` counts the session's steps from 1. The outcome depends on these
        arguments alone: a block is stepped more than once, and blocks may be cut anywhere.
        """


class Helper(Protocol):
    """Tensors to a framework's model and back, called without arguments to make one.

    Names, their order, shapes and dtypes survive the round trip and are the same in every process; what a
    model does not train may stay at home. bfloat16 comes as float32 and goes as ``ml_dtypes.bfloat16``.
    Raises InvalidModel naming the tensor or the app's method. Tested by
    `fedn.testing.contracts.helper.HelperContract`.
    """

    def load(self, tensors: Tensors, app: Any) -> Any:
        """What the app's train() and validate() receive, with copies of ``tensors``."""

    def dump(self, model: Any) -> dict[str, npt.NDArray[Any]]:
        """The tensors of what train() returned, as copies."""


@runtime_checkable
class ProximalHelper(Helper, Protocol):
    """A helper that can add FedProx's proximal term to a training that knows nothing of it."""

    def proximal(self, model: Any, mu: float) -> AbstractContextManager[None]:
        """Inside, gradients get mu · (w - w0) added before every optimizer step; w0 is w at entry.

        mu = 0 changes nothing. Raises InvalidInput when it is left without a step on ``model``.
        """


@runtime_checkable
class SavingHelper(Helper, Protocol):
    """A helper that can write a model as its framework does."""

    def save(self, model: Any, path: Path) -> None:
        """Raises InvalidInput for a path that the framework does not take."""


class ClientSelector(Protocol):
    """Which of the clients that could take part do."""

    def select(self, clients: Sequence[ClientId], limit: int, seed: int) -> Sequence[ClientId]:
        """At most ``limit`` of ``clients`` (all if 0), deterministic by ``seed``."""


# --- stores ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as people list it. ``origin`` is 'seed'; committed models are listed by the trail."""

    digest: Digest
    size: int
    name: str
    origin: str
    created_at: float


@dataclass(frozen=True, slots=True)
class PackageInfo:
    """A compute package as it was uploaded. ``manifest`` is its `fedn.yaml` in plain JSON values."""

    digest: Digest
    size: int
    name: str
    manifest: Mapping[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as it is stored. ``state`` is the machine's word; ``reason`` says why, in a sentence."""

    session: SessionId
    name: str
    plan: Plan
    state: str
    reason: str
    created_at: float
    head: Head


@dataclass(frozen=True, slots=True)
class CombinerInfo:
    """A combiner as it last registered, and since when it drains (Unix time; 0: it does not)."""

    combiner: CombinerName
    address: str
    incarnation: str
    registered_at: float
    drained_at: float = 0.0


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One client's metrics of one round. ``kind`` is 'train' or 'validate'."""

    session: SessionId
    round: int
    kind: str
    client: ClientId
    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened, as it is told and kept. ``number`` is its address; ``at`` is Unix time.

    ``session`` is '' and ``round`` -1 where it is of none; ``fields``, plain JSON, has both again if it is.
    """

    number: int
    at: float
    event: str
    session: str
    round: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob as its store knows it. ``written_at``: Unix time of the last `put` of it."""

    digest: Digest
    size: int
    written_at: float


class IdentityStore(Protocol):
    """Tokens, members, audit log. Every write is durable when the call returns; safe from many threads.

    A change and the entry that its ``note`` becomes are written in one step: both or none. What was so
    already, such as a second revocation, is no change and gets no entry; joining and renewing always do.
    Raises InvalidInput for values that can't be kept, Damaged for rows that can't be read, and
    StoreUnavailable.
    """

    def add_token(self, token: Token, note: AuditNote | None = None) -> None:
        """Idempotent for the very same token: its uses and revocation stay. Conflict for another one."""

    def token(self, token: str) -> Token:
        """Raises NotFound."""

    def tokens(self, limit: int = 1000) -> Sequence[Token]:
        """Newest first."""

    def revoke_token(self, token: str, now: float, note: AuditNote | None = None) -> Token:
        """The revoked token; revoked again it keeps its first time. Raises NotFound."""

    def enroll(self, member: Member, now: float, note: AuditNote | None = None) -> Member:
        """Use ``member.token`` once and add the member, in one step; returns it as stored.

        The same member (role, id) with the same key again, by the same token, uses nothing up and gets
        its newest ``name``, ``labels`` and times: a join whose answer was lost. By another token it uses
        that one. Raises NotFound for no such token, Revoked for a revoked member, Unauthenticated with
        `Token.fault`, InvalidInput if the token is for another role, and Conflict if the id belongs to
        another key, or a client could be mistaken for another member: by an id that is the name of one
        who is not revoked, or by a new name that is the id of any. Then nothing is used up.
        """

    def renew(
        self, role: Role, member: str, renewed_at: float, expires_at: float, note: AuditNote | None = None
    ) -> Member:
        """The member as stored; its ``expires_at`` never goes back. Raises NotFound, Revoked."""

    def member(self, role: Role, member: str) -> Member:
        """Raises NotFound."""

    def members(self, limit: int = 1000) -> Sequence[Member]:
        """Those that joined last first."""

    def revoked(self, now: float, limit: int = 1000) -> Sequence[Member]:
        """Revoked members with a certificate that lasts beyond ``now``; those revoked last first."""

    def revoke_member(self, role: Role, member: str, now: float, note: AuditNote | None = None) -> Member:
        """The revoked member; revoked again it keeps its first time. Raises NotFound."""

    def revoke_joined(
        self, token: str, now: float, note: Callable[[Member], AuditNote] | None = None
    ) -> Sequence[Member]:
        """Revoke everyone who joined by a token, in one step; returns those who were not revoked yet.

        ``note`` says what is to be written of each.
        """

    def append_audit(self, note: AuditNote) -> StoredEntry:
        """Chain an entry to the newest one, in one step. Raises InvalidInput if it is too long or no JSON."""

    def audit(self, after: int = 0, limit: int = 1000) -> Sequence[StoredEntry]:
        """Entries with numbers > after (the first is 1), oldest first. Raises Damaged."""

    def raw_audit(self, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, str, bytes]]:
        """(number, stored digest, stored bytes), neither read nor checked."""

    def forget_name(self, role: Role, member: str, note: AuditNote | None = None) -> Member:
        """Drop what people call a member: its name and labels become empty. Raises NotFound."""

    def import_identity(
        self,
        tokens: Sequence[Token] = (),
        members: Sequence[Member] = (),
        audit: Sequence[tuple[int, str, bytes]] = (),
    ) -> None:
        """Take over a page of another store's rows as they are, in one step; for `fedn store copy`.

        Tokens (by id) and members (by role and id) are as given then, uses and revocations included; given
        in the other order than listed, so that of equal times the last one given is listed first. ``audit``
        are rows of `raw_audit`, neither read nor checked: the very same again change nothing; Conflict for
        other bytes under a number that is there. Raises InvalidInput.
        """


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads: ``holder``, in this ``term``, for ``left`` seconds more unless it renews."""

    holder: str
    term: int
    left: float


class Leadership(Protocol):
    """Which reducer is in charge of a state store: one at a time, by a lease whose term is its fencing token.

    Time is the store's, or that of the one machine that has it. Raises StoreUnavailable.
    """

    def take(self, holder: str, seconds: float, instead_of: str = "") -> Lease:
        """Lead for ``seconds`` in the next term, unless another leads; returns who does.

        A lease that ``holder`` itself has, and one of ``instead_of``, who is known to be dead, is not
        waited for.
        """

    def renew(self, lease: Lease, seconds: float) -> None:
        """Lead for ``seconds`` from now on, also if the lease had run out and nobody took it.

        Raises StaleTerm if a newer term was taken.
        """

    def give_up(self, lease: Lease) -> None:
        """Let another one lead at once; nothing happens to a lease that is over."""


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
        model is not marked as pruned then.
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


# --- links -----------------------------------------------------------------------------------------


class Journal(Protocol):
    """A client's updates that are not settled yet, safe against its own death."""

    def add(self, header: UpdateHeader, file: bytes) -> None:
        """Keep an update, durably. Raises Busy when that would exceed its bound, StoreUnavailable."""

    def get(self, session: SessionId, round: int) -> UpdateHeader | None: ...

    def read(self, header: UpdateHeader, offset: int) -> Iterator[Buffer]: ...

    def settle(self, session: SessionId, round: int) -> None:
        """Forget an update (or move it aside, where updates are kept), but not that it was settled."""

    def past(self) -> Mapping[SessionId, int]:
        """Up to which round each session is settled here."""

    def held(self) -> Sequence[UpdateHeader]:
        """Oldest first."""


class CombinerLink(Protocol):
    """What the reducer asks of a combiner. Streams raise LinkBroken when the combiner is out of reach."""

    def watch(self, request: m.WatchRequest) -> AsyncIterator[m.CombinerEvent]: ...

    def run_round(self, spec: RoundSpec) -> AsyncIterator[m.RoundEvent]: ...

    def run_validation(self, spec: ValidationSpec) -> AsyncIterator[m.ValidationEvent]: ...

    def fetch_part(self, request: m.FetchRequest) -> AsyncIterator[Buffer]: ...

    async def ack(self, command: m.AckRound) -> None: ...

    async def abort(self, command: m.AbortRound) -> None: ...

    async def release(self, command: m.ReleaseUpdate) -> m.ReleaseAnswer: ...

    async def admit(self, command: m.AdmitClient) -> m.AdmitAnswer: ...

    async def settle(self, command: m.SettleUpdate) -> None: ...

    async def drain(self, command: m.DrainRequest) -> None: ...

    async def close(self) -> None: ...


class ClientLink(Protocol):
    """What a client asks of its combiner."""

    def attach(self, messages: AsyncIterator[m.ClientMessage]) -> AsyncIterator[m.CombinerMessage]: ...

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]: ...

    async def submit(self, grant: str, offset: int, chunks: AsyncIterator[Buffer]) -> None: ...

    async def close(self) -> None: ...


class ReducerLink(Protocol):
    """What combiners and clients ask of the reducer."""

    async def register(self, registration: m.Registration) -> Sequence[str]:
        """Announce a combiner; answers with who is revoked, as role:member.

        Raises Incompatible, LinkBroken, Revoked (this combiner itself).
        """

    async def assign(self, client: ClientId, prefer: str, avoid: str) -> m.Assignment:
        """Which combiner to attach to. Raises Unavailable while there is none."""

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]: ...

    async def close(self) -> None: ...


Dial: TypeAlias = Callable[[str, CombinerName], CombinerLink]
"""Open a link to a combiner by its address; with certificates, only to the one of that name."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Something that happened, for people: an event name, a sentence, and its fields."""

    event: str
    fields: Mapping[str, Any]


class Observer(Protocol):
    """Told of everything worth seeing. Must not block or raise; the default does nothing."""

    def observe(self, observed: Observed) -> None: ...


class Exporter(Protocol):
    """Carries what happens to somewhere else, such as an experiment tracker; built with ``location``, a text.

    It is called in one thread of its own, so it may block; what it raises is logged, and it is told of the
    next event.
    """

    @property
    def events(self) -> Collection[str]:
        """Names of the events that it is told of."""

    def observe(self, observed: Observed) -> None: ...

    def close(self) -> None:
        """Nothing is told any more."""


@runtime_checkable
class Remembering(Protocol):
    """An exporter that can say what is there already; then it is told what it has missed."""

    def told(self, session: str) -> Collection[tuple[str, int]]:
        """Events of a session that were written, in this process or before it, each with its round.

        Those that are of no round, its beginning and its end, have round 0.
        """


class Trainer(Protocol):
    """Runs the user's code on a client. Blocking; called in a worker thread, one task at a time.

    ``model`` is a whole model file, ``package`` the archive that ``task.package`` names (None without one).
    Raises InvalidInput saying in a sentence what is wrong with the code, the data or the task.
    """

    def train(self, model: memoryview, task: m.Task, package: memoryview | None = None) -> Trained: ...

    def report(
        self, model: memoryview, task: m.Task, package: memoryview | None = None
    ) -> tuple[int, Mapping[str, float]]:
        """(examples, metrics) of a validation, a check or a prediction, as ``task.kind`` says."""

    def cancel(self, task: m.Task) -> None:
        """Nobody waits for this task: end it if it is at work, where that is possible. From any thread."""

    def hurry(self) -> None:
        """Another task waits for what goes on though nobody waits for it: end that now. From any thread."""


@dataclass(frozen=True, slots=True)
class Trained:
    """An update as a safetensors file laid out like the base model, with its weight and metrics."""

    file: bytes
    layout: Digest
    examples: int
    metrics: Mapping[str, float]


__all__ = [
    "Aggregator", "BlobInfo", "Buffer", "ClientLink", "ClientSelector", "CombinerInfo", "CombinerLink",
    "Dial", "EventRow", "Exporter", "Helper", "IdentityStore", "Journal", "Leadership", "Lease", "MetricRow",
    "ModelInfo", "ModelStore", "Observed", "Observer", "PackageInfo", "PartHeader", "Presigning",
    "ReducerLink", "Remembering", "ServerOptimizer", "SessionInfo", "StateStore", "Tensors", "Trained",
    "Trainer", "Vector",
]  # fmt: skip
