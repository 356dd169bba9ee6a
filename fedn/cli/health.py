"""`fedn health`: is a reducer ready or standing by, does a combiner serve? For checks of containers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote
from fedn.domain.errors import LinkBroken, Unavailable

ANSWER_SECONDS = 5.0
LOOK_SECONDS = 0.5


@click.command()
@click.option("--combiner", "address", metavar="HOST:PORT", help="Ask this combiner, not the reducer.")
@click.option("--identity", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Folder of the identity to show a combiner: its own, in its data_dir.")  # fmt: skip
@click.option("--standby", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="The reducer's standby_file: a reducer that stands by is well, too.")  # fmt: skip
@click.option("--wait", type=click.FloatRange(0, 86_400), default=0.0, metavar="SECONDS",
              help="Keep asking for so long until it is well.")  # fmt: skip
@remote
def health(
    *, address: str | None, identity: Path | None, standby: Path | None, wait: float, at: Where, as_json: bool
) -> None:
    """Say whether a reducer is ready or stands by, or a combiner serves. Exit code 0 if so, else 3.

    A reducer needs no token for it, but someone to trust: --ca-bundle with the network's ca.pem does.

    \b
    Examples:
      fedn health --reducer https://127.0.0.1:8090 --ca-bundle network/ca.pem
      fedn health --combiner 127.0.0.1:12080 --identity fedn-data/combiner/identity
      fedn health --wait 60
    """
    from fedn.reducer.standby_sign import read_sign

    if standby and (why := read_sign(standby)):
        told = {"healthy": True, "asked": str(standby), "standing_by": why}
        screen.put_json(told) if as_json else click.echo(f"Standing by: {why}.")
        return
    if address:
        _patiently(lambda: asyncio.run(_combiner(address, identity)), wait)
    else:
        _patiently(lambda: _reducer(at), wait)
    if as_json:
        screen.put_json({"healthy": True, "asked": address or at.url})
    else:
        click.echo(f"{address or at.url} is well.")


def _patiently(ask: Callable[[], None], seconds: float) -> None:
    """Ask until it is well or the time is over; raises Unavailable, and what waiting does not mend."""
    until = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except Unavailable:
            if time.monotonic() >= until:
                raise
            time.sleep(LOOK_SECONDS)


def _reducer(at: Where) -> None:
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        reducer.get("/readyz")


async def _combiner(address: str, identity: Path | None) -> None:
    """Raises LinkBroken if it does not serve."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from fedn.domain.identity import Role
    from fedn.identity.certificates import server_name
    from fedn.identity.credentials import Keyring
    from fedn.wire.channel import open_channel

    held = Keyring(identity).load() if identity else None
    if identity and held is None:
        raise LinkBroken(f"there is no identity in {identity} yet; has it joined?")
    name = server_name(Role.COMBINER, held.principal.name) if held else ""
    async with open_channel(address, held, name) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = await check(health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise LinkBroken(f"the combiner at {address} is not well: {error.details()}") from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise LinkBroken(f"the combiner at {address} does not serve just now")
