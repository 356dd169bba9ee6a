"""Proof that a session's model trail is whole: every record, every link of the chain, every blob.

A model that `fedn.stores.retention` removed on purpose is a note of the report, and not a problem.

Reads the raw rows of a StateStore and the blobs of a ModelStore; `fedn trail verify` prints the report.
A trail that was rewritten from its first record to its head is consistent in itself: to notice that,
compare the report's ``head`` with one that was noted elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged, InvalidInput, NotFound
from fedn.domain.ids import Digest, SessionId, check_digest, digest_of
from fedn.domain.round import GENESIS_PARENT, Head, RoundRecord, read_record
from fedn.ports import ModelStore, StateStore
from fedn.stores.rules import PUT_AGAIN

PAGE = 64
"""Records read at once; bounds the memory of a verification."""

Progress = Callable[[int, int], None]
"""Told (records checked, records there are) after every record."""


@dataclass(frozen=True, slots=True)
class TrailReport:
    """What a verification found. ``problems`` are sentences, in the order of the trail.

    ``rounds`` counts the records that were checked (round 0 is one), ``models`` the different blobs;
    ``head`` is the digest of the last record's bytes as they are now. ``pruned`` counts the models that
    were removed on purpose, of which ``notes`` say when, in a sentence for every day.
    """

    session: SessionId
    rounds: int
    models: int
    head: Digest
    problems: tuple[str, ...]
    pruned: int = 0
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_trail(
    state: StateStore, models: ModelStore, session: SessionId, progress: Progress | None = None
) -> TrailReport:
    """Check a session's records, their chain and plan digests, its head, and re-hash its blobs.

    Damage is reported, never raised. The session may be running meanwhile: records that are committed
    during the check are checked too.

    Raises:
        NotFound: there is no such session.
        StoreUnavailable: a store did not answer, so nothing can be said.
    """
    walk = _Walk(session, models, state.pruned)
    try:
        _walk_to_head(state, walk, progress)
    except Damaged as error:
        walk.problem(f"The state store can't be read beyond round {walk.round}: {error.message}.")
    return TrailReport(
        session, walk.records, len(walk.seen) - len(walk.pruned), walk.computed, tuple(walk.problems),
        len(walk.pruned), tuple(walk.notes()),
    )  # fmt: skip


def _walk_to_head(state: StateStore, walk: _Walk, progress: Progress | None) -> None:
    head = state.session(walk.session).head
    while True:
        before = walk.records
        while rows := state.raw_records(walk.session, walk.round, PAGE):
            for row in rows:
                walk.record(*row)
                if progress is not None:
                    progress(walk.records, max(walk.records, head.round + 1))
        # The head is read after the records, so it can only be ahead of them, by honest commits.
        head = state.session(walk.session).head
        if head.round <= walk.round or walk.records == before:
            break
    walk.check_head(head)
    # Two rounds that were committed meanwhile have let it go.
    if (flaw := walk.state_flaw()) and state.session(walk.session).head.round < walk.round + 2:
        walk.problem(flaw)


class _Walk:
    """A pass over the records in order, remembering what the next one must say."""

    def __init__(
        self, session: SessionId, models: ModelStore, pruned_at: Callable[[Digest], float | None]
    ) -> None:
        self.session = session
        self.problems: list[str] = []
        self.records = 0
        self.round = -1
        self.computed = GENESIS_PARENT
        self.seen: set[Digest] = set()
        self.pruned: dict[Digest, tuple[int, str]] = {}
        self._models = models
        self._pruned_at = pruned_at
        self._parent: str = GENESIS_PARENT
        self._record: RoundRecord | None = None

    def problem(self, sentence: str) -> None:
        self.problems.append(sentence)

    def notes(self) -> Iterator[str]:
        """What was removed on purpose, in a sentence for every day."""
        days: dict[str, list[int]] = {}
        for number, day in self.pruned.values():
            days.setdefault(day, []).append(number)
        for day, rounds in sorted(days.items()):
            if len(rounds) == 1:
                yield f"The model of round {rounds[0]} was pruned on {day}; the record stays."
            else:
                which = f"{len(rounds)} rounds between {min(rounds)} and {max(rounds)}"
                yield f"The models of {which} were pruned on {day}; the records stay."

    def record(self, round: int, stored: str, raw: bytes) -> None:
        """Check one row. What altered bytes say is not believed, so their content is left aside."""
        if round <= self.round:  # a damaged index: going on from here could go round in circles
            raise Damaged(f"the row after it calls itself round {round}")
        if round != self.round + 1:
            self.problem(f"Round {round} comes after round {self.round}: records between them are missing.")
        self.computed = digest_of(raw if isinstance(raw, bytes) else b"")  # damage may change the type, too
        before, self._record = self._record, None
        if self.computed != stored:
            self.problem(f"The record of round {round} is damaged: its bytes have digest {self.computed}, "
                         f"but {stored} was stored.")  # fmt: skip
        else:
            self._content(round, raw, before)
        # The digest as it was stored, so that one damaged record is one problem and not two.
        self._parent, self.round = stored, round
        self.records += 1

    def check_head(self, head: Head) -> None:
        """The head must be the last record, word for word."""
        if self.round < 0:
            self.problem("The trail has no records.")
        elif (head.round, head.record) != (self.round, self.computed):
            self.problem(f"The session's head is round {head.round} ({head.record}), but the last record is "
                         f"round {self.round} ({self.computed}).")  # fmt: skip
        last = self._record
        if last is not None and (head.model, head.model_size) != (last.model, last.model_size):
            self.problem(f"The session's head names model {head.model} of {head.model_size} bytes, but the "
                         f"last record names {last.model} of {last.model_size} bytes.")  # fmt: skip
        if last is not None and Digest(str(last.model)) in self.pruned:
            self.problem(f"Model {last.model} of the head was pruned, which no head's may be.")

    def state_flaw(self) -> str:
        """What is wrong with the server optimizer's state after the last round; older ones may be gone."""
        last = self._record
        if last is None or not last.optimizer_state:
            return ""
        return self._flaw("Optimizer state", self.round, Digest(str(last.optimizer_state)), None)

    def _content(self, round: int, raw: bytes, before: RoundRecord | None) -> None:
        try:
            record = read_record(raw).record
            plan_digest = digest_of(canonical_json(record.plan))
        except (Damaged, TypeError, ValueError) as error:
            self.problem(f"The record of round {round} can't be read: {error}.")
            return
        self._record = record
        if record.session != self.session:
            self.problem(f"The record of round {round} belongs to session {record.session}.")
        if record.round != round:
            self.problem(f"The record of round {round} says that it is round {record.round}.")
        if record.parent != self._parent:
            self.problem(f"The record of round {round} names parent {record.parent}, but the record before "
                         f"it is {self._parent}.")  # fmt: skip
        if record.plan_digest != plan_digest:
            self.problem(f"The plan in the record of round {round} does not match its digest.")
        if before is not None and record.base_model != before.model:
            self.problem(f"Round {round} was trained from model {record.base_model}, but the round before "
                         f"it made {before.model}.")  # fmt: skip
        if round > 0:  # names the model of a damaged record before this one
            self._blob(round, record.base_model, None)
        self._blob(round, record.model, record.model_size)

    def _blob(self, round: int, named: Digest, size: int | None) -> None:
        digest = Digest(str(named))  # whatever a forged record holds in its place
        if digest in self.seen:
            return
        self.seen.add(digest)
        if flaw := self._flaw("Model", round, digest, size):
            self.problem(flaw)

    def _flaw(self, what: str, round: int, digest: Digest, size: int | None) -> str:
        """What is wrong with a blob, in a sentence; '' if nothing."""
        try:
            check_digest("model", digest)
            actual, length = self._hash(digest)
        except InvalidInput:
            return f"The record of round {round} names no valid {what.lower()} ({digest[:80]})."
        except NotFound:
            if what == "Model" and (at := self._pruned_at(digest)) is not None:
                self.pruned[digest] = round, day_of(at)
                return ""
            return f"{what} {digest} of round {round} is missing."
        except Damaged as error:
            return f"{what} {digest} of round {round} is damaged: {error.message}."
        if actual != digest:
            again = f"; {PUT_AGAIN}" if what == "Model" else ""
            return f"{what} {digest} of round {round} is damaged: its bytes have digest {actual}{again}."
        if size not in (None, length):
            return f"{what} {digest} of round {round} has {length} bytes, its record says {size}."
        return ""

    def _hash(self, digest: Digest) -> tuple[Digest, int]:
        hasher, length = sha256(), 0
        for chunk in self._models.read(digest):
            hasher.update(chunk)
            length += len(chunk)
        return Digest(hasher.hexdigest()), length


def day_of(at: float) -> str:
    """Unix time as a day, the same for readers everywhere."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d (UTC)")
