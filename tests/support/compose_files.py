"""Compose files as an engine understands them: filled in, checked against the specification, put together."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from compose_spec import PyCompose

VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:?[-?])([^{}]*))?\})")


class BadFile(Exception):
    """A compose file that an engine would refuse."""


def filled(example: Path) -> dict[str, str]:
    """What `make env` makes of .env.example: a random password for every bare `=`."""
    env: dict[str, str] = {}
    for name, value in re.findall(r"^([A-Z]\w*)=(.*)$", example.read_text(), re.MULTILINE):
        env[name] = str(_interpolated(value, env)) or secrets.token_hex(24)
    return env


def load(files: Sequence[Path], env: Mapping[str, str]) -> dict[str, Any]:
    """The name, services, networks and volumes of ``files``. Raises BadFile."""
    project: dict[str, Any] = {"services": {}, "networks": {"default": {}}, "volumes": {}}
    for file in files:
        read = _interpolated(yaml.safe_load(file.read_text()), env)
        try:
            PyCompose.from_yaml(yaml.safe_dump(read)).validate()
        except ValueError as error:
            raise BadFile(f"{file.name}: {error}") from None
        if twice := read["services"].keys() & project["services"].keys():
            raise BadFile(f"{file.name}: {twice} are in another file, too; merging them is not rehearsed")
        for kind in ("services", "networks", "volumes"):
            project[kind] |= read.get(kind) or {}
        project["name"] = read["name"]
    return project


def enabled(services: Mapping[str, Any], *profiles: str) -> dict[str, Any]:
    """Services without a profile, or with one of ``profiles``."""
    return {name: it for name, it in services.items() if {*it.get("profiles", profiles)} & {*profiles}}


def _interpolated(value: Any, env: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(item, env) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, env) for item in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    text = VARIABLE.sub(lambda found: _replaced(env, *found.groups()), value)
    return int(text) if text.isdigit() and len(text) < 6 else text


def _replaced(env: Mapping[str, str], dollar: str, name: str, operator: str | None, words: str | None) -> str:
    if dollar:
        return "$"
    value = env.get(name, "")
    if (operator or "").endswith("?") and not value:
        raise BadFile(f"required variable {name} is missing a value: {words}")
    return value or words or ""
