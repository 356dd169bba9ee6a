"""Models between a file here and the reducer, with a bar; `fedn.sdk.transfers` carries the bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedn.cli import screen
from fedn.client.apps import find
from fedn.domain.errors import InvalidInput, LinkBroken
from fedn.reducer.exporting import Format, write_as
from fedn.sdk import transfers
from fedn.sdk.seeds import Source, gathered

if TYPE_CHECKING:
    from rich.progress import Progress

    from fedn.cli.rest_client import Reducer


def upload(reducer: Reducer, source: Source, name: str | None, as_json: bool) -> Any:
    """Seed a model from wherever it is; a header that is wrong is found before a byte travels.

    Raises InvalidModel, and what `fedn.sdk.seeds.gathered` does.
    """
    if isinstance(source, str) and "://" not in source:
        raise InvalidInput("--url", "is not an address", "give http://… or https://…")
    with screen.transfer(as_json) as bar, gathered(source, told=_told(bar, "downloading")) as found:
        called = found.name if name is None else name
        sent = _told(bar, f"seeding {called}")
        return transfers.upload(reducer, found.file, found.size, found.where, called, sent)


def made_by(target: str) -> Callable[[], Any]:
    """The function that ``--from`` names, to be called when the model is wanted."""
    function = find(target, "--from")

    def made() -> Any:
        try:
            return function()
        except Exception as error:  # the user's code may raise anything
            problem = f"{target} raised {type(error).__name__}: {error}"
            raise InvalidInput("--from", problem, "give a function without parameters that works") from error

    made.__name__ = target.rpartition(":")[2]
    return made


def _told(bar: Progress, what: str) -> transfers.Told:
    """A bar that is seen from its first byte on."""
    task = bar.add_task(what, total=None, visible=False)
    return lambda done, total: bar.update(task, completed=done, total=total or None, visible=True)


def fetch(reducer: Reducer, digest: str, target: Path, force: bool, as_json: bool) -> int:
    """Download a blob; returns its size. What came before a break is gone on with the next time."""
    if target.exists() and not force:
        raise _is_there(target)
    try:
        with screen.transfer(as_json) as bar:
            return transfers.fetch(reducer, digest, target, _told(bar, f"downloading {digest[:12]}"))
    except LinkBroken:
        if transfers.part_of(target, digest).exists():
            screen.note("What came so far is kept; the same command goes on from there.")
        raise


def fetch_as(wanted: Format, reducer: Reducer, digest: str, target: Path, force: bool, as_json: bool) -> int:
    """As `fetch`, in another form that is made here, so that what is made of is checked; returns its size."""
    if wanted.format == "safetensors":
        return fetch(reducer, digest, target, force, as_json)
    if target.exists() and not force:
        raise _is_there(target)
    raw = target.with_name(f".{target.name}.safetensors")
    aside = target.with_name(f".{target.name}.part")
    fetch(reducer, digest, raw, True, as_json)
    try:
        with raw.open("rb") as source, aside.open("wb") as made:
            write_as(wanted, source, made)
        size = aside.stat().st_size
        aside.replace(target)
        return size
    except OSError as error:
        raise InvalidInput(str(target), f"can't be written ({error.strerror})", "check the path") from None
    finally:
        raw.unlink(missing_ok=True)
        aside.unlink(missing_ok=True)


def _is_there(target: Path) -> InvalidInput:
    return InvalidInput(str(target), "is there already", "give another name with -o, or --force")
