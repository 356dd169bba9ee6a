"""`fedn data`: take a data set apart for simulated clients, and show what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import json_option
from fedn.domain.errors import InvalidInput

if TYPE_CHECKING:
    from fedn.aggregation.dtypes import Array
    from fedn.sdk.data.checks import IntArray
    from fedn.sdk.data.folder import Split
    from fedn.sdk.data.source import Source

SCHEMES = ("even", "contiguous", "dirichlet", "by_label", "by_key")
FOLDER = click.Path(path_type=Path, file_okay=False)
PNG = click.Path(path_type=Path, dir_okay=False)
WIDE = 20
"""Labels that have a column of their own."""


@click.group()
def data() -> None:
    """Split a data set among simulated clients, and show how. For simulation: real data stays where it is.

    \b
    Examples:
      fedn data split digits.npz --clients 5 --out parts
      fedn data split digits.npz --clients 5 --scheme dirichlet --alpha 0.3 --out parts --plot parts.png
      fedn data show parts
    """


@data.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--clients", type=int, default=None, help="How many; by_key makes one per key without it.")
@click.option("--out", type=FOLDER, required=True, help="Folder for client-1.npz … and partition.json.")
@click.option("--scheme", type=click.Choice(SCHEMES), default="even", show_default=True,
              help="Who gets what; see above.")  # fmt: skip
@click.option("--label", metavar="NAME", default=None,
              help="Array or column of labels; without it y, if there is one.")  # fmt: skip
@click.option("--alpha", type=float, default=None,
              help="For dirichlet: smaller is more uneven.  [default: 0.5]")  # fmt: skip
@click.option("--labels-per-client", type=int, default=None, help="For by_label.  [default: 2]")
@click.option("--key", metavar="NAME", default=None,
              help="For by_key: array or column, such as a site; equal values stay together.")  # fmt: skip
@click.option(
    "--sizes", metavar="LIST", default=None, help="Uneven shares, one for each client, such as 3,1,1."
)
@click.option("--min-examples", type=int, default=1, show_default=True, help="No client has fewer.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same files.")
@click.option("--array", "only", metavar="NAME", multiple=True,
              help="Take only this array or column, and label and key; repeatable.")  # fmt: skip
@click.option("--subset", type=click.Choice(["train", "test"]), default="train", show_default=True,
              help="Which half of a folder of idx files.")  # fmt: skip
@click.option("--plot", type=PNG, default=None, help="Draw the outcome into this PNG file.")
@click.option("--force", is_flag=True, help="Replace an earlier split in the folder, and the PNG file.")
@json_option
def split(source: Path, out: Path, plot: Path | None, force: bool, as_json: bool, **asked: Any) -> None:
    """Write a data set as one npz file for each simulated client. Every example goes to exactly one.

    SOURCE is an .npz file of arrays of equal length, a folder with the idx files of MNIST (or of a set in
    its form), or a .csv file with a header row: its label column becomes the array y, its key column key,
    and the other columns, which must be numbers, together x.

    \b
    Schemes:
      even        at random, in equal shares or those of --sizes
      contiguous  in the order of the file
      dirichlet   each label in proportions drawn from Dirichlet(alpha): uneven in size and mix
      by_label    a few labels for each client
      by_key      what has the same key stays together

    \b
    Examples:
      fedn data split digits.npz --clients 5 --out parts
      fedn data split digits.npz --clients 5 --scheme dirichlet --alpha 0.3 --seed 1 --out parts --plot p.png
      fedn data split mnist/ --clients 10 --scheme by_label --labels-per-client 2 --out parts
      fedn data split mnist.npz --array x_train --label y_train --clients 3 --sizes 3,1,1 --out parts
      fedn data split patients.csv --scheme by_key --key hospital --label outcome --out parts --json
    """
    from fedn.sdk.data.folder import write_split

    options = _options(asked)
    _check_plot(plot, force)
    _check_room(out, force)
    with screen.transfer(as_json) as bar:
        reading = bar.add_task(f"reading {screen.clean(source.name)}", total=None)
        found = _read(source, asked, lambda length: bar.advance(reading, length))
        total = sum(array.nbytes for array in found.arrays.values())
        bar.update(reading, total=total, completed=total)
        parts, made = _deal(found, source, options)
        writing = bar.add_task(f"writing {screen.counted(len(parts), 'client')}", total=total)
        write_split(out, found.arrays, parts, made, lambda length: bar.advance(writing, length))
    if plot:
        _draw(made, plot)
    _show(made, out, as_json)


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("--plot", type=PNG, default=None, help="Draw it into this PNG file.")
@click.option("--force", is_flag=True, help="Replace the PNG file if it is there.")
@json_option
def show(folder: Path, plot: Path | None, force: bool, as_json: bool) -> None:
    """Show how a folder was split: each client's examples, by label.

    \b
    Examples:
      fedn data show parts
      fedn data show parts --plot parts.png
    """
    from fedn.sdk.data.folder import read_split

    _check_plot(plot, force)
    made = read_split(folder)
    if plot:
        _draw(made, plot)
    _show(made, folder, as_json)


# --- what is asked ---------------------------------------------------------------------------------


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    """What `partition` is to be told. Raises InvalidInput for what does not go together."""
    scheme = asked["scheme"]
    options = {name: asked[name] for name in ("clients", "scheme", "label", "seed", "min_examples")}
    for name, goes_with, default in (
        ("alpha", "dirichlet", 0.5),
        ("labels_per_client", "by_label", 2),
        ("key", "by_key", None),
    ):
        if scheme == goes_with:
            options[name] = default if asked[name] is None else asked[name]
        elif asked[name] is not None:
            flag = "--" + name.replace("_", "-")
            raise InvalidInput(
                flag, f"does not go with {scheme}", f"leave it out, or add --scheme {goes_with}"
            )
    if scheme == "by_key" and options["key"] is None:
        raise InvalidInput("--key", "is missing; by_key needs it", "name an array or a column")
    if asked["sizes"] is not None:
        options["sizes"] = _numbers(asked["sizes"])
    return options


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise InvalidInput("--sizes", f"'{text}' is no list of numbers", "give such as 3,1,1") from None


def _check_plot(plot: Path | None, force: bool) -> None:
    from fedn.sdk.data.picture import check_plot

    if plot is None:
        return
    check_plot(plot)
    if plot.exists() and not force:
        raise InvalidInput(str(plot), "is there already", "give another name, or --force")


def _check_room(out: Path, force: bool) -> None:
    from fedn.sdk.data.folder import check_room

    try:
        check_room(out, force)
    except InvalidInput as error:
        remedy = "give another folder, or --force, which replaces an earlier split and leaves other files"
        raise InvalidInput(f"--out {out}", str(error.details["problem"]), remedy) from None


# --- what is done ----------------------------------------------------------------------------------


def _read(path: Path, asked: dict[str, Any], advance: Any) -> Source:
    from fedn.sdk.data.source import Wanted, read_source

    return read_source(path, Wanted(asked["label"], asked["key"], asked["only"], asked["subset"]), advance)


def _deal(found: Source, path: Path, options: dict[str, Any]) -> tuple[list[IntArray], Split]:
    """The parts, and what is to be told of them."""
    import numpy as np

    from fedn.sdk.data.counts import distribution
    from fedn.sdk.data.dealing import partition
    from fedn.sdk.data.folder import ALL, Split

    labels = _labels(found, options["scheme"])
    asked = {name: value for name, value in options.items() if name not in ("key", "label")}
    keys = found.arrays[found.key] if found.key else None
    parts = partition(found.examples if labels is None else labels, key=keys, **asked)
    counted = distribution(np.full(found.examples, ALL) if labels is None else labels, parts)
    arrays = {
        name: {"dtype": str(array.dtype), "shape": ["examples", *array.shape[1:]]}
        for name, array in found.arrays.items()
    }
    columns = {"columns": list(found.columns)} if found.columns else {}
    how = {"source": path.name, **options, "label": options["label"] or found.label, "arrays": arrays}
    del how["clients"]  # told one by one
    return parts, Split(how | columns, counted, labelled=labels is not None)


def _labels(found: Source, scheme: str) -> Array | None:
    """The labels, if the scheme needs them or they can be counted. Raises InvalidInput."""
    from fedn.sdk.data.checks import looks_like_classes

    needed = scheme in ("dirichlet", "by_label")
    if found.label:
        labels = found.arrays[found.label]
        return labels if needed or looks_like_classes(labels) else None
    if needed:
        remedy = f"name one of {', '.join([*found.columns, *found.arrays][:20])}"
        raise InvalidInput("--label", f"is missing; {scheme} needs it", remedy)
    return None


def _draw(made: Split, plot: Path) -> None:
    from fedn.sdk.data.picture import draw

    draw(made.counted, plot, _title(made))


def _title(made: Split) -> str:
    told = [f"{name} {made.how[name]}" for name in ("alpha", "labels_per_client", "key") if name in made.how]
    return f"{made.how.get('source')}: {', '.join([str(made.how.get('scheme')), *told])}".replace("_", " ")


# --- what is shown ---------------------------------------------------------------------------------


def _show(made: Split, folder: Path, as_json: bool) -> None:
    if as_json:
        screen.put_json({"folder": str(folder), **made.as_dict()})
        return
    _table(made)
    screen.note(f"{_title(made)}, seed {made.how.get('seed')}, in {folder}/. {made.as_dict()['note']}")


def _table(made: Split) -> None:
    from fedn.sdk.data.folder import file_of

    counted = made.counted
    files = [file_of(number) for number in range(1, len(counted.counts) + 1)]
    rows: Iterable[Sequence[Any]] = zip(files, counted.sizes, strict=True)
    columns = ["File", "Examples"]
    if made.labelled and len(counted.labels) <= WIDE:
        columns += counted.labels
        rows = [(file, size, *row) for (file, size), row in zip(rows, counted.counts, strict=True)]
    elif made.labelled:
        columns += ["Labels", "Most of"]
        most = [max(row, key=row.__getitem__, default="") for row in counted.by_label()]
        kinds = (counted.counts > 0).sum(axis=1)
        rows = [(file, size, *more) for (file, size), *more in zip(rows, kinds, most, strict=True)]
    screen.table(columns, rows, "")
