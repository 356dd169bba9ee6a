"""A thousand rounds and five hundred clients: pages are served by the real web server, and drawn in no time.

What is measured is the processor time of the page's own thread, which other programs on the machine do not
lengthen as they lengthen time by the clock; the bound is the issue's promise, not a comparison of speed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import charts, live

from fedn.config import ReducerSettings
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation
from fedn.domain.messages import ClientInfo
from fedn.domain.round import MergedPart, RoundRecord, store_record
from fedn.domain.update import Contributor
from fedn.ports import MetricRow
from fedn.reducer.events import EventHub
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.rest import create_app
from fedn.reducer.web import Web

ROUNDS, CLIENTS, EVERY_ROUND = 1000, 500, 20
SECONDS = 1.0
CHARTS = ("/plot", "/sessions/{session}")
BESIDE = Path(__file__).parents[1] / "unit/reducer/small_service.py"
MEMBERS = tuple(ClientId(f"hospital-{number:03}") for number in range(CLIENTS))
DIGEST = Digest("ab" * 32)


def _small_service():
    spec = importlib.util.spec_from_file_location("small_service_of_large", BESIDE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def large() -> Iterator[tuple[str, str]]:
    """Address and session of a reducer with all of it in its stores; each round had twenty clients."""
    small = _small_service()

    class Service(small.SmallService):
        def network(self) -> NetworkView:
            combiners = tuple(
                CombinerView(
                    CombinerName(f"combiner-{at}"), f"10.0.0.{at}:12080", "i", True,
                    tuple(ClientInfo(one, one) for one in MEMBERS[at::5]),
                )
                for at in range(5)
            )  # fmt: skip
            return NetworkView(self.term, combiners)

    service = Service()
    service.hub = EventHub(streams=32)  # of pages that were left, streams end a little later
    session = small.seeded(service, rounds=2 * ROUNDS).session
    for number in range(1, ROUNDS + 1):
        _commit(service, session, number)
    now = time.time()
    stages = {
        one: {"combiner": "combiner-0", "state": "folded" if at < 200 else "training", "since": now}
        for at, one in enumerate(MEMBERS)
    }
    service.progress = {
        "state": "running", "reason": "", "round": ROUNDS + 1, "expected": CLIENTS, "received": 200,
        "opened_at": now, "clients": stages,
    }  # fmt: skip
    settings = ReducerSettings(port=0)
    web = Web(create_app(service, settings), settings)
    web.start()
    yield f"http://127.0.0.1:{web.port}", session
    service.hub.close()
    web.stop()


def _commit(service, session: str, number: int) -> None:
    info = service.state.session(session)
    who = [MEMBERS[(number * 7 + step) % CLIENTS] for step in range(EVERY_ROUND)]
    folded = tuple(Contributor(one, 100, DIGEST) for one in who)
    part = MergedPart(CombinerName("combiner-0"), Incarnation("i"), 1, DIGEST, folded)
    record = RoundRecord(
        session, number, info.head.record, info.head.model, info.head.model, info.head.model_size,
        info.plan.as_dict(), info.plan.digest, service.term, time.time(), parts=(part,),
    )  # fmt: skip
    service.state.commit_round(store_record(record), service.term)
    value = 1 - 1 / (number + 1)
    metrics = {"accuracy": value, "loss": 1 - value}
    rows = [
        MetricRow(session, number, kind, one, 100, metrics) for one in who for kind in ("train", "validate")
    ]
    service.state.add_metrics(rows, service.term)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/network", "/control", "/models", "/plot", "/dashboard", "/events", "/start",
        "/sessions/{session}", "/sessions/{session}/trail",
    ],
)  # fmt: skip
def test_a_page_is_drawn_within_a_second_of_the_processors_time(path: str, large, window):
    """As somebody sees it who was here before: of the very first visit, half is spent on reading plotly."""
    url, session = large
    view = window(url)
    measured = view.context.new_cdp_session(view.page)
    measured.send("Performance.enable", {"timeDomain": "threadTicks"})
    for before in (path, "/", path):  # what is measured begins anew with every page
        page = view.go(before.format(session=session))
        live(page)
        if before in CHARTS:
            charts(page)
    page.wait_for_timeout(1000)  # for whatever is drawn once more
    metrics = {one["name"]: one["value"] for one in measured.send("Performance.getMetrics")["metrics"]}
    assert 0 < metrics["TaskDuration"] < SECONDS


def test_nothing_is_left_out_silently(large, window):
    """What a page does not show it counts."""
    url, session = large
    page = window(url).go(f"/sessions/{session}")
    assert "1,000" in page.locator("main").inner_text() or "1000" in page.locator("main").inner_text()
