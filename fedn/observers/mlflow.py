"""Sessions as runs of MLflow: the plan as parameters, means by round as metrics, the best model as tags.

Of the client library alone (`mlflow-skinny`); ``location`` is a tracking server's address, or a folder.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

from fedn.observers.story import BEGUN, ENDED, EVENTS, KINDS, LAST, library, numbers, settings
from fedn.ports import Observed

NAME = "mlflow"
EXPERIMENT = "fedn"
SESSION = "fedn.session"
STATUS = {"session_finished": "FINISHED", "session_failed": "FAILED", "session_cancelled": "KILLED"}
PARAM_LETTERS = 6000
BATCH = 100
"""Parameters and tags that one call may carry."""
RUNS_KEPT = 256


class MLflow:
    """Implements `fedn.ports.Exporter`. A session that goes on after a restart goes on in its run."""

    events = EVENTS

    def __init__(self, location: str) -> None:
        """Raises InvalidInput without MLflow; a server is not asked before there is something to tell."""
        # The library reports its use to its makers unless it is told not to; nothing may leave unasked.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if "://" not in location or location.startswith("file:"):
            os.environ.setdefault(
                "MLFLOW_ALLOW_FILE_STORE", "true"
            )  # it wants to be told that a folder is meant
        self._entities = library("mlflow.entities", NAME)
        self._client = library("mlflow", NAME).MlflowClient(tracking_uri=location)
        self._experiment = ""
        self._runs: OrderedDict[str, str] = OrderedDict()

    def observe(self, observed: Observed) -> None:
        """Tell MLflow of one event; blocks, and raises what its client does."""
        event, fields = observed.event, observed.fields
        session = str(fields["session"])
        if event in BEGUN:
            self._begin(session, fields)
            return
        run = self._run(session)
        if run is None:
            return
        if event in ENDED:
            self._log(run, tags={"fedn.reason": fields["reason"]})
            self._client.set_terminated(run, STATUS[event])
        elif event == "best_model":
            self._log(run, tags={f"fedn.best_{name}": fields[name]
                                 for name in ("round", "metric", "value", "model")})  # fmt: skip
        else:
            tags = {"fedn.model": fields["model"]} if event == "round_committed" else {}
            self._log(run, numbers(event, fields), fields["round"], tags=tags)

    def told(self, session: str) -> Collection[tuple[str, int]]:
        """Implements `fedn.ports.Remembering`; asks MLflow, and raises what its client does."""
        run = self._run(session)
        if run is None:
            return ()
        found = {("session_started", 0)}
        for event, kind in KINDS.items():
            history = self._client.get_metric_history(run, f"{kind}/{LAST}")
            found |= {(event, point.step) for point in history}
        known = self._client.get_run(run)
        found |= {(event, 0) for event, status in STATUS.items() if status == known.info.status}
        if best := known.data.tags.get("fedn.best_round"):
            found.add(("best_model", int(best)))
        return found

    def close(self) -> None:
        """Nothing is held."""

    def _begin(self, session: str, fields: Mapping[str, Any]) -> None:
        if run := self._run(session):
            self._client.update_run(run, status="RUNNING")
            return
        tags = {SESSION: session, "fedn.seed_model": fields["model"]}
        made = self._client.create_run(self._in_experiment(), run_name=fields["name"], tags=tags)
        self._keep(session, made.info.run_id)
        parameters = list(settings(fields["plan"]).items())
        for at in range(0, len(parameters), BATCH):
            self._log(made.info.run_id, parameters=dict(parameters[at : at + BATCH]))

    def _run(self, session: str) -> str | None:
        """The run of a session, also one that was begun before a restart; None if there is none."""
        if session not in self._runs:
            wanted = f"tags.`{SESSION}` = '{session}'"
            found = self._client.search_runs([self._in_experiment()], wanted, max_results=1)
            if not found:
                return None
            self._keep(session, found[0].info.run_id)
        return self._runs[session]

    def _keep(self, session: str, run: str) -> None:
        self._runs[session] = run
        while len(self._runs) > RUNS_KEPT:
            self._runs.popitem(last=False)

    def _in_experiment(self) -> str:
        if not self._experiment:
            known = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
        return self._experiment

    def _log(
        self,
        run: str,
        values: Mapping[str, float] | None = None,
        step: int = 0,
        parameters: Mapping[str, str] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        make, now = self._entities, int(time.time() * 1000)
        self._client.log_batch(
            run,
            metrics=[make.Metric(name, value, now, step) for name, value in (values or {}).items()],
            params=[make.Param(name, text[:PARAM_LETTERS]) for name, text in (parameters or {}).items()],
            tags=[make.RunTag(name, str(value)) for name, value in (tags or {}).items()],
        )
