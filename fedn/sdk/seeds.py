"""Where a seed model may come from: memory, a file, a URL, or a function that returns one of these.

`gathered` makes a safetensors file of any of them, to be read from its start; `transfers` carries it up.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeAlias

import httpx

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput, InvalidModel, LinkBroken
from fedn.helpers.files import seed_file
from fedn.sdk.models import helper_of, tensors_of
from fedn.sdk.transfers import CHUNK, Told
from fedn.stores.disk import disk_errors
from fedn.wire.channel import is_loopback

Source: TypeAlias = "Mapping[str, Array] | str | os.PathLike[str] | Callable[[], Any] | Any"
"""A Keras, PyTorch or scikit-learn model, a dict of arrays, a path, an http(s) URL, or a function."""
MAX_BYTES = 4 * 2**30
"""What a reducer takes, unless its max_model_bytes says otherwise."""
URL_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
MOST_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class Gathered:
    """A model's file, open at its start; ``where`` it is from, for errors, and what to call it."""

    file: BinaryIO
    size: int
    where: str
    name: str


def ignored(done: int, total: int) -> None:
    """For whoever does not want to know how far it is."""


@contextmanager
def gathered(
    source: Source, helper: str = "", max_bytes: int = MAX_BYTES, told: Told = ignored
) -> Iterator[Gathered]:
    """The file that ``source`` stands for, inside the block.

    Args:
        source: see `Source`. A model's class says which framework it is of, unless ``helper`` does.
        max_bytes: of what is downloaded from a URL.
        told: how far a download is, in bytes: done, and all of it or 0 where nobody knows.

    Raises:
        InvalidInput: a path that can't be read, an address that is none, too many bytes.
        InvalidModel: what is no model, or one that can't be turned into tensors.
        LinkBroken: nobody answers at the URL.
    """
    if callable(source) and not (helper_of(source) or isinstance(source, str | os.PathLike)):
        made = source()
        if callable(made) and not (helper_of(made) or helper):
            problem = f"returned a {type(made).__name__}"
            raise InvalidModel("model", problem, "return a model, a dict of arrays, a path or a URL")
        with gathered(made, helper, max_bytes, told) as found:
            name = getattr(source, "__name__", "")
            yield Gathered(found.file, found.size, found.where, name if name.isidentifier() else found.name)
    elif isinstance(source, str) and "://" in source:
        with _downloaded(source, max_bytes, told) as found:
            yield found
    elif isinstance(source, str | os.PathLike):
        with _opened(Path(source)) as found:
            yield found
    else:
        file = seed_file(tensors_of(source, helper))
        name = str(
            getattr(source, "name", "") or ("" if isinstance(source, Mapping) else type(source).__name__)
        )
        yield Gathered(io.BytesIO(file), len(file), "model", name)


@contextmanager
def _opened(path: Path) -> Iterator[Gathered]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(str(path), f"can't be read ({error.strerror})", "check the path") from None
    with file:
        yield Gathered(file, os.fstat(file.fileno()).st_size, str(path), path.stem)


@contextmanager
def _downloaded(address: str, max_bytes: int, told: Told) -> Iterator[Gathered]:
    """Into a file without a name, so that nothing has to be kept in memory."""
    url, shown = _checked(address)
    with tempfile.TemporaryFile() as file:
        try:
            for piece in _pieces(url, shown, max_bytes, told):
                with disk_errors(Path(tempfile.gettempdir())):
                    file.write(piece)
        except httpx.HTTPError as error:
            raise LinkBroken(f"{shown} can't be read ({type(error).__name__})", url=shown) from None
        size = file.tell()
        file.seek(0)
        yield Gathered(file, size, shown, PurePosixPath(url.path).stem)


def _checked(address: str) -> tuple[httpx.URL, str]:
    """The URL, and as much of it as may be shown: who may read it can be in the rest."""
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError):
        raise InvalidInput("url", "is not an address", "give http://… or https://…") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInput("url", f"is of kind {url.scheme[:20]!r}", "give http://… or https://…")
    return url, f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"


def _announced(answer: httpx.Response) -> int:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 18 else 0


def _pieces(url: httpx.URL, shown: str, most: int, told: Told) -> Iterator[bytes]:
    """What is there; raises InvalidInput as soon as there are, or are announced, more than ``most`` bytes."""
    loopback = is_loopback(f"{url.host}:0")
    with (
        httpx.Client(
            timeout=URL_TIMEOUT, follow_redirects=True, max_redirects=MOST_REDIRECTS, trust_env=not loopback
        ) as http,
        http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
    ):
        if not answer.is_success:
            raise InvalidInput(shown, f"answered {answer.status_code}", "check the address")
        total, size = _announced(answer), 0
        for piece in answer.iter_raw(CHUNK):
            size += len(piece)
            if max(size, total) > most:
                raise InvalidInput(shown, f"has more than {most} bytes", "raise max_bytes if that is right")
            yield piece
            told(size, total)
