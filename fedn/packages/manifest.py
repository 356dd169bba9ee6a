"""`fedn.yaml`: what a compute package can do, read and checked. `archive` finds it, `client` acts on it.

The form in JSON (`Manifest.as_dict`) is that of the file, with a requirements file replaced by its lines.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fedn.domain.errors import InvalidInput
from fedn.domain.ids import check_id
from fedn.domain.plan import MAX_HYPERPARAMETERS, RESERVED, Scalar
from fedn.packages.paths import check_path
from fedn.packages.text import MAX_TEXT_BYTES, read_yaml

MANIFEST = "fedn.yaml"
TASKS = ("train", "validate", "predict")
PYTHON_ONLY = ("startup", "build", "check")
PLACEHOLDERS = ("model_in", "model_out", "metrics_out", "data", "config", "output")
"""What a command may name in <…>."""
DEFAULT_HELPER = "numpy"
MAX_TIMEOUT = 604_800.0
MAX_REQUIREMENTS = 200

Files = Callable[[str], bytes | None]
"""The first `MAX_TEXT_BYTES` + 1 bytes of a package's file by its path; None if there is no such file."""

_KEYS = ("name", "description", "helper", "entry_points", "hyperparameters", "requirements", "timeout")
_PLACEHOLDER = re.compile(r"<(\w+)>")
_TARGET = re.compile(r"([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*):[A-Za-z_][A-Za-z0-9_]*")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One thing a package can do: ``target`` is a command, or ``module:function`` in the package."""

    kind: Literal["command", "python"]
    target: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked `fedn.yaml`. ``timeout`` is in seconds, for commands; None for none."""

    name: str
    entry_points: Mapping[str, EntryPoint]
    description: str = ""
    helper: str = DEFAULT_HELPER
    hyperparameters: Mapping[str, Scalar] = field(default_factory=lambda: MappingProxyType({}))
    requirements: tuple[str, ...] = ()
    timeout: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON form; `manifest_from` reads it back."""
        return {
            "name": self.name,
            "description": self.description,
            "helper": self.helper,
            "entry_points": {
                name: point.target if point.kind == "command" else {"python": point.target}
                for name, point in self.entry_points.items()
            },
            "hyperparameters": dict(self.hyperparameters),
            "requirements": list(self.requirements),
            "timeout": self.timeout,
        }


def read_manifest(source: str | bytes | Path, files: Files | None = None) -> Manifest:
    """The manifest in a text, or in a package's folder.

    Of a folder, and with ``files``, the Python files and the requirements file that it names must be there;
    a text alone may name no requirements file.

    Raises:
        InvalidInput: naming the field as in ``fedn.yaml: entry_points.train``.
    """
    if isinstance(source, Path):
        files = _in_folder(source)
        source = found(files)
    return manifest_from(read_yaml(MANIFEST, source), files)


def found(files: Files) -> bytes:
    """The text of a package's manifest. Raises InvalidInput if there is none."""
    if (text := files(MANIFEST)) is None:
        remedy = f"write a {MANIFEST} at the top of the package; `fedn package init` makes one to start from"
        raise InvalidInput("package", f"has no {MANIFEST}", remedy)
    return text


def manifest_from(values: object, files: Files | None = None) -> Manifest:
    """Build a manifest from plain values, such as those of `Manifest.as_dict`; see `read_manifest`."""
    given = _mapping("", values)
    _known("", given, _KEYS, "key")
    for name in ("name", "entry_points"):
        if given.get(name) is None:
            raise _wrong(name, "is missing", f"give {_EXAMPLES[name]}")
    given = {name: value for name, value in given.items() if value is not None}
    points = _entry_points(given["entry_points"])
    if files is not None:
        _check_modules(points, files)
    return Manifest(
        name=check_id(_field("name"), _text("name", given["name"], 64)),
        entry_points=points,
        description=_line("description", given.get("description", "")),
        helper=check_id(_field("helper"), _text("helper", given.get("helper", DEFAULT_HELPER), 64)),
        hyperparameters=_hyperparameters(given.get("hyperparameters", {})),
        requirements=_requirements(given.get("requirements", []), files),
        timeout=_timeout(given.get("timeout")),
    )


