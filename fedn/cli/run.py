"""`fedn run`: a compute package on this machine, by the very code with which a client runs it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import json_option, load_settings, planned, read_config

if TYPE_CHECKING:
    from fedn.client.packages import PackageTrainer
    from fedn.domain.messages import Task
    from fedn.ports import Observed

CLIENT, SESSION = "local", "local"
SEED = "seed.safetensors"
SHOWN_BYTES = 4096
"""Of the package's output, after a failure."""


@click.group()
def run() -> None:
    """Run a compute package here, without a network, exactly as a client would.

    \b
    Example:
      fedn run train --package my-package --data data.npz --model seed.safetensors
    """


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    file = click.Path(path_type=Path, dir_okay=False)
    for option in (
        click.option("--confinement", type=click.Choice(["required", "available", "none"]), default=None,
                     help="Whether the package is kept to its folders; with none it may do what you may."),
        click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("fedn-run"),
                     show_default=True, metavar="DIR", help="Folder for what comes of it; made if missing."),
        click.option("--measure-before-fit", is_flag=True, default=None,
                     help="Plan field: also validate the model before it is trained."),
        click.option("--proximal-mu", type=float, default=None, help="Plan field: strength of FedProx."),
        click.option("--seed", type=int, default=None, help="Plan field: source of every random choice."),
        click.option("--config", multiple=True, metavar="NAME=VALUE",
                     help="Hyperparameter, as in a plan. Repeatable."),
        click.option("--plan", "plan_file", type=file, metavar="FILE",
                     help="YAML file of plan fields, as of `fedn session start`; flags beat it."),
        click.option("--model", type=file, metavar="FILE",
                     help="Model in safetensors; without one the package's build makes it."),
        click.option("--data", required=True, metavar="TEXT", help="Your data, as a client's --data."),
        click.option("--package", required=True, type=click.Path(path_type=Path), metavar="DIR|FILE",
                     help="Folder of the package, or its archive."),
    ):  # fmt: skip
        command = option(command)
    return json_option(command)


@run.command()
@_options
def train(**given: Any) -> None:
    """Train a model once; writes update.safetensors and metrics.json.

    Example: fedn run train --package my-package --data data.npz --model seed.safetensors --config epochs=1
    """
    _run("train", **given)


@run.command()
@_options
def validate(**given: Any) -> None:
    """Validate a model; writes metrics.json.

    Example: fedn run validate --package my-package --data data.npz --model fedn-run/update.safetensors
    """
    _run("validate", **given)


@run.command()
@_options
def check(**given: Any) -> None:
    """Check that data, package and model go together, as clients do before the first round.

    Example: fedn run check --package my-package --data data.npz --model seed.safetensors
    """
    _run("check", **given)


@run.command()
@_options
def predict(**given: Any) -> None:
    """Have the package write its predictions, below the folder of --out.

    Example: fedn run predict --package my-package --data data.npz --model model.safetensors
    """
    _run("predict", **given)


def _run(
    kind: str,
    package: Path,
    data: str,
    model: Path | None,
    out: Path,
    confinement: str | None,
    as_json: bool,
    **plan: Any,
) -> None:
    from fedn import logs
    from fedn.client import confine
    from fedn.client.app import package_trainer
    from fedn.config import ClientSettings
    from fedn.domain.ids import ClientId, digest_of
    from fedn.stores.disk import make_directory

    logs.configure("run", "warning")
    confine.hide()  # from what the package starts: there may be tokens in the environment
    _check_data(data)
    flags = {"data": data, "confinement": confinement}
    settings = load_settings(ClientSettings, None, flags)
    archive = _archive(package)
    task = _task(kind, archive, plan)
    make_directory(out.absolute())
    with TemporaryDirectory(prefix="fedn-run-") as home, _output(out):
        trainer = package_trainer(
            settings, ClientId(CLIENT), Path(home), out / "predictions", _Notes(as_json)
        )
        try:
            base = _model(model, trainer, task, archive, out)
            task = replace(task, model=digest_of(base), model_size=len(base))
            found = _found(trainer, task, archive, base, out)
            found |= {} if model else {"seed": str(out / SEED)}
        finally:
            trainer.close()
            _keep_log(trainer.log(task.package), out)
    (out / "metrics.json").write_text(json.dumps(found) + "\n")
    if as_json:
        screen.put_json(found)
    else:
        screen.pairs({name: _shown(value) for name, value in found.items() if value != {}})
        if kind == "validate" and found["examples"] == 1:
            screen.note("It counts as 1 example: return (examples, metrics) to weight it.")


