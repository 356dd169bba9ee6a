"""The web pages: one module for each, one template for each, all read through the stores and the Front.

`frame.py` is what they have in common. Pages never write: what people do there, their scripts ask of the REST
API (`static/forms.js`), so that whatever a page can do, a program can. They are kept current by
`static/live.js`: an event only says that something happened, the server draws the page again, and the parts
that are marked `data-live` are put in place.
"""

from __future__ import annotations

from flask import Blueprint

from fedn.reducer.pages.charts import routes as charts
from fedn.reducer.pages.compare import routes as compare
from fedn.reducer.pages.control import routes as control
from fedn.reducer.pages.dashboard import routes as dashboard
from fedn.reducer.pages.docs import routes as docs
from fedn.reducer.pages.event import routes as event
from fedn.reducer.pages.events import routes as events
from fedn.reducer.pages.frame import Site, frame
from fedn.reducer.pages.members import client_routes, combiner_routes
from fedn.reducer.pages.model import routes as model
from fedn.reducer.pages.models import routes as models
from fedn.reducer.pages.network import routes as network
from fedn.reducer.pages.overview import routes as overview
from fedn.reducer.pages.package import routes as package
from fedn.reducer.pages.packages import routes as packages
from fedn.reducer.pages.people import routes as people
from fedn.reducer.pages.seed import routes as seed
from fedn.reducer.pages.start import routes as start
from fedn.reducer.pages.trail import routes as trail
from fedn.reducer.pages.why import routes as why

PAGES = (
    overview,
    network,
    combiner_routes,
    client_routes,
    models,
    seed,
    model,
    compare,
    trail,
    packages,
    package,
    people,
    start,
    control,
    charts,
    dashboard,
    docs,
    why,
    events,
    event,
)


def page_routes(site: Site) -> Blueprint:
    """Every page, as one Blueprint with one within it for each."""
    routes = frame(site)
    for page in PAGES:
        routes.register_blueprint(page(site))
    return routes


__all__ = ["Site", "page_routes"]
