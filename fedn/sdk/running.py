"""A `fedn.fit` under way, in this process or on a network; to whoever watches both are the same."""

from __future__ import annotations

import asyncio
import logging
import queue
import tempfile
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, Self

from fedn.aggregation.dtypes import Array
from fedn.client.trainer import AppTrainer
from fedn.domain.errors import FednError
from fedn.domain.ids import ClientId
from fedn.identity.credentials import Keyring
from fedn.ports import Observed, SessionInfo, Tensors
from fedn.reducer.metrics import mean_metrics
from fedn.sdk.background import Background
from fedn.sdk.client import Client
from fedn.sdk.facts import ENDED, Fact
from fedn.sdk.federation import InProcess
from fedn.sdk.network import Network
from fedn.sdk.owners import OwnerApp
from fedn.sdk.session import Session
from fedn.stores.files import FileModels

_log = logging.getLogger("fedn.sdk")
_hushed: deque[str] = deque(maxlen=100)
"""Sessions that a failure ends: it is raised, with what the owner's function raised as its cause."""
_ENDINGS = {f"session_{state}": state for state in ENDED}


def _logged(record: logging.LogRecord) -> bool:
    """Not what is raised anyway, also by threads that outlast it; a failed validation ends nothing."""
    what = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
    fatal = record.levelno >= logging.ERROR and "validate" not in what
    return not (fatal and getattr(record, "session", "") in _hushed)


for _source in ("fedn.client", "fedn.client.trainer"):
    logging.getLogger(_source).addFilter(_logged)


class Running(Protocol):
    """A session with its data owners, from `__enter__` to `__exit__`, which ends it if it has not ended."""

    title: str
    owners: int
    """How many there are, here and elsewhere."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def facts(self) -> Iterator[Fact]:
        """What happens; the last one is session_ended."""

    def tensors(self, round: int) -> dict[str, Array]:
        """The model that a round committed."""

    def train_means(self, round: int) -> Mapping[str, float]:
        """Example-weighted means of the training metrics of a round."""

    def out(self) -> Mapping[str, str]:
        """Which of the owners that run here can't do what is asked just now, and why."""


class Locally:
    """A federation in this process: `fedn.sdk.federation`, on an event loop of its own.

    Models and updates are in a temporary folder, the trail in memory; all of it is gone in the end.
    """

    title = "fit"

    def __init__(
        self, seed: Tensors, apps: Mapping[str, OwnerApp], combiners: int, plan: Mapping[str, Any]
    ) -> None:
        self.owners = len(apps)
        self._seed = seed
        self._apps = apps
        self._combiners = combiners
        self._plan = plan
        self._heard: queue.SimpleQueue[Observed] = queue.SimpleQueue()
        self._network: InProcess
        self._info: SessionInfo
        self._left = AsyncExitStack()
        self._everybody = asyncio.Event()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="fedn-fit-", ignore_cleanup_errors=True)
        self._background = Background("fedn-fit")
        try:
            self._info = self._background.submit(self._begin(Path(self._folder.name))).result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._background.submit(self._left.aclose()).result()
        finally:
            self._background.close()
            self._folder.cleanup()

    async def _begin(self, folder: Path) -> SessionInfo:
        models = FileModels(folder / "models", durable=False)
        self._network = await self._left.enter_async_context(InProcess(folder, self, models))
        for number in range(self._combiners):
            await self._network.add_combiner(f"combiner-{number + 1}")
        for name, app in self._apps.items():
            trainer = AppTrainer(app, ClientId(name), share_errors=True, called=name)
            await self._network.run_client(name, trainer)
        await self._everybody.wait()
        return await self._network.start_session(self._seed, **self._plan)

    def observe(self, observed: Observed) -> None:
        """Implements ports.Observer. Where all owners are needed, who fails ends the session."""
        if observed.event == "session_started" and self._plan["min_clients"] >= len(self._apps):
            _hushed.append(observed.fields["session"])
        if observed.event == "network_changed" and observed.fields["clients"] >= len(self._apps):
            self._everybody.set()
        self._heard.put(observed)

    def facts(self) -> Iterator[Fact]:
        session, told = self._info.session, dict[str, Any]()
        yield Fact("session", {"state": self._info.state, "rounds": self._info.plan.rounds})
        while True:
            heard = self._heard.get()
            fields = dict(heard.fields)
            if fields.get("session") != session:
                continue
            match heard.event:
                case "round_opened" | "update_received":
                    told |= {"received": 0, **fields}
                    yield Fact("progress", {name: told[name] for name in ("round", "received", "expected")})
                case "waiting" if self.out():  # else only for what comes by itself, in one process
                    yield Fact("waiting", fields)
                case "round_committed":
                    yield Fact("round_committed", {**fields, **self._committed(fields["round"])})
                case "round_validated":
                    yield Fact("round_validated", fields)
                case ended if ended in _ENDINGS:
                    head = self._network.state.session(session).head
                    state = {"state": _ENDINGS[ended], "reason": fields.get("reason", "")}
                    yield Fact("session_ended", {**state, "round": head.round, "model": head.model})
                    return

    def _committed(self, number: int) -> dict[str, Any]:
        record = self._network.state.record(self._info.session, number).record
        return {
            "contributors": len(record.contributors),
            "examples": sum(one.examples for one in record.contributors),
            "refused": [{"client": one.client, "reason": one.reason} for one in record.refused],
            "lost": [{"client": one.client, "reason": one.reason} for one in record.lost],
        }

    def tensors(self, round: int) -> dict[str, Array]:
        record = self._network.state.record(self._info.session, round).record
        return self._network.tensors(record.model)

    def train_means(self, round: int) -> Mapping[str, float]:
        rows = self._network.state.metrics(self._info.session, after=round - 1)
        return mean_metrics(row for row in rows if (row.round, row.kind) == (round, "train"))

    def out(self) -> Mapping[str, str]:
        return _out(self._network.reducer.progress(self._info.session), self._apps)