def _check_data(data: str) -> None:
    """Refuse a path that is not there. What may be a name, such as group/set, is left to the package."""
    from fedn.client.confinement import is_missing
    from fedn.domain.errors import InvalidInput

    path = Path(data)
    if is_missing(data) and (data[0] in "/.~" or path.suffix or Path(path.parts[0]).is_dir()):
        raise InvalidInput("data", f"there is nothing at {data}", "check --data")


def _found(
    trainer: PackageTrainer, task: Task, archive: memoryview, base: memoryview, out: Path
) -> dict[str, Any]:
    from fedn.client.predictions import place
    from fedn.domain.messages import TaskKind

    began = time.monotonic()
    written = {}
    if task.kind is TaskKind.TRAIN:
        trained = trainer.train(base, task, archive)
        examples, metrics = trained.examples, trained.metrics
        update = out / "update.safetensors"
        update.write_bytes(trained.file)
        written = {"update": str(update)}
    else:
        examples, metrics = trainer.report(base, task, archive)
    if task.kind is TaskKind.PREDICT:
        written = {"predictions": str(place(out / "predictions", task))}
    seconds = round(time.monotonic() - began, 3)
    about = {"task": str(task.kind), "package": task.package, "examples": examples, "metrics": dict(metrics)}
    return {**about, "seconds": seconds, **written}


def _archive(package: Path) -> memoryview:
    from fedn.domain.errors import InvalidInput
    from fedn.packages.archive import pack
    from fedn.packages.members import MAX_BYTES

    if package.is_dir():
        return memoryview(b"".join(pack(package)))
    try:
        with package.open("rb") as file:
            return memoryview(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise InvalidInput("--package", f"{package} can't be read ({error.strerror})", "check it") from None


def _task(kind: str, archive: memoryview, plan: Mapping[str, Any]) -> Task:
    """The task that a session with this plan would send in its first round."""
    from fedn.domain.ids import Digest, SessionId, digest_of
    from fedn.domain.messages import Task, TaskKind
    from fedn.domain.plan import plan_from

    given = {name: value for name, value in plan.items() if value is not None}
    file = given.pop("plan_file", None)
    values = planned(file, {**given, "config": read_config(plan["config"])})
    checked = plan_from({**values, "package": digest_of(archive)})
    config = json.dumps(checked.config_at(1))
    return Task(
        SessionId(SESSION), 1, TaskKind(kind), Digest(""), 0, config, checked.seed,
        package=checked.package, package_size=len(archive),
    )  # fmt: skip


def _model(
    file: Path | None, trainer: PackageTrainer, task: Task, archive: memoryview, out: Path
) -> memoryview:
    from fedn.domain.errors import InvalidInput

    if file is None:
        made = trainer.seed(task, archive)
        (out / SEED).write_bytes(made)
        return memoryview(made)
    try:
        return memoryview(file.read_bytes())
    except OSError as error:
        raise InvalidInput("--model", f"{file} can't be read ({error.strerror})", "check it") from None


def _keep_log(log: Path, out: Path) -> None:
    from fedn.client.output import KEPT_BYTES, tail

    (out / "output.log").write_text(tail(log, KEPT_BYTES))


@contextmanager
def _output(out: Path) -> Iterator[None]:
    """After a failure, what the package printed; what a client would keep in its log is in a file here."""
    from fedn.client.faults import LOCAL
    from fedn.client.output import tail
    from fedn.client.package_logs import BEGINS
    from fedn.domain.errors import InvalidInput

    log = out / "output.log"
    log.unlink(missing_ok=True)  # of the run before
    try:
        yield
    except Exception as error:
        said = tail(log, SHOWN_BYTES).strip()
        if any(not line.startswith(BEGINS) for line in said.splitlines()):
            screen.note(f"{said}\n(all of it is in {log})")
        if isinstance(error, InvalidInput) and error.details.get("remedy") == LOCAL:
            field, problem = str(error.details["field"]), str(error.details["problem"])
            raise InvalidInput(field, problem, f"see the traceback in {log}") from error
        raise


def _shown(value: object) -> object:
    return screen.metrics_text(value) if isinstance(value, dict) else value


class _Notes:
    """Implements ports.Observer: what takes long is said on stderr."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def observe(self, observed: Observed) -> None:
        fields = observed.fields
        if self._quiet:
            return
        if observed.event == "worker_started":
            screen.note(f"The package's worker was up after {fields['seconds']:.1f} s.")
        elif observed.event == "environment":
            screen.note(str(fields["reason"]))
