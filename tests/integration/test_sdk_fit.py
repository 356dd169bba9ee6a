"""`fedn.fit` on a network: the same call, the same model, and who may."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ports import settled_port
from sdk_clients import SEED, until

import fedn
from fedn.domain.errors import FednError, InvalidInput
from fedn.sandbox.processes import Sandbox
from fedn.sdk.fit import Round


def linear(number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(number)
    x = random.normal(size=(size, 3))
    return x, x @ [1.0, -2.0, 3.0] + random.normal(size=size)


OWNERS = {"ann": linear(1, 100), "bob": linear(2, 40), "cat": linear(3, 10)}


def descend(model: Any, data: Any, config: Any) -> Any:
    """Stochastic: what is drawn depends on the seed that an owner is given."""
    x, y = data
    random = np.random.default_rng(config["seed"])
    for _ in range(config["epochs"]):
        some = random.choice(len(x), min(len(x), config["batch_size"]), replace=False)
        model["w"] -= 0.1 * x[some].T @ (x[some] @ model["w"] - y[some]) / len(some)
    return model, len(x), {"loss": float(np.mean((x @ model["w"] - y) ** 2))}


def fitted(**where: Any) -> tuple[Any, list[Round]]:
    history: list[Round] = []
    model = fedn.fit(
        {"w": np.zeros(3)}, OWNERS, rounds=4, train=descend, epochs=3, batch_size=5, seed=3,
        validate=lambda model, data: (len(data[0]), {"size": float(np.abs(model["w"]).sum())}),
        evaluate=lambda model: {"first": float(model["w"][0])}, callback=history.append, progress=False,
        **where,
    )  # fmt: skip
    return model["w"], history


def assert_same(there: Any, here: Any) -> None:
    assert there[0] == pytest.approx(here[0], abs=1e-9)
    for one, other in zip(there[1], here[1], strict=True):
        assert (one.round, one.clients, one.examples, one.missing) == (
            other.round, other.clients, other.examples, other.missing
        )  # fmt: skip
        for kind in ("train", "validate", "evaluate"):
            assert getattr(one, kind) == pytest.approx(getattr(other, kind), abs=1e-9)


def test_the_same_call_fits_on_a_network_and_its_clients_leave(network, tmp_path):
    there = fitted(network=network, state_dir=tmp_path)
    assert_same(there, fitted())
    until(lambda: not network.clients())
    (kept,) = network.sessions()[:1]
    assert (kept["name"], kept["state"]) == ("fedn.fit", "finished")
    assert fitted(network=network.url, state_dir=tmp_path)[0] == pytest.approx(there[0], abs=1e-9)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OWNERS)


def test_a_secured_network_lets_the_owners_of_an_admin_in_and_no_token_is_shown(tmp_path):
    with Sandbox(tmp_path / "network", 1, 0, settled_port(), tls=True) as running:
        token = running.token
        network = until(lambda: fedn.Network(running.url, token_file=running.secured.token_file))
        with network:
            until(lambda: any(one["live"] for one in network.status()["combiners"]))
            there = fitted(network=network, state_dir=tmp_path / "owners")
            again = fitted(network=network, state_dir=tmp_path / "owners")
            assert_same(there, again)
            members = network._reducer.get("/members")["members"]
            assert len([one for one in members if one["role"] == "client"]) == len(OWNERS)
            client = fedn.Client(running.url, name="dan", join=network.join_token("dan"))
        shown = repr(network) + repr(client) + str(vars(client)) + str(vars(network))
        secret = token.rpartition(".")[2]
        assert secret not in shown
        assert secret not in (tmp_path / "network" / "logs" / "reducer.log").read_text()
        with pytest.raises(FednError, match="give your token's file with token_file or FEDN_TOKEN_FILE"):
            fedn.Network(running.url)
        with pytest.raises(InvalidInput, match="token: is not a token") as refused:
            fedn.Network(running.url, token=token + "x")
        assert secret not in str(refused.value)


def test_clients_that_are_attached_already_fit_by_their_names(network, two):
    model = fedn.fit(SEED, ["ann", "bob"], rounds=2, network=network, progress=False)
    assert model["w"] == pytest.approx([3.5] * 4)
    assert {one["name"] for one in network.clients()} == {"ann", "bob"}


def test_who_fails_on_a_network_ends_it_and_stops_the_session(network, tmp_path):
    def failing(model: Any, data: Any, config: Any) -> Any:
        if len(data[0]) == 40:
            raise ValueError("the scanner is on fire")
        return descend(model, data, config)

    with pytest.raises(FednError, match=r"bob can't go on: .*ValueError") as failed:
        fedn.fit(
            {"w": np.zeros(3)}, OWNERS, train=failing, network=network, state_dir=tmp_path, progress=False
        )
    assert str(failed.value.__cause__) == "the scanner is on fire"
    stopped = network.sessions()[0]
    assert stopped["state"] == "cancelled"
    assert "on fire" not in str(network.session(stopped["session"]).info())  # what an error says stays here
    until(lambda: not network.clients())
