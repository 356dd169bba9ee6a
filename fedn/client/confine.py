"""What a process may do that runs user code: which files it sees, where it writes, how much it takes.

Called in that process itself, before the user's code is in it, so nothing here needs more than Python.
Files are the business of Landlock (Linux 5.13 and later; https://docs.kernel.org/userspace-api/landlock.html):
what is not allowed is refused by the kernel, for the process and whatever it starts.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

MAX_FILE_BYTES = 16 * 2**30
MAX_OPEN_FILES = 16_384
NICENESS = 5
OOM_SCORE = 500
"""When memory runs out, user code goes before the client does."""

_SET_PDEATHSIG, _SET_DUMPABLE, _DROP_CAPABILITY = 1, 4, 24
_SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS, _AMBIENT, _CLEAR = 36, 38, 47, 4
_CAPABILITIES_VERSION = 0x20080522
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_CHANGE_FOLDERS = sum(1 << bit for bit in range(4, 13))  # remove and make, of every kind
_MAKE_DEVICES = 1 << 6 | 1 << 11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 3


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


TRUNCATES = 3
"""The version from which on Landlock keeps files from being emptied, too."""


def landlock() -> int:
    """The version of Landlock that this kernel has; 0 for none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def only(read: Sequence[str], listed: Sequence[str], write: Sequence[str]) -> None:
    """From now on nothing but these paths and what is below them can be opened, by this process or a child.

    ``read`` may be read and executed, ``listed`` only listed, ``write`` all that and written. Paths that
    are not there are passed over. Where the kernel can, signals reach none outside, either. Raises OSError.
    """
    version = landlock()
    changes = _CHANGE_FOLDERS | (_REFER if version >= 2 else 0)
    truncate = _TRUNCATE if version >= 3 else 0
    looks = _EXECUTE | _READ_FILE | _READ_DIR
    handled = looks | _WRITE_FILE | changes | truncate
    ruleset = _ruleset(handled, version)
    _allow(ruleset, read, looks)
    _allow(ruleset, listed, _READ_DIR)
    _allow(ruleset, write, handled & ~_MAKE_DEVICES)
    _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _ruleset(handled: int, version: int) -> int:
    scoped = _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0
    size = 24 if version >= 6 else 8  # older kernels refuse fields that they don't know
    attributes = _Ruleset(handled, 0, scoped)
    return _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))


def _allow(ruleset: int, paths: Iterable[str], access: int) -> None:
    for path in paths:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        of_files = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
        rule = _Beneath(access if Path(path).is_dir() else access & of_files, opened)
        try:
            if rule.allowed:
                _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule),
                      ctypes.c_uint32(0))  # fmt: skip
        finally:
            os.close(opened)


def limit(memory: int = 0) -> None:
    """No core dumps; bounded files and, if ``memory`` is not 0, bytes of memory; last in line for the CPU."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    if memory:
        _lower(resource.RLIMIT_DATA, memory)
    os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def _lower(which: int, most: int) -> None:
    hard = resource.getrlimit(which)[1]
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (bound, bound))


def no_new_privileges() -> None:
    """No program that this process starts gets more rights than it has, as sudo would. Linux only."""
    _prctl(_SET_NO_NEW_PRIVS, 1)


def no_capabilities() -> None:
    """Be root no more than in name, if this is root: whom it belongs to decides about a file. Linux only."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError):  # EINVAL behind the last one, EPERM for who has none to drop
        for capability in range(64):
            _prctl(_DROP_CAPABILITY, capability)
    with suppress(OSError):
        _prctl(_AMBIENT, _CLEAR)
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
    if _libc().capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def hide() -> None:
    """Let no other process of the same user look into this one: its memory, its environment. Linux only."""
    _prctl(_SET_DUMPABLE, 0)


def die_with(parent: int) -> None:
    """Be killed when ``parent``, the process that started this one, is no more. Linux only."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of all that a child leaves behind. Linux only."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        zero = ctypes.c_ulong(0)
        done = _libc().prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)
        if done != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
