"""What a client's owner lets packages do, and where their files go: as `app` makes it from the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fedn.client.confinement import AVAILABLE
from fedn.client.hyperparameters import Values
from fedn.packages.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Rules:
    """See the settings of these names."""

    data: str
    allow: frozenset[str] = frozenset()
    hyperparameters: Values = field(default_factory=dict)
    environments: bool = True
    confinement: str = AVAILABLE
    memory: int = 0
    worker_memory: int = 0
    worker_idle: float = 0.0
    task_timeout: float = 86_400.0
    share_errors: bool = False

    def seconds(self, manifest: Manifest) -> float:
        """How long a task may take: as the owner says, or less if the package itself says so."""
        return min(self.task_timeout, manifest.timeout or self.task_timeout)


@dataclass(frozen=True, slots=True)
class Places:
    """Folders: ``home`` for packages, work and logs, and where environments and predictions go.

    ``hidden`` is what package code may not read even where it lies below something that it may.
    """

    home: Path
    environments: Path
    predictions: Path
    hidden: tuple[Path, ...]
