"""`fedn.fit`: a whole federation from one call, in this process or on a network."""

from __future__ import annotations

import math
import os
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from fedn.client.faults import LOCAL
from fedn.config import ClientSettings, load, nearest
from fedn.domain.errors import FednError, InvalidInput, InvalidPlan
from fedn.domain.ids import check_id
from fedn.domain.plan import plan_fields, plan_from
from fedn.sdk import defaults, models
from fedn.sdk.bench import Bench
from fedn.sdk.defaults import Functions
from fedn.sdk.drawing import drawn
from fedn.sdk.facts import Done
from fedn.sdk.network import Network
from fedn.sdk.owners import Failure, OwnerApp, evaluated, named
from fedn.sdk.running import Locally, OnNetwork, Running
from fedn.sdk.terminal import metrics_text


@dataclass(frozen=True, slots=True)
class Round:
    """A committed round, as ``fit(callback=...)`` hears of it.

    ``clients`` updates of together ``examples`` examples count. Metrics are example-weighted means over the
    owners: ``train`` as they trained, ``validate`` of the model that came of it ({} if nobody validated).
    ``evaluate`` is what ``fit(evaluate=...)`` says of that model. ``missing`` names who did not contribute,
    and why.
    """

    round: int
    clients: int
    examples: int
    train: Mapping[str, float]
    validate: Mapping[str, float]
    evaluate: Mapping[str, float]
    missing: Mapping[str, str]


def fit(
    model: Any,
    data_owners: Mapping[str, Any] | Sequence[Any],
    rounds: int = 10,
    *,
    network: str | Network | None = None,
    train: Callable[..., Any] | None = None,
    validate: Callable[..., Any] | bool = True,
    evaluate: Callable[[Any], Any] | tuple[Any, Any] | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    validation_split: float = 0.2,
    helper: str = "",
    combiners: int = 1,
    state_dir: str | os.PathLike[str] | None = None,
    callback: Callable[[Round], Any] | None = None,
    progress: bool = True,
    **plan: Any,
) -> Any:
    """Train ``model`` on the data of several owners, which is never brought together; returns it trained.

    A compiled Keras model and a scikit-learn estimator with ``partial_fit`` need nothing else than data; for
    others give ``train``. In this process one owner trains at a time, whatever the framework. The random
    generators of Keras and PyTorch are set before each task, so the same call gives the same model, as far
    as their operations do.

    Args:
        model: a Keras, PyTorch or scikit-learn model, which is trained in place; a dict of arrays; or a
            function that returns one of these.
        data_owners: each owner's data by name, or a list of them. A pair of arrays (x, y), with one example
            along the first axis; or whatever ``train`` works with. Or, without ``train``, a list of names of
            clients that are attached to ``network``, with data and code of their own: they are waited for.
        rounds: how many to commit.
        network: None for a federation in this process, without sockets. Else the address of a reducer, with
            the token as `fedn.Network` finds it, or a `fedn.Network`: owners with data become clients of it
            in this process (an admin's token lets them join), and leave when it is done.
        train: ``train(model, data, config)`` returns (model, examples) or (model, examples, metrics).
            config is read-only: epochs, batch_size, round, seed, and the hyperparameters of ``plan``.
        validate: ``validate(model, data)`` returns (examples, metrics) or metrics alone; True for the
            framework's own way, False for none. With a ``train`` of your own there is no other than yours,
            and it gets what train gets; else it gets the (x, y) that were held out.
        evaluate: ``evaluate(model)`` returns metrics, of data that no owner needs to have; or (x, y) for the
            framework's own way. Done here, for every committed model.
        epochs: passes over the data in each round. As batch_size it is for owners whose data is here.
        batch_size: examples in each step; scikit-learn's estimators have their own.
        validation_split: share of each owner's (x, y), from 0 to below 1, that is not trained on but
            validated with; always the same examples.
        helper: what makes tensors of the model, where its class does not say.
        combiners: how many, in this process.
        state_dir: where owners that become clients of a network keep who they are.
        callback: called with every committed `Round`, in order. ``callback=history.append`` keeps them.
        progress: draw bars and a line for each round.
        plan: other fields of the compute plan, such as ``seed=1`` or ``proximal_mu=0.1``. ``min_clients`` is
            all owners, if it is not given: who fails then ends it.

    Raises:
        InvalidInput, InvalidModel, InvalidPlan: naming what is wrong.
        FednError: the session failed or was stopped, or an owner can't go on; what its function raised is
            the cause. The model is then not to be used.
    """
    model = _model(model)
    helper = models.known_helper(model, helper)
    others, owners = _owners(data_owners, train is None, network)
    _check_names(plan)
    functions, owners = _functions(helper, model, owners, train, validate, validation_split, plan)
    given = {"min_clients": len(others) + len(owners), **plan, "rounds": rounds, "validate": bool(validate)}
    given |= _given_here(functions, epochs, batch_size, plan)
    plan_from(given)
    bench = Bench(model, helper)
    judged = None if evaluate is None else _judge(bench, evaluate)
    failures: deque[Failure] = deque(maxlen=len(owners))
    apps = _apps(owners, bench, functions, given.get("seed", 0), failures)
    first = bench.tensors(bench.model)
    with _running(network, first, apps, others, state_dir, combiners, given) as running:
        last = _watched(running, judged, callback, progress, failures, given)
        return bench.finished(running.tensors(last))


