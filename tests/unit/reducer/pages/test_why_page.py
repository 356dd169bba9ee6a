"""The Why pages: of a session that waits, one that has ended, and a round."""

from __future__ import annotations

from html import unescape

from fedn.domain.messages import Registration


def test_a_session_that_waits(service, browse, small):
    service.register(Registration(1, "c1", "c1.example.org:12080", "i1"))
    session = small.seeded(service, min_clients=9).session
    service.progress = {"state": "waiting", "waits": "waiting for clients: 2 of 9", "reason": "…"}
    shown = browse(f"/sessions/{session}/why", "viewer")
    assert "cause-warn" in shown
    assert "it needs 9 clients (min_clients), and 2 can take part" in shown
    assert "start more with <code>fedn client start</code>" in shown
    assert "last one committed" not in shown


def test_a_round_and_its_neighbours(service, browse, small):
    session = small.seeded(service).session
    for _ in range(3):
        service.commit(session, 0.5)
    shown = browse(f"/sessions/{session}/rounds/2/why")
    assert "cause-good" in shown
    for number in (1, 3):
        assert f'href="/sessions/{session}/rounds/{number}/why"' in shown
    assert f'href="/events?session={session}"' in shown
    assert 'rounds/4/why"' not in browse(f"/sessions/{session}/rounds/3/why")


def test_a_session_that_failed_says_so_in_text(service, browse, small, evil):
    seeded = small.seeded(service).session
    session = service.start_session(evil, "", service.state.session(seeded).plan).session
    service.end(session, "failed", evil)
    shown = browse(f"/sessions/{session}/why")
    assert "cause-bad" in shown
    assert evil in unescape(shown)


def test_what_is_not_there(service, browse, small):
    session = small.seeded(service).session
    assert "no round 9" in browse(f"/sessions/{session}/rounds/9/why", status=404)
    browse("/sessions/s-none/why", status=404)
    browse("/sessions/-.-/why", status=400)
