"""What bytes and numbers come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Buffer: TypeAlias = bytes | bytearray | memoryview
Vector: TypeAlias = npt.NDArray[np.float64]
Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]
