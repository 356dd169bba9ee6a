"""/network/join: how to add a client, as commands to copy and a settings file to download."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, render_template, request

from fedn.domain.errors import InvalidInput
from fedn.reducer.network import NetworkView
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.recipe import (
    APP,
    EXAMPLES,
    IMAGES,
    PACKAGE,
    SETTINGS_FILE,
    SIMULATED,
    TOKEN_FILE,
    Answers,
    free_number,
    number_in,
    recipe,
    usual_data,
)

TOKEN_SECONDS = 3600
FIELDS = ("reducer", "name", "runs", "data", "app", "image")
RUNS = (
    (PACKAGE, "the packages of this network's sessions, on data beside it"),
    (APP, "code of its owner's own"),
    *((name, f"the example {name}, on data that it makes") for name in EXAMPLES),
)


def join_page(page: Blueprint, site: Site) -> None:
    """Add /network/join to the pages of the network."""
    registrar = site.registrar

    @page.get("/network/join")
    def join() -> str:
        """The form; with its fields in the query the commands, too."""
        view = site.front.network()
        answers, wrong, made = _answers(site, view), None, None
        if request.args:
            try:
                made = recipe(answers, registrar is not None)
            except InvalidInput as error:
                wrong = error.details
        return render_template(
            "join.html",
            answers=answers,
            proxied=bool(site.settings.trusted_proxies),
            wrong=wrong,
            made=made,
            runs=RUNS,
            images=IMAGES,
            simulated=SIMULATED,
            settings_file=SETTINGS_FILE,
            token_file=TOKEN_FILE,
            token_seconds=TOKEN_SECONDS,
            fingerprint=registrar.authority.fingerprint if registrar else "",
            combiners=sum(one.live and not one.drained_at for one in view.combiners),
            arrived=_arrived(view, answers.name) if made else [],
        )

    @page.get("/network/join/client.yaml")
    def settings() -> Response:
        """The settings file of the same form."""
        made = recipe(_answers(site, site.front.network()), registrar is not None)
        return Response(
            made.settings, mimetype="application/yaml",
            headers={"Content-Disposition": f'attachment; filename="{SETTINGS_FILE}"'},
        )  # fmt: skip


def _answers(site: Site, view: NetworkView) -> Answers:
    """What was entered, and what the form begins with."""
    given: dict[str, Any] = {name: request.args.get(name, "").strip() for name in FIELDS}
    given["reducer"] = given["reducer"] or _address(site)
    given["runs"] = given["runs"] or PACKAGE
    given["image"] = given["image"] or IMAGES[0]
    if not request.args:
        given["name"] = _free_name(view)
    given["data"] = given["data"] or usual_data(given["runs"], _number(view, given["name"]))
    return Answers(**given)


def _address(site: Site) -> str:
    """Where a client may find the reducer: as the browser does, but past a proxy, where certificates end."""
    if not site.settings.trusted_proxies:
        return request.host_url.rstrip("/")
    scheme = "https" if site.registrar else "http"
    host = urlsplit(request.host_url).hostname or ""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{site.settings.port}"


def _free_name(view: NetworkView) -> str:
    """A name that nobody has, also nobody who was here lately."""
    return f"client-{free_number(view.names.values())}"


def _number(view: NetworkView, name: str) -> int:
    """The number that this client's name ends with; of who has none, or has another's, a free one.

    Each example's data is one file for each number: two clients with the same one would count twice.
    """
    others = [client.name for client in view.attached if client.name != name]
    number = number_in(name)
    return number if number and number not in map(number_in, others) else free_number(others)


def _arrived(view: NetworkView, name: str) -> list[tuple[str, str]]:
    """Clients of this name that are attached, and where."""
    return [
        (one.client, combiner.combiner)
        for combiner in view.combiners
        for one in combiner.clients
        if one.name == name
    ]
