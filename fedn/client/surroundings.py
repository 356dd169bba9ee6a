"""What a package's processes find around them: variables, folders, limits. Nothing of the client's own.

What is not named here does not exist for them, as far as this platform can enforce it (`confine`).
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedn.client import boot
from fedn.client.process import Spec
from fedn.domain.errors import InvalidInput

PASSED = frozenset({
    "PATH", "LANG", "LANGUAGE", "TZ", "FEDN_DATA_DIR",
    "KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "TF_FORCE_GPU_ALLOW_GROWTH",
    "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS", "XLA_FLAGS", "JAX_PLATFORMS",
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "LD_LIBRARY_PATH",
})  # fmt: skip
"""Of the client's own environment, with LC_…; a token or a password has no place in any of them."""
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/nix/store", "/etc", "/proc", "/sys")
DEVICES = (
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/dri", "/dev/kfd",
    "/dev/infiniband", "/dev/shm",  # noqa: S108 — it has no other name
)  # fmt: skip
"""To be written, too: shared memory is what a program's processes hand data to each other by."""
MAX_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all processes of one client have in common.

    ``data`` is what the owner gave, ``hidden`` what nobody may read even where it lies below a folder that
    may be read. ``memory`` is in bytes, for each process; 0 for no limit.
    """

    data: str
    hidden: tuple[Path, ...]
    confined: bool
    memory: int = 0

    def spec(
        self, argv: Sequence[str], package: Path, work: Path, log: Path, python: Path,
        more: Mapping[str, str] | None = None,
    ) -> Spec:  # fmt: skip
        """For a process that runs in ``package``, which it can't change, and writes to ``work`` alone."""
        env = {**variables(work, python), **(more or {})}
        if not self.confined:
            return Spec(tuple(argv), env, str(package), str(log), memory=self.memory)
        read, listed = self._readable(package, python)
        write = (str(work), *DEVICES, *map(str, Path("/dev").glob("nvidia*")))
        return Spec(
            tuple(argv), env, str(package), str(log), read, listed, write, confined=True, memory=self.memory
        )

    def _readable(self, package: Path, python: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        wanted = [*map(Path, SYSTEM), Path("/etc/resolv.conf").resolve().parent, *_own(), python.parents[1]]
        wanted += [
            Path(given) for given in (self.data, os.environ.get("FEDN_DATA_DIR", "")) if is_path(given)
        ]
        read = [str(package)]
        listed: list[str] = []
        hidden = [path.resolve() for path in self.hidden]
        for path in wanted:
            for part, whole in around(path.resolve(), hidden):
                (read if whole else listed).append(str(part))
        return tuple(dict.fromkeys(read)), tuple(dict.fromkeys(listed))


def is_path(data: str) -> bool:
    """Whether an owner's ``data`` is a file or folder of this machine."""
    try:
        return bool(data) and Path(data).exists()
    except (OSError, ValueError):
        return False


def variables(work: Path, python: Path) -> dict[str, str]:
    """The environment: what is harmless of the client's, a home of its own, its Python first in PATH."""
    passed = {name: text for name, text in os.environ.items() if name in PASSED or name.startswith("LC_")}
    if folder := passed.get("FEDN_DATA_DIR"):
        passed["FEDN_DATA_DIR"] = str(Path(folder).absolute())
    path = os.pathsep.join([str(python.parent), passed.get("PATH", os.defpath)])
    own = {"HOME": str(work), "TMPDIR": str(work), "PATH": path}
    return {**passed, **own, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def around(path: Path, hidden: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Folders that together are ``path`` without what is ``hidden`` in it, all as they really are.

    With each comes whether it is whole; else it may only be listed.

    What is allowed to a process is allowed with all that is below it, so a folder with something hidden
    in it is taken apart. Raises InvalidInput if it has too many entries for that.
    """
    inside = [other for other in hidden if other == path or path in other.parents]
    if not inside:
        yield path, True
    elif path not in inside:
        yield path, False
        try:
            entries = sorted(path.iterdir())
        except OSError:
            return
        if len(entries) > MAX_ENTRIES:
            remedy = "put the client's state_dir elsewhere, or the data into a folder of its own"
            raise InvalidInput("data", f"lies around the client's own state, in {path}", remedy)
        for entry in entries:
            if not entry.is_symlink():
                yield from around(entry, inside)


def _own() -> list[Path]:
    """Where this Python, its libraries and fedn itself are; not the folder that the client was started in."""
    stdlib = sysconfig.get_path("stdlib")
    found = sys.path[sys.path.index(stdlib) :] if stdlib in sys.path else []
    fedn = Path(boot.__file__).parents[1]
    return [Path(sys.prefix), Path(sys.base_prefix), fedn, *(Path(entry) for entry in found)]
