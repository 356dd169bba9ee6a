"""The rows of "What survives what" in ``docs/protocol.md``: what goes wrong, when exactly, and what then.

A row's name is its row in the table and its test's id. Every row ends in the same audit
(`Promised.kept_promise`); a row says only where it differs: a training that was interrupted is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from promised import Promised
from trip import Trip

CLIENT = "fedn.client.driver:Client"
COMBINER = "fedn.combiner.driver:Combiner"
ATTACHMENT = "fedn.combiner.clients:Attachment"
CALLS = "fedn.reducer.links:GrpcCombinerControl"
JOURNAL = "fedn.client.journal:FileJournal"
STORE = "fedn.stores.sqlite:SqliteState"
TRAIN = "fedn.client.trainer:AppTrainer.train"
CHUNK_OUT = "fedn.wire.calls:frame"
PART_WRITE = "fedn.reducer.merging:Part.write"

LATE, NEVER = "delay=1", "delay=3600"
"""A second late; and later than all that the test waits for."""

Wait = Callable[[Promised, str], object]


def at_once(federation: Promised, session: str) -> bool:
    return True


def moved(federation: Promised, session: str) -> bool:
    return federation.moved()


def left(federation: Promised, session: str) -> bool:
    return federation.left("client-1")


def committed(federation: Promised, session: str) -> bool:
    return federation.committed(session)


def trained(federation: Promised, session: str) -> bool:
    """All have been let go, and have trained round 1."""
    federation.open_gate()
    return all(federation.trained(index) for index in range(3))


def given_up(federation: Promised, session: str) -> bool:
    """The combiners have waited for the reducer in vain."""
    logs = federation.sandbox.directory / "logs"
    return all("ReadTimeout" in log.read_text() for log in logs.glob("combiner-*.log"))


def trained_and_given_up(federation: Promised, session: str) -> bool:
    return trained(federation, session) and given_up(federation, session)


@dataclass(frozen=True)
class Row:
    """``at`` carries ``trip``. It dies or stops by it; or it marks the instant or stops in it, and ``kills``
    or ``pauses`` names who is hit. ``until``: what has come about before that one returns.
    """

    name: str
    at: str
    trip: Trip
    kills: str = ""
    pauses: str = ""
    until: Wait = at_once
    returns: bool = True
    moves: bool = False
    """client-1 returns at combiner-2."""
    also: Mapping[str, Trip] = field(default_factory=dict)
    gates: tuple[int, ...] = (0, 1, 2)
    """Who trains at once; the others when whoever was hit is at work again."""
    large: bool = False
    rounds: int = 2
    trained: Mapping[int, list[int]] = field(default_factory=dict)

    @property
    def trips(self) -> Mapping[str, Trip]:
        return {self.at: self.trip, **self.also}

    @property
    def late(self) -> list[str]:
        """Who makes a call twice, or late."""
        return [name for name, trip in self.trips.items() if trip.how in ("twice", LATE)]

    @property
    def dies(self) -> str:
        return self.kills or (self.at if self.trip.how == "kill" else "")

    @property
    def sleeps(self) -> str:
        return self.pauses or (self.at if self.trip.how == "stop" and not self.kills else "")


def mark(target: str, when: str = "before", nth: int = 1, given: str = "") -> Trip:
    return Trip(target, "mark", when, nth, given)


def heard(message: str, how: str = "kill") -> Trip:
    """A client has heard ``message``."""
    return Trip(f"{CLIENT}._receive", how, "after", given=message)


def told(message: str, how: str = "kill", nth: int = 1) -> Trip:
    """A combiner tells a client ``message``."""
    return Trip(f"{ATTACHMENT}.send", how, nth=nth, given=message)


AGAIN = {0: [1, 1, 2]}
"""client-1's training of round 1 was not completed: the update was not in the journal yet."""
FIRST = (0, 2)
REDUCER, CLIENT_1, COMBINER_1 = "reducer", "client-1", "combiner-1"
JOURNALED = Trip(f"{JOURNAL}.add", when="after")
RELEASED = mark(f"{CALLS}.release", "after")
"""The combiner that the client was at has answered."""


def _moving(name: str, after: Trip, reducer: Trip) -> Row:
    """client-1 dies at ``after`` and returns at combiner-2. The others train when the reducer has tripped."""
    return Row(name, CLIENT_1, after, gates=(0,), moves=True, also={REDUCER: reducer})


CLIENT_KILLED = (
    Row("client-killed-when-its-task-comes", CLIENT_1, heard("Task")),
    Row("client-killed-while-training", CLIENT_1, Trip(TRAIN)),
    Row("client-killed-between-training-and-journal", CLIENT_1, Trip(f"{JOURNAL}.add"), trained=AGAIN),
    Row("client-killed-between-journal-and-offer", CLIENT_1, Trip(f"{JOURNAL}.add", when="after")),
    Row("client-killed-while-uploading", CLIENT_1, Trip(CHUNK_OUT, nth=2), large=True),
    Row("client-killed-after-its-receipt", CLIENT_1, heard("Receipt"), until=committed),
    Row("client-killed-between-settled-and-deletion", CLIENT_1, Trip(f"{JOURNAL}.settle")),
    _moving("client-killed-and-back-at-another-combiner", heard("Receipt"), RELEASED),
    _moving("client-killed-before-its-offer-and-back-at-another-combiner", JOURNALED, RELEASED),
)  # fmt: skip

