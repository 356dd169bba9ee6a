"""Runs compute packages: what `trainer` is for an app, this is for packages that come with the tasks.

A package is unpacked once (`shelf`) and gets an environment of its own if it names requirements. Its Python
functions run in a worker that stays warm (`warm`), its commands in a process for each task (`commands`); both
are confined (`surroundings`) and answer by files (`written`).
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from fedn.client import commands, confine, warm
from fedn.client.commands import Files, metrics_written
from fedn.client.hyperparameters import Hyperparameters, Values, resolve
from fedn.client.output import Output, older
from fedn.client.predictions import place, publish
from fedn.client.process import Stop
from fedn.client.results import Report, examples_of, metrics_of, with_before
from fedn.client.shelf import Shelf, Unpacked, empty_folder, remove
from fedn.client.surroundings import Surroundings, is_path
from fedn.client.trainer import no_validate
from fedn.client.worker_main import SEED
from fedn.client.written import hand_over, read_update, read_written
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import ClientId, Digest
from fedn.domain.messages import Task, TaskKind
from fedn.helpers.files import layout_of
from fedn.packages.environment import environment
from fedn.packages.manifest import EntryPoint
from fedn.ports import Observed, Observer, Trained
from fedn.stores.disk import disk_errors, make_directory

_log = logging.getLogger("fedn.client")
MAX_LOGS = 16
"""Packages whose output is kept."""
MAX_SEED_BYTES = 4 * 2**30
CLOSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a client's owner lets packages do; see the settings of these names."""

    data: str
    allow: frozenset[str] = frozenset()
    hyperparameters: Values = field(default_factory=dict)
    environments: bool = True
    unconfined: bool = False
    memory: int = 0
    worker_memory: int = 0
    task_timeout: float = 86_400.0
    share_errors: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """Folders: ``home`` for packages, work and logs, and where environments and predictions go.

    ``hidden`` is what package code may not read even where it lies below something that it may.
    """

    home: Path
    environments: Path
    predictions: Path
    hidden: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """One task with everything that it takes."""

    task: Task
    model: memoryview
    package: Unpacked
    python: Path
    wanted: Hyperparameters
    stop: Stop

    def point(self, name: str) -> EntryPoint | None:
        return self.package.manifest.entry_points.get(name)

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

    def __init__(self, client: ClientId, places: Places, rules: Rules, observer: Observer) -> None:
        self._client = client
        self._rules = rules
        self._places = places
        self._observer = observer
        self._surroundings = Surroundings(rules.data, places.hidden, self._confined(), rules.memory)
        self._shelf = Shelf(places.home / "packages")
        self._work = empty_folder(places.home / "work")
        self._logs = places.home / "logs"
        make_directory(self._logs)
        self._workers = warm.Workers(self._worker_ended)
        self._one_at_a_time = threading.Lock()
        self._current: tuple[Task, Stop] | None = None
        self._unwanted: Task | None = None
        self._closed = False

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
        """Kill what runs for this very task, or will begin to. May be called from any thread."""
        self._unwanted = task
        current = self._current
        if current is not None and current[0] is task:
            current[1].ask()

    def close(self) -> None:
        """End whatever is at work, and the workers. May be called from any thread."""
        self._closed = True
        if (current := self._current) is not None:
            current[1].ask()
        if self._one_at_a_time.acquire(timeout=CLOSE_SECONDS):
            self._workers.close()
            self._shelf.clear()
            self._one_at_a_time.release()

    def seed(self, task: Task, package: memoryview) -> bytes:
        """A model to start from, as the package's build() makes it."""
        with self._job(memoryview(b""), task, package) as job:
            if job.point("build") is None:
                raise InvalidInput("model", "is missing, and the package has no build", "give a model's file")
            with self._worker(job) as worker:
                files = Files(worker.work)
                worker.ask(self._order(job, SEED, files), job.stop, self._seconds(job))
                return read_written("package.build()", files.model_out, MAX_SEED_BYTES, "")

    def log(self, digest: str) -> Path:
        """Where the output of a package is kept."""
        return self._logs / f"{digest[:16]}.log"

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
        with self._one_at_a_time, self._at_work(task) as stop:
            package = self._shelf.take(digest, packed)
            known = package.manifest.hyperparameters
            whose = f"the package {package.manifest.name}"
            wanted = resolve(task, self._client, known, self._rules.hyperparameters, whose)
            python = self._python(package)
            stop.check()
            self._note(package, task)
            try:
                yield _Job(task, model, package, python, wanted, stop)
            except InvalidInput:
                _log.info("the output of package %s is in %s", package.short, self.log(digest))
                raise
            finally:
                self._workers.settle(digest, self._rules.worker_memory)

    @contextmanager
    def _at_work(self, task: Task) -> Iterator[Stop]:
        stop = Stop()
        self._current = (task, stop)
        try:
            if self._closed or task is self._unwanted:
                stop.ask()
            yield stop
        finally:
            self._current = None

    def _python(self, package: Unpacked) -> Path:
        """The Python that runs a package: the client's own, or that of the package's environment."""
        if not (requirements := package.manifest.requirements):
            return Path(sys.executable)
        if not self._rules.environments:
            remedy = "its owner may allow it with --environments"
            raise InvalidInput("package", "has requirements, and this client installs none", remedy)
        try:
            return environment(requirements, self._places.environments, partial(self._say, package))
        except InvalidInput as error:
            _log.error("%s", error.message)  # the installer's words may name what is of this client alone
            field = str(error.details["field"])
            raise InvalidInput(field, "can't be installed on this client", "see its log") from None

    def _check(self, job: _Job) -> Report:
        """By check, else by validate; what neither of them runs is at least started."""
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
        if not python and job.point(name) is None:
            raise InvalidInput(
                "package", f"has no {name}", f"add {name} to the entry_points of its fedn.yaml"
            )
        _, examples, metrics = (self._command if job.is_command(name) else self._ask)(job, name)
        return examples, metrics

    # --- by a worker -----------------------------------------------------------------------------------

    def _ask(self, job: _Job, name: str) -> tuple[bytes, int, Mapping[str, float]]:
        """(update, examples, metrics) that a worker makes; without an update unless it trains."""
        what = f"package.{name}()"
        with self._worker(job) as worker:
            files = Files(worker.work)
            hand_over(files.model_in, job.model)
            answer = worker.ask(self._order(job, name, files), job.stop, self._seconds(job))
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
        files = Files(worker.work)
        try:
            with disk_errors(worker.work):
                yield worker
        finally:
            for file in (files.model_in, files.model_out):
                file.unlink(missing_ok=True)
            remove(files.output)

    def _started(self, job: _Job) -> warm.Worker:
        package, work = job.package, empty_folder(self._work / uuid4().hex)
        order = {
            "manifest": package.manifest.as_dict(), "folder": str(package.folder), "data": self._rules.data,
            "client": self._client, "output": str(Files(work).output),
            "hyperparameters": dict(self._rules.hyperparameters), "share_errors": self._rules.share_errors,
        }  # fmt: skip

        def spec(argv: tuple[str, ...]) -> Any:
            log = self.log(package.digest)
            return self._surroundings.spec(argv, package.folder, work, log, job.python)

        worker = warm.start(package.short, job.python, spec, work, order, job.stop, self._seconds(job))
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

    # --- by a command ----------------------------------------------------------------------------------

    def _command(self, job: _Job, name: str) -> tuple[bytes, int, Mapping[str, float]]:
        """As `_ask`, by a process of its own."""
        what, package, work = f"package.{name}", job.package, empty_folder(self._work / uuid4().hex)
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
            commands.run(spec, what, job.stop, self._seconds(job))
            examples, metrics = metrics_written(what, files.metrics_out, job.task.kind)
            if name == "train":
                return read_update(what, files.model_out, job.model), examples, metrics
            if name == "predict":
                publish(files.output, self._places.predictions, job.task)
            return b"", examples, metrics
        finally:
            remove(work)

    # --- around it -------------------------------------------------------------------------------------

    def _seconds(self, job: _Job) -> float:
        """How long a task may take: as the owner says, or less if the package itself says so."""
        return min(self._rules.task_timeout, job.package.manifest.timeout or self._rules.task_timeout)

    def _note(self, package: Unpacked, task: Task) -> None:
        """Say in the package's log which task its output is of."""
        path = self.log(package.digest)
        if not path.exists():
            logs = sorted(self._logs.glob("*.log"), key=lambda log: log.stat().st_mtime)
            for old in logs[: max(0, len(logs) + 1 - MAX_LOGS)]:
                old.unlink(missing_ok=True)
                older(old).unlink(missing_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        log = Output(path)
        log.write(f"--- {now} session {task.session} round {task.round}: {task.kind}\n".encode())
        log.close()

    def _say(self, package: Unpacked, sentence: str) -> None:
        self._observer.observe(Observed("environment", {"package": package.short, "reason": sentence}))

    def _confined(self) -> bool:
        """Whether package code is confined; if not it is said, once."""
        if self._rules.unconfined:
            _log.warning(
                "package code is not confined: it can read and write what this user can (--unconfined)"
            )
            return False
        if not confine.landlock():
            _log.warning("package code is not confined to its folders: this system has no Landlock")
            return False
        if confine.landlock() < confine.TRUNCATES:
            _log.warning(
                "this system's Landlock is old: package code can empty files that its user may write"
            )
        if not is_path(self._rules.data):
            _log.info("the data is no file or folder here; package code can read no others, either")
        return True


__all__ = ["PackageTrainer", "Places", "Rules"]
