"""Which of a session's models are kept, and how the others go: marked first, deleted second.

Records are never touched: the chain proves what happened, also when the bytes of a model are gone. A mark
says that they went on purpose, and when; `fedn.stores.trail` tells that from loss.

It works beside a running reducer, without a lock. A model goes only if no record names it that is kept, as
seen after it was marked, and nothing begins or is committed on it from then on unnoticed: a session
can't begin with a marked model, and a commit or a seed of the same bytes takes the mark away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from fedn.domain.errors import InvalidInput, NotFound
from fedn.domain.ids import Digest, SessionId
from fedn.domain.round import OVER
from fedn.ports import ModelStore, SessionInfo, StateStore
from fedn.stores.naming import Named, Told, Trails, listed, unheard
from fedn.stores.trail import day_of

GRACE_SECONDS = 60.0
"""A blob written since is left: a round that makes the same bytes may be about to be committed."""
RUNNING_KEEPS = 3
"""Newest models of a session that goes on: the next round begins with one, validations use the others."""
MEMORIES = 2
"""Newest optimizer states that a session keeps, as `fedn.reducer.merging` does."""
BATCH = 256
"""Models marked at once."""

Best = Callable[[SessionInfo], int | None]
"""The round with a session's best model, or None if nobody can tell."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The newest ``last``, every ``every``-th round (0: none) and, with ``best``, the best one are kept."""

    last: int
    every: int = 0
    best: Best | None = None

    def __post_init__(self) -> None:
        if self.last < 1:
            raise InvalidInput("keep_last", f"{self.last} would take the head", "give 1 or more")
        if self.every < 0:
            raise InvalidInput("keep_every", f"{self.every} is no distance", "give 1 or more, or nothing")

    def keeps(self, info: SessionInfo, records: Sequence[Named]) -> set[int]:
        """Rounds of a session whose models stay."""
        running = info.state not in OVER
        newest = records[-1].round if records else 0
        last = max(self.last, RUNNING_KEEPS) if running else self.last
        kept = {named.round for named in records if named.round > newest - last}
        if self.every:
            kept |= {named.round for named in records if named.round % self.every == 0}
        if running:
            kept.add(0)
        if self.best is not None and (best := self.best(info)) is not None:
            kept.add(best)
        return kept


@dataclass(slots=True)
class Pruned:
    """What went, or would go. ``recent`` blobs are too young to be sure; another time they go, too."""

    dry_run: bool
    sessions: int = 0
    records: int = 0
    models: int = 0
    optimizer_states: int = 0
    bytes: int = 0
    recent: int = 0
    digests: list[Digest] = field(default_factory=list)


def prune(
    state: StateStore, models: ModelStore, rule: Rule, now: float, *, only: Collection[SessionId] = (),
    grace: float = GRACE_SECONDS, dry_run: bool = False, told: Told = unheard,
) -> Pruned:  # fmt: skip
    """Drop the models that ``rule`` does not keep, of all sessions or ``only`` these; ``now``: Unix time.

    Never goes: a session's head, what another session keeps or has, a seed in the list of models, what
    a running session needs, and what was written in the last ``grace`` seconds. What broke off can be
    done again.

    Raises:
        NotFound: there is no such session.
        Damaged: a record can't be read; then nothing was removed.
        StoreUnavailable: what was removed so far is marked.
    """
    return _Pruning(state, models, rule, now, only, grace).run(dry_run, told)


@contextmanager
def told_if_pruned(state: StateStore, digest: Digest) -> Iterator[None]:
    """A model that is not found in this block, and was pruned, is said to be so."""
    try:
        yield
    except NotFound:
        if (at := state.pruned(digest)) is None:
            raise
        raise NotFound(
            f"model {digest} was pruned on {day_of(at)} by `fedn trail prune`: its record is kept, its bytes "
            "are not; take a newer one, or the best one (`fedn session show`)", digest=digest, pruned_at=at,
        ) from None  # fmt: skip


class _Pruning:
    def __init__(
        self, state: StateStore, models: ModelStore, rule: Rule, now: float,
        only: Collection[SessionId], grace: float,
    ) -> None:  # fmt: skip
        self._state, self._models, self._rule = state, models, rule
        self._now, self._newest = now, now - grace
        self._only = set(only)
        self._trails = Trails(state)
        self._kept_rounds: dict[SessionId, set[int]] = {}
        self._named_since = set[Digest]()
        """By records that came after it was decided what goes."""

    def run(self, dry_run: bool, told: Told) -> Pruned:
        for session in self._only:
            self._state.session(session)  # raises NotFound
        self._trails.read(told)
        chosen = [info for info in self._trails.infos.values() if self._is_chosen(info.session)]
        for info in chosen:
            self._kept_rounds[info.session] = self._rule.keeps(info, self._trails.named[info.session])
        report = Pruned(dry_run, len(chosen), self._trails.records)
        states, going = self._going()
        found = [blob for blob in self._models.blobs() if blob.digest in going]
        old = [blob for blob in found if blob.written_at <= self._newest]
        report.recent = len(found) - len(old)
        for start in range(0, len(old), BATCH):
            told("removing models", start, len(old))
            batch = old[start : start + BATCH]
            digests = {blob.digest for blob in batch}
            gone = digests if dry_run else set(self._remove(digests, states))
            report.digests += sorted(gone)
            report.bytes += sum(blob.size for blob in batch if blob.digest in gone)
            report.optimizer_states += len(gone & states)
            report.models += len(gone - states)
            report.recent += len(digests - gone)
        told("removing models", len(old), len(old))
        return report

    def _is_chosen(self, session: SessionId) -> bool:
        return not self._only or session in self._only

    def _going(self) -> tuple[set[Digest], set[Digest]]:
        """(optimizer states, these and models) that no kept round names, as far as the records were read."""
        kept, memories = set[Digest](), set[Digest]()
        for session, records in self._trails.named.items():
            rounds = self._kept_rounds.get(session)
            for named in records:
                if rounds is None or named.round in rounds:
                    kept.add(named.model)
                if named.optimizer_state:
                    memories.add(Digest(named.optimizer_state))
            newest = records if rounds is None else records[-MEMORIES:]
            kept |= {Digest(named.optimizer_state) for named in newest if named.optimizer_state}
        stay = kept | self._trails.packages() | listed(self._state)
        return memories - stay, self._trails.blobs() - stay

    def _remove(self, digests: set[Digest], states: set[Digest]) -> Iterator[Digest]:
        """Mark these, see what has come to name one since, and delete the others."""
        self._state.mark_pruned(digests - states, self._now)
        self._named_since |= self._trails.read()
        self._state.unmark_pruned(digests & self._named_since)
        for digest in sorted(digests - self._named_since):
            if digest not in states and self._state.pruned(digest) is None:
                continue  # it was committed, or seeded, meanwhile
            try:
                young = self._models.blob(digest).written_at > self._newest
            except NotFound:
                continue
            if young:
                self._state.unmark_pruned([digest])
                continue
            self._models.delete(digest)
            yield digest
