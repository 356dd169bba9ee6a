"""YAML from strangers: plain mappings, lists and scalars, bounded before they are built."""

from __future__ import annotations

import re
from typing import Any

import yaml

from fedn.domain.errors import InvalidInput

MAX_TEXT_BYTES = 64 * 2**10
MAX_EVENTS, MAX_DEPTH = 4096, 8


def read_yaml(name: str, text: str | bytes) -> Any:
    """The value in a YAML text called ``name``.

    Raises:
        InvalidInput: naming it, for what is too long, too deep, no YAML, or uses tags, anchors or aliases.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_TEXT_BYTES:
        raise InvalidInput(name, f"is longer than {MAX_TEXT_BYTES} bytes", "it need not say so much")
    try:
        decoded = raw.decode("utf-8")
        _check_events(name, decoded)
        return yaml.load(decoded, _Loader)  # noqa: S506 — a SafeLoader
    # Dates that are none and numbers beyond all bounds come out as ValueError and OverflowError.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(name, f"is not YAML ({_said(error)})", "write lines of 'key: value'") from None


def _check_events(name: str, text: str) -> None:
    """Walk through the text without building anything of it."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, _Loader)):
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            problem = "uses an anchor or an alias (& or *)"
            raise InvalidInput(name, problem, "write the value out, or put it in quotes")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            raise InvalidInput(name, "uses a tag (!)", "leave it out, or put the value in quotes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if count > MAX_EVENTS or depth > MAX_DEPTH:
            problem = f"holds more than {MAX_EVENTS} values, or some more than {MAX_DEPTH} deep"
            raise InvalidInput(name, problem, "it need not say so much")


def _said(error: Exception) -> str:
    """What was wrong, and in which line, without the text around it."""
    words = str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        words = f"line {error.problem_mark.line + 1}: {error.problem}"
    return "".join(letter if letter.isprintable() else " " for letter in words)[:300]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, and reads 1e-3 as the number that everybody means by it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value[:80]!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+\Z"),
    list("-+.0123456789"),
)  # fmt: skip
