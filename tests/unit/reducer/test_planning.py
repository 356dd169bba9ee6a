"""A plan is looked over before anybody starts it: all that is wrong, or what it will do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small_packages
from package_files import archive

from fedn.client.packages import Rules
from fedn.client.trainer import AppTrainer
from fedn.config import ReducerSettings
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import ClientId, CombinerName, digest_of
from fedn.domain.messages import ClientInfo, Host
from fedn.domain.plan import plan_from
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.planning import can_take_part, errors, preview
from fedn.reducer.rest import create_app
from fedn.reducer.why import PACKAGELESS
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


def running(*runs: str) -> NetworkView:
    """One combiner, with a client for each thing that one may run."""
    clients = tuple(ClientInfo(ClientId(f"c-{n}"), "", Host(runs=one)) for n, one in enumerate(runs))
    return NetworkView(1, (CombinerView(CombinerName("c0"), "127.0.0.1:1", "i", True, clients),))


@pytest.mark.parametrize(
    ("runs", "package", "said", "not_said"),
    [
        (["packages"] * 3, "", ["None of the 3 clients can take part: they run packages, and no package is "
                                "chosen.", "wait for 1 more client: 0 of 1 can take part."], "Each round"),
        (["packages"], "", ["The one client that is here can't take part: it runs packages, and"], "Each"),
        (["packages"] * 2, "digits", ["Clients run the package digits (ababababab", "asks all 2"], "part"),
        (["packages", "app"], "digits", ["Each round asks 1 of 2 clients", "1 of them can't take part: it "
                                         "runs an app of its own."], "wait for 1"),
        (["app", "packages", "packages"], "", ["Clients run apps of their own.", "asks 1 of 3 clients",
                                               "2 of them can't take part: they run packages"], "wait for 1"),
        (["app", "app"], "digits", ["None of the 2 clients can take part: they run apps of"], "asks"),
        (["", ""], "digits", ["asks all 2 clients"], "can't"),
    ],
)  # fmt: skip
def test_only_clients_that_can_take_part_are_counted(runs, package, said, not_said):
    plan = plan_from({"package": "ab" * 32 if package else ""})
    text = " ".join(preview(plan, running(*runs), package))
    assert [part for part in said if part not in text] == []
    assert not_said not in text


class OwnApp:
    """What a client may run that runs no packages."""

    def train(self, model, config):
        raise AssertionError("never asked")

    validate = train


@pytest.mark.parametrize("package", [True, False])
def test_a_client_that_can_not_take_part_refuses_the_very_task(package, tmp_path):
    """The rule is the clients' own: as they refuse, so the preview says."""
    small = small_packages.good()
    task = replace(small.task(), package=small.digest if package else "")
    plan = plan_from({"package": task.package})
    trainers = {
        "app": AppTrainer(OwnApp(), ClientId("me")),
        "packages": small_packages.Runner(tmp_path, Rules(str(tmp_path))).trainer,
    }
    for runs, trainer in trainers.items():
        client = ClientInfo(ClientId("me"), "", Host(runs=runs))
        if not can_take_part(client, plan):
            with pytest.raises(InvalidInput) as caught:
                trainer.train(small_packages.MODEL, task, memoryview(small.archive) if package else None)
            assert caught.value.details["field"] == "package"
            assert package or PACKAGELESS in caught.value.message
    assert [can_take_part(ClientInfo(ClientId("me"), "", Host(runs=one)), plan) for one in trainers] == [
        not package, package,
    ]  # fmt: skip


def test_a_name_that_a_session_has_already_is_told_of_and_not_refused(service, small):
    http = create_app(service, ReducerSettings()).test_client()

    def said(name: str) -> str:
        answer = http.post("/api/v1/plan/check", json={"plan": {}, "name": name}).get_json()
        assert answer["ok"]
        return " ".join(answer["preview"])

    session = small.seeded(service).session
    assert "A session called digits runs already" in said("digits")
    assert "already" not in said("")
    assert "already" not in said("other")
    service.end(session, "finished", "")
    assert "already" not in said("digits")


def test_the_api_names_the_package(service):
    http = create_app(service, ReducerSettings()).test_client()
    packed = archive()
    http.post("/api/v1/packages", data=packed)
    answer = http.post("/api/v1/plan/check", json={"plan": {"package": digest_of(packed)}}).get_json()
    assert f"Clients run the package mnist-keras ({digest_of(packed)[:12]})." in answer["preview"]


def test_the_api_says_the_same(service, small):
    http = create_app(service, ReducerSettings()).test_client()
    good = http.post("/api/v1/plan/check", json={"plan": {"rounds": 2}}).get_json()
    assert good["ok"]
    assert good["preview"][0] == "2 rounds will be committed."
    bad = http.post("/api/v1/plan/check", json={"plan": {"rounds": 0}}).get_json()
    assert (bad["ok"], bad["preview"], bad["errors"][0]["field"]) == (False, [], "rounds")
