"""The logs of packages, one for each, of the last few: what their code prints stays in there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fedn.client.output import Output, older
from fedn.domain.messages import Task
from fedn.stores.disk import make_directory

BEGINS = "--- "
"""What the line begins with that says of which task the following is."""
MAX_LOGS = 16
"""Packages whose output is kept."""


class PackageLogs:
    """A folder of them."""

    def __init__(self, folder: Path) -> None:
        make_directory(folder)
        self._folder = folder

    def path(self, digest: str) -> Path:
        """Where the output of a package is kept."""
        return self._folder / f"{digest[:16]}.log"

    def begin(self, task: Task) -> None:
        """Say in the package's log which task its output is of."""
        path = self.path(task.package)
        if not path.exists():
            logs = sorted(self._folder.glob("*.log"), key=lambda log: log.stat().st_mtime)
            for old in logs[: max(0, len(logs) + 1 - MAX_LOGS)]:
                old.unlink(missing_ok=True)
                older(old).unlink(missing_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        log = Output(path)
        log.write(f"{BEGINS}{now} session {task.session} round {task.round}: {task.kind}\n".encode())
        log.close()
