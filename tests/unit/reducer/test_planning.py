"""A plan is looked over before anybody starts it: all that is wrong, or what it will do."""

from __future__ import annotations

import pytest

from fedn.domain.ids import ClientId, CombinerName
from fedn.domain.messages import ClientInfo
from fedn.domain.plan import plan_from
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.planning import errors, preview
from fedn.stores.memory import MemoryState


def network(*sizes: int) -> NetworkView:
    """Live combiners with so many clients."""
    combiners = (
        CombinerView(
            CombinerName(f"c{at}"), "127.0.0.1:1", "i", True,
            tuple(ClientInfo(ClientId(f"c{at}-{one}"), "") for one in range(size)),
        )
        for at, size in enumerate(sizes)
    )  # fmt: skip
    return NetworkView(1, tuple(combiners))


def test_everything_that_is_wrong_is_named_at_once():
    wrong = errors({"rounds": 0, "round_deadline": "soon", "seed": 3}, MemoryState(), ["c0"])
    assert [error.details["field"] for error in wrong] == ["rounds", "round_deadline"]
    assert all(error.details["remedy"] for error in wrong)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"min_clients": 5, "max_clients": 3}, "max_clients"),
        ({"selection": "dice"}, "selection"),
        ({"aggregator": "median of means"}, "aggregator"),
        ({"package": "0" * 64}, "package"),
        ({"stop_metric": "accuracy", "validate": False}, "stop_metric"),
    ],
)
def test_what_only_shows_together_is_found(values, field):
    (error,) = errors(values, MemoryState(), ["c0"])
    assert error.details["field"] == field


def test_a_plan_says_what_it_will_do():
    plan = plan_from({"rounds": 3, "min_clients": 2, "max_clients": 5, "round_deadline": 60.0})
    text = " ".join(preview(plan, network(4, 3)))
    assert "3 rounds will be committed." in text
    assert "asks 5 of 7 clients at 2 combiners, waits for them 60 s at most, and needs 2 updates" in text
    assert "will wait" not in text


def test_it_says_what_it_will_wait_for():
    plan = plan_from({"min_clients": 4})
    assert preview(plan, network())[-1] == "No combiner is connected: the session will wait for one."
    assert preview(plan, network(1, 1))[-1] == "It will wait for 2 more clients: 2 of 4 are here."


def test_the_api_says_the_same(service, small):
    from fedn.config import ReducerSettings
    from fedn.reducer.rest import create_app

    http = create_app(service, ReducerSettings()).test_client()
    good = http.post("/api/v1/plan/check", json={"plan": {"rounds": 2}}).get_json()
    assert good["ok"]
    assert good["preview"][0] == "2 rounds will be committed."
    bad = http.post("/api/v1/plan/check", json={"plan": {"rounds": 0}}).get_json()
    assert (bad["ok"], bad["preview"], bad["errors"][0]["field"]) == (False, [], "rounds")
