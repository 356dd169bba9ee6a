"""Which part of the network a session may use: the machine of `driver.py` sees no more than that.

Clients take part that have checked that they can (`checking.py`); and where the parts of several combiners
would not merge, only those of one combiner (`homing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedn.domain.ids import ClientId, SessionId
from fedn.domain.plan import Plan
from fedn.ports import StateStore
from fedn.reducer.books import Hindrances
from fedn.reducer.checking import Checking
from fedn.reducer.homing import home_of, homed, left_out
from fedn.reducer.network import Network
from fedn.reducer.validating import Find, SpecFor

MAX_UNFIT = 1000
"""Clients that could not take part of which that is remembered; of more, the first are forgotten."""


class Eligible:
    """One session's. ``changed`` is called when somebody may take part, or is found not to."""

    def __init__(
        self,
        session: SessionId,
        plan: Plan,
        mergeable: bool,
        store: StateStore,
        find: Find,
        spec_for: SpecFor,
        tell: Callable[..., None],
        *,
        hindrances: Hindrances,
        changed: Callable[[], None],
    ) -> None:
        self._session = session
        self._plan = plan
        self._mergeable = mergeable
        self._hindrances = hindrances
        self._home = ""
        self._tell = tell
        self._ever_unfit: dict[ClientId, str] = {}
        self._checking = Checking(session, store, find, spec_for, self._told, changed) if plan.check else None

    def read_known(self) -> None:
        """Who was found fit before a restart. Blocking."""
        if self._checking:
            self._checking.read_known()

    def seen(self, network: Network) -> Network:
        """The network has changed; returns what the session may use of it."""
        return self._offered(self._checking.seen(network) if self._checking else network)

    def checked(self) -> Network:
        """A client has said whether it can; returns what the session may use now."""
        assert self._checking
        self._hindrances.note("check", self._checking.reason)
        return self._offered(self._checking.view)

    def _offered(self, network: Network) -> Network:
        if self._mergeable:
            return network
        self._home = home_of(network, self._session, self._home)
        self._hindrances.note("home", left_out(network, self._home, self._plan.aggregator))
        return homed(network, self._home)

    def _told(self, event: str, **fields: Any) -> None:
        client = fields["client"]
        self._ever_unfit.pop(client, None)
        if event == "client_unfit":
            self._ever_unfit[client] = fields["reason"]
            if len(self._ever_unfit) > MAX_UNFIT:
                del self._ever_unfit[next(iter(self._ever_unfit))]
        self._tell(event, **fields)

    @property
    def unfit(self) -> Mapping[ClientId, str]:
        """Who is here and can't take part, and why."""
        return self._checking.unfit if self._checking else {}

    @property
    def ever_unfit(self) -> Mapping[ClientId, str]:
        """Who was found not to be able to take part and never since that they are, and why; also who left."""
        return dict(self._ever_unfit)

    def stop(self) -> None:
        """The session has ended: nobody is asked any more."""
        if self._checking:
            self._checking.stop()

    async def close(self) -> None:
        if self._checking:
            await self._checking.close()
