"""Hyperparameters in a plan: by round, reserved names, and the checks of both."""

from __future__ import annotations

import json

import pytest

from fedn.domain.errors import InvalidInput, InvalidPlan
from fedn.domain.plan import Plan, plan_from

SYSTEM = {"proximal_mu": 0.0, "measure_before_fit": False}


def test_a_schedule_holds_each_value_until_the_next() -> None:
    plan = plan_from({"config": {"rate": {"1": 0.5, "10": 0.1, "3": 0.2}, "epochs": 2}})
    assert [plan.config_at(n)["rate"] for n in (1, 2, 3, 9, 10, 99)] == [0.5, 0.5, 0.2, 0.2, 0.1, 0.1]
    assert plan.config_at(4) == {"rate": 0.2, "epochs": 2, **SYSTEM}


def test_a_plan_with_a_schedule_reads_back_as_the_same_plan() -> None:
    plan = plan_from({"config": {"rate": {"1": 0.5, "10": 0.1}}, "proximal_mu": 0.25})
    again = plan_from(json.loads(json.dumps(plan.as_dict())))
    assert again == plan
    assert again.digest == plan.digest
    assert again.config_at(1)["proximal_mu"] == 0.25


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"seed": 3}, "config.seed: is set by the system"),
        ({"proximal_mu": 1.0}, "config.proximal_mu: is set by the system — give the plan field"),
        ({"rate": {}}, "config.rate: is a schedule without round 1"),
        ({"rate": {"2": 0.1}}, "config.rate: is a schedule without round 1"),
        ({"rate": {"1": 0.1, "x": 0.2}}, "config.rate: 'x' is not the number of a round"),
        ({"rate": {"1": 0.1, "02": 0.2}}, "config.rate: '02' is not the number of a round"),
        ({"rate": {"1": 0.1, "2": "fast"}}, "config.rate: changes its type"),
        ({"rate": {"1": 0.1, "2": {"3": 1}}}, "config.rate.2: dict is not a plain value"),
        ({"rate": {"1": float("nan")}}, "config.rate.1: is not finite"),
    ],
)
def test_what_no_client_could_follow_is_refused(config: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        plan_from({"config": config})


def test_a_misspelled_field_is_told_the_nearest() -> None:
    with pytest.raises(InvalidPlan, match="min_client: is not a plan field — did you mean 'min_clients'"):
        plan_from({"min_client": 2})
    with pytest.raises(InvalidPlan, match="fish: is not a plan field — known are rounds, "):
        plan_from({"fish": 2})


def test_a_package_is_named_by_its_digest() -> None:
    assert plan_from({"package": "a" * 64}).package == "a" * 64
    assert Plan().package == ""
    with pytest.raises(InvalidInput, match="package: 'mnist' is not a sha256"):
        plan_from({"package": "mnist"})
