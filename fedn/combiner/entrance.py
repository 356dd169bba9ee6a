"""Where clients come in: their Attach streams, who is attached, who has fallen silent.

`driver.py` is told through `Hooks` who arrived, what was said and who left. One timer looks for the
silent, however many clients there are, and only while something is expected of any of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from fedn.combiner.clients import Attachment, Clients
from fedn.combiner.hearing import LOOKS_EACH_BEAT, silent
from fedn.combiner.limits import Limits
from fedn.combiner.members import ANYBODY, Members, check_is, revoked
from fedn.combiner.traffic import Meter
from fedn.domain import messages as m
from fedn.domain.errors import Busy, FednError, InvalidInput, Unavailable
from fedn.domain.gauges import Gauges
from fedn.domain.hosts import known
from fedn.domain.identity import Principal, Role
from fedn.domain.ids import (
    PROTOCOL_VERSION,
    ClientId,
    CombinerName,
    Incarnation,
    check_id,
    compatible,
    incompatible,
)
from fedn.domain.rates import Rates

log = logging.getLogger("fedn.combiner")

ATTACH_COST = 10
"""As so many messages counts a new stream: the reducer hears of each."""


@dataclass(frozen=True)
class Hooks:
    """Whom the entrance tells and asks. All are called on the event loop and must not block."""

    arrived: Callable[[m.ClientInfo], None]
    said: Callable[[ClientId, m.ClientMessage], None]
    left: Callable[[ClientId, str], None]
    expected: Callable[[], Iterable[ClientId]]


class Entrance:
    """The clients of one combiner, from Hello until they leave."""

    def __init__(
        self, name: CombinerName, incarnation: Incarnation, limits: Limits, gauges: Gauges, hooks: Hooks
    ) -> None:
        self.clients = Clients(limits, gauges)
        self._name, self._incarnation = name, incarnation
        self._limits = limits
        self._hooks = hooks
        self.members = Members()
        self.traffic = Meter()
        self._draining = ""
        self._greeting = 0
        self._greeting_each = Counter[str]()
        self._rates = Rates(limits.messages_per_second, limits.messages_burst, limits.max_clients)
        self._handshakes = gauges.add("handshakes", limits.handshakes, lambda: self._greeting)
        self._looking: asyncio.TimerHandle | None = None
        self._listening_since = 0.0

    # --- coming and going --------------------------------------------------------------------------

    async def attach(
        self, messages: AsyncIterator[m.ClientMessage], who: Principal = ANYBODY
    ) -> AsyncIterator[m.CombinerMessage]:
        """A client's control stream: Hello up, Welcome down, then tasks, grants and settlements."""
        self.members.check(who)
        hello = await self._greeted(messages, who)
        client = ClientId(check_id("client", hello.client))
        check_is(who, client)
        self.members.check(who)
        if self._draining:
            raise Unavailable(self._draining)
        self._count(client, ATTACH_COST)
        info = m.ClientInfo(client, hello.name[:64], known(hello.host), time.time())
        attachment = self.clients.add(info, self._now())
        self.traffic.begin(client)
        reading = asyncio.create_task(self._read(attachment, messages))
        try:
            yield m.Welcome(PROTOCOL_VERSION, self._name, self._incarnation, self._limits.beat)
            self._hooks.arrived(attachment.info)
            while (message := await attachment.outbox.get()) is not None:
                if isinstance(message, FednError):
                    raise message
                yield message
        finally:
            reading.cancel()
            self._leave(attachment)

    async def _greeted(self, messages: AsyncIterator[m.ClientMessage], who: Principal) -> m.Hello:
        if self._greeting >= self._limits.handshakes:
            raise Busy(f"{self._limits.handshakes} clients are attaching (handshakes)")
        each = self._greeting_each
        if who.role is not Role.ANYBODY and each[str(who)] >= self._limits.handshakes_each:
            raise Busy(f"{who} attaches {each[str(who)]} times at once; the most is "
                       f"{self._limits.handshakes_each}")  # fmt: skip
        self._greeting += 1
        each[str(who)] += 1
        self._handshakes.note(self._greeting)
        try:
            async with asyncio.timeout(self._limits.hello_within):
                hello = await anext(messages, None)
        except TimeoutError:
            hello = None
        finally:
            self._greeting -= 1
            each[str(who)] -= 1
            if not each[str(who)]:
                del each[str(who)]
        if not isinstance(hello, m.Hello):
            raise InvalidInput("attach", "the first message is not Hello", "announce the client first")
        if not compatible(hello.protocol):
            raise incompatible("combiner", "client", hello.protocol)
        return hello

    async def _read(self, attachment: Attachment, messages: AsyncIterator[m.ClientMessage]) -> None:
        client, ending = attachment.info.client, None
        try:
            async for message in messages:
                if self.clients.get(client) is not attachment:
                    break  # it was given up, or has a newer stream; what it holds it offers there
                self._count(client)
                attachment.heard = self._now()
                if isinstance(message, m.UpdateOffered):
                    self.traffic.received(client, len(message.inline))
                self._hooks.said(client, message)
        except FednError as error:
            log.warning("stream ended: %s", error, extra={"client": client})
            ending = error
        finally:
            attachment.end(ending)

    def _count(self, client: ClientId, cost: int = 1) -> None:
        if not self._rates.take(client, self._now(), cost):
            most = f"{self._limits.messages_per_second:g} messages a second"
            raise Busy(f"{client} says more than {most} (messages_per_second); attach again later")

    def revoke(self, members: Iterable[str]) -> None:
        """These are not members (any more): their streams end at once, and they don't come in again."""
        for name in self.members.revoke(members):
            role, _, member = name.partition(":")
            attachment = self.clients.get(ClientId(member)) if role == Role.CLIENT else None
            if attachment:
                log.warning("was revoked", extra={"client": member})
                self._leave(attachment, "was revoked")
                attachment.cut(revoked(Principal(Role.CLIENT, member)))

    def _leave(self, attachment: Attachment, why: str = "") -> None:
        if self.clients.remove(attachment):
            self.traffic.forget(attachment.info.client)
            self._hooks.left(attachment.info.client, why)

    @property
    def draining(self) -> bool:
        return bool(self._draining)

    def drain(self, reason: str) -> None:
        """Take no new clients and send the attached ones elsewhere; without a reason, take them again."""
        self._draining = reason
        if reason:
            self.clients.end_all(Unavailable(reason))

    def close(self) -> None:
        if self._looking:
            self._looking.cancel()
        self.clients.end_all()

    # --- silence -----------------------------------------------------------------------------------

    def ask(self, client: ClientId, task: m.Task) -> None:
        """Send a task; from now on this client is to be heard."""
        if attachment := self.clients.get(client):
            attachment.heard = self._now()
            attachment.send(task)
            self.traffic.sent(client, len(task.inline))
            if self._looking is None:
                self._look_later()

    def heard(self, client: ClientId, size: int) -> None:
        """So many bytes of its update have come."""
        self.traffic.received(client, size)
        if attachment := self.clients.get(client):
            attachment.heard = self._now()

    def _look_later(self) -> None:
        due = self._now() + self._limits.beat / LOOKS_EACH_BEAT
        self._looking = asyncio.get_running_loop().call_at(due, self._look, due)

    def _look(self, due: float) -> None:
        """End the streams of those who are silent. A late look blames nobody: their beats are unread."""
        self._looking, now = None, self._now()
        if now - due > self._limits.beat / 2:
            self._listening_since = now
        expected = {client: at for client in self._hooks.expected() if (at := self.clients.get(client))}
        heard = ((client, attachment.heard) for client, attachment in expected.items())
        for client, seconds in silent(heard, self._listening_since, now, self._limits.beat):
            why = f"fell silent (nothing heard for {seconds:.1f} s)"
            log.warning(why, extra={"client": client})
            self._leave(expected[client], why)  # at once: its stream may be stuck in a write
            expected[client].end()
        if expected and self._looking is None:
            self._look_later()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
