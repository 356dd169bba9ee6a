"""Entry points that are commands, in any language: files and variables in, files out, a process a task.

The command runs in the package's folder, which it can't change; it writes to its HOME, which is gone after
the task. What it printed is in the package's log; how it ended decides whether what it wrote counts.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedn.client.hyperparameters import Values
from fedn.client.process import Ended, Process, Spec, Stop
from fedn.client.results import Report, examples_of, metrics_of
from fedn.client.written import read_written
from fedn.domain.errors import InvalidInput
from fedn.domain.messages import Task, TaskKind

SHELL = "/bin/sh"
MAX_METRICS_BYTES = 64 * 2**10
_PLACEHOLDER = re.compile(r"<(\w+)>")
SEE = "see its output on this client"


@dataclass(frozen=True, slots=True)
class Files:
    """Where a task's files are, below the folder ``work``."""

    work: Path

    @property
    def model_in(self) -> Path:
        return self.work / "model.safetensors"

    @property
    def model_out(self) -> Path:
        return self.work / "update.safetensors"

    @property
    def metrics_out(self) -> Path:
        return self.work / "update.safetensors.json"

    @property
    def config(self) -> Path:
        return self.work / "config.json"

    @property
    def output(self) -> Path:
        return self.work / "output"

    def placeholders(self, data: str) -> dict[str, str]:
        """What stands for each <…> in a command."""
        paths = ("model_in", "model_out", "metrics_out", "config", "output")
        return {"data": data, **{name: str(getattr(self, name)) for name in paths}}


def filled(command: str, values: Mapping[str, str]) -> str:
    """The command with its placeholders replaced, each as one word of the shell."""
    return _PLACEHOLDER.sub(lambda found: shlex.quote(values[found[1]]), command)


def variables(
    task: Task, client: str, package: Path, config: Values, values: Mapping[str, str]
) -> dict[str, str]:
    """What a command finds in its environment as FEDN_…: the placeholders, the task, the hyperparameters."""
    about = {
        "round": str(task.round), "seed": str(config["seed"]), "client": client, "session": task.session,
        "package_dir": str(package),
    }  # fmt: skip
    each = {f"config_{name}": _text(value) for name, value in config.items()}
    return {f"FEDN_{name.upper()}": text for name, text in {**values, **about, **each}.items()}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def run(spec: Spec, what: str, stop: Stop, seconds: float) -> None:
    """Run a command to its end.

    Raises:
        InvalidInput: it failed, took longer than ``seconds``, or was cancelled. Nothing of it is left then.
    """
    with Process(spec) as process, stop.watching(process):
        ended = process.wait(seconds)
    if ended is None:
        raise InvalidInput(what, f"took longer than {seconds:g} s, and was stopped")
    if ended != Ended("ended", 0):
        raise InvalidInput(what, ended.words, SEE)


def metrics_written(what: str, path: Path, kind: TaskKind) -> Report:
    """(examples, metrics) that a command wrote; only a prediction may do without.

    Raises InvalidInput.
    """
    example = 'write JSON such as {"examples": 120, "metrics": {"loss": 0.3}}'
    remedy = f"{example} to <metrics_out>"
    if kind is TaskKind.PREDICT and not path.exists():
        return 0, {}
    try:
        told: Any = json.loads(read_written(what, path, MAX_METRICS_BYTES, remedy))
    except (ValueError, RecursionError):
        raise InvalidInput(what, "wrote metrics that are not JSON", remedy) from None
    if not isinstance(told, dict) or "examples" not in told or told.keys() - {"examples", "metrics"}:
        raise InvalidInput(what, "wrote metrics of another form", remedy)
    return examples_of(what, told["examples"]), metrics_of(what, told.get("metrics", {}))
