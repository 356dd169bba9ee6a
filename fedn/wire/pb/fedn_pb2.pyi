from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("term", "reason", "over")
    TERM_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    term: int
    reason: str
    over: bool
    def __init__(self, term: _Optional[int] = ..., reason: _Optional[str] = ..., over: bool = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("digest", "offset", "client")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    offset: int
    client: str
    def __init__(self, digest: _Optional[str] = ..., offset: _Optional[int] = ..., client: _Optional[str] = ...) -> None: ...

class UpdateHeader(_message.Message):
    __slots__ = ("session", "round", "client", "base_model", "examples", "size", "digest", "layout", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    client: str
    base_model: str
    examples: int
    size: int
    digest: str
    layout: str
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., client: _Optional[str] = ..., base_model: _Optional[str] = ..., examples: _Optional[int] = ..., size: _Optional[int] = ..., digest: _Optional[str] = ..., layout: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ClientMessage(_message.Message):
    __slots__ = ("hello", "beat", "update_offered", "task_failed", "model_validated", "log_shared")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_OFFERED_FIELD_NUMBER: _ClassVar[int]
    TASK_FAILED_FIELD_NUMBER: _ClassVar[int]
    MODEL_VALIDATED_FIELD_NUMBER: _ClassVar[int]
    LOG_SHARED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    beat: Beat
    update_offered: UpdateOffered
    task_failed: TaskFailed
    model_validated: ModelValidated
    log_shared: LogShared
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ..., update_offered: _Optional[_Union[UpdateOffered, _Mapping]] = ..., task_failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., model_validated: _Optional[_Union[ModelValidated, _Mapping]] = ..., log_shared: _Optional[_Union[LogShared, _Mapping]] = ...) -> None: ...

class Host(_message.Message):
    __slots__ = ("fedn", "python", "system", "cpus", "memory", "runs")
    FEDN_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    fedn: str
    python: str
    system: str
    cpus: int
    memory: int
    runs: str
    def __init__(self, fedn: _Optional[str] = ..., python: _Optional[str] = ..., system: _Optional[str] = ..., cpus: _Optional[int] = ..., memory: _Optional[int] = ..., runs: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "client", "name", "host")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    client: str
    name: str
    host: Host
    def __init__(self, protocol: _Optional[int] = ..., client: _Optional[str] = ..., name: _Optional[str] = ..., host: _Optional[_Union[Host, _Mapping]] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("at", "level", "text")
    AT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    at: float
    level: str
    text: str
    def __init__(self, at: _Optional[float] = ..., level: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class LogShared(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[LogLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[LogLine, _Mapping]]] = ...) -> None: ...

class UpdateOffered(_message.Message):
    __slots__ = ("header", "inline")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    header: UpdateHeader
    inline: bytes
    def __init__(self, header: _Optional[_Union[UpdateHeader, _Mapping]] = ..., inline: _Optional[bytes] = ...) -> None: ...

class TaskFailed(_message.Message):
    __slots__ = ("session", "round", "kind", "reason")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    kind: str
    reason: str
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., kind: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ModelValidated(_message.Message):
    __slots__ = ("session", "round", "client", "model", "examples", "metrics", "kind")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    client: str
    model: str
    examples: int
    metrics: _containers.ScalarMap[str, float]
    kind: str
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., client: _Optional[str] = ..., model: _Optional[str] = ..., examples: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., kind: _Optional[str] = ...) -> None: ...

class CombinerMessage(_message.Message):
    __slots__ = ("welcome", "task", "task_cancelled", "granted", "update_refused", "receipt", "settled", "reoffer")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TASK_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    UPDATE_REFUSED_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    REOFFER_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    task: Task
    task_cancelled: TaskCancelled
    granted: Granted
    update_refused: UpdateRefused
    receipt: Receipt
    settled: Settled
    reoffer: Reoffer
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., task_cancelled: _Optional[_Union[TaskCancelled, _Mapping]] = ..., granted: _Optional[_Union[Granted, _Mapping]] = ..., update_refused: _Optional[_Union[UpdateRefused, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., settled: _Optional[_Union[Settled, _Mapping]] = ..., reoffer: _Optional[_Union[Reoffer, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "combiner", "incarnation", "beat")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    COMBINER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    combiner: str
    incarnation: str
    beat: float
    def __init__(self, protocol: _Optional[int] = ..., combiner: _Optional[str] = ..., incarnation: _Optional[str] = ..., beat: _Optional[float] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("session", "round", "kind", "model", "model_size", "config", "seed", "inline", "package", "package_size")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    kind: str
    model: str
    model_size: int
    config: str
    seed: int
    inline: bytes
    package: str
    package_size: int
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., kind: _Optional[str] = ..., model: _Optional[str] = ..., model_size: _Optional[int] = ..., config: _Optional[str] = ..., seed: _Optional[int] = ..., inline: _Optional[bytes] = ..., package: _Optional[str] = ..., package_size: _Optional[int] = ...) -> None: ...

class TaskCancelled(_message.Message):
    __slots__ = ("session", "round", "kind", "reason")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    kind: str
    reason: str
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., kind: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Granted(_message.Message):
    __slots__ = ("session", "round", "digest", "grant", "offset")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    digest: str
    grant: str
    offset: int
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., digest: _Optional[str] = ..., grant: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class UpdateRefused(_message.Message):
    __slots__ = ("session", "round", "digest", "code", "reason")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    digest: str
    code: str
    reason: str
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., digest: _Optional[str] = ..., code: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("session", "round", "client", "digest", "combiner", "incarnation", "part")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    COMBINER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    client: str
    digest: str
    combiner: str
    incarnation: str
    part: int
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., client: _Optional[str] = ..., digest: _Optional[str] = ..., combiner: _Optional[str] = ..., incarnation: _Optional[str] = ..., part: _Optional[int] = ...) -> None: ...

class Settled(_message.Message):
    __slots__ = ("session", "round", "counted", "reason")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    counted: bool
    reason: str
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., counted: bool = ..., reason: _Optional[str] = ...) -> None: ...

class Reoffer(_message.Message):
    __slots__ = ("session", "round")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("protocol", "term")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    term: int
    def __init__(self, protocol: _Optional[int] = ..., term: _Optional[int] = ...) -> None: ...

class CombinerEvent(_message.Message):
    __slots__ = ("snapshot", "client_attached", "client_detached", "release_requested", "gauges_changed", "traffic_changed", "lines_logged")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ATTACHED_FIELD_NUMBER: _ClassVar[int]
    CLIENT_DETACHED_FIELD_NUMBER: _ClassVar[int]
    RELEASE_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    GAUGES_CHANGED_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CHANGED_FIELD_NUMBER: _ClassVar[int]
    LINES_LOGGED_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    client_attached: ClientAttached
    client_detached: ClientDetached
    release_requested: ReleaseRequested
    gauges_changed: GaugesChanged
    traffic_changed: TrafficChanged
    lines_logged: LinesLogged
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., client_attached: _Optional[_Union[ClientAttached, _Mapping]] = ..., client_detached: _Optional[_Union[ClientDetached, _Mapping]] = ..., release_requested: _Optional[_Union[ReleaseRequested, _Mapping]] = ..., gauges_changed: _Optional[_Union[GaugesChanged, _Mapping]] = ..., traffic_changed: _Optional[_Union[TrafficChanged, _Mapping]] = ..., lines_logged: _Optional[_Union[LinesLogged, _Mapping]] = ...) -> None: ...

class ClientInfo(_message.Message):
    __slots__ = ("client", "name", "host", "attached_at")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_AT_FIELD_NUMBER: _ClassVar[int]
    client: str
    name: str
    host: Host
    attached_at: float
    def __init__(self, client: _Optional[str] = ..., name: _Optional[str] = ..., host: _Optional[_Union[Host, _Mapping]] = ..., attached_at: _Optional[float] = ...) -> None: ...

class RoundHeld(_message.Message):
    __slots__ = ("session", "round", "part", "clients")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    part: int
    clients: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., part: _Optional[int] = ..., clients: _Optional[_Iterable[str]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("protocol", "combiner", "incarnation", "clients", "rounds", "host", "draining")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    COMBINER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    combiner: str
    incarnation: str
    clients: _containers.RepeatedCompositeFieldContainer[ClientInfo]
    rounds: _containers.RepeatedCompositeFieldContainer[RoundHeld]
    host: Host
    draining: bool
    def __init__(self, protocol: _Optional[int] = ..., combiner: _Optional[str] = ..., incarnation: _Optional[str] = ..., clients: _Optional[_Iterable[_Union[ClientInfo, _Mapping]]] = ..., rounds: _Optional[_Iterable[_Union[RoundHeld, _Mapping]]] = ..., host: _Optional[_Union[Host, _Mapping]] = ..., draining: bool = ...) -> None: ...

class ClientAttached(_message.Message):
    __slots__ = ("info",)
    INFO_FIELD_NUMBER: _ClassVar[int]
    info: ClientInfo
    def __init__(self, info: _Optional[_Union[ClientInfo, _Mapping]] = ...) -> None: ...

class ClientDetached(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: str
    def __init__(self, client: _Optional[str] = ...) -> None: ...

class ReleaseRequested(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: UpdateHeader
    def __init__(self, header: _Optional[_Union[UpdateHeader, _Mapping]] = ...) -> None: ...

class Gauge(_message.Message):
    __slots__ = ("name", "value", "limit", "peak")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PEAK_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: int
    limit: int
    peak: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[int] = ..., limit: _Optional[int] = ..., peak: _Optional[int] = ...) -> None: ...

class GaugesChanged(_message.Message):
    __slots__ = ("gauges",)
    GAUGES_FIELD_NUMBER: _ClassVar[int]
    gauges: _containers.RepeatedCompositeFieldContainer[Gauge]
    def __init__(self, gauges: _Optional[_Iterable[_Union[Gauge, _Mapping]]] = ...) -> None: ...

class Traffic(_message.Message):
    __slots__ = ("client", "received", "sent")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    client: str
    received: int
    sent: int
    def __init__(self, client: _Optional[str] = ..., received: _Optional[int] = ..., sent: _Optional[int] = ...) -> None: ...

class TrafficChanged(_message.Message):
    __slots__ = ("received", "sent", "clients")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    received: int
    sent: int
    clients: _containers.RepeatedCompositeFieldContainer[Traffic]
    def __init__(self, received: _Optional[int] = ..., sent: _Optional[int] = ..., clients: _Optional[_Iterable[_Union[Traffic, _Mapping]]] = ...) -> None: ...

class LinesLogged(_message.Message):
    __slots__ = ("client", "lines")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    client: str
    lines: _containers.RepeatedCompositeFieldContainer[LogLine]
    def __init__(self, client: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[LogLine, _Mapping]]] = ...) -> None: ...

class RoundSpec(_message.Message):
    __slots__ = ("term", "session", "round", "part", "model", "model_size", "layout", "clients", "config", "seed", "deadline", "aggregator", "incarnation", "inline", "package", "package_size")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    AGGREGATOR_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    term: int
    session: str
    round: int
    part: int
    model: str
    model_size: int
    layout: str
    clients: _containers.RepeatedScalarFieldContainer[str]
    config: str
    seed: int
    deadline: float
    aggregator: str
    incarnation: str
    inline: bytes
    package: str
    package_size: int
    def __init__(self, term: _Optional[int] = ..., session: _Optional[str] = ..., round: _Optional[int] = ..., part: _Optional[int] = ..., model: _Optional[str] = ..., model_size: _Optional[int] = ..., layout: _Optional[str] = ..., clients: _Optional[_Iterable[str]] = ..., config: _Optional[str] = ..., seed: _Optional[int] = ..., deadline: _Optional[float] = ..., aggregator: _Optional[str] = ..., incarnation: _Optional[str] = ..., inline: _Optional[bytes] = ..., package: _Optional[str] = ..., package_size: _Optional[int] = ...) -> None: ...

class RoundEvent(_message.Message):
    __slots__ = ("round_opened", "update_received", "part_sealed", "round_aborted", "stages_noted")
    ROUND_OPENED_FIELD_NUMBER: _ClassVar[int]
    UPDATE_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    PART_SEALED_FIELD_NUMBER: _ClassVar[int]
    ROUND_ABORTED_FIELD_NUMBER: _ClassVar[int]
    STAGES_NOTED_FIELD_NUMBER: _ClassVar[int]
    round_opened: RoundOpened
    update_received: UpdateReceived
    part_sealed: PartSealed
    round_aborted: RoundAborted
    stages_noted: StagesNoted
    def __init__(self, round_opened: _Optional[_Union[RoundOpened, _Mapping]] = ..., update_received: _Optional[_Union[UpdateReceived, _Mapping]] = ..., part_sealed: _Optional[_Union[PartSealed, _Mapping]] = ..., round_aborted: _Optional[_Union[RoundAborted, _Mapping]] = ..., stages_noted: _Optional[_Union[StagesNoted, _Mapping]] = ...) -> None: ...

class RoundOpened(_message.Message):
    __slots__ = ("incarnation", "part", "clients")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    incarnation: str
    part: int
    clients: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, incarnation: _Optional[str] = ..., part: _Optional[int] = ..., clients: _Optional[_Iterable[str]] = ...) -> None: ...

