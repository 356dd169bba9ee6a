"""A model that is a plain dict of numpy arrays. `fedn.helpers.files` reads and writes the bytes.

There is no ``proximal`` here: such an app computes its own gradients, so for FedProx it reads
``config["proximal_mu"]`` and adds mu · (w - w0) itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedn.domain.errors import InvalidModel
from fedn.helpers.files import check_tensor
from fedn.ports import Tensors


class NumpyHelper:
    """Implements `fedn.ports.Helper` for ``dict[str, ndarray]``."""

    def load(self, tensors: Tensors, app: Any) -> dict[str, npt.NDArray[Any]]:
        """Copies that the app may write to."""
        return {name: np.array(value) for name, value in tensors.items()}

    def dump(self, model: Any) -> dict[str, npt.NDArray[Any]]:
        """Copies of the app's arrays.

        Raises:
            InvalidModel: naming the entry that is not an array of numbers.
        """
        if not isinstance(model, Mapping):
            problem = f"is a {type(model).__name__}, not a dict of numpy arrays"
            raise InvalidModel("model", problem, "return a dict of name to array, or set the app's helper")
        return {name: np.array(check_tensor(name, value)) for name, value in model.items()}
