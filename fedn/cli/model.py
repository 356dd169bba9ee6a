"""`fedn model`: seed, list, look into, compare, download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, json_option, remote

if TYPE_CHECKING:
    from fedn.cli.rest_client import Reducer

FORMATS = ("safetensors", "npz", "torch", "keras")
"""As in `fedn.reducer.exporting`, which is not imported for a help text."""


@click.group()
def model() -> None:
    """Seed, list, inspect, compare and download models: safetensors files, known by their sha256.

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
        if info.get("known"):
            screen.note("It was there already, and nothing is new.")
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
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def inspect(file: Path, as_json: bool) -> None:
    """Check a file as the reducer does before it is a seed, and show its tensors. Nothing is uploaded.

    Example: fedn model inspect seed.safetensors
    """
    from fedn.reducer.inspecting import check_file, described

    digest, layout = check_file(file)
    told = {"digest": digest} | described(layout)
    told |= {"contents": asdict(told["contents"]), "tensors": [asdict(one) for one in told["tensors"]]}
    if as_json:
        screen.put_json(told)
    else:
        _show({"digest": digest}, told)


@model.command()
@click.argument("digest", metavar="MODEL")
@remote
def show(digest: str, at: Where, as_json: bool) -> None:
    """Show a model's tensors, the round that made it, and the sessions before and after it.

    MODEL is any beginning or end of its digest that no other model has, or the name of a seed model.

    Example: fedn model show 3f2a
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        whole = reducer.model(digest)
        told = reducer.get(f"/models/{whole}/tensors")
        lineage = reducer.get(f"/models/{whole}/lineage", patient=True)
    if as_json:
        screen.put_json(told | {"lineage": lineage})
    else:
        _show({"digest": whole} | _lineage(lineage), told)


@model.command()
@click.argument("first", metavar="MODEL")
@click.argument("second", metavar="OTHER")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True,
              help="Tensors shown, those that changed most.")  # fmt: skip
@remote
def compare(first: str, second: str, limit: int, at: Where, as_json: bool) -> None:
    """Show how far two models lie apart, tensor by tensor: the norm of OTHER - MODEL.

    Each is any beginning or end of a digest that no other model has, or the name of a seed model.
    The last line is over the tensors of floats that both have in the same shape: what is averaged.

    Example: fedn model compare 3f2a 77c0
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        mine, other = reducer.model(first), reducer.model(second)
        told = reducer.get(f"/models/{mine}/compare/{other}", patient=True, limit=limit)
    if as_json:
        screen.put_json(told)
        return
    rows = [(one["name"], one["shape"], *_distance(one["distance"])) for one in told["tensors"]]
    rows.append(("all", "", *_distance(told["total"])))
    screen.table(("Tensor", "Shape", "L2", "Relative", "Largest"), rows, "")
    if told["left_out"]:
        screen.note(f"{told['left_out']} tensors that changed less are not shown; --limit shows more.")
    for key, words in (("only_first", f"Only in {mine[:12]}"), ("only_second", f"Only in {other[:12]}")):
        if told[key]:
            click.echo(f"{words}: {screen.clean(', '.join(told[key]))}")
    for one in told["unlike"]:
        click.echo(
            f"{screen.clean(one['name'])} is {one['shape']} in one, {one['other_shape']} in the other."
        )


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
              help="Where to put it; without it <digest>.safetensors (or .npz, .pt) here.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(FORMATS), default="safetensors", show_default=True,
              help="npz is for numpy, torch a state dict; keras says how to get there.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@remote
def download(
    digest: str | None, output: Path | None, form: str, force: bool, at: Where, as_json: bool, **of: Any
) -> None:
    """Download a model and check its sha256. A download that broke off goes on where it was.

    DIGEST may be any beginning or end of it (eight letters, say) that no other model has. The model of a
    round may also be named by --session and --round. Another --format is made here, from the checked bytes.

    \b
    Examples:
      fedn model download 3f2a -o digits.safetensors
      fedn model download --session SESSION --round 3 --format npz
      fedn model download --session SESSION --best --metric loss --direction min
    """
    from fedn.cli.rest_client import connect
    from fedn.cli.transfers import fetch_as
    from fedn.reducer.exporting import checked_format

    _check_which(digest, **of)
    wanted = checked_format(form)
    with connect(at) as reducer:
        whole = reducer.model(digest) if digest is not None else _of_session(reducer, **of)
        target = output or Path(f"{whole[:12]}{wanted.suffix}")
        size = fetch_as(wanted, reducer, whole, target, force, as_json)
    if as_json:
        screen.put_json({"digest": whole, "size": size, "file": str(target), "format": form})
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


# --- pieces ----------------------------------------------------------------------------------------


def _show(about: Mapping[str, str], told: Mapping[str, Any]) -> None:
    """What is known of a model, and its tensors."""
    contents = told["contents"]
    parameters = f"{contents['parameters']:,}"
    if contents["averaged"] != contents["parameters"]:
        parameters += f", of which rounds change {contents['averaged']:,}"
    screen.pairs({**about, "size": screen.bytes_of(contents["size"]), "parameters": parameters,
                  "layout": contents["layout"]})  # fmt: skip
    rows = [(t["name"], t["dtype"], t["shape"], f"{t['parameters']:,}") for t in told["tensors"]]
    screen.table(("Tensor", "Type", "Shape", "Parameters"), rows, "")
    if left := contents["count"] - len(rows):
        screen.note(f"{left} more tensors are not shown; the API gives them in pages.")


def _lineage(told: Mapping[str, Any]) -> dict[str, str]:
    """Where it is from and what came of it, in a line each."""
    made = [f"round {one['round']} of {one['name'] or one['session']}" for one in told["made"]]
    before = [f"{one['name'] or one['session']} (from {one['seed_name'] or one['seed'][:12]})"
              for one in told["ancestors"]]  # fmt: skip
    begun = [one["name"] or one["session"] for one in told["begun"]]
    lines = {
        "seed": [told["name"]] if told["name"] else [],
        "made by": made,
        "after": before,
        "start of": begun,
    }
    shown = {key: ", ".join(values[:10]) for key, values in lines.items() if values}
    return shown if told["complete"] else shown | {"note": "older sessions were not searched"}


def _distance(told: Mapping[str, Any]) -> tuple[str, str, str]:
    l2, relative, largest = (told[key] for key in ("l2", "relative", "largest"))
    return _number(l2), _number(relative), _number(largest)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
