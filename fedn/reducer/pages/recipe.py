"""How a client is started, from a few answers: its settings file, and commands to copy into a shell.

Pure. What people entered is checked as the client itself would, and quoted before it gets into a command.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import PurePosixPath
from shlex import quote
from typing import Any
from urllib.parse import SplitResult, urlsplit

import yaml

from fedn.config import ClientSettings, is_loopback
from fedn.domain.errors import InvalidInput

PACKAGE, APP = "package", "app"
EXAMPLES: Mapping[str, tuple[str, str]] = {
    "digits-sklearn": ("sklearn", "npz"),
    "mnist-keras": ("keras", "npz"),
    "mnist-pytorch": ("torch", "npz"),
    "tabular-numpy": ("sklearn", "csv"),
}
"""Of each example the extra that it needs, which has an image, too; and how its data ends."""
IMAGES = ("sklearn", "torch", "keras")
"""Of each there is a target client-… in the Dockerfile."""
TOKEN_FILE, SETTINGS_FILE = "client.token", "client.yaml"
RUN_CONTAINER = "docker run --rm --init --read-only --tmpfs /tmp --cap-drop ALL"
SIMULATED = 3
MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class Answers:
    """What the form asks. ``runs`` is `PACKAGE`, `APP` or the name of an example."""

    reducer: str
    name: str
    runs: str = PACKAGE
    data: str = ""
    app: str = ""
    image: str = IMAGES[0]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to do with it. ``before``: what has to be run once, ``docker`` is empty where that can't be.

    ``beyond`` is the client's number if the example makes no data for so many, else 0.
    """

    settings: str
    before: tuple[str, ...]
    start: str
    start_by_flags: str
    docker: tuple[str, ...]
    same_machine: bool
    beyond: int = 0


def recipe(answers: Answers, identity: bool) -> Recipe:
    """Raises InvalidInput naming the field that is wrong."""
    _check(answers)
    values = _values(answers, identity)
    checked = ClientSettings.model_validate(values)
    return Recipe(
        settings=_file(values),
        before=_before(answers),
        start=f"fedn client start -c {SETTINGS_FILE}",
        start_by_flags="fedn client start " + _flags(values),
        docker=_docker(answers, values),
        same_machine=is_loopback(urlsplit(checked.reducer).hostname or ""),
        beyond=_beyond(answers),
    )


def usual_data(runs: str, number: int) -> str:
    """Where an example puts the data of its client of this number."""
    return f"data/client-{number}.{EXAMPLES[runs][1]}" if runs in EXAMPLES else ""


def number_in(name: str) -> int:
    """What a client's name ends with; 0 for none."""
    found = re.search(r"[1-9][0-9]{0,8}$", name, re.ASCII)
    return int(found[0]) if found else 0


def free_number(names: Collection[str]) -> int:
    """The first that none of these clients' names ends with."""
    taken = set(map(number_in, names))
    return next(number for number in count(1) if number not in taken)


def _beyond(answers: Answers) -> int:
    number = number_in(PurePosixPath(answers.data).stem)
    return number if number > SIMULATED and answers.data == usual_data(answers.runs, number) else 0


def _check(answers: Answers) -> None:
    for field in ("reducer", "name", "data", "app"):
        text = getattr(answers, field)
        if len(text) > MAX_TEXT or not text.isprintable() or "{" in text:
            problem = "is too long, not printable, or has a brace in it"
            raise InvalidInput(field, problem, f"give at most {MAX_TEXT} letters")
        if text.startswith("~"):
            raise InvalidInput(field, "begins with ~, which settings files don't know", "give the whole path")
        if text.startswith("-"):
            raise InvalidInput(field, "begins with -, as flags do", "begin it with ./")
    for field, known in (("runs", (PACKAGE, APP, *EXAMPLES)), ("image", IMAGES)):
        if getattr(answers, field) not in known:
            raise InvalidInput(field, "is none of those that are known", f"give one of {', '.join(known)}")
    if not answers.name:
        raise InvalidInput("name", "is missing", "give the name by which people will know this client")
    if answers.runs == APP and not answers.app:
        raise InvalidInput("app", "is missing", "give file.py:factory or module:factory")
    if answers.runs != APP and not answers.data:
        raise InvalidInput("data", "is missing", "give the path of the data on the client's machine")