class OnNetwork:
    """A session on a network, with owners that run here as clients of it, or are attached already."""

    def __init__(
        self, network: Network, seed: Tensors, apps: Mapping[str, OwnerApp], others: Collection[str],
        state_dir: Path, plan: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """``others`` are the names of clients that are, or will be, attached."""
        self.owners = len(apps) + len(others)
        self._network = network
        self._seed = seed
        self._apps = apps
        self._others = others
        self._state_dir = state_dir
        self._plan = plan
        self._clients: dict[str, Client] = {}
        self._background: Background | None = None
        self._session: Session | None = None
        self._ended = False
        self.title = "fit"

    def __enter__(self) -> Self:
        try:
            if self._apps:
                self._background = Background("fedn-fit")
            for name, app in self._apps.items():
                client = self._clients[name] = self._client(name, app, self._background)
                client.start()
            self._network.wait_for([*self._others, *(client.client for client in self._clients.values())])
            self._session = self._network.start(
                model=self._seed, name="fedn.fit", progress=False, **self._plan
            )
        except BaseException:
            self.__exit__()
            raise
        self.title = f"session {self._session.id}"
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._session is not None and not self._ended:
                self._session.stop()
        except FednError as error:
            _log.warning("the session could not be stopped: %s", error.message)
        finally:
            for client in self._clients.values():
                client.stop()
            if self._background is not None:
                self._background.close()

    def _client(self, name: str, app: OwnerApp, background: Background | None) -> Client:
        network, join = self._network, None
        if network.url.startswith("https:") and not Keyring(self._state_dir / name / "identity").load():
            join = network.join_token(name)
        client = Client(
            network.url, name=name, join=join, ca_bundle=network.ca_bundle or None,
            state_dir=self._state_dir, background=background,
        )  # fmt: skip
        client.train(app.train)
        client.check(app.check)
        if hasattr(app, "validate"):
            client.validate(app.validate)
        return client

    def facts(self) -> Iterator[Fact]:
        for fact in self._at.facts():
            self._ended = fact.event == "session_ended"
            yield fact

    def tensors(self, round: int) -> dict[str, Array]:
        return self._at.model(round)

    def train_means(self, round: int) -> Mapping[str, float]:
        return self._at.means(after=round - 1).get(round, {}).get("train", {})

    def out(self) -> Mapping[str, str]:
        ids = {client.client: name for name, client in self._clients.items()}
        return {ids[one]: why for one, why in _out(self._at.info()["progress"], ids).items()}

    @property
    def _at(self) -> Session:
        assert self._session is not None
        return self._session


def _out(progress: Mapping[str, Any], ours: Collection[str]) -> dict[str, str]:
    """Of ``ours``, those that can't take part or gave the open round no update, while it waits for more."""
    if progress.get("state") not in ("waiting", "running") or not progress.get("reason"):
        return {}
    told = {**progress.get("lost", {}), **progress.get("refused", {}), **progress.get("unfit", {})}
    return {client: why for client, why in told.items() if client in ours}
