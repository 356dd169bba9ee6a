"""How settings are filled: from a file, over it the environment, over that flags."""

from __future__ import annotations

import difflib
import os
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ByteSize, SecretStr, ValidationError

from fedn.config.base import HIDDEN, LogLevel, Settings
from fedn.domain.errors import InvalidConfig
from fedn.domain.urls import holds_secret

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Given:
    """A value as somebody gave it, and where: a file, a variable or a flag."""

    value: Any = field(repr=False)
    where: str


def load(
    kind: type[S],
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> S:
    """Settings from ``file``, over it the environment, over that ``overrides`` (flags by field name).

    ``environ`` stands in for ``os.environ`` in tests.

    Raises:
        InvalidConfig: naming the key, where it stands, what is wrong and what to do.
    """
    given = gather(kind, file, overrides or {}, os.environ if environ is None else environ)
    try:
        return kind.model_validate({name: item.value for name, item in given.items()})
    except ValidationError as error:
        raise _explain(kind, error, given) from None


def gather(
    kind: type[Settings], file: Path | None, overrides: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, Given]:
    """Every value that was given, by field; names are checked, values are not yet."""
    given: dict[str, Given] = {}
    if file is not None:
        for key, value in read_yaml(file).items():
            _known(kind, key, f"in {file}", key)
            given[key] = Given(value, f"in {file}")
    prefix = f"FEDN_{kind.tier.upper()}_"
    for variable in sorted(name for name in environ if name.upper().startswith(prefix)):
        key = variable[len(prefix) :].lower()
        _known(kind, key, "in the environment", variable)
        given[key] = Given(_from_text(kind, key, environ[variable]), f"in the environment ({variable})")
    for key, value in overrides.items():
        flag = "--" + key.replace("_", "-")
        _known(kind, key, "on the command line", flag)
        given[key] = Given(value, f"on the command line ({flag})")
    return given


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file (empty if the file is); raises InvalidConfig."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 — a SafeLoader
    except OSError as error:
        raise InvalidConfig(str(file), f"can't be read ({error.strerror})", "check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise InvalidConfig(str(file), f"is not YAML ({problem})", "write lines of 'key: value'") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InvalidConfig(str(file), "does not hold settings", "write lines of 'key: value'")
    return content


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, value in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", value.start_mark
                )
        return super().construct_mapping(node, deep)


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion in words, such as "did you mean 'port'?", or ''."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def _known(kind: type[Settings], key: str, where: str, shown: str) -> None:
    if key in kind.model_fields:
        return
    remedy = nearest(key, kind.model_fields) or f"known are {', '.join(kind.model_fields)};"
    raise InvalidConfig(
        shown,
        f"is not a setting of the {kind.tier} ({where})",
        f"{remedy} `fedn config show {kind.tier}` lists all",
    )


def _from_text(kind: type[Settings], key: str, text: str) -> Any:
    """An environment variable's text as the type of its field, as far as it can be read."""
    annotation = kind.model_fields[key].annotation
    if annotation is bool:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.lower(), text
        )
    if annotation in (int, float) or typing.get_origin(annotation) is not None:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


_WORDS: Mapping[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path",
    SecretStr: "a text",
    Sequence[str]: "a list of texts",
    ByteSize: "a number of bytes such as 1000000 or 4GiB", LogLevel: "debug, info, warning or error",
}  # fmt: skip


def _explain(kind: type[Settings], error: ValidationError, given: Mapping[str, Given]) -> InvalidConfig:
    """The first thing that pydantic found, in our words."""
    found = error.errors(include_url=False)[0]
    key = str(found["loc"][0])
    setting = kind.model_fields[key]
    words = _WORDS.get(setting.annotation, "names with plain values")
    shown = HIDDEN if is_secret(kind, key) else repr(found["input"])
    problem = f"{shown} is not {words}"
    if found["type"].startswith(("greater_than", "less_than")):
        words = str(found["msg"]).removeprefix("Input should be ")
        problem = f"{shown} is out of bounds"
    return InvalidConfig(key, f"{problem} ({given[key].where})", f"give {words}. {setting.description}")


def exposed(kind: type[Settings], file: Path | None) -> str:
    """A warning in words, where ``file`` holds a secret that everybody on this machine may read; or ''."""
    if file is None or os.name != "posix" or not file.stat().st_mode & 0o004:
        return ""
    values = read_yaml(file).items()
    held = [name for name, value in values if is_secret(kind, name) or holds_secret(str(value))]
    return f"{file} holds {held[0]}, and everybody here may read it; chmod 600 {file}" if held else ""


def is_secret(kind: type[Settings], key: str) -> bool:
    """Whether a setting's value must not be shown."""
    return key in kind.model_fields and kind.model_fields[key].annotation is SecretStr
