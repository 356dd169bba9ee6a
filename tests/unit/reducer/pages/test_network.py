"""The pages of the network, of a combiner and of a client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedn.domain.messages import ClientInfo, Gauge, Host, LogLine, Registration, Traffic
from fedn.domain.round import RoundRecord
from fedn.ports import EventRow
from fedn.reducer.network import CombinerView, NetworkView, Seen

ROOT = Path(__file__).parents[4]
SITE = "https://fl.example.org"
EVIL = "<script>alert(1)</script>"
HOST = Host("9.9.9", "3.99.0", "TestOS", 6, 8 * 2**30, "packages")


@pytest.fixture
def browse(net):
    """What a role sees: ``browse("/network", "viewer")``, with the status that is expected."""
    app = net.app()

    def seen(address, role="operator", status=200, **headers):
        token = net.token(role)
        answer = app.test_client().get(
            address, base_url=SITE, headers={"Authorization": f"Bearer {token}", **headers}
        )
        text = answer.get_data(as_text=True)
        assert answer.status_code == status, text[:2000]
        assert EVIL not in text
        return text

    return seen


def network(count=2, **more):
    clients = tuple(ClientInfo(f"client-{n}", f"name-{n}", HOST, 5.0) for n in range(count))
    clients += (ClientInfo("evil", EVIL, Host(system=EVIL)),)
    first = CombinerView(
        "c1", "c1.example.org:12080", "i1", True, clients, (Gauge("uploads", 3, 4, 4),), HOST,
        received=2**20, sent=2**30, traffic={"client-0": Traffic("client-0", 3 * 2**20, 2**20)},
    )  # fmt: skip
    gone = Seen(ClientInfo("client-x", "gone-x", HOST), "c2", 7.0)
    lost = CombinerView("c2", "c2.example.org:12080", "i2", False, (), seen_at=9.0, had=(gone.info,))
    lines = (LogLine(3.0, "info", EVIL), LogLine(4.0, "warning", "the second line"))
    return NetworkView(3, (first, lost), seen={"client-x": gone}, logs={"client:client-0": lines, **more})


def test_an_empty_network_says_what_to_do(browse):
    text = browse("/network")
    assert "No combiner yet" in text
    assert "fedn combiner start" in text
    assert '<svg class="network"' not in text


def test_the_network_is_a_picture_and_tables(net, service, browse, small):
    service.network = network
    session = small.seeded(service).session
    service.progress = {
        "round": 4, "clients": {"client-0": {"combiner": "c1", "state": "training", "since": 1.0}}
    }  # fmt: skip
    text = browse("/network")
    assert 'aria-label="Client name-0: training"' in text
    assert 'aria-label="Combiner c2: lost, 0 clients, 1 gone"' in text
    assert 'aria-label="Client gone-x: lost"' in text
    assert re.search(rf'href="/sessions/{session}"[^>]*>round 4</a>: training', text)
    for word in ("c1.example.org:12080", "9.9.9", "8.0 GiB", "1.0 GiB", "3.0 MiB"):
        assert word in text, word
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_where_the_picture_has_no_room_clients_are_listed_below_their_combiner(service, browse):
    service.network = network
    narrow = browse("/network").split('class="narrow-picture"')[1].split('class="marks"')[0]
    below = narrow.split('href="/combiners/c2"')
    assert "name-0" in below[0]
    assert "gone-x" in below[1]
    service.network = lambda: network(250)
    narrow = browse("/network").split('class="narrow-picture"')[1].split('class="marks"')[0]
    assert "251 no task" in narrow
    assert "name-9" not in narrow


def test_what_a_combiners_gauges_count_is_explained(service, browse):
    """All that operations.md has of a combiner."""
    table = (ROOT / "docs/operations.md").read_text().split("| gauge | counts | limit |")[1].split("\n\n")[0]
    names = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert {"outbox", "parked", "parts"} <= set(names)
    gauges = tuple(Gauge(name, 1, 2, 1) for name in names)
    service.network = lambda: NetworkView(1, (CombinerView("c1", "host:1", "i", True, (), gauges),))
    load = browse("/combiners/c1").split('id="load-head"')[1].split("</section>")[0]
    assert load.count('<p class="faint">') == len(names)


def test_how_long_a_client_is_attached_is_not_taken_for_what_it_does(service, browse):
    service.network = network
    head = browse("/network").split('id="clients-head"')[1].split("</thead>")[0]
    assert "<th>Now</th><th>Attached</th>" in head


def test_who_may_not_drain_sees_no_button(service, browse):
    service.network = network
    assert 'data-api="/api/v1/combiners/c1/drain"' in browse("/network", "operator")
    for address in ("/network", "/combiners/c1"):
        text = browse(address, "viewer")
        assert "/drain" not in text
        assert "/network/join" not in text
    browse("/network/join", "viewer", 403)


def test_many_clients_are_filtered_and_paged(service, browse):
    service.network = lambda: network(250)
    rows = re.compile(r'<td class="name"><a href="/clients/([^"]*)"')
    assert len(rows.findall(browse("/network"))) == 100
    assert len(rows.findall(browse("/network?page=3"))) == 252 - 200
    assert len(rows.findall(browse("/network?page=99"))) == 252 - 200
    assert rows.findall(browse("/network?q=NAME-249")) == ["client-249"]
    assert rows.findall(browse("/network?q=gone+c2")) == ["client-x"]
    assert "No client fits" in browse(f"/network?q={EVIL}x")
    browse("/network?page=0", status=400)


def test_a_combiner_has_a_page(net, service, browse, small):
    service.network = network
    session = small.seeded(service).session
    service.commit(session, 0.5)
    net.join("combiner", "c1")
    service.state.add_events([
        EventRow(1, 1.0, "combiner_up", "", -1, {"combiner": "c1", "count": 7}),
        EventRow(2, 2.0, "combiner_up", "", -1, {"combiner": "c2", "count": 9}),
    ])  # fmt: skip
    text = browse("/combiners/c1", "admin")
    for words in ("3 of 4", "c1.example.org:12080", "with 7 clients", "1 of 1", "Certificate ends"):
        assert words in text, words
    assert "with 9 clients" not in text
    assert 'data-api="/api/v1/members/combiner/c1/revoke"' in text
    assert "/revoke" not in browse("/combiners/c1", "operator")
    assert "Certificate ends" not in browse("/combiners/c1", "viewer")
    assert "0 are at" not in browse("/combiners/c2")
    assert "1 is nowhere" in browse("/combiners/c2")
    browse("/combiners/c9", status=404)
    browse("/combiners/..%2f", status=400)


def test_a_client_has_a_page(service, browse, small):
    """What is known of it, also from sessions, though it is no more there; nobody else's."""
    service.network = lambda: network(1)
    session = small.seeded(service).session
    service.commit(session, 0.5)
    service.state.add_events([
        EventRow(1, 1.0, "client_unfit", session, -1, {"client": "client-0", "reason": f"it is {EVIL}"}),
        EventRow(2, 1.0, "clients_changed", "", -1, {
            "combiner": "c1", "attached": ["name-0"], "moved": [], "left": [],
            "counts": {"attached": 1, "moved": 0, "left": 0},
        }),
        EventRow(3, 1.0, "client_unfit", session, -1, {"client": "other", "reason": "else"}),
    ])  # fmt: skip
    text = browse("/clients/client-0", "viewer")
    for words in ("name-0", "TestOS, 6 cpus, 8.0 GiB", "fedn 9.9.9, Python 3.99.0", "packages", "3.0 MiB",
                  "the second line", "take part: it is &lt;script&gt;", "name-0 attached"):  # fmt: skip
        assert words in text, words
    assert "else" not in text.split("What happened")[1].split("</section>")[0]

    past = browse("/clients/client-a")
    assert "1 of 1" in past
    assert "accuracy 0.2000" in past
    assert "share_log: true" in past
    assert "gone, " in browse("/clients/client-x")
    assert "Last at combiner" in browse("/clients/client-x")
    browse("/clients/nobody", status=404)


