"""Files that appear whole or not at all, and what a disk says put in words."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fedn.domain.errors import InvalidInput


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path`` to write to, which takes its place at the end. Raises InvalidInput."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise InvalidInput(str(path), f"can't be written ({error.strerror})", "check the path") from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def unreadable(path: Path, error: OSError) -> InvalidInput:
    """What to raise for a file that the disk does not give."""
    return InvalidInput(str(path), f"can't be read ({error.strerror or error})", "check the path")
