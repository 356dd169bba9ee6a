"""`fedn package`: from a folder of code to the archive that clients run, and to the reducer and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from fedn.cli import screen
from fedn.cli.options import Where, json_option, remote

if TYPE_CHECKING:
    from fedn.packages.manifest import Manifest
    from fedn.packages.members import Member
    from fedn.packages.packing import Source

CHUNK = 2**20
_FILE = click.Path(path_type=Path, dir_okay=False)
_ANY = click.Path(path_type=Path)
_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_FORCE = click.option("--force", is_flag=True, help="Replace the file if it is there.")


@click.group()
def package() -> None:
    """Create, check, upload and download compute packages: the code that clients run.

    A package is a folder with a fedn.yaml, which says what to run for train, validate and predict.
    As an archive it is known by its sha256, and a session runs exactly the one that its plan names.

    \b
    Example:
      fedn package init my-package
      fedn package upload my-package
      fedn session start --package my-package
    """


@package.command()
@_FOLDER
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Write a small package to start from: a fedn.yaml and an app.py that trains with numpy.

    \b
    Example:
      fedn package init my-package
      fedn run train --package my-package --data demo
    """
    from fedn.packages.starter import start_package

    files = [str(file) for file in start_package(folder)]
    if as_json:
        screen.put_json({"files": files})
        return
    for file in files:
        click.echo(file)
    screen.note(f"Change them, then `fedn package inspect {folder}` says what is wrong with it, if anything.")


