"""`fedn.Client`: a client of a network in this process, made of functions.

The same composition as `fedn client start` (`fedn.client.app`), on an event loop of its own.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, TypeVar

from fedn import logs
from fedn.client.app import LogObserver, serve
from fedn.client.ledger import Ledger
from fedn.client.state_dir import StateDir, claim
from fedn.client.trainer import AppTrainer
from fedn.config import ClientSettings, load
from fedn.domain.errors import Conflict, InvalidConfig, InvalidInput
from fedn.domain.plan import Scalar
from fedn.ports import Observed
from fedn.sdk.background import Background
from fedn.sdk.buffer import Examples
from fedn.sdk.events import Callbacks, OnUpdate, OnVersion, Teller, Update, Version
from fedn.sdk.trainer import Batch, TellingTrainer

F = TypeVar("F", bound=Callable[..., Any])
BUFFER_BYTES = 2**30
_PACKAGES = (
    "app",
    "app_options",
    "data",
    "allow",
    "environments",
    "confinement",
    "worker_memory",
    "worker_idle",
    "task_timeout",
)
"""Settings of clients whose code is not in functions."""
_PROCESS = ("log_level", "log_json", "cpus", "memory")
"""Settings of a process that is the client's own."""
_LIMITS = ("cpus", "memory")
"""Those of them that must not be ignored, wherever they are set."""


