"""PyTorch modules to tensors and back, under the names and in the order of ``state_dict()``.

What travels: parameters that are trained, and the buffers that ``state_dict()`` holds. Running means are
averaged like weights; whole numbers such as ``num_batches_tracked`` travel too, but are never averaged. At
home stay parameters with ``requires_grad=False``, which are as ``build()`` made them, non-persistent buffers,
extra state, and all that an optimizer remembers. A tensor that is tied under several names travels once.
Nothing here is ever pickled. PyTorch takes seconds to import, so that waits until a helper is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidModel
from fedn.helpers.files import check_tensor, seed_file, widened
from fedn.helpers.frameworks import check_fit, framework, fresh
from fedn.helpers.proximal_torch import proximal
from fedn.ports import Tensors

_EXTRA_STATE = "_extra_state"
"""PyTorch's own word for what a module adds to its state dict, of any type."""


class TorchHelper:
    """Implements `fedn.ports.ProximalHelper` for ``torch.nn.Module``.

    Raises:
        InvalidInput: PyTorch is not installed.
    """

    def __init__(self) -> None:
        framework("torch", "torch")

    def load(self, tensors: Tensors, app: Any) -> Any:
        """``app.build()`` with copies of ``tensors`` in it, on whatever devices it is.

        Raises:
            InvalidModel: no ``build()``, a module with lazy parameters, or tensors that do not fit it.
        """
        torch = framework("torch", "torch")
        model = fresh(app, "torch", "torch.nn.Module")
        own = _travelling(model, "app.build()")
        check_fit(tensors, {name: (tuple(t.shape), _dtype(t)) for name, t in own.items()})
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(torch.from_numpy(np.array(widened(tensors[name]))))
        return model

    def dump(self, model: Any) -> dict[str, Array]:
        """Copies of what travels; bfloat16 as ``ml_dtypes.bfloat16``.

        Raises:
            InvalidModel: no module, one with lazy parameters, or a tensor that no file holds.
        """
        return {name: check_tensor(name, _array(name, t)) for name, t in _travelling(model, "model").items()}

    def proximal(self, model: Any, mu: float) -> AbstractContextManager[None]:
        """See `fedn.helpers.proximal_torch`."""
        return proximal(model, mu)

    def save(self, model: Any, path: Path) -> None:
        """Write the whole state dict, frozen parameters and all, for ``safetensors.torch.load_model``.

        Raises:
            InvalidModel: as dump().
        """
        path.write_bytes(seed_file({name: _array(name, t) for name, t in _tensors(model, "model")}))


def _travelling(model: Any, field: str) -> dict[str, Any]:
    """The parameters and buffers that leave this machine, themselves, by name."""
    parameter = framework("torch", "torch").nn.Parameter
    tensors = _tensors(model, field)
    found = {name: t for name, t in tensors if t.requires_grad or not isinstance(t, parameter)}
    if not found:
        raise InvalidModel(
            field, "has nothing to train", "leave at least one parameter with requires_grad=True"
        )
    return found


def _tensors(model: Any, field: str) -> Iterator[tuple[str, Any]]:
    """All parameters and persistent buffers, each once, in the order of the state dict."""
    torch = framework("torch", "torch")
    model = _bare(model)
    if not isinstance(model, torch.nn.Module):
        raise InvalidModel(
            field, f"gave a {type(model).__name__}, not a torch.nn.Module", "return the module"
        )
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name.endswith(_EXTRA_STATE) or id(tensor) in seen:
            continue
        if torch.nn.parameter.is_lazy(tensor):
            problem = f"has a parameter {name[:80]!r} without a shape yet"
            raise InvalidModel(
                field, problem, "call the module on an example in build(), or avoid Lazy modules"
            )
        seen.add(id(tensor))
        yield name, tensor


def _bare(model: Any) -> Any:
    """A module without the wrappers that put a word before every name."""
    nn = framework("torch", "torch").nn
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner = model
    while inner is not None:
        model = inner
        inner = (
            model.module if isinstance(model, parallel) else getattr(model, "_orig_mod", None)
        )  # compile()
    return model


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _array(name: str, tensor: Any) -> Array:
    try:
        if _dtype(tensor) == "bfloat16":
            import ml_dtypes

            return np.asarray(tensor.detach().float().cpu().numpy(), ml_dtypes.bfloat16)
        return np.array(tensor.detach().cpu().numpy())
    except (TypeError, RuntimeError) as error:  # float8, sparse, meta
        problem = f"is a tensor of {tensor.dtype} that can't become an array: {error}"
        raise InvalidModel(f"tensor {name[:80]!r}", problem, "use a dense float, integer or bool") from error
