"""Options that commands share, and options that are made from settings and plan fields."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

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


def reducer_option(command: F) -> F:
    """--reducer, where the REST API is."""
    return click.option(
        "--reducer", "url", envvar="FEDN_URL", default=DEFAULT_URL, show_default=True, show_envvar=True,
        metavar="URL", help="Address of the reducer.",
    )(command)  # fmt: skip


def remote(command: F) -> F:
    """Both, for a command that asks the reducer."""
    return reducer_option(json_option(command))


# --- name=value ------------------------------------------------------------------------------------


def read_pairs(pairs: Iterable[str], option: str) -> dict[str, Any]:
    """``name=value`` texts as a mapping; a value that is a JSON scalar is taken as such, else as text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"'{pair}' is not name=value.", param_hint=f"'{option}'")
        found[name] = _scalar(text)
    return found


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float | str) else text


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
        chosen["config"] = read_pairs(given["config"], "--config")
    return chosen


# --- from settings ---------------------------------------------------------------------------------


def settings_options(kind: type[Settings]) -> Callable[[F], F]:
    """-c/--config and a flag for every setting of a tier; collect them with `load_settings`."""

    def decorate(command: F) -> F:
        for name, field in reversed(list(kind.model_fields.items())):
            default = field.get_default(call_default_factory=True)
            command = _setting(name, field.annotation, f"{field.description}{_shown(default)}")(command)
        file = click.Path(path_type=Path, dir_okay=False)
        words = f"Settings file, such as settings-{kind.tier}.yaml."
        return click.option("-c", "--config", "settings_file", type=file, help=words)(command)

    return decorate


def _shown(default: Any) -> str:
    if default in ("", {}, False):
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
    if typing.get_origin(annotation) is not None:
        return click.option(flag, name, multiple=True, metavar="NAME=VALUE", help=words + " Repeatable.")
    simple = {int: int, float: float, Path: click.Path(path_type=Path)}.get(annotation, str)
    return click.option(flag, name, type=simple, default=None, help=words)


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