def test_absences_are_told_with_their_reasons(service, browse, small, absent):
    service.network = lambda: network(1)
    absent(small.seeded(service).session, "client-0", "it had no time")
    text = browse("/clients/client-0")
    assert "Round 1, lost: it had no time" in text


@pytest.fixture
def absent(service):
    """Commits a round in which a client was lost."""
    from fedn.domain.round import MergedPart, store_record
    from fedn.domain.update import Absence, Contributor

    def commit(session, client, reason):
        info = service.state.session(session)
        base = info.head
        folded = (Contributor("client-a", 10, base.model),)
        part = MergedPart("c1", "i1", 1, base.model, folded)
        record = RoundRecord(
            session, 1, base.record, base.model, base.model, 100, info.plan.as_dict(), info.plan.digest,
            service.term, 2.5, parts=(part,), lost=(Absence(client, reason),),
        )  # fmt: skip
        service.state.commit_round(store_record(record), service.term)

    return commit


def test_people_invite_and_revoke(net, browse):
    net.join("client", "client-7")
    text = browse("/people", "admin")
    assert 'data-api="/api/v1/tokens"' in text
    assert 'data-api="/api/v1/members/client/client-7/revoke"' in text
    assert re.search(r'data-api="/api/v1/tokens/[0-9a-f]{16}/revoke"', text)
    told = browse("/people", "operator")
    assert "client-7" in told
    assert "data-api" not in told


def test_a_registration_is_enough_to_be_seen(service, browse):
    """By a real network view, of combiners that have said nothing of themselves."""
    service.register(Registration(3, "c1", "127.0.0.1:9", "i1"))
    assert "name of client-a" in browse("/network")
    assert "127.0.0.1:9" in browse("/combiners/c1")
