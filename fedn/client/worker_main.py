"""The worker: a process that stays up between rounds and runs one package's Python functions.

`warm` starts it through `boot`, in the package's own environment if it has one, and gives it orders on a
socket; models and updates are files. What the package prints goes where its keeper puts it.
"""

from __future__ import annotations

import logging
import mmap
import os
import resource
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedn import logs
from fedn.client import faults
from fedn.client.package_app import CALLED, PackageApp
from fedn.client.pipe import Pipe
from fedn.client.trainer import AppTrainer
from fedn.domain.errors import FednError
from fedn.domain.ids import ClientId, Digest, SessionId
from fedn.domain.messages import Task, TaskKind
from fedn.packages.manifest import manifest_from

_log = logging.getLogger(__name__)
SEED = "seed"
"""The order that is no task: make a model to start from."""


def main() -> None:
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)  # what the user's code starts has no business with it
    pipe = Pipe(end)
    logs.configure("package")
    with suppress(OSError):  # the client has gone
        if (order := pipe.receive()) is None:
            return
        trainer, answer = _started(order)
        pipe.send(answer)
        while trainer is not None and (order := pipe.receive()) is not None:
            pipe.send(_answer(trainer, order))


def _started(order: Mapping[str, Any]) -> tuple[AppTrainer | None, dict[str, Any]]:
    share = bool(order["share_errors"])
    try:
        app = PackageApp(manifest_from(order["manifest"]), Path(order["folder"]), order["data"], share)
        client, output = ClientId(order["client"]), Path(order["output"])
        trainer = AppTrainer(app, client, order["hyperparameters"], share, output, CALLED)
    except FednError as error:
        return None, {"error": faults.as_json(error)}
    return trainer, {"pid": os.getpid()}


def _answer(trainer: AppTrainer, order: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"done": _done(trainer, order), "memory": _resident()}
    except FednError as error:
        return {"error": faults.as_json(error), "memory": _resident()}
    except Exception as error:  # no memory, no room on the disk
        _log.exception("%s failed", order["do"])
        return {"error": faults.as_json(faults.raised(CALLED, error, share=False)), "memory": _resident()}
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the user's code may have put anything in its place
                stream.flush()


def _done(trainer: AppTrainer, order: Mapping[str, Any]) -> dict[str, Any]:
    task = _task(order)
    if order["do"] == SEED:
        Path(order["out"]).write_bytes(trainer.seed(task))
        return {}
    model = _mapped(Path(order["model"]))
    if task.kind is TaskKind.TRAIN:
        trained = trainer.train(model, task)
        Path(order["out"]).write_bytes(trained.file)
        return {"examples": trained.examples, "metrics": dict(trained.metrics)}
    examples, metrics = trainer.report(model, task)
    return {"examples": examples, "metrics": dict(metrics)}


def _task(order: Mapping[str, Any]) -> Task:
    kind = TaskKind.TRAIN if order["do"] == SEED else TaskKind(order["do"])
    session, model = SessionId(order["session"]), Digest(order["digest"])
    return Task(session, order["round"], kind, model, 0, order["config"], order["seed"])


def _mapped(path: Path) -> memoryview:
    """The file's bytes; whatever still looks at them keeps them."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _resident() -> int:
    """Bytes of memory that this process has now; where that is not told, the most that it ever had."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