CLIENT_PAUSED = (
    Row("client-paused-while-training", CLIENT_1, Trip(TRAIN, "stop"), until=left),
    Row("client-paused-while-uploading", CLIENT_1, Trip(CHUNK_OUT, "stop", nth=2), until=left, large=True),
    Row("client-paused-after-its-receipt", CLIENT_1, heard("Receipt", "stop"), until=committed),
)

COMBINER_KILLED = (
    Row("combiner-killed-when-its-part-is-asked-for", COMBINER_1, Trip(f"{COMBINER}.run_round"), until=moved),
    Row("combiner-killed-while-its-clients-train", CLIENT_1, mark(TRAIN), kills=COMBINER_1,
        until=moved, gates=(2,)),
    Row("combiner-killed-between-grant-and-upload", CLIENT_1, heard("Granted", "stop"), kills=COMBINER_1,
        until=moved, large=True),
    Row("combiner-killed-while-an-upload-comes-in", COMBINER_1,
        Trip("fedn.combiner.staging:Upload.write", nth=2), until=moved, large=True),
    Row("combiner-killed-between-fold-and-receipt", COMBINER_1,
        Trip("fedn.combiner.staging:PartSum.fold", when="after"), until=moved),
    Row("combiner-killed-after-a-receipt", CLIENT_1, heard("Receipt", "mark"), kills=COMBINER_1, until=moved,
        gates=FIRST),
    Row("combiner-killed-for-good-after-a-receipt", CLIENT_1, heard("Receipt", "mark"), kills=COMBINER_1,
        until=moved, returns=False, gates=FIRST),
    Row("combiner-killed-between-seal-and-announcement", COMBINER_1, Trip("fedn.combiner.runs:RoundRun.seal"),
        until=moved),
    Row("combiner-killed-while-its-part-is-fetched", COMBINER_1,
        Trip(f"{COMBINER}.fetch_part", when="after"), until=moved, large=True),
    Row("combiner-killed-before-the-ack", COMBINER_1, Trip(f"{COMBINER}.ack"), until=moved),
    Row("combiner-killed-between-ack-and-settled", COMBINER_1, told("Settled"), until=moved),
)  # fmt: skip

COMBINER_PAUSED = (
    Row("combiner-paused-while-its-clients-train", CLIENT_1, mark(TRAIN), pauses=COMBINER_1,
        until=moved, gates=(2,)),
    Row("combiner-paused-with-a-sealed-part-comes-back-into-the-open-round", COMBINER_1,
        Trip("fedn.combiner.runs:RoundRun.seal", "stop"), until=moved, gates=(0, 1)),
    Row("combiner-late-with-its-sealed-part-after-its-clients-counted-elsewhere", COMBINER_1,
        Trip("fedn.combiner.runs:RoundRun.seal", "stop"), until=committed),
    Row("combiner-paused-before-the-ack", COMBINER_1, Trip(f"{COMBINER}.ack", "stop"), until=moved),
)  # fmt: skip

REDUCER_KILLED = (
    Row("reducer-killed-before-it-asks-for-parts", REDUCER, Trip(f"{CALLS}.run_round")),
    Row("reducer-killed-between-two-parts-that-it-asks-for", COMBINER_1,
        mark(f"{COMBINER}.run_round", "after"), kills=REDUCER,
        also={REDUCER: Trip(f"{CALLS}.run_round", NEVER, nth=2)}),
    Row("reducer-killed-while-clients-train", CLIENT_1, mark(TRAIN), kills=REDUCER, gates=()),
    Row("reducer-killed-while-an-update-is-uploaded", CLIENT_1, Trip(CHUNK_OUT, "stop", nth=2), kills=REDUCER,
        large=True),
    Row("reducer-killed-after-a-receipt", CLIENT_1, heard("Receipt", "mark"), kills=REDUCER, gates=FIRST),
    Row("reducer-killed-for-as-long-as-clients-train", CLIENT_1, mark(TRAIN), kills=REDUCER, until=trained,
        gates=()),
    Row("reducer-killed-when-a-part-is-sealed", REDUCER, Trip("fedn.reducer.round:part_sealed")),
    Row("reducer-killed-while-it-fetches-a-part", REDUCER, Trip(PART_WRITE, nth=2), large=True),
    Row("reducer-killed-between-two-merges", REDUCER,
        Trip("fedn.aggregation.mean:PartMerger.merge", when="after")),
    Row("reducer-killed-before-the-blob", REDUCER, Trip("fedn.reducer.merging:Committer.commit")),
    Row("reducer-killed-between-blob-and-record", REDUCER, Trip(f"{STORE}.commit_round")),
    Row("reducer-killed-between-record-and-announcement", REDUCER,
        Trip(f"{STORE}.commit_round", when="after")),
    Row("reducer-killed-between-announcement-and-ack", REDUCER, Trip(f"{CALLS}.ack")),
    Row("reducer-killed-between-two-acks", COMBINER_1, mark(f"{COMBINER}.ack", "after"), kills=REDUCER,
        also={REDUCER: Trip(f"{CALLS}.ack", NEVER, nth=2)}),
    Row("reducer-killed-between-last-round-and-end", REDUCER, Trip(f"{STORE}.set_session_state")),
    Row("reducer-killed-right-after-the-end", REDUCER, Trip(f"{STORE}.set_session_state", when="after")),
)  # fmt: skip

