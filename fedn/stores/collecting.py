"""What lies in the stores, and blobs that nobody names: left by a death between a blob and its record.

A blob comes first and its record second, so one that no record names may be about to be named. It counts as
left over only when it was written longer ago than any commit or upload takes, which is what makes this safe
beside a running reducer; `fedn.ports.ModelStore.put` makes a blob young again when its bytes come again.
"""

from __future__ import annotations

from collections.abc import Callable
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
"""Blobs deleted before the sessions are looked at again."""


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
    for done, blob in enumerate(old):
        if delete:
            told("removing blobs", done, len(old))
            if done % BATCH == 0:
                referenced |= trails.read()
            try:
                young = models.blob(blob.digest).written_at > now - grace
            except NotFound:
                continue
            if (
                young or blob.digest in referenced
            ):  # its bytes came again meanwhile, or a session began with it
                report.recent += 1
                continue
            models.delete(blob.digest)
        report.blobs += 1
        report.bytes += blob.size
        report.digests.append(blob.digest)
    return report


def _inventory(
    state: StateStore, models: ModelStore, told: Told
) -> tuple[list[BlobInfo], set[Digest], Trails]:
    """The blobs, and what is named: in this order, so that no blob is newer than the names."""
    blobs = list(models.blobs())
    trails = Trails(state)
    trails.read(told)
    return blobs, trails.blobs() | trails.packages() | listed(state), trails


def _bytes(blobs: list[BlobInfo]) -> int:
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
