"""FedProx for PyTorch: while a block runs, every optimizer also pulls towards where the block began.

The gradient of a trained parameter w gets mu · (w - w0) added, which is the gradient of the proximal term
mu/2 · ‖w - w0‖² (Li et al., "Federated Optimization in Heterogeneous Networks", 2020, equation 2).

An app makes its optimizer where it likes, so the seam is PyTorch's hook before every optimizer step. It sees
all optimizers of the process, and changes only gradients of parameters that an open block knows. Training
that sets weights without a ``torch.optim.Optimizer`` can't be reached; leaving the block says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fedn.helpers.frameworks import check_mu, framework, in_use, no_step


@dataclass
class _Block:
    """One model in training: its parameters' values at the beginning, by the parameter's id."""

    mu: float
    start: dict[int, Any]
    stepped: bool = False


_PULLED_AT = "_fedn_pulled_at"
"""Kept on a gradient: the count of changes to it, as PyTorch keeps it, when it was pulled."""
_blocks: dict[int, _Block] = {}
"""The block of each parameter that is in training; apps of several clients may run in one process."""
_lock = threading.Lock()
_hooks: list[Any] = []
"""The hook, once there was a block. It stays: PyTorch can't have one removed while another thread steps."""


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
    block = _Block(mu, {id(p): p.detach().clone() for p in model.parameters() if p.requires_grad})
    _open(block)
    try:
        yield
    finally:
        for parameter in block.start:
            del _blocks[parameter]
    if not block.stepped:
        raise no_step(mu)


def _open(block: _Block) -> None:
    with _lock:
        if not _hooks:
            register = framework("torch.optim.optimizer", "torch").register_optimizer_step_pre_hook
            _hooks.append(register(_before_step))
        if any(parameter in _blocks for parameter in block.start):
            raise in_use()
        _blocks.update(dict.fromkeys(block.start, block))


def _before_step(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``args`` are the optimizer and a closure, if any. Returns None, or (args, kwargs) to be used instead"""
    if not any(id(parameter) in _blocks for parameter in _parameters(optimizer)):
        return None
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if closure is None:
        _pull(optimizer)
        return None
    if isinstance(closure, _Closure):
        return None
    rest = {name: value for name, value in kwargs.items() if name != "closure"}
    return (args[0], _Closure(optimizer, closure), *args[2:]), rest


@dataclass(frozen=True)
class _Closure:
    """A closure computes the gradients during the step, perhaps several times, so the pull comes after it."""

    optimizer: Any
    closure: Callable[[], Any]

    def __call__(self) -> Any:
        loss = self.closure()
        _pull(self.optimizer)
        return loss if loss is None else loss + _term(self.optimizer)  # a line search compares losses


def _parameters(optimizer: Any) -> Iterator[Any]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _pull(optimizer: Any) -> None:
    # Fused optimizers are given gradients that a GradScaler made larger, and the factor.
    scale = getattr(optimizer, "grad_scale", None)
    with framework("torch", "torch").no_grad():
        for parameter in _parameters(optimizer):
            if parameter.grad is not None and (block := _blocks.get(id(parameter))):
                _pull_one(parameter, block, 1.0 if scale is None else scale)


def _pull_one(parameter: Any, block: _Block, scale: Any) -> None:
    if parameter.grad.is_sparse:
        parameter.grad = parameter.grad.to_dense()  # every row is pulled, not only those that were used
    gradient = parameter.grad
    if getattr(gradient, _PULLED_AT, -1) == gradient._version:
        return  # one optimizer called another's step()
    gradient.add_(_way(parameter, block) * block.mu * scale)
    setattr(gradient, _PULLED_AT, gradient._version)
    block.stepped = True


def _way(parameter: Any, block: _Block) -> Any:
    """w - w0, on the device to which the app may have moved the model."""
    start = block.start[id(parameter)] = block.start[id(parameter)].to(parameter)
    return parameter.detach() - start


def _term(optimizer: Any) -> float:
    pairs = [(p, block) for p in _parameters(optimizer) if (block := _blocks.get(id(p)))]
    return sum(block.mu / 2 * float(_way(p, block).square().sum()) for p, block in pairs)
