"""`fedn model`: seed, list, download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote

if TYPE_CHECKING:
    from fedn.cli.rest_client import Reducer


@click.group()
def model() -> None:
    """Seed, list and download models: safetensors files, known by their sha256.

    Example: fedn model seed seed.safetensors
    """


@model.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--url", "address", metavar="URL", help="The http:// or https:// address of a file instead.")
@click.option("--from", "target", metavar="MODULE:FUNCTION",
              help="A function that returns a model instead: module:name or file.py:name.")  # fmt: skip
@click.option("--name", default=None, help="What people call it; else the file's or the function's name.")
@remote
def seed(
    file: Path | None, address: str | None, target: str | None, name: str | None, at: Where, as_json: bool
) -> None:
    """Upload a model that sessions start from: a safetensors file, or what a function of yours returns.

    That may be a Keras, PyTorch or scikit-learn model, a dict of arrays, or the path or address of a file.
    Its numbers must be finite. Prints its digest, by which every command knows it.

    \b
    Examples:
      fedn model seed seed.safetensors
      fedn model seed --from my_model.py:build --name mnist
      fedn model seed --url https://example.org/seed.safetensors --json
    """
    if sum(given is not None for given in (file, address, target)) != 1:
        raise click.UsageError("Give a FILE, --url or --from.")
    from fedn.cli.rest_client import connect
    from fedn.cli.transfers import made_by, upload

    with connect(at) as reducer:
        source = made_by(target) if target is not None else (file or address)
        info = upload(reducer, source, name, as_json)
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
@click.argument("digest", required=False)
@click.option(
    "--session", "session_id", metavar="SESSION", help="A model of this session instead: its newest, unless …"
)
@click.option("--round", "number", type=click.IntRange(min=0), help="… that of this round; 0 is the seed.")
@click.option("--best", is_flag=True, help="… that of the round which validated best.")
@click.option("--metric", default="", help="Validation metric that --best goes by; else the session's.")
@click.option("--direction", type=click.Choice(["max", "min"]), default=None,
              help="Whether a higher or a lower metric is better.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
              help="Where to put it; without it <digest>.safetensors here.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@remote
def download(
    digest: str | None, output: Path | None, force: bool, at: Where, as_json: bool, **of: Any
) -> None:
    """Download a model and check its sha256. A download that broke off goes on where it was.

    DIGEST may be any beginning or end of it (eight letters, say) that no other model has. The model of a
    round may also be named by --session and --round.

    \b
    Examples:
      fedn model download 3f2a -o digits.safetensors
      fedn model download --session SESSION --round 3
      fedn model download --session SESSION --best --metric loss --direction min
    """
    from fedn.cli.rest_client import connect
    from fedn.cli.transfers import fetch

    _check_which(digest, **of)
    with connect(at) as reducer:
        whole = reducer.model(digest) if digest is not None else _of_session(reducer, **of)
        target = output or Path(f"{whole[:12]}.safetensors")
        size = fetch(reducer, whole, target, force, as_json)
    if as_json:
        screen.put_json({"digest": whole, "size": size, "file": str(target)})
    else:
        click.echo(f"{target}  {screen.bytes_of(size)}  sha256 {whole}")


def _check_which(
    digest: str | None, session_id: str | None, number: int | None, best: bool, metric: str,
    direction: str | None,
) -> None:  # fmt: skip
    """Raises UsageError for what does not go together."""
    if (digest is None) == (session_id is None):
        raise click.UsageError("Give a DIGEST, or --session SESSION with --round N or --best.")
    if session_id is None and (number is not None or best):
        raise click.UsageError("--round and --best go with --session.")
    if number is not None and best:
        raise click.UsageError("Give --round or --best, not both.")
    if (metric or direction) and not best:
        raise click.UsageError("--metric and --direction go with --best.")


def _of_session(
    reducer: Reducer, session_id: str, number: int | None, best: bool, metric: str, direction: str | None
) -> str:
    """The digest of a session's model: of a round, the best, or the newest."""
    session = reducer.session(session_id)
    if best:
        remedy = "give --round, or --metric with one that there is"
        return reducer.best(session, remedy, metric=metric, direction=direction or "")
    if number is not None:
        return str(reducer.get(f"/sessions/{session}/rounds/{number}")["model"])
    return str(reducer.get(f"/sessions/{session}")["head"]["model"])
