"""Runs compute packages: what `trainer` is for an app, this is for packages that come with the tasks.

A package is unpacked once (`shelf`) and gets an environment of its own if it names requirements. Its Python
functions run in a worker that stays warm (`warm`), its commands in a process for each task (`commands`); both
are confined (`surroundings`) and answer by files (`written`).
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedn.client import commands, confine, confinement, warm
from fedn.client.commands import Files, metrics_written
from fedn.client.hyperparameters import Hyperparameters, resolve
from fedn.client.installing import Environments
from fedn.client.package_logs import PackageLogs
from fedn.client.predictions import place, publish
from fedn.client.process import Stop
from fedn.client.results import Report, examples_of, metrics_of, with_before
from fedn.client.rules import Places, Rules
from fedn.client.shelf import Shelf, Unpacked, empty_folder, remove
from fedn.client.surroundings import Surroundings
from fedn.client.trainer import no_validate
from fedn.client.turns import Turns
from fedn.client.unseen import Unseen
from fedn.client.worker_main import SEED
from fedn.client.written import hand_over, read_update, read_written
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import ClientId, Digest
from fedn.domain.messages import Task, TaskKind
from fedn.helpers.files import layout_of
from fedn.packages.manifest import EntryPoint
from fedn.ports import Observed, Observer, Trained
from fedn.stores.disk import disk_errors

_log = logging.getLogger("fedn.client")
MAX_SEED_BYTES = 4 * 2**30
CLOSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Job:
    """One task with everything that it takes."""

    task: Task
    model: memoryview
    package: Unpacked
    python: Path
    wanted: Hyperparameters
    stop: Stop
    seconds: float
    """How long it may take."""

    def point(self, name: str) -> EntryPoint | None:
        return self.package.manifest.entry_points.get(name)

    def needs(self, name: str) -> None:
        """Raise InvalidInput unless the package has this entry point."""
        if self.point(name) is None:
            remedy = f"add {name} to the entry_points of its fedn.yaml"
            raise InvalidInput("package", f"has no {name}", remedy)

    def is_command(self, name: str) -> bool:
        point = self.point(name)
        return point is not None and point.kind == "command"

    @property
    def has_python(self) -> bool:
        return any(point.kind == "python" for point in self.package.manifest.entry_points.values())


class PackageTrainer:
    """Implements `fedn.ports.Trainer` with the package of each task. To be closed.

    Raises:
        InvalidInput: from every method, saying in a sentence what is wrong with the package, data or plan.
    """

    def __init__(
        self, client: ClientId, places: Places, rules: Rules, observer: Observer,
        unseen: Unseen | None = None,
    ) -> None:  # fmt: skip
        """``unseen`` notes what begins here; without it no ledger is kept."""
        self._client = client
        self._unseen = unseen or Unseen()
        self._environments = Environments(places.environments, observer, self._unseen)
        self._rules = rules
        self._places = places
        self._observer = observer
        confined = confinement.settle(rules.confinement, rules.data, confine.landlock())
        self._surroundings = Surroundings(rules.data, places.hidden, confined, rules.memory)
        self._shelf = Shelf(places.home / "packages")
        self._work = empty_folder(places.home / "work")
        self._numbers = itertools.count(1)
        self._logs = PackageLogs(places.home / "logs")
        self._workers = warm.Workers(self._worker_ended, rules.worker_idle)
        self._turns = Turns(rules.worker_idle)

    # --- the port --------------------------------------------------------------------------------------

    def train(self, model: memoryview, task: Task, package: memoryview | None = None) -> Trained:
        """One local training of ``model``, a whole file, by the package's train."""
        layout = layout_of(model)
        with self._job(model, task, package) as job:
            before = self._before(job) if job.wanted.measure_before_fit else {}
            file, examples, metrics = (self._command if job.is_command("train") else self._ask)(job, "train")
            return Trained(file, layout.digest, examples, with_before("package.train()", metrics, before))

    def report(self, model: memoryview, task: Task, package: memoryview | None = None) -> Report:
        """(examples, metrics) of ``model`` by the package's validate, check or predict."""
        layout_of(model)
        with self._job(model, task, package) as job:
            return self._check(job) if task.kind is TaskKind.CHECK else self._report(job, str(task.kind))

    def cancel(self, task: Task) -> None:
        """Kill what runs for this very task, or will begin to; a validation may go on while nothing waits.

        May be called from any thread.
        """
        self._turns.cancel(task)

    def hurry(self) -> None:
        """End a validation that may go on only while nothing waits. May be called from any thread."""
        self._turns.hurry()

    def rest(self, away: bool) -> None:
        """While the client is ``away`` no worker is kept. May be called from any thread."""
        if away:
            self._turns.hurry()
        self._workers.rest(away)

    def close(self) -> None:
        """End whatever is at work, and the workers. May be called from any thread."""
        if self._turns.end(CLOSE_SECONDS):
            self._workers.close()
            self._environments.release()
            self._shelf.clear()

    def seed(self, task: Task, package: memoryview) -> bytes:
        """A model to start from, as the package's build() makes it."""
        with self._job(memoryview(b""), task, package) as job:
            if task.kind is not TaskKind.CHECK:
                job.needs(str(task.kind))  # named before a model is made for it
            if job.point("build") is None:
                raise InvalidInput("model", "is missing, and the package has no build", "give a model's file")
            with self._worker(job) as worker:
                files = Files(worker.work)
                worker.ask(self._order(job, SEED, files), job.stop, job.seconds)
                return read_written("package.build()", files.model_out, MAX_SEED_BYTES, "")

    def log(self, digest: str) -> Path:
        """Where the output of a package is kept."""
        return self._logs.path(digest)

    # --- a task ----------------------------------------------------------------------------------------

    @contextmanager
    def _job(self, model: memoryview, task: Task, packed: memoryview | None) -> Iterator[_Job]:
        if not task.package or packed is None:
            problem = "this client runs packages, and the session has none"
            raise InvalidInput("package", problem, "name one in the plan, or start the client with --app")
        digest = Digest(task.package)
        if self._rules.allow and digest not in self._rules.allow:
            allowed = ", ".join(sorted(one[:12] for one in self._rules.allow))
            raise InvalidInput("package", f"{digest[:12]} is refused", f"this client allows only {allowed}")
        with self._turns.take(task) as stop:
            stop.check()
            until = time.monotonic() + self._rules.task_timeout
            package = self._shelf.take(digest, packed)
            known = package.manifest.hyperparameters
            whose = f"the package {package.manifest.name}"
            wanted = resolve(task, self._client, known, self._rules.hyperparameters, whose)
            python = self._python(package, task, stop, until)
            stop.check()
            self._unseen.package_begun(digest, task)
            self._logs.begin(task)
            try:
                yield _Job(task, model, package, python, wanted, stop, self._rules.seconds(package.manifest))
            except InvalidInput:
                _log.info("the output of package %s is in %s", package.short, self.log(digest))
                raise
            finally:
                self._workers.settle(digest, self._rules.worker_memory)
                self._environments.release(all_but=self._workers.up)

    def _python(self, package: Unpacked, task: Task, stop: Stop, until: float) -> Path:
        """The Python that runs a package: the client's own, or that of the package's environment."""
        if not package.manifest.requirements:
            return Path(sys.executable)
        if not self._rules.environments:
            remedy = "its owner may allow it with --environments"
            raise InvalidInput("package", "has requirements, and this client installs none", remedy)
        return self._environments.python(package, task, stop, until)

    def _check(self, job: _Job) -> Report:
        """By check, else by validate; what neither of them runs is at least started."""
        if job.wanted.measure_before_fit and job.point("validate") is None:
            raise no_validate("package")
        found: Report = (0, {})
        if job.has_python:
            found = self._report(job, "check", python=True)
        if job.point("check") is None and job.is_command("validate"):
            found = self._report(job, "validate")
        return found

    def _before(self, job: _Job) -> Mapping[str, float]:
        if job.point("validate") is None:
            raise no_validate("package")
        validation = replace(job, task=replace(job.task, kind=TaskKind.VALIDATE))
        return self._report(validation, "validate")[1]

    def _report(self, job: _Job, name: str, python: bool = False) -> Report:
        if not python:
            job.needs(name)
        _, examples, metrics = (self._command if job.is_command(name) else self._ask)(job, name)
        return examples, metrics

    # --- by a worker -----------------------------------------------------------------------------------

    def _ask(self, job: _Job, name: str) -> tuple[bytes, int, Mapping[str, float]]:
        """(update, examples, metrics) that a worker makes; without an update unless it trains."""
        what = f"package.{name}()"
        job.stop.warm = True
        with self._worker(job) as worker:
            files = Files(worker.work)
            hand_over(files.model_in, job.model)
            answer = worker.ask(self._order(job, name, files), job.stop, job.seconds)
            done = answer.get("done")
            if not isinstance(done, dict):
                raise InvalidInput(what, warm.NONSENSE)
            metrics = metrics_of(what, done.get("metrics"))
            if name == "train":
                return (
                    read_update(what, files.model_out, job.model),
                    examples_of(what, done.get("examples")),
                    metrics,
                )
            if name == "predict":
                publish(place(files.output, job.task), self._places.predictions, job.task)
            examples = done.get("examples")
            return b"", examples_of(what, examples) if examples != 0 else 0, metrics

    @contextmanager
    def _worker(self, job: _Job) -> Iterator[warm.Worker]:
        """The package's worker, warm if it can be; what the task leaves in its folder is removed."""
        worker = self._workers.get(job.package.digest, lambda: self._started(job))
        try:
            with disk_errors(worker.work):
                yield worker
        finally:
            worker.tidy()

    def _started(self, job: _Job) -> warm.Worker:
        package, work = job.package, self._new_folder()
        order = {
            "manifest": package.manifest.as_dict(), "folder": str(package.folder), "data": self._rules.data,
            "client": self._client, "output": str(Files(work).output),
            "hyperparameters": dict(self._rules.hyperparameters), "share_errors": self._rules.share_errors,
        }  # fmt: skip

        def spec(argv: tuple[str, ...]) -> Any:
            log = self.log(package.digest)
            return self._surroundings.spec(argv, package.folder, work, log, job.python)

        worker = warm.start(package.short, job.python, spec, work, order, job.stop, job.seconds)
        fields = {"package": package.short, "pid": worker.pid, "seconds": round(worker.seconds, 3)}
        self._observer.observe(Observed("worker_started", fields))
        return worker

    def _order(self, job: _Job, name: str, files: Files) -> Mapping[str, Any]:
        task = job.task
        config = json.loads(task.config or "{}")
        config.pop("measure_before_fit", None)  # done here, where validate may be a command
        return {
            "do": name, "digest": task.model, "session": task.session, "round": task.round, "seed": task.seed,
            "config": json.dumps(config), "model": str(files.model_in), "out": str(files.model_out),
        }  # fmt: skip

    def _worker_ended(self, worker: warm.Worker, reason: str) -> None:
        fields = {"package": worker.name, "pid": worker.pid, "reason": reason}
        self._observer.observe(Observed("worker_ended", fields))

    def _new_folder(self) -> Path:
        """Of a short name: the path of a socket in there must not be longer than 107 bytes."""
        return empty_folder(self._work / str(next(self._numbers)))

    # --- by a command ----------------------------------------------------------------------------------

    def _command(self, job: _Job, name: str) -> tuple[bytes, int, Mapping[str, float]]:
        """As `_ask`, by a process of its own."""
        what, package, work = f"package.{name}", job.package, self._new_folder()
        files = Files(work)
        try:
            with disk_errors(work):
                hand_over(files.model_in, job.model)
                files.config.write_text(json.dumps(dict(job.wanted.config)))
                files.output.mkdir()
            values = files.placeholders(self._rules.data)
            more = commands.variables(job.task, self._client, package.folder, job.wanted.config, values)
            argv = (commands.SHELL, "-c", commands.filled(package.manifest.entry_points[name].target, values))
            log = self.log(package.digest)
            spec = self._surroundings.spec(argv, package.folder, work, log, job.python, more)
            commands.run(spec, what, job.stop, job.seconds)
            examples, metrics = metrics_written(what, files.metrics_out, job.task.kind)
            if name == "train":
                return read_update(what, files.model_out, job.model), examples, metrics
            if name == "predict":
                publish(files.output, self._places.predictions, job.task)
            return b"", examples, metrics
        finally:
            remove(work)


__all__ = ["PackageTrainer", "Places", "Rules"]