class Client:
    """A client whose functions train and validate on data that stays in this process.

        client = fedn.Client("http://127.0.0.1:8090", name="clinic-3")

        @client.train
        def train(model, config):
            return fit(model, x, y, config), len(x)

        client.run()

    ``model`` is what the helper makes of the global model: with numpy a dict of name to array. ``config`` is
    a read-only mapping: the plan's hyperparameters, ``round``, ``seed`` and ``proximal_mu``.
    The identity, and every update until it is settled, are below ``state_dir`` under the client's name: with
    the same name it is the same client the next time. Whatever is not given comes from the environment
    (``FEDN_CLIENT_…``), then from the defaults of `fedn config show client`.
    Each training starts from the last global model that came, never from weights that were trained here.

    Args:
        reducer: its address, http:// on this machine, https:// beyond it.
        name: shown to people, and which identity in ``state_dir`` is used; without one any free one.
        join: token to join with, at the first start; never shown again by this object.
        join_file: file with that token.
        ca_bundle: PEM file of other authorities for the reducer's certificate.
        state_dir: folder for identities and journals.
        combiner: name of the combiner it would rather have.
        helper: what makes a model of tensors and back: numpy, keras, torch, sklearn, or a plug-in's.
        hyperparameters: the names that train() knows, with their defaults; a plan with another name is
            refused. None takes any.
        examples_per_update: if set, train() is called as ``train(model, examples, config)``, with exactly
            so many of those that `add_examples` brought; see there.
        wait_for_examples: seconds that a training waits for enough of them, if nobody ends its round
            before; then it is declined, and this client is out of that round.
        buffer_bytes: most bytes of examples that are kept.
        noise: σ of the noise N(0, σ²), in the units of the weights, that is added to every float element
            of every update. It promises no privacy by itself: nothing bounds what it would have to hide.
            It is added to statistics such as a moving variance, too, which must not become negative.
        background: the event loop to run on; without one a new one.
        settings: others of `fedn config show client`.

    Raises:
        InvalidConfig, InvalidInput: naming what is wrong.
    """

    def __init__(
        self,
        reducer: str | None = None,
        *,
        name: str | None = None,
        join: str | None = None,
        join_file: str | os.PathLike[str] | None = None,
        ca_bundle: str | os.PathLike[str] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        combiner: str | None = None,
        helper: str = "numpy",
        hyperparameters: Mapping[str, Scalar] | None = None,
        examples_per_update: int = 0,
        wait_for_examples: float = 0.0,
        buffer_bytes: int = BUFFER_BYTES,
        noise: float = 0.0,
        background: Background | None = None,
        **settings: Any,
    ) -> None:
        """Nothing is connected yet."""
        paths = {"join_file": join_file, "ca_bundle": ca_bundle}
        given = {"reducer": reducer, "name": name, "join": join, "combiner": combiner, **settings}
        given |= {key: None if path is None else os.fspath(path) for key, path in paths.items()}
        given["state_dir"] = None if state_dir is None else Path(state_dir)
        self._settings = _settings({key: value for key, value in given.items() if value is not None})
        self._helper = helper
        self._hyperparameters = hyperparameters
        self._noise = _at_least_zero("noise", noise)
        self._per_update = int(_at_least_zero("examples_per_update", examples_per_update))
        self._examples = Examples(self._per_update, buffer_bytes) if self._per_update else None
        self._batch = Batch(self._examples, _at_least_zero("wait_for_examples", wait_for_examples))
        self._functions: dict[str, Callable[..., Any]] = {}
        self._callbacks = Callbacks()
        self._given_background = background
        self._running: _Running | None = None

    def __repr__(self) -> str:
        return f"<fedn.Client {self._settings.name or 'any'} of {self._settings.reducer}>"

    # --- what it does ----------------------------------------------------------------------------------

    def train(self, function: F) -> F:
        """Decorator: ``train(model, config)`` returns (model, examples) or (model, examples, metrics).

        examples, from 1 on, is the update's weight in the mean; metrics maps names to finite numbers. With
        ``examples_per_update`` it is ``train(model, examples, config)``, examples a tuple of arrays of so
        many rows. It runs in a thread of its own, never beside itself, validate() or predict().
        """
        return self._is("train", function)

    def validate(self, function: F) -> F:
        """Decorator: ``validate(model)`` returns (examples, metrics), or metrics alone."""
        return self._is("validate", function)

    def predict(self, function: F) -> F:
        """Decorator: ``predict(model, output)`` writes files into the folder ``output``.

        It returns examples, or (examples, metrics). What it writes stays on this machine.
        """
        return self._is("predict", function)

    def build(self, function: F) -> F:
        """Decorator: ``build()`` returns a fresh model; keras, torch and sklearn need one for every task."""
        return self._is("build", function)

    def check(self, function: F) -> F:
        """Decorator: ``check(model)`` raises if this client could not take part in a session.

        Without one validate() is the check. It returns what validate() does, or None.
        """
        return self._is("check", function)

    def on_update(self, function: OnUpdate) -> OnUpdate:
        """Decorator: ``function(update)`` hears of every `fedn.sdk.events.Update` of this client.

        Callbacks are called one after the other, in a thread of their own. What they raise goes to the log.
        """
        return self._callbacks.on_update(function)

    def on_new_version(self, function: OnVersion) -> OnVersion:
        """Decorator: ``function(version)`` hears of every `fedn.sdk.events.Version` that comes here.

        To be given before `start`. A slow one misses the versions that were replaced meanwhile.
        """
        return self._callbacks.on_new_version(function)

    def add_examples(self, *arrays: Any) -> int:
        """Keep new examples for the next updates, such as ``add_examples(x, y)``; how many there are now.

        Each array has one example along its first axis; copies are kept, in memory. A training takes the
        oldest ``examples_per_update``; what is left stays for the next one. With fewer it is declined, after
        ``wait_for_examples`` seconds, and the round goes on without this client.

        Raises:
            InvalidInput: no ``examples_per_update``, arrays of several lengths, or of another kind than the
                ones before.
            Busy: more than ``buffer_bytes``; none of these is kept.
        """
        if self._examples is None:
            remedy = "give examples_per_update, or use your data in train() itself"
            raise InvalidInput("examples", "are not kept by this client", remedy)
        return self._examples.add(*arrays)

    @property
    def waiting_examples(self) -> int:
        """How many examples wait for an update."""
        return len(self._examples) if self._examples is not None else 0

    # --- running ---------------------------------------------------------------------------------------

    @property
    def combiner(self) -> str:
        """The combiner that it is attached to just now; '' for none."""
        return self._running.combiner if self._running else ""

    @property
    def client(self) -> str:
        """Its id in the network, while it runs; '' before."""
        return self._running.client if self._running else ""

    def start(self) -> Self:
        """Run in the background; returns as soon as its identity is claimed.

        It joins the network, attaches, and keeps trying while nobody answers.

        Raises:
            InvalidInput: there is no train(), or no such helper.
            Conflict: it runs already, or another process uses this identity.
        """
        if self._running is not None:
            raise Conflict("this client runs already")
        if "train" not in self._functions:
            raise InvalidInput("client", "has no train()", "write one, with @client.train above it")
        running = self._running = _Running(self)
        try:
            running.begin()
        except BaseException:
            self._running = None
            running.end()
            raise
        return self

    def stop(self) -> None:
        """Leave the network; what is not settled stays in the journal, and a training under way is dropped.

        Raises:
            Revoked, Unauthenticated, Incompatible, InvalidConfig: what has ended it before.
        """
        running, self._running = self._running, None
        if running is not None:
            running.end()

    def run(self) -> None:
        """Run until Ctrl-C. Raises what `start` and `stop` do."""
        self.start()
        try:
            assert self._running is not None
            self._running.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- inside ----------------------------------------------------------------------------------------

    def _is(self, what: str, function: F) -> F:
        self._functions[what] = function
        return function

    def _app(self) -> SimpleNamespace:
        """What AppTrainer calls an app."""
        functions = dict(self._functions)
        if self._per_update:
            train = functions["train"]
            functions["train"] = lambda model, config: train(model, self._batch.rows, config)
        return SimpleNamespace(helper=self._helper, hyperparameters=self._hyperparameters, **functions)


