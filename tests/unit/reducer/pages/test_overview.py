"""The overview: one line, what needs attention, what runs and has ended, first steps in an empty network."""

from __future__ import annotations

import re
import time
from html import unescape

from fedn.config import ReducerSettings
from fedn.domain.errors import StoreUnavailable
from fedn.domain.messages import ClientInfo, Gauge, Host, Registration
from fedn.ports import EventRow, PackageInfo
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.pages.attention import of_certificates, of_network
from fedn.reducer.pages.overview import health

CLIENTS = tuple(ClientInfo(f"client-{n}", f"name-{n}") for n in range(3))


def words(text: str) -> str:
    """A page without its elements."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def join(service, name="c1"):
    service.register(Registration(1, name, "c1.example.org:12080", "i1"))


def told(service, number, event, session, round_, **fields):
    fields |= {"session": session, "round": round_} if session else {}
    service.state.add_events([EventRow(number, time.time() - 60, event, session, round_, fields)])


def test_an_empty_network_says_what_to_do_next_and_ticks_off_what_is_there(service, browse, small):
    def done():
        return re.findall(r'class="step( done)?"', browse("/"))

    assert "Nobody is here yet" in browse("/")
    assert done() == ["", "", "", ""]
    assert 'href="/seed"' in browse("/")
    assert "fedn combiner start --reducer https://fl.example.org --join-file" in browse("/")
    assert not {"/seed", "/network/join"} & set(re.findall(r'href="([^"]*)"', browse("/", "viewer")))
    join(service)
    service.seed_model([small.model_file()], "zeros", 0)
    assert done() == [" done", " done", " done", ""]
    small.seeded(service)
    assert done() == []


def test_where_clients_run_packages_the_steps_have_one_for_a_package(service, browse, monkeypatch):
    def steps(role="operator"):
        found = re.findall(r'class="step(?: done)?"><div><strong>([\w ]+)', browse("/", role))
        return found, re.findall(r'id="to-packages" href="([^"]*)"', browse("/", role))

    def attach(runs):
        client = ClientInfo("id-1", "client-1", Host(runs=runs))
        view = NetworkView(1, (CombinerView("c1", "127.0.0.1:1", "i", True, (client,)),))
        monkeypatch.setattr(service, "network", lambda: view)

    attach("app")
    assert steps() == (["A combiner", "Clients", "A seed model", "A session"], [])
    attach("packages")
    assert steps() == (["A combiner", "Clients", "A package", "A seed model", "A session"], ["/packages"])
    assert steps("viewer")[1] == []
    assert browse("/").count("step done") == 2
    service.state.add_package(PackageInfo("ab" * 32, 9, "digits", {}, 1.0))
    assert browse("/").count("step done") == 3


def test_a_running_session_is_a_card(service, browse, small):
    join(service)
    session = small.seeded(service, rounds=20).session
    for number in (1, 2, 3):
        service.commit(session, 0.5)
        told(
            service,
            number,
            "round_validated",
            session,
            number,
            metrics={"accuracy": number / 10, "loss": 9.0},
        )
    service.progress = {
        "state": "running", "round": 4, "expected": 2, "received": 1, "opened_at": time.time(),
        "clients": {}, "best": {"metric": "accuracy", "round": 2, "value": 0.25},
    }  # fmt: skip
    shown = words(browse("/", "viewer"))
    assert "All is well: 1 combiner, 2 clients, 1 session running." in shown
    assert "Round 3 of 20" in shown
    assert "1 of 2 updates in round 4" in shown
    assert "accuracy 0.3000 best 0.2500 in round 2" in shown
    assert "accuracy in the last 3 rounds, from 0.1000 to 0.3000" in browse("/")
    assert "Needs attention" not in shown


def test_what_has_ended_is_listed_and_what_failed_needs_attention(service, browse, small, evil):
    join(service)
    good = small.seeded(service).session
    service.commit(good, 0.5)
    told(service, 1, "best_model", good, 1, metric="accuracy", value=0.75, model="f" * 64)
    service.end(good, "finished", "")
    bad = service.start_session(evil, "", service.state.session(good).plan).session
    told(service, 2, "session_failed", bad, -1, reason="the disk is full")
    service.end(bad, "failed", "the disk is full")
    shown = words(browse("/"))
    assert "accuracy 0.7500 round 1 accuracy 0.5000" in shown  # the best, and the last
    assert f'href="/models/{"f" * 64}"' in browse("/")
    assert "No session runs just now." in shown
    assert f"{evil} failed 1 min" in unescape(browse("/"))
    assert f'href="/sessions/{bad}/why"' in browse("/")
    assert 'href="/events/2"' in browse("/")
    assert "Warnings of the last hour" in shown


def test_a_session_that_waits_says_why(service, browse, small):
    session = small.seeded(service, min_clients=9).session
    service.progress = {"state": "waiting", "waits": "x", "reason": "x", "unfit": {"client-a": "no data"}}
    shown = words(browse("/"))
    assert "Needs attention problem digits: no combiner." in shown
    assert f'href="/sessions/{session}/why"' in browse("/")


def test_the_page_is_there_while_the_store_is_not(service, browse, monkeypatch):
    def away():
        raise StoreUnavailable("the database does not answer")

    join(service)
    monkeypatch.setattr(service.state, "sessions", away)
    shown = words(browse("/"))
    assert "The state store is out of reach; 1 combiner" in shown
    assert "the database does not answer." in shown


def test_combiners_and_gauges_in_words(net):
    now = time.time()
    gauges = (Gauge("clients", 9, 10, 9), Gauge("uploads", 4, 4, 4), Gauge("uploads_waiting", 0, 9, 0))
    elsewhere = CombinerView("c1", "", "", True, CLIENTS[:2], gauges)
    view = NetworkView(1, (
        elsewhere,
        CombinerView("c2", "", "", False, (), seen_at=now - 40, had=CLIENTS),
        CombinerView("c3", "", "", False, (), seen_at=now - 40, had=CLIENTS[:2]),
        CombinerView("c4", "", "", False, (), seen_at=now - 30 * 86_400),
        CombinerView("c5", "", "", True, CLIENTS[2:], drained_at=now - 90),
    ))  # fmt: skip
    with net.app().test_request_context():
        concerns = {concern.title: concern.text for concern in of_network(view, now)}
    assert concerns == {
        "c2 is out of reach": "Last seen 40 s ago; of its 3 clients 2 moved to c1, 1 moved to c5.",
        "c3 is out of reach": "Last seen 40 s ago: its 2 clients moved to c1.",
        "c5 is being drained": "It gets no more clients, for 1 min 30 s now; 1 client is still there.",
        "clients at c1: 9 of 10": "What comes once the limit is reached is refused or waits.",
    }
    assert health(view, 1, ()) == "All is well: 2 of 5 combiners, 3 clients, 1 session running."


def test_certificates_are_told_of_before_they_expire(net):
    life = net.wallet.current.expires_at - time.time()
    settings = ReducerSettings(network_dir=str(net.dir.directory))
    for age, said in ((0.0, ""), (0.9, "expires in"), (1.1, "expired")):
        titles = [concern.title for concern in of_certificates(settings, time.time() + age * life)]
        own = [title for title in titles if "own certificate" in title]
        assert len(own) == bool(said), age
        assert all(f"The reducer's own certificate {said}" in title for title in own)
