"""Files between the client and user code: what it is given, and what it has written, plain and bounded."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from fedn.domain.errors import InvalidInput
from fedn.helpers.files import layout_of, read_file, write_update

SPARE_BYTES = 16 * 2**20
WIDER = 8
"""What a command writes may be in wider numbers than the base model; one byte becomes at most eight."""


def hand_over(path: Path, data: memoryview | bytes) -> None:
    """Write a new file where user code may have put something: it never leads elsewhere, and never waits."""
    with suppress(FileNotFoundError):
        path.unlink()
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(opened, "wb") as file:
        file.write(data)


def read_written(what: str, path: Path, most: int, remedy: str) -> bytes:
    """The bytes of a file that ``what`` was to write; raises InvalidInput if there is none, or too much."""
    name = path.name
    try:
        # Neither a link that leads elsewhere, nor a pipe that never ends.
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InvalidInput(what, f"wrote no {name}", remedy) from None
    except OSError as error:
        raise InvalidInput(what, f"wrote {name}, which can't be read ({error.strerror})", remedy) from None
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(what, f"wrote {name}, which is not a file", remedy)
        if not 0 < status.st_size <= most:
            raise InvalidInput(what, f"wrote {status.st_size} bytes as {name}, not 1 to {most}", remedy)
        with os.fdopen(opened, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(opened)


def read_update(what: str, path: Path, base: memoryview) -> bytes:
    """The model in a file, as an update of ``base``: with its header, in its dtypes and order.

    Raises InvalidInput, or InvalidModel naming the tensor that does not go with the base model.
    """
    layout = layout_of(base)
    remedy = "write the trained model to <model_out>, in safetensors"
    file = read_written(what, path, WIDER * len(base) + SPARE_BYTES, remedy)
    if len(file) == len(base) and file[: layout.data_start] == base[: layout.data_start]:
        return file
    return write_update(base, layout, read_file(memoryview(file)))
