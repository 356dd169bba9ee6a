"""What the tiers say to each other. Each class here has a message of the same name and fields in
``proto/fedn.proto``; ``wire/codec.py`` maps them by name and a test holds the two together.

Order on the way of one update: ``UpdateOffered`` → ``Granted`` → bytes → ``Receipt`` → (commit) →
``Settled``. An update may be offered again at any time before it is settled, anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId
from fedn.domain.part import PartHeader
from fedn.domain.update import UpdateHeader


class TaskKind(StrEnum):
    """TRAIN makes an update; the others make a report: metrics of a model on held-out examples, a preflight
    check that train() will be able to work, or predictions that stay where the client's owner says."""

    TRAIN = "train"
    VALIDATE = "validate"
    PREDICT = "predict"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class Host:
    """What a process says of itself and its machine, for people: '' and 0 where it says nothing.

    ``runs`` is what a client trains with: an app or packages; ``memory`` is in bytes.
    """

    fedn: str = ""
    python: str = ""
    system: str = ""
    cpus: int = 0
    memory: int = 0
    runs: str = ""


UNSAID = Host()


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client as the roster shows it. ``attached_at`` is Unix time by its combiner's clock."""

    client: ClientId
    name: str
    host: Host = UNSAID
    attached_at: float = 0.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """One of fedn's own log records, for people; ``at`` is Unix time."""

    at: float
    level: str
    text: str


# --- client → combiner, on the Attach stream -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of every Attach stream."""

    protocol: int
    client: ClientId
    name: str
    host: Host = UNSAID


@dataclass(frozen=True, slots=True)
class Beat:
    """Sent only while something is under way for this client, so that its silence is noticed."""


@dataclass(frozen=True, slots=True)
class UpdateOffered:
    """``inline`` holds the update itself when it is at most INLINE_BYTES; a grant then needs no Submit."""

    header: UpdateHeader
    inline: bytes = b""


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """The client can't do a task; its user's code raised, or the model did not arrive."""

    session: SessionId
    round: int
    kind: TaskKind
    reason: str


@dataclass(frozen=True, slots=True)
class ModelValidated:
    """What a client says of one model: its metrics on ``examples`` of its own, or what its check found."""

    session: SessionId
    round: int
    client: ClientId
    model: Digest
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    kind: TaskKind = TaskKind.VALIDATE


@dataclass(frozen=True, slots=True)
class LogShared:
    """What the client has logged since the last of these, where its owner shares that."""

    lines: tuple[LogLine, ...]


ClientMessage = Hello | Beat | UpdateOffered | TaskFailed | ModelValidated | LogShared

# --- combiner → client, on the Attach stream -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """First answer on every Attach stream. ``beat`` is the period of `Beat` in seconds."""

    protocol: int
    combiner: CombinerName
    incarnation: Incarnation
    beat: float


@dataclass(frozen=True, slots=True)
class Task:
    """Do ``kind`` with ``model``. The same (session, round, kind) may come again; it means the same.

    ``inline`` holds the model when it is at most INLINE_BYTES, else it is fetched by digest. ``package`` is
    the digest of the compute package that does it, fetched likewise; '' for the client's own app.
    """

    session: SessionId
    round: int
    kind: TaskKind
    model: Digest
    model_size: int
    config: str
    seed: int
    inline: bytes = b""
    package: str = ""
    package_size: int = 0


@dataclass(frozen=True, slots=True)
class TaskCancelled:
    """Nobody waits for this task any more."""

    session: SessionId
    round: int
    kind: TaskKind
    reason: str


@dataclass(frozen=True, slots=True)
class Granted:
    """Send the update's bytes from ``offset`` on with Submit under ``grant``."""

    session: SessionId
    round: int
    digest: Digest
    grant: str
    offset: int


@dataclass(frozen=True, slots=True)
class UpdateRefused:
    """The update is not taken, for good; ``code`` is a RefusalCode."""

    session: SessionId
    round: int
    digest: Digest
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The update is folded here. Not yet settled: the client keeps its copy."""

    session: SessionId
    round: int
    client: ClientId
    digest: Digest
    combiner: CombinerName
    incarnation: Incarnation
    part: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The round is durable; ``counted`` says whether this update is in its record. The copy may go."""

    session: SessionId
    round: int
    counted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Reoffer:
    """The sum that held this update is gone; offer it again (never train again)."""

    session: SessionId
    round: int


CombinerMessage = Welcome | Task | TaskCancelled | Granted | UpdateRefused | Receipt | Settled | Reoffer

