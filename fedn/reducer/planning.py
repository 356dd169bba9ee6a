"""Whether a compute plan can be run here, and what will happen then, said before anybody starts it. Pure.

`check` is what starting a session asks; `errors` finds all that is wrong, for a form that is being filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fedn import plugins
from fedn.domain.errors import FednError, InvalidInput, InvalidPlan
from fedn.domain.plan import Plan, plan_from
from fedn.ports import StateStore
from fedn.reducer.hyperparameters import check_hyperparameters
from fedn.reducer.network import NetworkView
from fedn.reducer.numerics import check_numerics
from fedn.reducer.scores import check_stop


def check(plan: Plan, state: StateStore, combiners: Iterable[str]) -> None:
    """Raises InvalidPlan or InvalidInput for what can't be run, naming the field."""
    for wrong in _checks(plan, state, combiners):
        wrong()


def _checks(plan: Plan, state: StateStore, combiners: Iterable[str]) -> Iterable[Callable[[], None]]:
    yield lambda: plugins.check("fedn.selectors", plan.selection)
    yield lambda: check_stop(plan)
    yield lambda: check_hyperparameters(plan, state)
    yield lambda: check_numerics(plan, combiners)


def errors(values: Mapping[str, Any], state: StateStore, combiners: Iterable[str]) -> list[InvalidInput]:
    """Everything that is wrong with the values of a plan: first field by field, then taken together."""
    alone: list[InvalidInput] = []
    for name, value in values.items():
        try:
            plan_from({name: value})
        except InvalidInput as error:
            alone.append(error)
    if alone:
        return alone
    try:
        plan = plan_from(values)
    except InvalidInput as error:
        return [error]
    together: list[InvalidInput] = []
    for wrong in _checks(plan, state, combiners):
        try:
            wrong()
        except InvalidInput as error:
            together.append(error)
        except FednError as error:  # such as a package that is not there
            together.append(InvalidPlan("package", error.message))
    return together


def preview(plan: Plan, network: NetworkView) -> tuple[str, ...]:
    """What a session of this plan will do in this network, a sentence each; what it waits for comes last."""
    live = [combiner for combiner in network.combiners if combiner.live]
    here = sum(len(combiner.clients) for combiner in live)
    return tuple(filter(None, (
        _rounds(plan), _clients(plan, here, len(live)), _averaging(plan), _validation(plan), _early(plan),
        _waits(plan, here, len(live)),
    )))  # fmt: skip


def _rounds(plan: Plan) -> str:
    return f"{_counted(plan.rounds, 'round')} will be committed."


def _clients(plan: Plan, here: int, combiners: int) -> str:
    asked = min(here, plan.max_clients) if plan.max_clients else here
    if not here:
        return ""
    who = f"{asked} of {_counted(here, 'client')}" if asked < here else f"all {_counted(here, 'client')}"
    return (
        f"Each round asks {who} at {_counted(combiners, 'combiner')}, "
        f"waits for them {plan.round_deadline:g} s at most, and needs {_counted(plan.min_clients, 'update')}."
    )


def _averaging(plan: Plan) -> str:
    how = "by its examples" if plan.averaging == "weighted" else "by its combiner, each the same"
    step = (plan.server_optimizer, plan.server_learning_rate, plan.server_momentum)
    if step == ("sgd", 1.0, 0.0):  # which is the mean itself
        return f"Every update counts {how}."
    return f"Every update counts {how}, and the new model is a step of {plan.server_optimizer} to the mean."


def _validation(plan: Plan) -> str:
    if plan.validate:
        return "Clients evaluate every committed model on their own data."
    return "Nobody evaluates the models, so there will be no accuracy to look at."


def _early(plan: Plan) -> str:
    if not plan.stop_metric:
        return ""
    word = "grown" if plan.stop_direction == "max" else "fallen"
    patience = _counted(plan.stop_patience, "round")
    return f"It ends early once {plan.stop_metric} has not {word} for {patience}."


def _waits(plan: Plan, here: int, combiners: int) -> str:
    if not combiners:
        return "No combiner is connected: the session will wait for one."
    if here < plan.min_clients:
        missing = plan.min_clients - here
        return f"It will wait for {_counted(missing, 'more client')}: {here} of {plan.min_clients} are here."
    return ""


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
