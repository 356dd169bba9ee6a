"""The way out: the combiner's calls on the reducer, over HTTP."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from fedn.domain.errors import FednError, Incompatible, Revoked
from fedn.domain.messages import Registration
from fedn.ports import ReducerLink

log = logging.getLogger("fedn.combiner")

REGISTER_SECONDS = 3.0
"""How often a combiner announces itself; the reducer's Watch stream, not this, shows that it lives."""


async def keep_registered(
    reducer: ReducerLink,
    registration: Registration,
    revoked: Callable[[Sequence[str]], None],
    ready: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Announce the combiner now and again, for ever: a restarted or new reducer learns of it so.

    ``ready`` is awaited each time before, and ``revoked`` told after who is. Raises what waiting does not
    mend: Incompatible, and Revoked.
    """
    known, pause = False, 0.1
    while True:
        try:
            if ready:
                await ready()
            revoked(await reducer.register(registration))
            if not known:
                log.info("registered at the reducer", extra={"combiner": registration.combiner})
            known, pause = True, 0.1
            await asyncio.sleep(REGISTER_SECONDS * random.uniform(0.8, 1.2))
        except (Incompatible, Revoked):
            raise
        except FednError as error:
            if known or pause < 0.2:
                log.warning("not registered: %s", error.message, extra={"combiner": registration.combiner})
            known, pause = False, min(REGISTER_SECONDS, pause * 2)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