# --- entry points ----------------------------------------------------------------------------------


def _entry_points(value: object) -> Mapping[str, EntryPoint]:
    given = _mapping("entry_points", value)
    _known("entry_points.", given, TASKS + PYTHON_ONLY, "entry point")
    if "train" not in given:
        raise _wrong("entry_points.train", "is missing", f"give {_EXAMPLES['train']}")
    points = {name: _entry_point(name, item) for name, item in given.items()}
    if not any(name in points and points[name].kind == "python" for name in TASKS):
        for name in ("startup", "build"):
            if name in points:
                problem = "goes with Python entry points, and this package has none"
                raise _wrong(f"entry_points.{name}", problem, f"write train as {_PYTHON}, or leave it out")
    return MappingProxyType(points)


_PYTHON = '{python: "module:function"}'
_EXAMPLES = {
    "name": "a name such as mnist-keras",
    "entry_points": "at least entry_points: {train: …}",
    "train": f"a command, or {_PYTHON}",
}


def _entry_point(name: str, value: object) -> EntryPoint:
    field = f"entry_points.{name}"
    if isinstance(value, Mapping):
        _known(f"{field}.", _mapping(field, value), ("python",), "key")
        target = _text(f"{field}.python", value.get("python"), 200)
        if not _TARGET.fullmatch(target):
            raise _wrong(f"{field}.python", f"{target!r} names no function", 'give "module:function"')
        return EntryPoint("python", target)
    command = _text(field, value, 4096)
    if name in PYTHON_ONLY:
        raise _wrong(field, "is a command, and can only be a Python function", f"give {_PYTHON}")
    for placeholder in _PLACEHOLDER.findall(command):
        if placeholder not in PLACEHOLDERS:
            known = ", ".join(f"<{one}>" for one in PLACEHOLDERS)
            remedy = f"{_nearest(placeholder, PLACEHOLDERS, '<{}>')}known are {known}"
            raise _wrong(field, f"<{placeholder}> is not a placeholder", remedy)
    return EntryPoint("command", command)


def _check_modules(points: Mapping[str, EntryPoint], files: Files) -> None:
    for name, point in points.items():
        if point.kind != "python":
            continue
        path = point.target.partition(":")[0].replace(".", "/")
        if files(f"{path}.py") is None and files(f"{path}/__init__.py") is None:
            problem = f"the package has neither {path}.py nor {path}/__init__.py"
            raise _wrong(f"entry_points.{name}", problem, "name a module that is a file of the package")


# --- the other fields ------------------------------------------------------------------------------


def _hyperparameters(value: object) -> Mapping[str, Scalar]:
    given = _mapping("hyperparameters", value)
    if len(given) > MAX_HYPERPARAMETERS:
        raise _wrong("hyperparameters", f"are {len(given)}", f"give at most {MAX_HYPERPARAMETERS}")
    capitals = {name.upper(): name for name in RESERVED}
    for name, default in given.items():
        field = f"hyperparameters.{name[:80]}"
        if not _PARAMETER.fullmatch(name):
            raise _wrong(field, "is not a valid name", "use 1–64 letters, digits or '_', no digit first")
        if name in RESERVED:
            raise _wrong(field, "is set by the system", "choose another name")
        if (other := capitals.setdefault(name.upper(), name)) != name:
            problem = (
                f"differs from {other} only in its capitals, and both would be FEDN_CONFIG_{name.upper()}"
            )
            raise _wrong(field, problem, "choose another name")
        if isinstance(default, str):
            _text(field, default, 4096, blank=True)
        elif type(default) not in (bool, int, float):
            problem = f"its default is {_word(default)}"
            raise _wrong(field, problem, "give a number, a boolean or a text")
        elif not isinstance(default, bool) and not (math.isfinite(default) and abs(default) < 2**63):
            raise _wrong(field, "its default is not finite, or too large", "give a smaller number")
    return MappingProxyType(dict(given))