class UpdateReceived(_message.Message):
    __slots__ = ("client", "examples", "metrics", "seconds")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class SecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    client: str
    examples: int
    metrics: _containers.ScalarMap[str, float]
    seconds: _containers.ScalarMap[str, float]
    def __init__(self, client: _Optional[str] = ..., examples: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., seconds: _Optional[_Mapping[str, float]] = ...) -> None: ...

class StagesNoted(_message.Message):
    __slots__ = ("clients",)
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    clients: _containers.RepeatedCompositeFieldContainer[ClientStage]
    def __init__(self, clients: _Optional[_Iterable[_Union[ClientStage, _Mapping]]] = ...) -> None: ...

class ClientStage(_message.Message):
    __slots__ = ("client", "stage", "seconds")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    client: str
    stage: str
    seconds: float
    def __init__(self, client: _Optional[str] = ..., stage: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class Contributor(_message.Message):
    __slots__ = ("client", "examples", "digest")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    client: str
    examples: int
    digest: str
    def __init__(self, client: _Optional[str] = ..., examples: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class Absence(_message.Message):
    __slots__ = ("client", "reason")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    client: str
    reason: str
    def __init__(self, client: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class PartHeader(_message.Message):
    __slots__ = ("session", "round", "combiner", "incarnation", "part", "digest", "size", "contributors", "refused", "lost", "failed")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    COMBINER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTORS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    session: str
    round: int
    combiner: str
    incarnation: str
    part: int
    digest: str
    size: int
    contributors: _containers.RepeatedCompositeFieldContainer[Contributor]
    refused: _containers.RepeatedCompositeFieldContainer[Absence]
    lost: _containers.RepeatedCompositeFieldContainer[Absence]
    failed: _containers.RepeatedCompositeFieldContainer[Absence]
    def __init__(self, session: _Optional[str] = ..., round: _Optional[int] = ..., combiner: _Optional[str] = ..., incarnation: _Optional[str] = ..., part: _Optional[int] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ..., contributors: _Optional[_Iterable[_Union[Contributor, _Mapping]]] = ..., refused: _Optional[_Iterable[_Union[Absence, _Mapping]]] = ..., lost: _Optional[_Iterable[_Union[Absence, _Mapping]]] = ..., failed: _Optional[_Iterable[_Union[Absence, _Mapping]]] = ...) -> None: ...

class PartSealed(_message.Message):
    __slots__ = ("header", "inline")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    header: PartHeader
    inline: bytes
    def __init__(self, header: _Optional[_Union[PartHeader, _Mapping]] = ..., inline: _Optional[bytes] = ...) -> None: ...

class RoundAborted(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ValidationSpec(_message.Message):
    __slots__ = ("term", "session", "round", "model", "model_size", "clients", "config", "seed", "deadline", "inline", "kind", "package", "package_size")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    term: int
    session: str
    round: int
    model: str
    model_size: int
    clients: _containers.RepeatedScalarFieldContainer[str]
    config: str
    seed: int
    deadline: float
    inline: bytes
    kind: str
    package: str
    package_size: int
    def __init__(self, term: _Optional[int] = ..., session: _Optional[str] = ..., round: _Optional[int] = ..., model: _Optional[str] = ..., model_size: _Optional[int] = ..., clients: _Optional[_Iterable[str]] = ..., config: _Optional[str] = ..., seed: _Optional[int] = ..., deadline: _Optional[float] = ..., inline: _Optional[bytes] = ..., kind: _Optional[str] = ..., package: _Optional[str] = ..., package_size: _Optional[int] = ...) -> None: ...

class ValidationEvent(_message.Message):
    __slots__ = ("model_validated", "validation_sealed", "client_failed")
    MODEL_VALIDATED_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_SEALED_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FAILED_FIELD_NUMBER: _ClassVar[int]
    model_validated: ModelValidated
    validation_sealed: ValidationSealed
    client_failed: ClientFailed
    def __init__(self, model_validated: _Optional[_Union[ModelValidated, _Mapping]] = ..., validation_sealed: _Optional[_Union[ValidationSealed, _Mapping]] = ..., client_failed: _Optional[_Union[ClientFailed, _Mapping]] = ...) -> None: ...

class ClientFailed(_message.Message):
    __slots__ = ("client", "reason", "left")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    client: str
    reason: str
    left: bool
    def __init__(self, client: _Optional[str] = ..., reason: _Optional[str] = ..., left: bool = ...) -> None: ...

class ValidationSealed(_message.Message):
    __slots__ = ("reported", "missing")
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    reported: int
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, reported: _Optional[int] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class AckRound(_message.Message):
    __slots__ = ("term", "session", "round", "counted")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    term: int
    session: str
    round: int
    counted: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, term: _Optional[int] = ..., session: _Optional[str] = ..., round: _Optional[int] = ..., counted: _Optional[_Iterable[int]] = ...) -> None: ...

class AbortRound(_message.Message):
    __slots__ = ("term", "session", "round", "part", "reason", "reoffer")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REOFFER_FIELD_NUMBER: _ClassVar[int]
    term: int
    session: str
    round: int
    part: int
    reason: str
    reoffer: bool
    def __init__(self, term: _Optional[int] = ..., session: _Optional[str] = ..., round: _Optional[int] = ..., part: _Optional[int] = ..., reason: _Optional[str] = ..., reoffer: bool = ...) -> None: ...

class ReleaseUpdate(_message.Message):
    __slots__ = ("term", "session", "round", "client")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    term: int
    session: str
    round: int
    client: str
    def __init__(self, term: _Optional[int] = ..., session: _Optional[str] = ..., round: _Optional[int] = ..., client: _Optional[str] = ...) -> None: ...

class ReleaseAnswer(_message.Message):
    __slots__ = ("folded",)
    FOLDED_FIELD_NUMBER: _ClassVar[int]
    folded: bool
    def __init__(self, folded: bool = ...) -> None: ...

class AdmitClient(_message.Message):
    __slots__ = ("term", "session", "round", "part", "client")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    term: int
    session: str
    round: int
    part: int
    client: str
    def __init__(self, term: _Optional[int] = ..., session: _Optional[str] = ..., round: _Optional[int] = ..., part: _Optional[int] = ..., client: _Optional[str] = ...) -> None: ...

class AdmitAnswer(_message.Message):
    __slots__ = ("admitted",)
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    admitted: bool
    def __init__(self, admitted: bool = ...) -> None: ...

class SettleUpdate(_message.Message):
    __slots__ = ("term", "client", "session", "round", "counted", "reason")
    TERM_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    term: int
    client: str
    session: str
    round: int
    counted: bool
    reason: str
    def __init__(self, term: _Optional[int] = ..., client: _Optional[str] = ..., session: _Optional[str] = ..., round: _Optional[int] = ..., counted: bool = ..., reason: _Optional[str] = ...) -> None: ...
