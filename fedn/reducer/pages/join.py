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
    given["data"] = given["data"] or usual_data(given["runs"])
    if not request.args:
        given["name"] = _free(view)
    return Answers(**given)


def _address(site: Site) -> str:
    """Where a client may find the reducer: as the browser does, but past a proxy, where certificates end."""
    if not site.settings.trusted_proxies:
        return request.host_url.rstrip("/")
    scheme = "https" if site.registrar else "http"
    host = urlsplit(request.host_url).hostname or ""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{site.settings.port}"


def _free(view: NetworkView) -> str:
    """A name that nobody has."""
    taken = set(view.names.values())
    return next(name for n in range(1, len(taken) + 2) if (name := f"client-{n}") not in taken)


def _arrived(view: NetworkView, name: str) -> list[tuple[str, str]]:
    """Clients of this name that are attached, and where."""
    return [
        (one.client, combiner.combiner)
        for combiner in view.combiners
        for one in combiner.clients
        if one.name == name
    ]
