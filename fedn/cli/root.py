"""`fedn`: the nouns, found lazily so that `fedn --help` is instant, and what an error looks like.

Every command raises errors of `fedn.domain.errors`; here alone they become a sentence (or JSON) on
stderr and an exit code. Nothing heavy is imported by this module.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

import fedn
from fedn.cli.options import json_option
from fedn.domain.errors import FednError, Forbidden, InvalidInput, NotFound, Unauthenticated, Unavailable

OK, FAILED, USAGE, UNAVAILABLE, NOT_FOUND, NOT_ALLOWED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

EXIT_CODES: Mapping[type[FednError], int] = {
    InvalidInput: USAGE,
    Unavailable: UNAVAILABLE,
    NotFound: NOT_FOUND,
    Unauthenticated: NOT_ALLOWED,
    Forbidden: NOT_ALLOWED,
}

COMMANDS: Mapping[str, tuple[str, str]] = {
    "sandbox": ("fedn.cli.sandbox:sandbox", "Run a whole federation on this machine and train a real model."),
    "reducer": ("fedn.cli.reducer:reducer", "Start the reducer, the top tier."),
    "combiner": ("fedn.cli.combiner:combiner", "Start a combiner, the middle tier."),
    "client": ("fedn.cli.client:client", "Start a client beside its own data."),
    "status": ("fedn.cli.status:status", "Show who is in the network and what is running."),
    "health": ("fedn.cli.health:health", "Say whether a reducer is ready, or a combiner serves."),
    "model": ("fedn.cli.model:model", "Seed, list and download models."),
    "package": ("fedn.cli.package:package", "Create, check, upload and download compute packages."),
    "run": ("fedn.cli.run:run", "Run a compute package here, as a client would."),
    "session": ("fedn.cli.session:session", "Start, list, watch, pause, resume and stop sessions."),
    "why": ("fedn.cli.why:why", "Say why a session waits, is slow, or ended as it did."),
    "events": ("fedn.cli.events:events", "Show what happened, and what happens."),
    "trail": ("fedn.cli.trail:trail", "Show and verify the model trail of a session; prune models."),
    "store": ("fedn.cli.store:store", "Check, measure, clean up and move the stores; delete a session."),
    "network": ("fedn.cli.network:network", "Make a network's identity; list and revoke its members."),
    "token": ("fedn.cli.token:token", "Create, list and revoke tokens."),
    "audit": ("fedn.cli.audit:audit", "Show and verify the audit log."),
    "whoami": ("fedn.cli.whoami:whoami", "Say who the reducer takes you for."),
    "mongo": ("fedn.cli.mongo:mongo", "Make a new MongoDB server ready for a reducer."),
    "data": ("fedn.cli.data:data", "Split a data set among simulated clients."),
    "config": ("fedn.cli.config:config", "Check a settings file; show every setting."),
    "plugins": ("fedn.cli.plugins:plugins", "List aggregators, optimizers, helpers and selectors."),
}

EPILOG = """\b
Example, each in a terminal of its own:
  fedn reducer start
  fedn combiner start
  fedn client start --app my_module:make_app
  fedn model seed seed.safetensors
  fedn session start --rounds 10 --watch

\b
Exit codes:
  0  done
  1  failed (also: a watched session failed, a trail is damaged)
  2  bad input: a flag, a file, a setting
  3  unavailable: no reducer answers, or it is not ready
  4  not found: no such session, model or round
  5  not allowed: no token, one that is not valid (any more), or a role that may not
  130  interrupted

The reducer's address is --reducer, else FEDN_URL, else http://127.0.0.1:8090. The file with your token
is --token-file, else FEDN_TOKEN_FILE; the token itself may be in FEDN_TOKEN, and never in an argument.
With --json a command prints JSON alone on stdout, and an error as JSON on stderr.
"""


class Root(click.Group):
    """Loads a command when it is asked for, and turns errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else " `fedn --help` lists all."
            raise click.UsageError(f"There is no command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        try:
            result = super().main(given, prog_name or "fedn", complete_var, standalone_mode=False, **extra)
        except Exception as error:
            sys.exit(report(error, as_json="--json" in given))
        except KeyboardInterrupt:
            sys.exit(report(click.Abort(), as_json="--json" in given))
        if standalone_mode:
            sys.exit(result if isinstance(result, int) else OK)
        return result


@click.group(cls=Root, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fedn.__version__, message="fedn %(version)s")
@json_option
def root(as_json: bool) -> None:
    """Federated learning in tiers: clients train beside their own data, combiners fold what they send,
    and the reducer commits one global model after another to a trail that anybody can verify."""


def main() -> NoReturn:
    """Entry point of the `fedn` command."""
    root.main()
    raise AssertionError("click returned")


def report(error: Exception, as_json: bool) -> int:
    """Say what went wrong on stderr, in a sentence or as JSON; returns the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):  # the reader of stdout has gone; keep Python's exit quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return USAGE
    form, code = _form(error)
    if as_json:
        click.echo(json.dumps(form, default=str), err=True)
    else:
        opening = "" if code == INTERRUPTED else "Error: "
        click.secho(f"{opening}{form['error']}", fg="red", err=True)
        if isinstance(error, click.UsageError) and error.ctx:
            click.echo(f"`{error.ctx.command_path} --help` shows how it is used.", err=True)
    return code


def _form(error: Exception) -> tuple[dict[str, Any], int]:
    if isinstance(error, click.Abort):
        return _shape("interrupted", "interrupted", 499), INTERRUPTED
    if isinstance(error, click.UsageError):
        return _shape("usage", error.format_message(), 400), USAGE
    if isinstance(error, click.ClickException):
        return _shape("failed", error.format_message(), 500), FAILED
    if isinstance(error, FednError):
        return _shape(error.code, error.message, error.status, error.details), exit_code(error)
    if isinstance(error, OSError):
        return _shape("os_error", str(error), 500), FAILED
    if os.environ.get("FEDN_TRACEBACK"):
        raise error
    text = f"{type(error).__name__}: {error} (a bug; FEDN_TRACEBACK=1 shows where)"
    return _shape("internal", text, 500), FAILED


def _shape(code: str, message: str, status: int, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"code": code, "error": message, "details": dict(details or {}), "status": status}


def exit_code(error: FednError) -> int:
    """The exit code of an error; `fedn --help` documents them."""
    for kind, code in EXIT_CODES.items():
        if isinstance(error, kind):
            return code
    return FAILED
