"""What a plug-in did wrong, in words that name it. `mean`, `write` and the combiner call plug-ins with these.

A fault of theirs ends in an error of ours, so that whoever reads why a session waits or ended sees what to
mend. Whether numbers are finite is checked where they are written (`write`, `memory`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fedn.domain.errors import FednError, InvalidInput
from fedn.ports import Vector

REMEDY = "mend the plug-in; committed rounds stay"


@contextmanager
def blamed(field: str, plugin: object) -> Iterator[None]:
    """Turn whatever ``plugin`` raises into InvalidInput for the plan field that names it."""
    try:
        yield
    except FednError:
        raise
    except Exception as error:
        raise InvalidInput(
            field, f"{_name(plugin)} failed: {type(error).__name__}: {error}", REMEDY
        ) from error


def checked(field: str, plugin: object, given: object, elements: int) -> Vector:
    """``given`` if it is a float64 vector of so many elements; raises InvalidInput."""
    if not isinstance(given, np.ndarray):
        problem = f"{_name(plugin)} gave {type(given).__name__}, not a numpy array"
    elif given.dtype != np.float64 or given.shape != (elements,):
        shape = list(given.shape)
        problem = f"{_name(plugin)} gave {given.dtype} of shape {shape}, not float64 of shape [{elements}]"
    else:
        return given
    raise InvalidInput(field, problem, REMEDY)


def _name(plugin: object) -> str:
    return type(plugin).__name__
