"""`fedn model`: seed, list, download."""

from __future__ import annotations

from pathlib import Path

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote


@click.group()
def model() -> None:
    """Seed, list and download models: safetensors files, known by their sha256.

    Example: fedn model seed seed.safetensors
    """


@model.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", default=None, help="What people call it; without it the file's name.")
@remote
def seed(file: Path, name: str | None, at: Where, as_json: bool) -> None:
    """Upload a safetensors file as the model that sessions start from.

    Its numbers must be finite. Prints its digest, by which every command knows it.

    \b
    Examples:
      fedn model seed seed.safetensors
      fedn model seed seed.safetensors --name digits --json
    """
    from fedn.cli.rest_client import connect
    from fedn.cli.transfers import upload

    with connect(at) as reducer:
        info = upload(reducer, file, file.stem if name is None else name, as_json)
    if as_json:
        screen.put_json(info)
    else:
        click.echo(info["digest"])
        screen.note(f"Start a session with `fedn session start --model {info['digest'][:12]}`.")


@model.command("list")
@remote
def listing(at: Where, as_json: bool) -> None:
    """List models, newest first.

    Example: fedn model list
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        answer = reducer.get("/models")
    if as_json:
        screen.put_json(answer)
        return
    rows = [
        (m["digest"][:16], screen.bytes_of(m["size"]), m["name"], m["origin"], screen.moment(m["created_at"]))
        for m in answer["models"]
    ]
    empty = "No model yet. Seed one with `fedn model seed FILE`."
    screen.table(("Model", "Size", "Name", "Origin", "Made"), rows, empty)


@model.command()
@click.argument("digest")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
              help="Where to put it; without it <digest>.safetensors here.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@remote
def download(digest: str, output: Path | None, force: bool, at: Where, as_json: bool) -> None:
    """Download a model and check its sha256. A download that broke off goes on where it was.

    DIGEST may be any beginning of it (eight letters, say) that no other model has.

    Example: fedn model download 3f2a -o digits.safetensors
    """
    from fedn.cli.rest_client import connect
    from fedn.cli.transfers import fetch

    with connect(at) as reducer:
        whole = reducer.model(digest)
        target = output or Path(f"{whole[:12]}.safetensors")
        size = fetch(reducer, whole, target, force, as_json)
    if as_json:
        screen.put_json({"digest": whole, "size": size, "file": str(target)})
    else:
        click.echo(f"{target}  {screen.bytes_of(size)}  sha256 {whole}")