# --- combiner → reducer, on the Watch stream -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoundHeld:
    """A round this combiner still holds: a restarted reducer lays out the rest around it."""

    session: SessionId
    round: int
    part: int
    clients: tuple[ClientId, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """First event of every Watch stream: who this is and all that it holds."""

    protocol: int
    combiner: CombinerName
    incarnation: Incarnation
    clients: tuple[ClientInfo, ...] = ()
    rounds: tuple[RoundHeld, ...] = ()
    host: Host = UNSAID
    draining: bool = False


@dataclass(frozen=True, slots=True)
class ClientAttached:
    info: ClientInfo


@dataclass(frozen=True, slots=True)
class ClientDetached:
    client: ClientId


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """A client offers an update that is not listed here; the reducer releases, admits or settles it."""

    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class Gauge:
    """Something bounded at a combiner: how much there is now, may be, and ever was in this process."""

    name: str
    value: int
    limit: int
    peak: int


@dataclass(frozen=True, slots=True)
class GaugesChanged:
    """All gauges of a combiner, at most once a second and only when one has changed."""

    gauges: tuple[Gauge, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of models, packages and updates from and to one client since it attached."""

    client: ClientId
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class TrafficChanged:
    """Bytes from and to all clients in this process, and the ``clients`` for which they have changed."""

    received: int
    sent: int
    clients: tuple[Traffic, ...] = ()


@dataclass(frozen=True, slots=True)
class LinesLogged:
    """What a client has shared of its log, or, where ``client`` is empty, the combiner has logged."""

    client: str
    lines: tuple[LogLine, ...]


CombinerEvent = (
    Snapshot
    | ClientAttached
    | ClientDetached
    | ReleaseRequested
    | GaugesChanged
    | TrafficChanged
    | LinesLogged
)

# --- combiner → reducer, on the RunRound and RunValidation streams ---------------------------------

LAPS = ("waiting", "training", "queued", "uploading")
"""Where a client's time in a round goes, by its combiner's clock: listed until it was sent its task; until
its offer; until there was a place for its bytes; until the last of them was checked and folded.
"""
STAGES = ("waiting", "training", "uploading", "folded", "refused", "lost", "failed")
"""Where a listed client stands, for people."""


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """The part is open (or was already); ``clients`` is the list as the combiner holds it."""

    incarnation: Incarnation
    part: int
    clients: tuple[ClientId, ...]


@dataclass(frozen=True, slots=True)
class UpdateReceived:
    """Progress: one client's update is folded; its training metrics, and how long it took in `LAPS`."""

    client: ClientId
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClientStage:
    """A client is in this one of `STAGES`, and has been for so many seconds."""

    client: ClientId
    stage: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StagesNoted:
    """Clients of a part whose stage is another than last told. For people alone: it may be left out."""

    clients: tuple[ClientStage, ...]


@dataclass(frozen=True, slots=True)
class PartSealed:
    """The part is complete. ``inline`` holds its bytes when they are few, else Fetch them by digest."""

    header: PartHeader
    inline: bytes = b""


@dataclass(frozen=True, slots=True)
class RoundAborted:
    reason: str


RoundEvent = RoundOpened | UpdateReceived | PartSealed | RoundAborted | StagesNoted


@dataclass(frozen=True, slots=True)
class ClientFailed:
    """This client will not report, and why. One that ``left`` may yet do so elsewhere."""

    client: ClientId
    reason: str
    left: bool = False


@dataclass(frozen=True, slots=True)
class ValidationSealed:
    """Every listed client has reported, failed or left, or the time is up."""

    reported: int
    missing: tuple[ClientId, ...] = ()


ValidationEvent = ModelValidated | ValidationSealed | ClientFailed

# --- reducer → combiner, unary ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WatchRequest:
    protocol: int
    term: int


@dataclass(frozen=True, slots=True)
class AbortRound:
    """Drop a round's sums. With ``reoffer`` its clients are told to offer again, else that it is settled."""

    term: int
    session: SessionId
    round: int
    part: int
    reason: str
    reoffer: bool


@dataclass(frozen=True, slots=True)
class AckRound:
    """The round is committed: parts numbered in ``counted`` are in the record, others are not.

    The combiner forgets the round and settles its clients.
    """

    term: int
    session: SessionId
    round: int
    counted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReleaseUpdate:
    """Does this client's update count here? If not, put up a tombstone so that it never will."""

    term: int
    session: SessionId
    round: int
    client: ClientId


@dataclass(frozen=True, slots=True)
class ReleaseAnswer:
    folded: bool


@dataclass(frozen=True, slots=True)
class AdmitClient:
    """Add a client to an open part."""

    term: int
    session: SessionId
    round: int
    part: int
    client: ClientId


@dataclass(frozen=True, slots=True)
class AdmitAnswer:
    """False: that part is not open any more; open the next one."""

    admitted: bool


@dataclass(frozen=True, slots=True)
class SettleUpdate:
    """Tell a client, attached here now, how its update of a finished round ended."""

    term: int
    client: ClientId
    session: SessionId
    round: int
    counted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class DrainRequest:
    """Take no new clients; those attached are to move. Or, when that is ``over``: take clients again."""

    term: int
    reason: str
    over: bool = False


# --- bulk ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """Bytes of the blob ``digest`` from ``offset`` on. ``client`` says who asks, for counting alone."""

    digest: Digest
    offset: int
    client: str = ""


# --- reducer's answers over HTTPS ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration:
    """A combiner announcing itself, and announcing itself again."""

    protocol: int
    combiner: CombinerName
    address: str
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a client is to attach."""

    combiner: CombinerName
    address: str
