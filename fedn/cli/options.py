"""Options that commands share, and options that are made from settings and plan fields."""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fedn.domain.errors import InvalidInput
from fedn.domain.plan import plan_fields

if TYPE_CHECKING:
    from fedn.config import Settings

DEFAULT_URL = "http://127.0.0.1:8090"
F = TypeVar("F", bound=Callable[..., Any])


def _inherit(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    return value or bool(ctx.find_root().params.get("as_json"))


def json_option(command: F) -> F:
    """--json, also when it was given before the command's name."""
    return click.option(
        "--json", "as_json", is_flag=True, callback=_inherit, help="Print JSON alone on stdout."
    )(command)


@dataclass(frozen=True, slots=True)
class Where:
    """A reducer as a command was told of it: its address, and where the token lies that it is shown.

    There is no option that takes a token itself: the arguments of a process can be seen by other users.
    """

    url: str
    token_file: Path | None = None
    ca_bundle: str = ""


def remote(command: Callable[..., Any]) -> Callable[..., Any]:
    """For a command that asks the reducer: --json, and what it takes to reach it, as ``at: Where``."""

    @wraps(command)
    def asked(*, url: str, token_file: Path | None, ca_bundle: str, **given: Any) -> Any:
        return command(at=Where(url, token_file, ca_bundle), **given)

    file = click.Path(path_type=Path, dir_okay=False)
    for option in (
        click.option(
            "--ca-bundle", envvar="FEDN_CA_BUNDLE", default="", show_envvar=True, metavar="FILE",
            help="Certificates to trust instead of the network's own: a company's, in PEM.",
        ),
        click.option(
            "--token-file", type=file, metavar="FILE",
            help="File with your token; else FEDN_TOKEN_FILE, else the token itself in FEDN_TOKEN.",
        ),
        click.option(
            "--reducer", "url", envvar="FEDN_URL", default=DEFAULT_URL, show_default=True, show_envvar=True,
            metavar="URL", help="Address of the reducer.",
        ),
    ):  # fmt: skip
        asked = option(asked)
    return json_option(asked)


def confirm(question: str) -> None:
    """Ask at a terminal, on stderr; exit code 1 after a no, and InvalidInput where nobody can answer."""
    if not sys.stdin.isatty():
        raise InvalidInput("--yes", "is missing, and there is no terminal to ask at", "add --yes to go on")
    if not click.confirm(question, err=True):
        click.echo("Nothing was changed.", err=True)
        raise click.exceptions.Exit(1)


# --- name=value ------------------------------------------------------------------------------------


def read_pairs(pairs: Iterable[str], option: str) -> dict[str, Any]:
    """``name=value`` texts as a mapping; a value that is a JSON scalar is taken as such, else as text."""
    return {name: _scalar(text) for name, text in (_pair(pair, option) for pair in pairs)}


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float | str) else text


def read_config(pairs: Iterable[str]) -> dict[str, Any]:
    """Hyperparameters as `read_pairs`; one that changes is a JSON object such as {"1": 0.1, "10": 0.01}."""
    return {name: _schedule(text) for name, text in (_pair(pair, "--config") for pair in pairs)}


def _schedule(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else _scalar(text)


def read_labels(pairs: Iterable[str], option: str) -> dict[str, str]:
    """``name=value`` texts as a mapping of texts."""
    return dict(_pair(pair, option) for pair in pairs)


def _pair(pair: str, option: str) -> tuple[str, str]:
    name, equals, text = pair.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"'{pair}' is not name=value.", param_hint=f"'{option}'")
    return name, text


# --- from plan fields ------------------------------------------------------------------------------


def plan_options(command: F) -> F:
    """An option for every field of the compute plan; collect them with `plan_values`."""
    for name, kind, default, metadata in reversed(list(plan_fields())):
        command = _plan_option(name, kind, default, metadata)(command)
    return command


