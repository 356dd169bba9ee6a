"""The pages of sessions: the list, the live page with its bars, charts and dashboard."""

from __future__ import annotations

import time

import pytest

from fedn.config import ReducerSettings
from fedn.domain.ids import digest_of
from fedn.domain.messages import Registration
from fedn.ports import PackageInfo
from fedn.reducer.pages.round_bars import LANES_SHOWN, open_round
from fedn.reducer.rest import create_app

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def http(service):
    """Everybody may do everything here."""
    return create_app(service, ReducerSettings()).test_client()


def shown(http, address, **more):
    answer = http.get(address, **more)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)


def standing(state, since, combiner="c1"):
    return {"combiner": combiner, "state": state, "since": since}


# --- bars ------------------------------------------------------------------------------------------


def test_bars_reach_from_the_opening_to_now_and_a_late_one_is_marked():
    progress = {
        "state": "running", "round": 4, "opened_at": 100.0, "stragglers": {"clients": ["b"]},
        "clients": {
            "a": standing("folded", 110.0), "b": standing("training", 120.0), "c": standing("folded", 130.0),
        },
    }  # fmt: skip
    found = open_round(progress, {"b": "clinic"}, 200.0)
    assert found.part == "clients"
    assert found.counts == {"training": 1, "folded": 2}
    assert found.usual == 20.0
    a, c, b = found.lanes  # by name
    assert (a.start, a.end, a.seconds, a.late) == (0.0, 10.0, 10.0, False)
    assert (b.name, b.start, b.end, b.seconds, b.late) == ("clinic", 20.0, 100.0, 80.0, True)
    assert c.end == 30.0


def test_of_many_clients_those_that_take_longest_have_bars_and_the_others_are_counted():
    clients = {f"client-{n:03}": standing("folded", 100.0 + n / 100) for n in range(500)}
    clients |= {f"client-{n:03}": standing("training", 101.0) for n in range(7)}
    clients["client-499"] = standing("lost", 103.0)
    found = open_round({"opened_at": 100.0, "clients": clients}, {}, 200.0)
    assert len(found.lanes) == LANES_SHOWN
    assert [lane.state for lane in found.lanes[:9]] == ["training"] * 7 + ["lost", "folded"]
    assert found.lanes[8].client == "client-498"
    assert found.others == {"folded": 500 - LANES_SHOWN}


def test_when_all_updates_are_in_the_round_is_being_reduced():
    progress = {"state": "running", "opened_at": 1.0, "clients": {"a": standing("folded", 2.0)}}
    assert open_round(progress, {}, 3.0).part == "reducing"
    assert open_round(progress | {"state": "committing"}, {}, 3.0).part == "committing"
    assert open_round({}, {}, 3.0) is None


def test_while_updates_are_missing_the_round_is_not_being_reduced():
    """It lost a client and looks for another one, or that one's combiner is away."""
    progress = {
        "state": "running", "opened_at": 1.0, "expected": 3, "received": 2, "refused": {}, "lost": {},
        "clients": {"a": standing("folded", 2.0), "b": standing("folded", 2.0), "c": standing("lost", 2.5)},
    }  # fmt: skip
    assert open_round(progress, {}, 3.0).part == "clients"
    gone = progress | {"lost": {"c": "it went"}}
    assert open_round(gone | {"waits": "2 of 3 updates"}, {}, 3.0).part == "clients"
    assert open_round(gone, {}, 3.0).part == "reducing"


# --- pages -----------------------------------------------------------------------------------------


def test_without_a_session_pages_say_what_to_do(http):
    assert "Start one" in shown(http, "/control")
    assert "no session" in shown(http, "/plot")
    assert "Nothing has run yet" in shown(http, "/dashboard")
    assert http.get("/sessions/nobody").status_code == 404
    assert http.get("/sessions/..%2Fetc").status_code in (400, 404)


def test_the_live_page_has_the_round_its_clients_and_what_was_committed(http, service, small):
    info = small.seeded(service, rounds=7, server_momentum=0.5)
    service.commit(info.session, 0.5)
    service.progress = {
        "state": "running", "round": 2, "expected": 2, "received": 1, "opened_at": 1.0, "reason": "",
        "clients": {"client-a": standing("folded", 3.0), HOSTILE: standing("training", 2.0)},
        "stragglers": {"clients": [HOSTILE], "more": 0, "seconds": 9.0, "median": 2.0},
        "refused": {"client-b": HOSTILE}, "lost": {},
    }  # fmt: skip
    page = shown(http, f"/sessions/{info.session}", headers={"Accept": "text/html"})
    assert "<script>alert" not in page
    assert "late:" in page
    assert "0.5000" in page  # accuracy, weighted
    assert f"/sessions/{info.session}/rounds/1/why" in page
    assert f"/models/{service.state.session(info.session).head.model}" in page
    assert "Server momentum" in page.split("as by default")[0]
    assert f'data-api="/api/v1/sessions/{info.session}/pause"' in page
    live = shown(http, f"/sessions/{info.session}", headers={"Fedn-Live": "1"})
    assert "<html" not in live
    assert 'id="open-round" data-live' in live


def under_way(service, **more):
    """A round at work in which nothing is the matter."""
    service.register(Registration(1, "c1", "127.0.0.1:9", "i1"))
    service.progress = {
        "state": "running", "round": 2, "expected": 2, "received": 1, "opened_at": time.time() - 2,
        "reason": "", "waits": "", "hindrances": {}, "refused": {}, "lost": {},
        "clients": {"client-a": standing("folded", 3.0), "client-b": standing("training", 2.0)},
    } | more  # fmt: skip


def leading(page):
    return page.split('<p class="why">')[1].split("<a ")[0].strip()


