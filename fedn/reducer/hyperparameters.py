"""A plan against the compute package that it names: only what that declares, and of its types.

`federation.py` asks before a session is created. What a client's owner overrides is the client's to check.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from fedn.domain.errors import InvalidPlan, NotFound
from fedn.domain.ids import Digest
from fedn.domain.plan import Plan, Scalar
from fedn.ports import PackageInfo, StateStore


def check_hyperparameters(plan: Plan, state: StateStore) -> None:
    """Refuse a package that was not uploaded, and hyperparameters that it does not have. Blocking.

    Raises:
        InvalidPlan: naming the plan field, what is wrong, and what the package declares.
    """
    if not plan.package:
        return
    try:
        package = state.package(Digest(plan.package))
    except NotFound:
        remedy = "upload it with `fedn package upload`; `fedn package list` shows those there are"
        raise InvalidPlan("package", f"there is no package {plan.package}", remedy) from None
    declared: Mapping[str, Scalar] = package.manifest.get("hyperparameters", {})
    for name, value in plan.config.items():
        _check(name, value, declared, package)


def _check(name: str, value: Any, declared: Mapping[str, Scalar], package: PackageInfo) -> None:
    field = f"config.{name}"
    if name not in declared:
        close = difflib.get_close_matches(name, declared, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        remedy = f"{hint}known are {_listed(declared)}" if declared else "it declares none"
        raise InvalidPlan(field, f"is not a hyperparameter of package {package.name}", remedy)
    default = declared[name]
    for one in value.values() if isinstance(value, Mapping) else (value,):
        if type(one) is not type(default) and not (type(default) is float and type(one) is int):
            problem = f"{one!r} is {_word(one)}, and package {package.name} takes {_word(default)}"
            raise InvalidPlan(field, problem, f"give a value like its default, {default!r}")


def _listed(declared: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} (default {default!r})" for name, default in declared.items())


def _word(value: Scalar) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[type(value)]