# --- what is asked ---------------------------------------------------------------------------------


def _model(given: Any) -> Any:
    """A model, or what a function that makes one returns; models of PyTorch may be called, too."""
    return given() if callable(given) and not models.helper_of(given) else given


def _owners(
    given: Mapping[str, Any] | Sequence[Any], named_alone: bool, network: str | Network | None
) -> tuple[list[str], dict[str, Any]]:
    """Names of owners that are elsewhere, and the data of those that are here.

    A text may be data, such as a path, for a train() that knows what to do with it.
    """
    if named_alone and isinstance(given, Sequence) and given and all(isinstance(one, str) for one in given):
        if network is None:
            remedy = "give their data, or the network that they are attached to"
            raise InvalidInput("data_owners", "are names alone", remedy)
        return list(given), {}
    owners = named(given)
    for name in owners:
        check_id("data_owners", name)
    return [], owners


def _check_names(plan: Mapping[str, Any]) -> None:
    """Raises InvalidPlan naming what is misspelled; it may be meant for an argument of fit."""
    fields = [name for name, *_ in plan_fields()]
    arguments = [name for name, one in signature(fit).parameters.items() if one.kind is not one.VAR_KEYWORD]
    for name in plan:
        if name not in fields:
            remedy = nearest(name, [*arguments, *fields]) or f"plan fields are {', '.join(fields)}"
            raise InvalidPlan(name[:80], "is neither an argument of fit nor a plan field", remedy)


def _functions(
    helper: str, model: Any, owners: dict[str, Any], train: Any, validate: Any, share: float,
    plan: Mapping[str, Any],
) -> tuple[Functions | None, dict[str, Any]]:  # fmt: skip
    """What the owners here do, and with which data; None where there are none."""
    if not (isinstance(share, int | float) and 0 <= share < 1):
        raise InvalidInput("validation_split", f"{share} is out of bounds", "give 0 to below 1")
    if not owners:
        return None, {}
    own = validate if callable(validate) else None
    if train is not None:
        return Functions(train, own), owners
    if not validate:
        share = 0
    usual = defaults.functions_of(helper, model)
    if usual is None:
        raise defaults.missing(helper, model)
    defaults.check_config(usual, model, plan.get("config"))
    parts = {name: defaults.split(name, data, share, plan.get("seed", 0)) for name, data in owners.items()}
    if helper == "sklearn":
        defaults.begun(model, parts)
    if own is not None:
        return Functions(usual.train, lambda model, part: own(model, part.judged)), parts
    return Functions(usual.train, usual.validate if share else None), parts


def _given_here(
    functions: Functions | None, epochs: int, batch_size: int, plan: Mapping[str, Any]
) -> dict[str, Any]:
    """Fields of the plan that are for owners whose data is here."""
    if functions is None:
        return {}
    config = {"epochs": epochs, "batch_size": batch_size, **plan.get("config", {})}
    return {"config": config, "validate": functions.validate is not None}


