"""/start: a form for a compute plan, with what it means beside every field and what will happen below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request

from fedn import plugins
from fedn.domain.ids import Digest, SessionId, check_digest, check_id
from fedn.ports import SessionInfo, StateStore
from fedn.reducer.network import NetworkView
from fedn.reducer.pages.frame import Site
from fedn.reducer.planning import runs_packages
from fedn.reducer.rest_forms import plan_form

MODELS_SHOWN = 50
"""Seed models; and sessions, of each the newest model."""
PACKAGES_SHOWN = 50

GROUPS: Mapping[str, Sequence[str]] = {
    "How long": ("rounds", "stop_metric", "stop_patience", "stop_direction"),
    "Who takes part": ("min_clients", "max_clients", "round_deadline", "selection"),
    "Training": ("package", "config", "proximal_mu", "measure_before_fit"),
    "Averaging": ("averaging", "aggregator", "server_optimizer", "server_learning_rate", "server_momentum",
                  "server_beta2", "server_epsilon"),
    "Checking and validation": ("validate", "validation_deadline", "check", "seed"),
}  # fmt: skip
"""Fields of the plan in the order in which people think of them; what is new in the plan comes last."""
OFTEN = frozenset({"rounds", "min_clients", "max_clients", "round_deadline", "package", "config", "validate"})
"""What is shown at once; the others are a click away."""
PLUGINS = {
    "selection": "fedn.selectors",
    "aggregator": "fedn.aggregators",
    "server_optimizer": "fedn.server_optimizers",
}


@dataclass(frozen=True, slots=True)
class FormField:
    """One field as the template draws it. ``value`` is what it begins with, ``choices`` value and word."""

    name: str
    label: str
    kind: str
    doc: str
    value: Any
    choices: tuple[tuple[str, str], ...]
    low: float | None
    high: float | None
    often: bool


def routes(site: Site) -> Blueprint:
    """/start."""
    page = Blueprint("start", __name__)
    page.add_app_template_filter(_number, "bound")
    state = site.front.state

    @page.get("/start")
    def show() -> str:
        """The form; with ?model= a digest to begin with, with ?like= a session whose plan to begin with.

        ?package= is chosen as its package.
        """
        like, only_packages = _like(state), _only_packages(site.front.network())
        chosen = check_digest("model", request.args["model"]) if request.args.get("model") else ""
        newest = state.packages(1)
        begin = {"package": newest[0].digest} if only_packages and newest else {}
        return render_template(
            "start.html",
            models=state.models(MODELS_SHOWN),
            trained=_trained(state),
            chosen=chosen or (like.head.model if like else ""),
            groups=_groups(state, (like.plan.as_dict() if like else begin) | _package()),
            like=like,
            packageless=only_packages and not newest,
        )

    return page


def _like(state: StateStore) -> SessionInfo | None:
    asked = request.args.get("like", "")
    return state.session(SessionId(check_id("session", asked))) if asked else None


def _package() -> dict[str, Any]:
    asked = request.args.get("package", "")
    return {"package": check_digest("package", asked)} if asked else {}


def _only_packages(network: NetworkView) -> bool:
    """Whether there are clients, and each of them runs packages alone."""
    clients = network.attached
    return bool(clients) and all(map(runs_packages, clients))


def _trained(state: StateStore) -> list[SessionInfo]:
    """The newest sessions with a model of their own; of several with the very same one, the newest."""
    found: dict[str, SessionInfo] = {}
    for info in state.sessions():
        if info.head.round and len(found) < MODELS_SHOWN:
            found.setdefault(info.head.model, info)
    return list(found.values())


def _groups(state: StateStore, values: Mapping[str, Any]) -> list[tuple[str, list[FormField]]]:
    known = {form["name"]: form for form in plan_form()}
    grouped = {word: [known.pop(name) for name in names if name in known] for word, names in GROUPS.items()}
    grouped["More"] = list(known.values())
    return [
        (word, [_field(state, form, values) for form in forms]) for word, forms in grouped.items() if forms
    ]


def _field(state: StateStore, form: Mapping[str, Any], values: Mapping[str, Any]) -> FormField:
    name = form["name"]
    return FormField(
        name=name,
        label=name.replace("_", " ").capitalize(),
        kind=form["type"],
        doc=form["doc"],
        value=values.get(name, form["default"]),
        choices=_choices(state, form, values),
        low=form.get("low"),
        high=form.get("high"),
        often=name in OFTEN,
    )


def _choices(
    state: StateStore, form: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    """Value and word of what can be chosen; empty where people write."""
    name = form["name"]
    if group := PLUGINS.get(name):
        return tuple((known, known) for known in sorted(plugins.available().get(group, ())))
    if name == "package":
        packages = state.packages(PACKAGES_SHOWN)
        chosen = values.get("package")
        if chosen and all(one.digest != chosen for one in packages):
            packages = [*packages, state.package(Digest(chosen))]
        named = ((one.digest, f"{one.name} ({one.digest[:12]})") for one in packages)
        return ("", "none: clients run apps of their own"), *named
    return tuple((choice, choice) for choice in form.get("choices", ()))


def _number(value: Any) -> str:
    """A bound or a default as people write it: 600, 0.1, 1000000, 1e-09."""
    return repr(value).removesuffix(".0") if isinstance(value, int | float) else str(value)