def test_an_ordinary_round_is_told_in_one_line_that_does_not_name_clients(http, service, small):
    info = small.seeded(service, rounds=3000, min_clients=2)
    for _ in range(2):
        service.commit(info.session, 0.5)
    under_way(service, round=3)
    page = shown(http, f"/sessions/{info.session}")
    assert leading(page) == "Round 3 of 3,000: 1 of 2 updates are in."
    assert f"/sessions/{info.session}/why" in page
    assert "<td>3,000</td>" in page  # as everywhere
    under_way(service, round=3, state="committing", received=2)
    assert leading(shown(http, f"/sessions/{info.session}")) == "Round 3 of 3,000: 2 of 2 updates are in."
    under_way(service, round=3, state="planning", expected=0, clients={})
    assert "its clients are being chosen" in leading(shown(http, f"/sessions/{info.session}"))


@pytest.mark.parametrize("what", [
    {"stragglers": {"clients": ["client-b"], "more": 0, "seconds": 9.0, "median": 2.0}},
    {"lost": {"client-b": "it went"}},
    {"refused": {"client-b": "it is not finite"}},
])  # fmt: skip
def test_where_something_is_the_matter_all_of_it_is_told(http, service, small, what):
    info = small.seeded(service, rounds=9, min_clients=2)
    under_way(service, **what)
    assert "client-b" in leading(shown(http, f"/sessions/{info.session}"))


def test_how_much_time_is_left_is_said_only_while_it_goes_on(http, service, small):
    info = small.seeded(service, rounds=9, min_clients=2)
    service.commit(info.session, 0.5)
    left = "<dt>Left</dt>"
    addresses = (f"/sessions/{info.session}", "/dashboard")
    under_way(service)
    assert all(left in shown(http, address) for address in addresses)
    under_way(service, waits="2 of 3 updates", reason="2 of 3 updates", lost={"client-b": "it went"})
    assert not any(left in shown(http, address) for address in addresses)
    under_way(service, state="paused", reason="somebody paused it")
    service.end(info.session, "paused", "")
    assert not any(left in shown(http, address) for address in addresses)


def test_trail_newest_model_and_package_are_a_link_away(http, service, small):
    package = PackageInfo(digest_of(b"package"), 9, f"train {HOSTILE}", {}, 1.0)
    info = small.seeded(service, package=package.digest)
    page = shown(http, f"/sessions/{info.session}")
    assert f'href="/sessions/{info.session}/trail"' in page
    assert f'href="/api/v1/models/{info.head.model}?format=safetensors"' in page
    assert f"/packages/{package.digest}" not in page
    service.state.add_package(package)
    page = shown(http, f"/sessions/{info.session}")
    assert f'href="/packages/{package.digest}"' in page
    assert "train &lt;script&gt;" in page
    assert HOSTILE not in page


def test_sessions_of_one_name_are_told_apart(http, service, small):
    twins = [small.seeded(service) for _ in range(2)]
    seed = twins[0].head.model
    for info in twins:
        service.commit(info.session, 0.5)
    for address in ("/plot", "/models", f"/models/{seed}", "/clients/client-a"):
        page = shown(http, address)
        for info in twins:
            assert f"({info.session[-6:]})" in page, address
    assert f'data-name="digits ({twins[0].session[-6:]})"' in shown(http, "/plot")


def test_an_ended_session_offers_a_new_one_from_its_newest_model(http, service, small):
    info = small.seeded(service)
    service.commit(info.session, 0.5)
    service.end(info.session, "finished", "")
    head = service.state.session(info.session).head.model
    for address in (f"/sessions/{info.session}", "/control"):
        page = shown(http, address)
        assert "/stop" not in page
        assert f"like={info.session}" in page
    assert f"/start?model={head}" in shown(http, f"/sessions/{info.session}")


def test_a_viewer_sees_sessions_and_no_buttons(browse, service, small):
    info = small.seeded(service)
    for address in (f"/sessions/{info.session}", "/control"):
        viewers, operators = browse(address, "viewer"), browse(address, "operator")
        assert "/stop" not in viewers
        assert "Start another" not in viewers
        assert "/stop" in operators
        assert "Start another" in operators


def test_the_list_has_what_runs_first_and_can_be_filtered_and_paged(http, service, small):
    first = small.seeded(service, rounds=3)
    for _ in range(21):
        service.end(small.seeded(service, rounds=3).session, "failed", "the disk is full")
    page = shown(http, "/control")
    assert page.index(f"/sessions/{first.session}") < page.index("/sessions/session-22")
    assert "the disk is full" in page
    assert "page 1 of 2" in page
    assert "session-22" not in shown(http, "/control?state=running")
    assert "session-2<" in shown(http, "/control?page=2")
    assert http.get("/control?state=odd").status_code == 400


def test_older_rounds_and_more_contributors_are_a_link_away(http, service, small):
    info = small.seeded(service, rounds=50)
    for number in range(22):
        service.commit(info.session, 0.5 + number / 100)
    page = shown(http, f"/sessions/{info.session}")
    assert "?until=2#rounds" in page
    assert "rounds/22/why" in page
    assert "rounds/2/why" not in page
    assert "rounds/2/why" in shown(http, f"/sessions/{info.session}?until=2")


def test_charts_and_dashboard_show_sessions(http, service, small):
    info = small.seeded(service, rounds=5)
    for accuracy in (0.4, 0.6):
        service.commit(info.session, accuracy)
    page = shown(http, "/plot")
    assert f'value="{info.session}" data-name="digits" checked' in page
    assert "0.6000" in shown(http, "/dashboard")
    assert http.get("/plot?session=..%2F").status_code == 400