REDUCER_PAUSED = (
    Row("reducer-paused-while-clients-train", CLIENT_1, mark(TRAIN), pauses=REDUCER,
        until=trained_and_given_up, gates=()),
    Row("reducer-paused-between-blob-and-record", REDUCER, Trip(f"{STORE}.commit_round", "stop"),
        until=given_up),
)  # fmt: skip

LINK_CUT = (
    Row("link-client-combiner-cut-while-training", CLIENT_1, Trip(TRAIN, "cut")),
    Row("link-client-combiner-cut-while-uploading", CLIENT_1, Trip(CHUNK_OUT, "cut", nth=2), large=True),
    Row("link-client-combiner-cut-after-a-receipt", CLIENT_1, heard("Receipt", "cut"), gates=FIRST,
        also={COMBINER_1: told("Receipt", "mark", nth=2)}),
    Row("link-reducer-combiner-cut-when-parts-are-open", REDUCER,
        Trip(f"{CALLS}.run_round", "cut", "after")),
    Row("link-reducer-combiner-cut-after-a-receipt", REDUCER,
        Trip("fedn.reducer.driver:SessionDriver._note_update", "cut")),
    Row("link-reducer-combiner-cut-while-a-part-is-fetched", REDUCER, Trip(PART_WRITE, "cut", nth=2),
        large=True),
    Row("link-reducer-combiner-cut-before-the-ack", REDUCER, Trip(f"{CALLS}.ack", "cut")),
)  # fmt: skip


def says(message: str, how: str) -> Trip:
    """A client tells its combiner ``message``."""
    return Trip(f"{CLIENT}._send", how, given=message)


MANY = 30
"""Rounds that are still going on a second later."""

MESSAGES = (
    Row("duplicated-task", COMBINER_1, told("Task", "twice")),
    Row("duplicated-offer", CLIENT_1, says("UpdateOffered", "twice")),
    Row("duplicated-submit", CLIENT_1, Trip(f"{CLIENT}._upload", "twice"), large=True),
    Row("duplicated-grant", COMBINER_1, told("Granted", "twice"), large=True),
    Row("duplicated-receipt", COMBINER_1, told("Receipt", "twice")),
    Row("duplicated-run-round", REDUCER, Trip(f"{CALLS}.run_round", "twice")),
    Row("duplicated-part-sealed", REDUCER,
        Trip("fedn.reducer.driver:SessionDriver._decide", "twice", given="PartSealed")),
    Row("duplicated-fetch-of-a-part", REDUCER, Trip(f"{CALLS}.fetch_part", "twice"), large=True),
    Row("duplicated-ack", REDUCER, Trip(f"{CALLS}.ack", "twice")),
    Row("duplicated-settled", COMBINER_1, told("Settled", "twice")),
    _moving("duplicated-release", heard("Receipt"), Trip(f"{CALLS}.release", "twice")),
    _moving("duplicated-admit", JOURNALED, Trip(f"{CALLS}.admit", "twice")),
    Row("delayed-run-round", REDUCER, Trip(f"{CALLS}.run_round", LATE)),
    Row("delayed-offer", CLIENT_1, says("UpdateOffered", LATE)),
    Row("delayed-grant", COMBINER_1, told("Granted", LATE), large=True),
    Row("delayed-part-sealed", COMBINER_1, Trip("fedn.combiner.runs:RoundRun.seal", LATE)),
    _moving("delayed-release", heard("Receipt"), Trip(f"{CALLS}.release", LATE)),
    _moving("delayed-admit", JOURNALED, Trip(f"{CALLS}.admit", LATE)),
    Row("reordered-receipt-after-settled", COMBINER_1, told("Receipt", LATE), rounds=MANY),
    Row("reordered-settled-after-the-next-task", COMBINER_1, told("Settled", LATE), rounds=MANY),
    Row("reordered-ack-after-the-next-run-round", REDUCER, Trip(f"{CALLS}.ack", LATE),
        rounds=MANY),
)  # fmt: skip

ROWS = (
    *CLIENT_KILLED, *CLIENT_PAUSED, *COMBINER_KILLED, *COMBINER_PAUSED, *REDUCER_KILLED, *REDUCER_PAUSED,
    *LINK_CUT, *MESSAGES,
)  # fmt: skip

SECURED = tuple(row for row in ROWS if row.name in {
    "client-killed-while-uploading", "combiner-killed-while-its-part-is-fetched",
    "reducer-killed-between-blob-and-record", "link-client-combiner-cut-while-uploading",
})  # fmt: skip
"""These are run with TLS, too: every role comes back as who it was, and broken transfers go on."""
