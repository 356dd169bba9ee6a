"""A plan's aggregator and server optimizer: built, and refused where their numbers would be wrong.

`federation.py` asks before a session is created; `driver.py` and `merging.py` take theirs from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from inspect import signature

from fedn import plugins
from fedn.aggregation.memory import check_slots
from fedn.domain.errors import InvalidPlan
from fedn.domain.plan import Plan
from fedn.ports import Aggregator, ServerOptimizer

KNOBS: Mapping[str, str] = {
    "learning_rate": "server_learning_rate",
    "momentum": "server_momentum",
    "beta2": "server_beta2",
    "epsilon": "server_epsilon",
}
"""What a server optimizer's constructor may ask for, and the plan field that says it."""


def aggregator_of(plan: Plan) -> Aggregator:
    """Raises InvalidInput if it can't be built, InvalidPlan if it does not say whether its parts merge."""
    aggregator: Aggregator = plugins.make("fedn.aggregators", plan.aggregator)
    if not isinstance(aggregator.mergeable, bool):
        problem = f"{plan.aggregator!r} does not say whether its parts merge"
        raise InvalidPlan("aggregator", problem, "give its class mergeable = True or False")
    return aggregator


def optimizer_of(plan: Plan) -> ServerOptimizer:
    """Raises InvalidInput if it can't be built, InvalidPlan for a field that it has no use for."""
    asked = signature(plugins.load("fedn.server_optimizers", plan.server_optimizer)).parameters
    for knob, field in KNOBS.items():
        if knob not in asked and getattr(plan, field) != _default(field):
            problem = f"means nothing to the server optimizer {plan.server_optimizer!r}"
            raise InvalidPlan(field, problem, "leave it out, or choose another server_optimizer")
    given = {knob: getattr(plan, field) for knob, field in KNOBS.items() if knob in asked}
    optimizer: ServerOptimizer = plugins.make("fedn.server_optimizers", plan.server_optimizer, **given)
    check_slots(optimizer)
    return optimizer


def _default(name: str) -> object:
    return next(item.default for item in fields(Plan) if item.name == name)


def check_numerics(plan: Plan, combiners: Iterable[str]) -> None:
    """Refuse a plan that would be wrong, or could not run, with these combiners. May import plug-ins.

    Raises:
        InvalidInput: naming the plan field, what is wrong, and what to do.
    """
    optimizer_of(plan)
    aggregator, names = aggregator_of(plan), sorted(combiners)
    if plan.averaging == "simple" and plan.aggregator != "mean":
        problem = f"'simple' averages the combiners' means, which {plan.aggregator!r} has not"
        raise InvalidPlan("averaging", problem, "use 'weighted', or the aggregator 'mean'")
    if not aggregator.mergeable and len(names) > 1:
        problem = f"the parts of {plan.aggregator!r} don't merge, and {len(names)} combiners are live"
        remedy = f"stop all but one of {', '.join(names[:5])}, or choose an aggregator whose parts merge"
        raise InvalidPlan("aggregator", problem, remedy)