@package.command()
@_FOLDER
@click.option("-o", "--output", type=_FILE, help="Where to put it; without it <name>.tar here.")
@_FORCE
@json_option
def create(folder: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Pack a folder into one archive. The same files give the same bytes, on every machine.

    A .fednignore in it says what is left out, in the way of a .gitignore; .git, .venv, __pycache__ and
    other leavings never go in. Links are refused: put the file itself there.

    \b
    Examples:
      fedn package create my-package
      fedn package create my-package -o build/my-package.tar --json
    """
    from fedn.cli.package_check import surveyed
    from fedn.domain.errors import InvalidInput

    found = surveyed(folder)
    target = output or Path(f"{found.manifest.name}.tar")
    if target.absolute().resolve().is_relative_to(folder.resolve()):
        raise InvalidInput("--output", f"{target} lies in the folder itself", "give -o another folder")
    with screen.transfer(as_json) as bar:
        digest = _write(target, _told(bar, f"packing {folder}", found.size, found.chunks()), force)
    _show(digest, found.size, found.manifest, found.files, as_json, file=str(target))


@package.command()
@click.argument("path", type=_ANY)
@json_option
def inspect(path: Path, as_json: bool) -> None:
    """Show what is in an archive or in a folder, having checked all of it. Nothing is unpacked or run.

    Its helper must be known here, and the functions that it names must be in its modules. The digest of a
    folder is that of the archive that it makes.

    Example: fedn package inspect my-package.tar
    """
    from fedn.cli.package_check import inspected, surveyed

    if path.is_dir():
        found = surveyed(path)
        digest = _hash(found.chunks())
        _show(digest, found.size, found.manifest, found.files, as_json)
    else:
        held = inspected(path)
        _show(held.digest, held.size, held.manifest, held.files, as_json)


@package.command()
@click.argument("file", type=_FILE)
@click.option("--digest", default="", metavar="DIGEST", help="The sha256 that it must have, all 64 letters.")
@json_option
def verify(file: Path, digest: str, as_json: bool) -> None:
    """Check an archive as every client does before it runs it; exit code 1 if the sha256 is another one.

    Example: fedn package verify my-package.tar --digest DIGEST
    """
    from fedn.domain.errors import Damaged
    from fedn.packages.archive import verify

    try:
        held = verify(file, digest)
    except Damaged as error:
        remedy = "get the file again, or compare with `fedn package list --json`, which digest you mean"
        raise Damaged(f"{error.message}; {remedy}", **error.details) from None
    if as_json:
        screen.put_json({"digest": held.digest, "size": held.size, "name": held.manifest.name, "ok": True})
    else:
        click.echo(f"{file} is a good package: {held.manifest.name}, sha256 {held.digest}")


@package.command()
@click.argument("path", type=_ANY)
@remote
def upload(path: Path, at: Where, as_json: bool) -> None:
    """Upload an archive, or a folder as one. It is checked before a byte travels. Prints its digest.

    The same package again changes nothing.

    \b
    Examples:
      fedn package upload my-package
      fedn package upload my-package.tar --json
    """
    from fedn.cli.rest_client import connect
    from fedn.domain.errors import Damaged

    size, chunks = _prepared(path)
    hashed = sha256()
    with connect(at) as reducer, screen.transfer(as_json) as bar:
        pieces = _told(bar, f"uploading {path.name or path}", size, _hashing(hashed, chunks))
        info = reducer.upload("/packages", pieces, size)
        listed = [] if as_json else reducer.get("/packages", limit=1000)["packages"]
    if info["digest"] != hashed.hexdigest():
        raise Damaged(f"the reducer has stored other bytes, with digest {info['digest']}; upload it again")
    if as_json:
        screen.put_json(info)
    else:
        click.echo(info["digest"])
        alone = [item["name"] for item in listed].count(info["name"]) == 1
        called = info["name"] if alone else info["digest"][:16]
        screen.note("Seed a model with `fedn model seed FILE`, or `fedn model seed --from app.py:build`.")
        screen.note(f"Then start a session with `fedn session start --package {called} --model …`.")


@package.command("list")
@remote
def listing(at: Where, as_json: bool) -> None:
    """List compute packages, newest first.

    Example: fedn package list
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        answer = reducer.get("/packages")
    if as_json:
        screen.put_json(answer)
        return
    rows = [
        (
            p["digest"][:16],
            p["name"],
            screen.bytes_of(p["size"]),
            screen.moment(p["created_at"]),
            p["description"],
        )
        for p in answer["packages"]
    ]
    empty = "No package yet. Upload one with `fedn package upload DIR`."
    screen.table(("Package", "Name", "Size", "Uploaded", "Description"), rows, empty)


@package.command()
@click.argument("digest", metavar="PACKAGE")
@remote
def show(digest: str, at: Where, as_json: bool) -> None:
    """Show a package that the reducer has: what it can do, what it requires, and who runs it.

    PACKAGE is any beginning or end of its digest that no other has, or its name: the newest of that name.

    Example: fedn package show mnist-keras
    """
    from fedn.cli.rest_client import connect
    from fedn.packages.manifest import manifest_from

    with connect(at) as reducer:
        info = reducer.get(f"/packages/{reducer.package(digest)}/info")
    if as_json:
        screen.put_json(info)
    else:
        more = {"uploaded": screen.moment(info["created_at"])}
        if sessions := [f"{one['name'] or one['session']} ({one['state']})" for one in info["sessions"]]:
            more["sessions"] = ", ".join(sessions[:10]) + (", …" if len(sessions) > 10 else "")
        _pairs(info["digest"], info["size"], manifest_from(info["manifest"]), more)


@package.command()
@click.argument("digest", metavar="PACKAGE")
@click.argument("path", metavar="[FILE]", required=False)
@remote
def files(digest: str, path: str | None, at: Where, as_json: bool) -> None:
    """List the files in a package that the reducer has, or print the text of one.

    PACKAGE is any beginning or end of its digest that no other has, or its name: the newest of that name.

    \b
    Examples:
      fedn package files mnist-keras
      fedn package files mnist-keras app.py
    """
    from fedn.cli.rest_client import connect
    from fedn.packages.paths import check_path

    if path is not None:
        check_path(path)  # it becomes one of an address
    with connect(at) as reducer:
        whole = reducer.package(digest)
        if path is not None:
            with reducer.stream(f"/packages/{whole}/files/{quote(path)}", {}) as answer:
                text = answer.read().decode()
        else:
            told = reducer.get(f"/packages/{whole}/files")
    if path is None:
        rows = [(one["path"], screen.bytes_of(one["size"])) for one in told["files"]]
        screen.put_json(told) if as_json else screen.table(("File", "Size"), rows, "")
    elif as_json:
        screen.put_json({"digest": whole, "path": path, "text": text})
    else:
        lines = text.replace("\r\n", "\n").split("\t")
        click.echo("\t".join(map(screen.clean, lines)), nl=False)


@package.command()
@click.argument("digest", metavar="PACKAGE")
@click.option("-o", "--output", type=_FILE, help="Where to put it; without it <digest>.tar here.")
@_FORCE
@remote
def download(digest: str, output: Path | None, force: bool, at: Where, as_json: bool) -> None:
    """Download a package's archive and check its sha256. A download that broke off goes on where it was.

    PACKAGE is any beginning or end of its digest that no other has, or its name: the newest of that name.

    Example: fedn package download 3f2a -o my-package.tar
    """
    from fedn.cli.rest_client import connect
    from fedn.cli.transfers import fetch

    with connect(at) as reducer:
        whole = reducer.package(digest)
        target = output or Path(f"{whole[:12]}.tar")
        size = fetch(reducer, whole, target, force, as_json)
    if as_json:
        screen.put_json({"digest": whole, "size": size, "file": str(target)})
    else:
        click.echo(f"{target}  {screen.bytes_of(size)}  sha256 {whole}")


# --- pieces ----------------------------------------------------------------------------------------


def _prepared(path: Path) -> tuple[int, Iterator[bytes]]:
    """Size and bytes of an archive that is good; raises InvalidInput otherwise."""
    from fedn.cli.package_check import inspected, surveyed

    if path.is_dir():
        found = surveyed(path)
        return found.size, found.chunks()
    return inspected(path).size, _pieces(path)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while piece := source.read(CHUNK):
            yield piece


def _hash(chunks: Iterable[bytes]) -> str:
    hashed = sha256()
    for _ in _hashing(hashed, chunks):
        pass
    return hashed.hexdigest()


def _hashing(hashed: Any, chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        hashed.update(chunk)
        yield chunk


def _told(bar: Any, what: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks, while the bar shows how far they are."""
    task = bar.add_task(what, total=size)
    for chunk in chunks:
        yield chunk
        bar.advance(task, len(chunk))


def _write(target: Path, chunks: Iterable[bytes], force: bool) -> str:
    """Write a file aside and give it its name when it is whole; its sha256."""
    from fedn.domain.errors import InvalidInput

    if target.exists() and not force:
        raise InvalidInput(str(target), "is there already", "give another name with -o, or --force")
    part, hashed = target.with_name(f".{target.name}.part"), sha256()
    try:
        with part.open("wb") as file:
            for chunk in _hashing(hashed, chunks):
                file.write(chunk)
        part.replace(target)
    except OSError as error:
        raise InvalidInput(str(target), f"can't be written ({error.strerror})", "check the path") from None
    finally:
        part.unlink(missing_ok=True)
    return hashed.hexdigest()


def _show(
    digest: str, size: int, manifest: Manifest, files: Iterable[Source | Member], as_json: bool, **more: str
) -> None:
    rows: list[dict[str, Any]] = [{"path": f.path, "size": f.size, "executable": f.executable} for f in files]
    if as_json:
        screen.put_json(
            {"digest": digest, "size": size, **more, "manifest": manifest.as_dict(), "files": rows}
        )
        return
    _pairs(digest, size, manifest, more)
    screen.table(("File", "Size"), [(row["path"], screen.bytes_of(row["size"])) for row in rows], "")


def _pairs(digest: str, size: int, manifest: Manifest, more: Mapping[str, str]) -> None:
    points = {name: point.target for name, point in manifest.entry_points.items()}
    values = {"description": manifest.description, "helper": manifest.helper, **points,
              "hyperparameters": _values(manifest.hyperparameters.items()),
              "requirements": ", ".join(manifest.requirements),
              "timeout": f"{manifest.timeout:g} s" if manifest.timeout else ""}  # fmt: skip
    shown = {name: " ".join(value.split()) for name, value in values.items() if value}
    screen.pairs({"name": manifest.name, "digest": digest, "size": screen.bytes_of(size), **more, **shown})


def _values(items: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{name}={value}" for name, value in items)
