"""Where predictions go: a folder of their own for each task, there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from fedn.domain.errors import InvalidInput
from fedn.domain.messages import Task
from fedn.stores.disk import disk_errors, make_directory


@contextmanager
def writing(root: Path, task: Task) -> Iterator[Path]:
    """An empty folder; what is in it at the end becomes the task's predictions below ``root``.

    Raises StoreUnavailable, and InvalidInput for what `publish` does not take.
    """
    aside = root.absolute() / f".{uuid4().hex}.partial"
    make_directory(aside)
    try:
        yield aside
        publish(aside, root, task)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def publish(folder: Path, root: Path, task: Task) -> Path:
    """Move ``folder`` to where the predictions of a task lie; those of an earlier try are replaced.

    Raises:
        InvalidInput: there is something in it that is neither a file nor a folder, such as a link that could
            lead its reader elsewhere.
        StoreUnavailable: ``root`` can't be written.
    """
    _check(folder)
    target = place(root, task)
    aside = target.with_name(f".{uuid4().hex}.partial")
    make_directory(root.absolute())
    with disk_errors(root):
        try:
            shutil.move(folder, aside)  # across file systems, too
            shutil.rmtree(target, ignore_errors=True)
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def place(root: Path, task: Task) -> Path:
    """The folder of a task's predictions: session, round, and the model that they are of."""
    return root.absolute() / f"{task.session}-{task.round}-{task.model[:12]}"


def _check(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        raise InvalidInput("output", "is not the folder that was there", "write files into it")
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent) / name for name in (*folders, *files)):
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                name = path.relative_to(folder)
                raise InvalidInput("output", f"{str(name)[:80]!r} is not a file", "write plain files there")