def _plan_option(name: str, kind: type, default: Any, metadata: Mapping[str, Any]) -> Callable[[F], F]:
    flag = "--" + name.replace("_", "-")
    words = str(metadata["doc"]).replace("`", "")
    if kind is dict:
        words += " Repeatable."
        return click.option(flag, name, multiple=True, metavar="NAME=VALUE", help=words)
    if default != "":
        words += f"  [default: {str(default).lower() if kind is bool else default}]"
    if kind is bool:
        return click.option(f"{flag}/--no-{name.replace('_', '-')}", name, default=None, help=words)
    choices = metadata.get("choices")
    return click.option(flag, name, type=click.Choice(choices) if choices else kind, default=None, help=words)


def plan_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The plan fields among a command's parameters that were really given."""
    values = {name: given[name] for name, kind, *_ in plan_fields() if kind is not dict}
    chosen = {name: value for name, value in values.items() if value is not None}
    if given["config"]:
        chosen["config"] = read_config(given["config"])
    return chosen


def planned(file: Path | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """The plan fields in a YAML file, and over them ``values``; hyperparameters one by one."""
    if file is None:
        return dict(values)
    from fedn.config import read_yaml

    written = read_yaml(file)
    config, more = written.get("config", {}), values.get("config", {})
    if isinstance(config, dict):
        config = {**config, **more}
    return {**written, **values, "config": config}  # one that is no mapping is refused with the plan


# --- from settings ---------------------------------------------------------------------------------


def settings_options(kind: type[Settings]) -> Callable[[F], F]:
    """-c/--config and a flag for every setting of a tier; collect them with `load_settings`."""

    def decorate(command: F) -> F:
        for name, field in reversed(list(kind.model_fields.items())):
            default = field.get_default(call_default_factory=True)
            words = f"{field.description}{_shown(default)}"
            if is_secret(default):
                words = f"{field.description} Other users can see arguments: better give --{name}-file."
            command = _setting(name, field.annotation, words)(command)
        file = click.Path(path_type=Path, dir_okay=False)
        words = f"Settings file, such as settings-{kind.tier}.yaml."
        return click.option("-c", "--config", "settings_file", type=file, help=words)(command)

    return decorate


def is_secret(value: Any) -> bool:
    """Whether a setting's value is never to be shown."""
    return hasattr(value, "get_secret_value")


def _shown(default: Any) -> str:
    if default in ("", {}, [], False):
        return ""
    return f"  [default: {default}]"


def _setting(name: str, annotation: Any, words: str) -> Callable[[F], F]:
    flag = "--" + name.replace("_", "-")
    if annotation is bool:
        off = "" if name.startswith("insecure") else f"/--no-{name.replace('_', '-')}"
        return click.option(flag + off, name, is_flag=True, default=None, help=words)
    if typing.get_origin(annotation) is typing.Literal:
        choice = click.Choice(typing.get_args(annotation))
        return click.option(flag, name, type=choice, default=None, help=words)
    if typing.get_origin(annotation) is Sequence:
        return click.option(flag, name, multiple=True, callback=_listed, help=words + " Repeatable.")
    if typing.get_origin(annotation) is not None:
        return click.option(flag, name, multiple=True, metavar="NAME=VALUE", help=words + " Repeatable.")
    simple = {int: int, float: float, Path: click.Path(path_type=Path)}.get(annotation, str)
    return click.option(flag, name, type=simple, default=None, help=words)


def _listed(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[str] | None:
    """What was given; None for nothing. As a list, which tells it from the pairs of a mapping."""
    return list(value) or None


S = TypeVar("S", bound="Settings")


def load_settings(kind: type[S], file: Path | None, given: Mapping[str, Any]) -> S:
    """Settings from file, environment and the flags that were really given."""
    from fedn.config import load

    return load(kind, file, given_settings(given))


def given_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were really given, by field name."""
    chosen = {name: value for name, value in given.items() if value is not None and value != ()}
    for name, value in chosen.items():
        if isinstance(value, tuple):
            chosen[name] = read_pairs(value, "--" + name.replace("_", "-"))
    return chosen
