"""`fedn mongo`: make a new MongoDB server ready for a reducer."""

from __future__ import annotations

import os

import click

from fedn.cli import screen
from fedn.cli.options import json_option
from fedn.domain.errors import InvalidInput

ADMIN, USER = "FEDN_MONGO_ADMIN_PASSWORD", "FEDN_MONGO_PASSWORD"


@click.group()
def mongo() -> None:
    """Make a new MongoDB server ready for a reducer.

    Example: fedn mongo init --member mongo:27017
    """


@mongo.command()
@click.option("--at", "address", default="127.0.0.1:27017", show_default=True, metavar="HOST:PORT",
              help="The server; for the first time over its own loopback.")  # fmt: skip
@click.option("--member", required=True, metavar="HOST:PORT", help="What reducers call the server.")
@click.option("--admin", default="admin", show_default=True, help="The administrator to add.")
@click.option("--user", default="fedn", show_default=True, help="The reducer's login.")
@click.option("--database", default="fedn", show_default=True, help="The database that it may use.")
@json_option
def init(address: str, member: str, admin: str, user: str, database: str, as_json: bool) -> None:
    """Make a server a replica set of one, with an administrator and a login for reducers.

    What is there already stays; the login's password is set anew. The passwords are FEDN_MONGO_ADMIN_PASSWORD
    and FEDN_MONGO_PASSWORD in the environment. For several servers use MongoDB's own tools.

    Example: fedn mongo init --member mongo:27017
    """
    from fedn.stores.mongo_server import Login, prepare_server

    logins = Login(admin, _password(ADMIN)), Login(user, _password(USER))
    prepare_server(address, member, *logins, database)
    if as_json:
        screen.put_json({"member": member, "user": user, "database": database})
    else:
        click.echo(f"{member} is ready: {user} may use its database {database}.")


def _password(variable: str) -> str:
    if text := os.environ.get(variable, ""):
        return text
    raise InvalidInput(variable, "is not set", "put the password into the environment")