def _values(answers: Answers, identity: bool) -> dict[str, Any]:
    """The settings of this client, without those that keep their defaults."""
    values: dict[str, Any] = {"reducer": answers.reducer, "name": answers.name}
    if answers.runs == APP:
        values["app"] = answers.app
        if answers.data:
            values["app_options"] = {"data": answers.data}
    else:
        values["data"] = answers.data
    address = _address(answers.reducer)
    if identity:
        values["join_file"] = TOKEN_FILE
    elif address.scheme == "http" and not is_loopback(address.hostname or ""):
        values["insecure_no_tls_no_auth"] = True
    return values


def _address(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        remedy = "give http://host:port or https://host:port"
        raise InvalidInput("reducer", "is not an address", remedy) from None


def _file(values: Mapping[str, Any]) -> str:
    head = f"# Settings of a client: fedn client start -c {SETTINGS_FILE}\n"
    if "join_file" in values:
        head += f"# {TOKEN_FILE}, beside this file, holds the token; it is needed at the first start alone.\n"
    return head + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def _flags(values: Mapping[str, Any]) -> str:
    words = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif isinstance(value, Mapping):
            words += [f"{flag} {quote(f'{key}={text}')}" for key, text in value.items()]
        else:
            words.append(f"{flag} {quote(value)}")
    return " ".join(words)


def _before(answers: Answers) -> tuple[str, ...]:
    if answers.runs not in EXAMPLES:
        return ()
    return f"cd examples/{answers.runs}", f"python make_data.py {SIMULATED}"


def _docker(answers: Answers, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The same in a container of this client's own, where paths are others; empty where that can't be."""
    if ":" in answers.data or (answers.runs == APP and not re.fullmatch(r"[^:]+\.py:[\w.]+", answers.app)):
        return ()  # Docker splits paths at colons; a module is only in an image of one's own
    framework = EXAMPLES[answers.runs][0] if answers.runs in EXAMPLES else answers.image
    image, mounts = f"fedn-client-{framework}", ['-v "$PWD/fedn-data:/state"']
    inner = dict(values) | {"state_dir": "/state"}
    if answers.data:
        inside = _within("/data", answers.data)
        mounts.append(_mount(answers.data, inside))
        inner |= {"app_options": {"data": inside}} if answers.runs == APP else {"data": inside}
    if answers.runs == APP:
        file, _, factory = answers.app.partition(":")
        mounts.append(_mount(file, _within("/app", file)))
        inner["app"] = f"{_within('/app', file)}:{factory}"
    if "join_file" in values:
        inner["join_file"] = _within("/join", TOKEN_FILE)
        mounts.append(_mount(TOKEN_FILE, inner["join_file"]))
    if is_loopback(urlsplit(answers.reducer).hostname or ""):
        mounts.insert(0, "--network host")
    words = (RUN_CONTAINER, '--user "$(id -u):$(id -g)"', *mounts, f"{image} client start", _flags(inner))
    return (
        f"docker build --target client-{framework} -t {image} {'../..' if answers.runs in EXAMPLES else '.'}",
        "mkdir -p fedn-data",
        " \\\n  ".join(words),
    )


def _within(folder: str, path: str) -> str:
    name = PurePosixPath(path).name
    return f"{folder}/{name if name.strip('.') else 'own'}"


def _mount(path: str, inside: str) -> str:
    return "-v " + ("" if path.startswith("/") else '"$PWD"/') + quote(f"{path}:{inside}:ro")