def _apps(
    owners: Mapping[str, Any], bench: Bench, functions: Functions | None, seed: int, failures: deque[Failure]
) -> dict[str, OwnerApp]:
    if functions is None:
        return {}
    return {
        name: OwnerApp(name, data, bench, functions, seed, failures.append) for name, data in owners.items()
    }


Judge = Callable[[Mapping[str, Any]], Mapping[str, float]]


def _judge(bench: Bench, evaluate: Any) -> Judge:
    if callable(evaluate):
        return partial(evaluated, bench, evaluate)
    return partial(evaluated, bench, defaults.evaluation(bench.helper, bench.model, evaluate))


# --- what is done ----------------------------------------------------------------------------------


@contextmanager
def _running(
    network: str | Network | None, first: Mapping[str, Any], apps: Mapping[str, OwnerApp],
    others: Collection[str], state_dir: Any, combiners: int, plan: Mapping[str, Any],
) -> Iterator[Running]:  # fmt: skip
    if network is None:
        if combiners < 1:
            raise InvalidInput("combiners", f"{combiners} are too few", "give 1 or more")
        with Locally(first, apps, combiners, plan) as locally:
            yield locally
        return
    home = load(ClientSettings).state_dir if state_dir is None else Path(state_dir)
    own = Network(network) if isinstance(network, str) else nullcontext(network)
    with own as at, OnNetwork(at, first, apps, others, home, plan) as there:
        yield there


def _watched(
    running: Running, judge: Judge | None, callback: Callable[[Round], Any] | None, progress: bool,
    failures: Sequence[Failure], plan: Mapping[str, Any],
) -> int:  # fmt: skip
    """Follow it to its end; the last committed round. Raises FednError if it did not finish well."""

    def tell(done: Done) -> str:
        scores = judge(running.tensors(done.round)) if judge is not None else {}
        if callback is not None:
            callback(_round(done, running.train_means(done.round), scores))
        return f"evaluated {metrics_text(scores)}" if scores else ""

    last, known = 0, False
    with drawn(running.title, more=tell, quiet=not progress) as story:
        for fact in running.facts():
            if fact.event == "waiting":
                _check(running, failures, plan["min_clients"])
            story.tell(fact)
            last = fact.fields["round"] if fact.event == "session_ended" else last
            if fact.event == "round_validated" and not known:
                known = _warned(plan.get("stop_metric", ""), fact.fields["metrics"])
    if story.state != "finished":
        raise _failed(f"the session {story.state} after round {last}: {story.reason}", failures)
    return last


def _check(running: Running, failures: Sequence[Failure], needed: int) -> None:
    """Raise if owners that run here can't go on, and a round would wait for them for ever."""
    out = running.out()
    if out and running.owners - len(out) < needed:
        owner, why = min(out.items())
        why = why.removesuffix(f" — {LOCAL}")  # the traceback is the cause's
        own = [failure for failure in failures if failure.owner == owner]
        raise _failed(f"{owner} can't go on: {why}", own)


def _warned(stop_metric: str, metrics: Mapping[str, Any]) -> bool:
    """Whether it is known by now if anybody reports ``stop_metric``; warns if nobody does."""
    if stop_metric and metrics and stop_metric not in metrics:
        hint = nearest(stop_metric, metrics) or f"they report {', '.join(metrics)}"
        warnings.warn(f"stop_metric: no owner reports {stop_metric!r} — {hint}", stacklevel=4)
    return bool(metrics)


def _failed(message: str, failures: Sequence[Failure]) -> FednError:
    error = FednError(message)
    error.__cause__ = failures[-1].error if failures else None
    return error


def _round(done: Done, train: Mapping[str, float], scores: Mapping[str, float]) -> Round:
    fields = done.committed
    missing = {one["client"]: one["reason"] for word in ("refused", "lost") for one in fields[word]}
    validated = {name: value for name, value in done.validated.get("metrics", {}).items() if _finite(value)}
    return Round(done.round, fields["contributors"], fields["examples"], train, validated, scores, missing)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
