"""What lies in the stores, and blobs that nobody names: left by a death between a blob and its record.

A blob comes first and its record second, so one that no record names may be about to be named. It counts as
left over only when it was written longer ago than any commit or upload takes; `fedn.ports.ModelStore.put`
makes a blob young again when its bytes come again. A session may begin with any blob, so they are marked
before they go, as in `fedn.stores.retention`. This is what makes it safe beside a running reducer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

from fedn.domain.errors import FednError, NotFound
from fedn.domain.ids import Digest
from fedn.ports import BlobInfo, ModelStore, StateStore
from fedn.stores.naming import LISTED, Told, Trails, listed, unheard

_Store = TypeVar("_Store", StateStore, ModelStore)

GRACE_SECONDS = 3600.0
"""A blob written since is left; longer than any upload or commit takes."""
BATCH = 256
"""Blobs removed at once."""


@dataclass(slots=True)
class Stats:
    """What lies in the stores. ``unreferenced`` blobs are named by no record and in no list."""

    sessions: int = 0
    records: int = 0
    models: int = 0
    packages: int = 0
    pruned: int = 0
    blobs: int = 0
    bytes: int = 0
    unreferenced: int = 0
    unreferenced_bytes: int = 0


@dataclass(slots=True)
class Collected:
    """Unreferenced blobs that went, or would go; ``recent`` ones stay, as they may be about to be named."""

    deleted: bool
    blobs: int = 0
    bytes: int = 0
    recent: int = 0
    digests: list[Digest] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried on a store. ``problem`` is '' if it worked."""

    store: str
    what: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem


def stats(state: StateStore, models: ModelStore, told: Told = unheard) -> Stats:
    """Count what there is. Raises Damaged if a record can't be read."""
    blobs, referenced, trails = _inventory(state, models, told)
    loose = [blob for blob in blobs if blob.digest not in referenced]
    return Stats(
        len(trails.infos), trails.records, len(state.models(LISTED)), len(state.packages(LISTED)),
        _count_marks(state), len(blobs), _bytes(blobs), len(loose), _bytes(loose),
    )  # fmt: skip


def collect(
    state: StateStore, models: ModelStore, now: float, *, grace: float = GRACE_SECONDS, delete: bool = False,
    told: Told = unheard,
) -> Collected:  # fmt: skip
    """Find unreferenced blobs, written over ``grace`` seconds before ``now``; ``delete`` them if so told.

    Raises:
        Damaged: a record can't be read, so what it names is not known; then nothing was removed.
    """
    blobs, referenced, trails = _inventory(state, models, told)
    loose = [blob for blob in blobs if blob.digest not in referenced]
    old = [blob for blob in loose if blob.written_at <= now - grace]
    report = Collected(delete, recent=len(loose) - len(old))
    for start in range(0, len(old), BATCH):
        batch = old[start : start + BATCH]
        gone = batch
        if delete:
            told("removing blobs", start, len(old))
            gone = remove(state, models, trails, batch, now - grace, now)
        report.recent += len(batch) - len(gone)
        report.blobs += len(gone)
        report.bytes += _bytes(gone)
        report.digests += [blob.digest for blob in gone]
    return report


def remove(
    state: StateStore, models: ModelStore, trails: Trails, blobs: Sequence[BlobInfo],
    newest: float, now: float,
) -> list[BlobInfo]:  # fmt: skip
    """Remove blobs that nothing in ``trails`` names, but those that are named or written by now.

    They are marked while it lasts: no session can begin with one, and a commit or a seed of the same bytes
    takes the mark away. ``newest``: blobs written since then stay.
    """
    digests, gone = {blob.digest for blob in blobs}, list[BlobInfo]()
    state.mark_pruned(digests, now)
    try:
        named = trails.read()
        for blob in blobs:
            if blob.digest in named or state.pruned(blob.digest) is None:
                continue
            with suppress(NotFound):
                if models.blob(blob.digest).written_at <= newest:
                    models.delete(blob.digest)
                    gone.append(blob)
    finally:
        state.unmark_pruned(digests)
    return gone


def _inventory(
    state: StateStore, models: ModelStore, told: Told
) -> tuple[list[BlobInfo], set[Digest], Trails]:
    """The blobs, and what is named: in this order, so that no blob is newer than the names."""
    blobs = list(models.blobs())
    trails = Trails(state)
    trails.read(told)
    return blobs, trails.blobs() | trails.packages() | listed(state), trails


def _bytes(blobs: Sequence[BlobInfo]) -> int:
    return sum(blob.size for blob in blobs)


def _count_marks(state: StateStore) -> int:
    count, after = 0, ""
    while marks := state.pruned_marks(after):
        count, after = count + len(marks), marks[-1][0]
    return count


# --- can we work with it ---------------------------------------------------------------------------


def check_state(open_store: Callable[[], StateStore]) -> list[Check]:
    """Try what a reducer does with a state store; the first thing that fails is the last that is tried."""

    def write(store: StateStore) -> None:
        store.raise_term(0)  # changes nothing

    steps: list[tuple[str, Callable[[StateStore], object]]] = [
        ("read sessions", lambda store: store.sessions()),
        ("write", write),
    ]
    return _tried("state", open_store, steps)


def check_models(open_store: Callable[[], ModelStore]) -> list[Check]:
    """Try what a reducer does with a model store, with a blob of its own that is deleted again."""
    blob = f"fedn store check {uuid4().hex}".encode()
    written = list[Digest]()
    steps: list[tuple[str, Callable[[ModelStore], object]]] = [
        ("list blobs", lambda store: next(iter(store.digests()), None)),
        ("write", lambda store: written.append(store.put([blob])[0])),
        ("read", lambda store: b"".join(store.read(written[0]))),
        ("delete", lambda store: store.delete(written[0])),
    ]
    return _tried("models", open_store, steps)


def _tried(
    name: str, open_store: Callable[[], _Store], steps: list[tuple[str, Callable[[_Store], object]]]
) -> list[Check]:
    checks = list[Check]()
    store = None
    try:
        what = "open"
        store = open_store()
        checks.append(Check(name, what))
        for what, step in steps:
            step(store)
            checks.append(Check(name, what))
    except FednError as error:
        checks.append(Check(name, what, error.message))
    finally:
        if store is not None:
            store.close()
    return checks