class _Running:
    """A client from its start to its stop."""

    def __init__(self, owner: Client) -> None:
        self.combiner = ""
        self.client = ""
        self._owner = owner
        self._settings = owner._settings
        self._own = owner._given_background is None
        self._background = owner._given_background or Background("fedn-client")
        self._teller = Teller(owner._callbacks)
        self._begun = threading.Event()
        self._stop = asyncio.Event()
        self._log = LogObserver()
        self._ended: Future[None] = self._background.submit(self._live())
        self._ended.add_done_callback(lambda _: self._begun.set())

    def begin(self) -> None:
        """Return when the identity is claimed; raise what kept it from that."""
        self._begun.wait()
        if self._ended.done():
            self._ended.result()

    def wait(self) -> None:
        """Until it ends by itself; raises why."""
        self._ended.result()

    def end(self) -> None:
        try:
            self._background.loop.call_soon_threadsafe(self._stop.set)
            self._ended.result()
        finally:
            self._teller.close()
            if self._own:
                self._background.close()

    async def _live(self) -> None:
        if self._settings.insecure:
            logs.warn_plain("client", self._settings.reducer)
        state = claim(self._settings.state_dir, self._settings.name)
        try:
            self.client = state.client
            await self._work(state)
        finally:
            state.release()

    async def _work(self, state: StateDir) -> None:
        """What takes long or waits for the disk is done in a thread: others may be on this loop."""
        ledger = await asyncio.to_thread(Ledger, state.ledger, self._settings.ledger_files)
        try:
            trainer = await asyncio.to_thread(self._trainer, state)
            self._begun.set()
            await serve(self._settings, state, ledger, trainer, self._stop, self)
        finally:
            await asyncio.to_thread(ledger.close)

    def _trainer(self, state: StateDir) -> TellingTrainer:
        """Imports the helper's framework."""
        owner, settings = self._owner, self._settings
        predictions = Path(settings.predictions) if settings.predictions else state.path / "predictions"
        inner = AppTrainer(
            owner._app(), state.client, settings.hyperparameters, settings.share_errors, predictions
        )
        versions = owner._callbacks.wants(Version)
        return TellingTrainer(inner, state.client, owner._batch, owner._noise, self._teller.tell, versions)

    def observe(self, observed: Observed) -> None:
        """Implements ports.Observer."""
        self._log.observe(observed)
        fields = observed.fields
        match observed.event:
            case "attached":
                self.combiner = fields["combiner"]
            case "detached":
                self.combiner = ""
            case "settled":
                state = "counted" if fields["counted"] else "not_counted"
                self._tell_update(fields, state)
            case "refused":
                self._tell_update(fields, "refused")

    def _tell_update(self, fields: Mapping[str, Any], state: str) -> None:
        update = Update(fields["session"], fields["round"], self.client, state, reason=fields["reason"])
        self._teller.tell(update)


def _settings(given: Mapping[str, Any]) -> ClientSettings:
    for name in given:
        if name in _PACKAGES:
            raise InvalidConfig(name, "is not for a client made of functions", "leave it out")
        if name not in ClientSettings.model_fields:
            raise InvalidConfig(name, "is no setting of a client", "`fedn config show client` lists them")
    settings = load(ClientSettings, None, given)
    for name in _PROCESS:
        if name in given or (name in _LIMITS and getattr(settings, name)):
            problem = "is for a process that is the client's own; this one is yours"
            raise InvalidConfig(name, problem, "see to it in your program, or use `fedn client start`")
    return settings


def _at_least_zero(field: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise InvalidInput(field, f"{value} is out of bounds", "give 0 or more")
    return value
