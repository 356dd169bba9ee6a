"""What may leave without this client seeing it: by package code, whose network is open, and by installers.

The ledger has a line when each begins, on disk before it does. Nobody here knows what is sent then, or how
many bytes: the line says that, too.
"""

from __future__ import annotations

from fedn.client.ledger import Ledger
from fedn.domain.ids import Digest
from fedn.domain.messages import Task


class Unseen:
    """Writes to a ledger; without one nothing is written. From any thread, which waits for the disk.

    Raises:
        StoreUnavailable: from every method: it must not begin.
    """

    def __init__(self, ledger: Ledger | None = None) -> None:
        self._ledger = ledger

    def package_begun(self, package: Digest, task: Task) -> None:
        """Code of a package is about to run for a task; its worker may stay up after it."""
        self._note("package_begun", package, task, {"task": str(task.kind), "network": "open"})

    def install_begun(self, package: Digest, task: Task, requirements: int) -> None:
        """pip is about to fetch so many requirements of a package, and what they require."""
        index = ("package index", "as pip is configured")
        self._note("install_begun", package, task, {"requirements": requirements}, *index)

    def _note(
        self, what: str, package: Digest, task: Task, details: dict[str, object], to: str = "",
        address: str = "",
    ) -> None:  # fmt: skip
        if self._ledger is not None:
            self._ledger.note(
                what, to, address, session=task.session, round=task.round, digest=package,
                details={**details, "bytes": "unknown"}, durable=True,
            )  # fmt: skip
