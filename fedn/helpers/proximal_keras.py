"""FedProx for Keras: while a block runs, every optimizer also pulls towards where the block began.

The gradient of a trained variable w gets mu · (w - w0) added, which is the gradient of the proximal term
mu/2 · ‖w - w0‖² (Li et al., "Federated Optimization in Heterogeneous Networks", 2020, equation 2).

An app compiles its model where it likes, or writes a loop of its own, so the seam is the one method through
which every Keras optimizer goes: ``keras.optimizers.Optimizer.apply``. It is replaced while at least one
block is open, and changes only the gradients of variables that such a block knows. Holds for the TensorFlow,
PyTorch and JAX backends. A graph that was compiled before the block would not know of it: ``fit`` compiles
anew, and if no optimizer step came through here, leaving the block says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fedn.helpers.frameworks import check_mu, framework, in_use, no_step


@dataclass
class _Block:
    """One model in training: its variables' values at the beginning, by the variable's id."""

    mu: float
    start: dict[int, Any]
    stepped: bool = False


_blocks: dict[int, _Block] = {}
"""The block of each variable that is in training; apps of several clients may run in one process."""
_lock = threading.Lock()


@contextmanager
def proximal(model: Any, mu: float) -> Iterator[None]:
    """Train ``model`` with the proximal term inside this block; mu = 0 changes nothing at all.

    Raises:
        InvalidInput: mu is not a number from 0 on, or no optimizer step was seen (when leaving).
    """
    check_mu(mu)
    if mu == 0:
        yield
        return
    ops = framework("keras", "keras").ops
    start = {id(v): ops.convert_to_tensor(ops.convert_to_numpy(v)) for v in model.trainable_variables}
    block = _Block(mu, start)
    if not start:
        raise no_step(mu)
    _open(block)
    model.train_function = None
    try:
        yield
    finally:
        _close(block)
        model.train_function = None
    if not block.stepped:
        raise no_step(mu)


def _open(block: _Block) -> None:
    with _lock:
        if any(variable in _blocks for variable in block.start):
            raise in_use()
        optimizer = framework("keras", "keras").optimizers.Optimizer
        if not _blocks:
            optimizer.apply = _pulling(optimizer.apply)
        _blocks.update(dict.fromkeys(block.start, block))


def _close(block: _Block) -> None:
    with _lock:
        for variable in block.start:
            del _blocks[variable]
        if not _blocks:
            del framework("keras", "keras").optimizers.Optimizer.apply  # its base class has the original


def _pulling(plain: Callable[..., None]) -> Callable[..., None]:
    def apply(self: Any, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if len(variables) == len(grads):  # if not, Keras explains
            pairs = zip(grads, variables, strict=True)
            grads = [_pulled(grad, variable, self.loss_scale_factor) for grad, variable in pairs]
        plain(self, grads, trainable_variables if trainable_variables is None else variables)

    return apply


def _pulled(grad: Any, variable: Any, loss_scale: float | None) -> Any:
    block = _blocks.get(id(variable))
    # Float8 layers pass their scales off as gradients, to be written over the variable.
    if block is None or grad is None or getattr(variable, "overwrite_with_gradient", False):
        return grad
    block.stepped = True
    ops = framework("keras", "keras").ops
    way = ops.subtract(variable, block.start[id(variable)])
    # With a loss scale the gradients are that much too large here, and are divided by it later.
    return ops.add(grad, ops.multiply(way, block.mu * (loss_scale or 1.0)))
