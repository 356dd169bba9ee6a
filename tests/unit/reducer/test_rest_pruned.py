"""What the REST API says of a model that was pruned: not lost, and when, and what to do instead."""

from __future__ import annotations

from typing import Any

import pytest

from fedn.config import ReducerSettings
from fedn.domain.errors import NotFound
from fedn.domain.ids import Digest, digest_of
from fedn.domain.messages import TaskKind
from fedn.domain.round import Head
from fedn.reducer.inquiries import Inquiries, Question
from fedn.reducer.rest import create_app
from fedn.stores.retention import Rule, prune

NOON = 4_000_000_000.0


def pruned_session(service: Any, small: Any) -> tuple[str, Digest, Head]:
    """A session that is over, the model of its first round, which was pruned, and its head."""
    session = small.seeded(service).session
    for _ in range(3):
        service.commit(session, 0.5)
    service.end(session, "finished", "")
    model = service.state.record(session, 1).record.model
    assert prune(service.state, service.models, Rule(1), NOON).digests
    return session, model, service.state.session(session).head


@pytest.fixture
def client(service):
    return create_app(service, ReducerSettings(port=0)).test_client()


def test_a_download_says_when_and_what_to_do(service, small, client):
    session, model, head = pruned_session(service, small)
    for path in (f"/api/v1/models/{model}", f"/api/v1/models/{model}/info"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "was pruned on 2096-10-02 (UTC)" in answer.json["error"]
        assert answer.json["details"]["pruned_at"] == NOON
    assert client.get(f"/api/v1/models/{head.model}").status_code == 200
    lost = client.get(f"/api/v1/models/{digest_of(b'never there')}")
    assert (lost.status_code, "pruned" in lost.json["error"]) == (404, False)
    report = client.get(f"/api/v1/sessions/{session}/trail/verify").json
    assert (report["ok"], report["pruned"], len(report["notes"])) == (True, 2, 1)


def test_clients_are_not_asked_about_it(service, small):
    session, model, _ = pruned_session(service, small)
    inquiries = Inquiries(service.state, service.models, service.hub, {})
    for question in (Question(TaskKind.VALIDATE, round=1), Question(TaskKind.VALIDATE, model=model)):
        with pytest.raises(NotFound, match="was pruned on"):
            inquiries._subject(service.state.session(session), question)