def _requirements(value: object, files: Files | None) -> tuple[str, ...]:
    field = "requirements"
    if isinstance(value, str):
        field, value = f"requirements ({value[:80]})", _lines(value, files)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(field, f"is {_word(value)}", "give a list such as [numpy>=1.26], or the name of a file")
    if len(value) > MAX_REQUIREMENTS:
        raise _wrong(field, f"names {len(value)}", f"give at most {MAX_REQUIREMENTS}")
    return tuple(_requirement(field, item) for item in value)


def _lines(name: str, files: Files | None) -> list[str]:
    text = files(check_path(name)) if files else None
    if text is None:
        remedy = "give the name of a file in the package, or a list such as [numpy>=1.26]"
        raise _wrong("requirements", f"the package has no file {name[:80]!r}", remedy)
    if len(text) > MAX_TEXT_BYTES:
        raise _wrong("requirements", f"{name} is longer than {MAX_TEXT_BYTES} bytes", "name fewer")
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise _wrong("requirements", f"{name} is not text in UTF-8", "save it as UTF-8") from None
    without_comments = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
    return [line for line in without_comments if line]


def _requirement(field: str, text: str) -> str:
    remedy = "give names and versions alone, such as numpy>=1.26"
    try:
        requirement = Requirement(_text(field, text, 500))
    except (InvalidRequirement, RecursionError):
        raise _wrong(field, f"{text[:80]!r} is not a requirement", remedy) from None
    if canonicalize_name(requirement.name) == "fedn":
        raise _wrong(field, f"{text[:80]!r} would put another fedn in the client's place", "leave it out")
    if requirement.url:
        raise _wrong(field, f"{text[:80]!r} names an address", remedy)
    return _text(field, str(requirement), 500)


def _timeout(value: object) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value <= MAX_TIMEOUT:  # type: ignore[operator]
        raise _wrong("timeout", f"{str(value)[:80]!r} is no number of seconds", f"give up to {MAX_TIMEOUT:g}")
    return float(value)  # type: ignore[arg-type]


# --- pieces ----------------------------------------------------------------------------------------


def _in_folder(folder: Path) -> Files:
    def read(path: str) -> bytes | None:
        file = folder / path
        try:
            if file.is_symlink() or not file.is_file():
                return None
            with file.open("rb") as source:
                return source.read(MAX_TEXT_BYTES + 1)
        except OSError as error:
            raise InvalidInput(str(file), f"can't be read ({error.strerror})", "check the path") from None

    if not folder.is_dir():
        raise InvalidInput(str(folder), "is not a folder", "give the folder of a compute package")
    return read


def _mapping(field: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(field, f"is {_word(value)}", "write lines of 'key: value'")
    for key in value:
        if not isinstance(key, str):
            raise _wrong(field, f"{str(key)[:80]!r} is no name", f"write '{str(key)[:80]}' in quotes")
    return value


def _known(prefix: str, given: Iterable[str], known: tuple[str, ...], what: str) -> None:
    for name in given:
        if name not in known:
            article = "an" if what[0] in "aeiou" else "a"
            remedy = f"{_nearest(name, known, '{!r}')}known are {', '.join(known)}"
            raise _wrong(f"{prefix}{name[:80]}", f"is not {article} {what} of a package", remedy)


def _nearest(name: str, known: tuple[str, ...], form: str) -> str:
    close = difflib.get_close_matches(name[:80].lower(), known, n=1)
    return f"did you mean {form.format(close[0])}? " if close else ""


def _text(field: str, value: object, longest: int, blank: bool = False) -> str:
    if not isinstance(value, str):
        raise _wrong(field, f"is {_word(value)}", "give a text")
    if not blank and not value.strip():
        raise _wrong(field, "is empty", "give a text")
    if len(value) > longest:
        raise _wrong(field, f"has {len(value)} letters", f"give at most {longest}")
    if not all(letter.isprintable() or letter in "\n\t" for letter in value):
        raise _wrong(field, "holds control characters", "leave them out")
    return value


def _line(field: str, value: object) -> str:
    return " ".join(_text(field, value, 300, blank=True).split())


def _word(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _field(name: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return f"{MANIFEST}: {shown}" if name else MANIFEST


def _wrong(name: str, problem: str, remedy: str) -> InvalidInput:
    return InvalidInput(_field(name), problem, remedy)
