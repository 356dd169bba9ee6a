"""Whether a compute plan can be run here, and what will happen then, said before anybody starts it. Pure.

`check` is what starting a session asks; `errors` finds all that is wrong, for a form that is being filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fedn import plugins
from fedn.domain.errors import FednError, InvalidInput, InvalidPlan
from fedn.domain.messages import ClientInfo
from fedn.domain.plan import Plan, plan_from
from fedn.ports import StateStore
from fedn.reducer.hyperparameters import check_hyperparameters
from fedn.reducer.network import NetworkView
from fedn.reducer.numerics import check_numerics
from fedn.reducer.scores import check_stop

APP, PACKAGES = "app", "packages"
"""What clients say that they train with (`Host.runs`)."""


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


# --- who can take part ---------------------------------------------------------------------------


def runs_packages(client: ClientInfo) -> bool:
    """Whether it runs packages and nothing else, as it says itself."""
    return client.host.runs == PACKAGES


def can_take_part(client: ClientInfo, plan: Plan) -> bool:
    """Whether a client would take work of this plan on at all: packages, or without one its own app.

    It is the rule by which clients refuse tasks (`client/trainer.py`, `client/packages.py`); its data and
    code a client checks itself (`checking.py`). Who does not say what it runs is asked.
    """
    return client.host.runs in ("", PACKAGES if plan.package else APP)


# --- what will happen ----------------------------------------------------------------------------


def preview(plan: Plan, network: NetworkView, package: str = "", twin: str = "") -> tuple[str, ...]:
    """What a session of this plan will do in this network, a sentence each; what it waits for comes last.

    ``package`` is what its package is called, ``twin`` its own name if a session of that name runs already.
    """
    live = sum(combiner.live for combiner in network.combiners)
    clients = network.attached
    able = sum(can_take_part(client, plan) for client in clients)
    return tuple(filter(None, (
        _twin(twin), _rounds(plan), _package(plan, package), _clients(plan, able, len(clients), live),
        _unable(plan, able, len(clients)), _averaging(plan), _validation(plan), _early(plan),
        _waits(plan, able, len(clients), live),
    )))  # fmt: skip


def _twin(name: str) -> str:
    return f"A session called {name} runs already; this will be another one of that name." if name else ""


def _rounds(plan: Plan) -> str:
    return f"{_counted(plan.rounds, 'round')} will be committed."


def _package(plan: Plan, name: str) -> str:
    if not plan.package:
        return "Clients run apps of their own."
    return f"Clients run the package {name} ({plan.package[:12]})."


def _clients(plan: Plan, able: int, here: int, combiners: int) -> str:
    asked = min(able, plan.max_clients) if plan.max_clients else able
    if not able:
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
        return "Clients evaluate every committed model on their own data, as far as they keep up."
    return "Nobody evaluates the models, so there will be no accuracy to look at."


def _early(plan: Plan) -> str:
    if not plan.stop_metric:
        return ""
    word = "grown" if plan.stop_direction == "max" else "fallen"
    patience = _counted(plan.stop_patience, "round")
    return f"It ends early once {plan.stop_metric} has not {word} for {patience}."


def _unable(plan: Plan, able: int, here: int) -> str:
    """Who of those that are here can't take part, and why."""
    if not (unable := here - able):
        return ""
    none = f"None of the {_counted(here, 'client')} can" if here > 1 else "The one client that is here can't"
    who = f"{unable} of them can't" if able else none
    if plan.package:
        return f"{who} take part: {_they(unable, 'run', 'an app of its own', 'apps of their own')}."
    return f"{who} take part: {_they(unable, 'run', 'packages', 'packages')}, and no package is chosen."


def _they(count: int, does: str, its: str, theirs: str) -> str:
    return f"it {does}s {its}" if count == 1 else f"they {does} {theirs}"


def _waits(plan: Plan, able: int, here: int, combiners: int) -> str:
    if not combiners:
        return "No combiner is connected: the session will wait for one."
    if able < plan.min_clients:
        missing = _counted(plan.min_clients - able, "more client")
        there = "are here" if able == here else "can take part"
        return f"It will wait for {missing}: {able} of {plan.min_clients} {there}."
    return ""


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
