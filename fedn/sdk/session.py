"""`Session`: a session on a network, for scripts and notebooks. Made by `fedn.Network`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import check_digest
from fedn.domain.messages import LAPS
from fedn.helpers.files import read_file
from fedn.sdk import models, transfers
from fedn.sdk.asking import Answers, ask
from fedn.sdk.drawing import drawn
from fedn.sdk.events import Callbacks, OnUpdate, OnVersion, Update, Version
from fedn.sdk.facts import Fact
from fedn.sdk.follow import Follower
from fedn.sdk.http import Reducer
from fedn.sdk.seeds import ignored
from fedn.sdk.terminal import transfer

if TYPE_CHECKING:
    from pandas import DataFrame

PATIENCE = 300.0
"""Seconds without a reducer after which watching ends."""
COLUMNS = ("round", "kind", "client", "examples", "metric", "value")
Which = int | str | None
"""The model of a round (0 is the seed), the 'best' one so far, one by its digest, or the newest (None)."""
M = TypeVar("M")


class Session:
    """A model that is trained for a number of rounds. It runs on the network, whether anybody watches or not.

    Every method asks the reducer. They raise Unavailable while it does not answer, Unauthenticated and
    Forbidden without a token that may, and NotFound for rounds that are not there.
    """

    def __init__(self, reducer: Reducer, session: str) -> None:
        self.id = session
        self._reducer = reducer
        self._path = f"/sessions/{session}"
        self._callbacks = Callbacks()

    def __repr__(self) -> str:
        return f"<fedn session {self.id} at {self._reducer.url}>"

    # --- looking ---------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Name, state, reason, plan, head, and under "progress" what it does just now."""
        return self._get("")

    @property
    def state(self) -> str:
        """running, paused, finished, failed or cancelled."""
        return str(self.info()["state"])

    @property
    def round(self) -> int:
        """The last committed round; 0 before the first."""
        return int(self.info()["head"]["round"])

    def rounds(self) -> list[dict[str, Any]]:
        """Every committed round, and round 0 for the seed: model, examples, contributors, who was missing."""
        return list(self._reducer.pages(f"{self._path}/rounds", "rounds"))

    def trail(self) -> list[dict[str, Any]]:
        """Every record of the model trail: digest, record, and the raw text that the digest is taken over."""
        return list(self._reducer.pages(f"{self._path}/trail", "records"))

    def verify(self) -> dict[str, Any]:
        """Check every record and model of the trail, byte by byte; "ok" says whether it is whole."""
        return self._get("/trail/verify", patient=True)

    def metrics(self) -> DataFrame:
        """Every client's metrics in tidy form: one row for each number.

        Columns: round, kind ('train', 'validate', or 'check' before the first round), client, examples,
        metric (its name), value.

        Raises:
            InvalidInput: pandas is not installed.
        """
        rows = [
            (row["round"], row["kind"], row["client"], row["examples"], name, value)
            for row in self._metric_rows()
            if row["kind"] != "timing"
            for name, value in sorted(row["metrics"].items())
        ]
        return _table("metrics", rows, COLUMNS)

    def timings(self) -> DataFrame:
        """Where every client's time went: one row for each of its rounds, in seconds by its combiner's clock.

        Columns: round, client, waiting, training, queued, uploading; NaN where that is not known.

        Raises:
            InvalidInput: pandas is not installed.
        """
        rows = [
            (row["round"], row["client"], *(row["metrics"].get(lap) for lap in LAPS))
            for row in self._metric_rows()
            if row["kind"] == "timing"
        ]
        return _table("timings", rows, ("round", "client", *LAPS)).astype(dict.fromkeys(LAPS, float))

    def means(self, after: int = -1) -> dict[int, dict[str, dict[str, float]]]:
        """Example-weighted means of the metrics of rounds above ``after``, by round and kind.

        ``means()[3]["validate"]["accuracy"]`` is that of round 3. Under "timing" are plain means of seconds.
        """
        return {
            item["round"]: {kind: shown["metrics"] for kind, shown in item.items() if kind != "round"}
            for item in self._reducer.pages(f"{self._path}/metrics", "rounds", after)
        }

    def best(self, metric: str = "", direction: str = "") -> dict[str, Any]:
        """The model with the best mean validation ``metric``: its round, model, metric and value.

        Without one it is the plan's stop_metric, else accuracy; ``direction`` is 'max' or 'min'.
        """
        asked: dict[str, Any] = {"metric": metric, "direction": direction}
        return self._get("/best", **{name: text for name, text in asked.items() if text})

    def clients(self) -> list[dict[str, Any]]:
        """What each client did, sorted by its id under "client".

        "rounds" it contributed to and the "last_round" of them, the sum of its "examples" there, how often it
        was "refused" or "lost", "train_seconds" (mean seconds of a training, by its own clock; None if it
        never said), and its last metrics under "train" and "validate".
        """
        return list(self._reducer.pages(f"{self._path}/clients", "clients", ""))

    # --- watching --------------------------------------------------------------------------------------

    def on_update(self, function: OnUpdate) -> OnUpdate:
        """Decorator: ``function(update)`` hears, while somebody watches, what became of every update.

        It is told from each committed record: 'counted', 'refused', or 'lost' of clients that went missing.
        """
        return self._callbacks.on_update(function)

    def on_new_version(self, function: OnVersion) -> OnVersion:
        """Decorator: ``function(version)`` hears, while somebody watches, of every committed model.

        Callbacks are called by whoever watches; what they raise goes to the log.
        """
        return self._callbacks.on_new_version(function)

    def watch(
        self, progress: bool = True, patience: float = PATIENCE, seconds: float | None = None
    ) -> Iterator[Fact]:
        """What happens, from its first round on, until it has ended; the last fact is session_ended.

        Args:
            progress: draw bars and a line for every round, where somebody sees them.
            patience: seconds without a reducer after which Unavailable is raised.
            seconds: in all, after which it is raised, too; None for no limit.
        """
        with drawn(f"session {self.id}", quiet=not progress) as story:
            for fact in self.facts(patience, seconds):
                story.tell(fact)
                yield fact

    def facts(self, patience: float = PATIENCE, seconds: float | None = None) -> Iterator[Fact]:
        """As `watch`, drawing nothing."""
        for fact in Follower(self._reducer, self.id, patience, seconds).facts():
            if fact.event == "round_committed":
                self._tell(fact.fields["round"], fact.fields["model"])
            yield fact

    def wait(self, seconds: float | None = None, *, progress: bool = True, patience: float = PATIENCE) -> str:
        """Watch it until it ends; its state then: finished, failed or cancelled.

        Raises Unavailable when it has not ended after ``seconds``; it runs on. Arguments as `watch`.
        """
        state = ""
        for fact in self.watch(progress, patience, seconds):
            state = fact.fields.get("state", state) if fact.event == "session_ended" else state
        return state

    # --- acting ----------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Begin no further round. The one under way is still committed."""
        self._reducer.post(f"{self._path}/pause")

    def resume(self) -> None:
        """Go on after a pause."""
        self._reducer.post(f"{self._path}/resume")

    def stop(self) -> None:
        """End it for good. What is committed stays; the round under way is dropped."""
        self._reducer.post(f"{self._path}/stop")

    def evaluate(self, model: Which = None) -> Answers:
        """Have clients evaluate a model on their own data, apart from the rounds; waits for their answers.

        Also when the session has ended, and nothing of it is stored. Asked are those that can take part in
        the session and are attached now; whoever does not answer is in ``failed``, with the reason.

        Args:
            model: the round that made it (0: the seed), 'best', None for the newest; or the digest of any
                model with the same tensors, such as `Network.seed` returns it.

        Raises:
            NotFound: there is no such round or model, or the reducer was restarted meanwhile.
            InvalidInput: the model has other tensors than the session's.
            Conflict: an evaluation of this session is under way; Busy: too many of others are.
            Unavailable: nobody is attached who could answer.
        """
        return self._ask("evaluate", model)

    def predict(self, model: Which = None) -> Answers:
        """Have clients predict on their own data; waits for how many examples each did.

        The predictions stay with each client, where its owner says. Arguments and errors as `evaluate`.
        """
        return self._ask("predict", model)

    # --- models ----------------------------------------------------------------------------------------

    def model(self, round: Which = None) -> dict[str, Array]:
        """A model's weights by name; bfloat16 as float32. ``round`` is what `evaluate` takes.

        Raises:
            InvalidInput: that is neither a round, 'best' nor a digest.
            Damaged: the bytes that came are not the model's.
        """
        return self._tensors(self._digest(round))

    def download(self, path: str | os.PathLike[str], round: Which = None, progress: bool = True) -> Path:
        """Write a model as a safetensors file, whose sha256 is checked; what was there is replaced.

        A download that broke off goes on where it was. Raises Damaged, and InvalidInput for a path that can't
        be written.
        """
        target = Path(path)
        with transfer(quiet=not progress) as bar:
            task = bar.add_task(f"downloading {target.name}", total=None)
            transfers.fetch(
                self._reducer, self._digest(round), target,
                lambda done, total: bar.update(task, completed=done, total=total),
            )  # fmt: skip
        return target

    def load_into(self, model: M, round: Which = None, helper: str = "") -> M:
        """``model`` itself, a Keras, PyTorch or scikit-learn model of the session's kind, with these weights.

        What did not travel, such as frozen layers, stays as it is. A dict of arrays is filled; it has the
        same names, or none.

        Raises:
            InvalidModel: naming the tensors that do not fit.
        """
        loaded: M = models.load_into(model, self.model(round), helper)
        return loaded

    # --- inside ----------------------------------------------------------------------------------------

    def _get(self, path: str, patient: bool = False, **query: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._reducer.get(f"{self._path}{path}", patient, **query)
        return answer

    def _ask(self, what: str, model: Which) -> Answers:
        body: dict[str, Any] = {}
        if model is not None:
            body = {"round": model} if isinstance(model, int) else {"model": self._digest(model)}
        return ask(self._reducer, self.id, what, body)

    def _metric_rows(self) -> Iterator[Mapping[str, Any]]:
        yield from self._reducer.pages(f"{self._path}/metrics", "rows")

    def _digest(self, which: Which) -> str:
        if which is None:
            return str(self.info()["head"]["model"])
        if which == "best":
            return str(self.best()["model"])
        if isinstance(which, str):
            return _known_digest(which)
        return str(self._get(f"/rounds/{int(which)}")["model"])

    def _tensors(self, digest: str) -> dict[str, Array]:
        with tempfile.TemporaryDirectory(prefix="fedn-model-") as folder:
            path = Path(folder) / "model.safetensors"
            transfers.fetch(self._reducer, digest, path, ignored)
            return read_file(memoryview(path.read_bytes()))

    def _tell(self, number: int, digest: str) -> None:
        self._callbacks.tell(Version(self.id, number, digest, partial(self._tensors, digest)))
        if self._callbacks.wants(Update):
            record = self._get(f"/rounds/{number}")["record"]
            for part in record["parts"]:
                for one in part["contributors"]:
                    self._callbacks.tell(Update(self.id, number, one["client"], "counted", one["examples"]))
            for state in ("refused", "lost"):
                for one in record[state]:
                    self._callbacks.tell(Update(self.id, number, one["client"], state, reason=one["reason"]))


def _table(what: str, rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> DataFrame:
    try:
        import pandas
    except ImportError:
        remedy = "pip install '.[pandas]' in fedn's source tree"
        raise InvalidInput(what, "need pandas", remedy) from None
    return pandas.DataFrame(rows, columns=list(columns))


def _known_digest(text: str) -> str:
    try:
        return check_digest("model", text)
    except InvalidInput:
        problem = f"{text[:80]!r} is neither a round, 'best' nor a digest"
        raise InvalidInput("model", problem, "give one of these, or None for the newest") from None
