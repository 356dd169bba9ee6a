"""Predictions, evaluations and early stopping, in a federation in one process: real machines and drivers."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client.trainer import AppTrainer
from fedn.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from fedn.domain.ids import ClientId
from fedn.domain.messages import TaskKind
from fedn.helpers.files import seed_file
from fedn.reducer.inquiries import NO_ANSWER, Inquiry, Question
from fedn.reducer.metrics import best_model
from fedn.testing.federation import Federation

SEED = {"w": np.zeros(4)}
PREDICT, EVALUATE = TaskKind.PREDICT, TaskKind.VALIDATE


class App:
    """Adds one to every number; its accuracy after each round is what ``scores`` says, then 0."""

    def __init__(self, scores: Sequence[float] = ()) -> None:
        self.scores = scores
        self.gate = threading.Event()
        self.gate.set()

    def train(self, model: Any, config: Any) -> Any:
        return {name: value + 1 for name, value in model.items()}, 10

    def check(self, model: Any) -> None:
        """All is well."""

    def validate(self, model: Any) -> Any:
        assert self.gate.wait(30)
        round_ = round(float(model["w"][0]))
        score = self.scores[round_ - 1] if 0 < round_ <= len(self.scores) else 0.0
        return 5, {"accuracy": score, "first": float(model["w"][0])}

    def predict(self, model: Any, output: Path) -> Any:
        (output / "predictions.json").write_text(json.dumps(model["w"].tolist()))
        return 7, {"mean": float(model["w"].mean())}


class Mute(App):
    """Trains, and can't validate."""

    def validate(self, model: Any) -> Any:
        raise RuntimeError("no labels here")


async def grow(federation: Federation, root: Path, **apps: App) -> None:
    """A combiner and a client for each; those called b… have no folder for predictions."""
    for name, app in apps.items():
        await federation.add_combiner(f"combiner-{name}")
        folder = None if name.startswith("b") else root / "predictions" / name
        trainer = AppTrainer(app, ClientId(name), share_errors=True, predictions=folder)
        await federation.run_client(name, trainer, f"combiner-{name}")
    await federation.story.until("network_changed", clients=len(apps))


async def ended(federation: Federation, asked: Inquiry) -> Inquiry:
    await federation.story.until("inquiry_ended", inquiry=asked.inquiry)
    return federation.reducer.inquiries.one(asked.session, asked.inquiry)


# --- predictions and evaluations -------------------------------------------------------------------


async def test_predictions_of_a_session_that_has_ended_stay_with_each_client(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await grow(federation, tmp_path, ann=App(), bob=App())
        info = await federation.start_session(SEED, rounds=2, min_clients=2)
        await federation.story.until("session_finished")
        stored = federation.state.metrics(info.session)

        asked = await federation.reducer.ask_clients(info.session, Question(PREDICT))
        assert (asked.kind, asked.round, asked.asked, asked.running) == (
            "prediction", 2, ("ann", "bob"), True,
        )  # fmt: skip
        done = await ended(federation, asked)
        [answer] = done.answers
        assert (answer.client, answer.examples, answer.metrics) == ("ann", 7, {"mean": 2.0})
        assert "no folder" in done.failed[ClientId("bob")]
        assert (done.running, done.model) == (False, federation.state.session(info.session).head.model)
        [file] = (tmp_path / "predictions" / "ann").rglob("predictions.json")
        assert json.loads(file.read_text()) == [2.0] * 4
        assert federation.state.metrics(info.session) == stored
        told = federation.story.named("client_failed")
        assert [(t["client"], t["kind"], t["inquiry"]) for t in told] == [
            ("bob", "prediction", asked.inquiry)
        ]


async def test_any_model_of_that_shape_is_evaluated_apart_from_the_rounds(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await grow(federation, tmp_path, ann=App(), ada=App())
        info = await federation.start_session(SEED, rounds=2, min_clients=2)
        await federation.story.until("session_finished")
        stored = federation.state.metrics(info.session)
        other, _ = federation.models.put([seed_file({"w": np.full(4, 6.5)})])
        wrong, _ = federation.models.put([seed_file({"v": np.zeros(4)})])

        async def value(question: Question) -> tuple[int, float]:
            done = await ended(federation, await federation.reducer.ask_clients(info.session, question))
            assert not done.failed
            [first] = {row.metrics["first"] for row in done.answers}
            return done.round, first

        first_model = federation.state.record(info.session, 1).record.model
        assert await value(Question(EVALUATE, model=other)) == (0, 6.5)
        assert await value(Question(EVALUATE, model=first_model)) == (1, 1.0)
        assert await value(Question(EVALUATE, round=0)) == (0, 0.0)
        assert await value(Question(EVALUATE)) == (2, 2.0)
        assert federation.state.metrics(info.session) == stored
        assert len(federation.reducer.inquiries.of(info.session)) == 4

        for question, error in [
            (Question(EVALUATE, model=wrong), InvalidInput), (Question(EVALUATE, model="0" * 64), NotFound),
            (Question(EVALUATE, round=9), NotFound), (Question(EVALUATE, other, 1), InvalidInput),
        ]:  # fmt: skip
            with pytest.raises(error):
                await federation.reducer.ask_clients(info.session, question)


async def test_who_leaves_is_named_and_the_same_is_not_asked_twice_at_a_time(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        slow = App()
        await grow(federation, tmp_path, ann=App(), sly=slow)
        info = await federation.start_session(SEED, rounds=1, min_clients=2)
        await federation.story.until("session_finished")
        slow.gate.clear()
        asked = await federation.reducer.ask_clients(info.session, Question(EVALUATE))
        with pytest.raises(Conflict, match="evaluation of this session is under way"):
            await federation.reducer.ask_clients(info.session, Question(EVALUATE))
        predicted = await federation.reducer.ask_clients(info.session, Question(PREDICT))
        await federation.stop_client("sly")
        slow.gate.set()
        done = await ended(federation, asked)
        assert [row.client for row in done.answers] == ["ann"]
        assert done.failed.keys() == {"sly"}
        assert done.failed[ClientId("sly")] != NO_ANSWER
        await ended(federation, predicted)

        await federation.stop_client("ann")
        await federation.story.until("network_changed", clients=0)
        with pytest.raises(Unavailable, match="no client that can take part"):
            await federation.reducer.ask_clients(info.session, Question(EVALUATE))


# --- early stopping, the best model, failures ------------------------------------------------------


async def test_a_session_stops_when_its_metric_gets_no_better_and_names_its_best_model(
    tmp_path: Path,
) -> None:
    plan = {"rounds": 500, "stop_metric": "accuracy", "stop_patience": 2}
    async with Federation(tmp_path) as federation:
        await grow(federation, tmp_path, ann=App([0.5, 0.8, 0.7, 0.8]))
        info = await federation.start_session(SEED, **plan)
        finished = await federation.story.until("session_finished")
        reason = "stopped early: accuracy was not better than 0.8 (round 2) for 2 rounds"
        assert finished["reason"] == reason
        stored = federation.state.session(info.session)
        assert (stored.state, stored.reason) == ("finished", reason)
        assert stored.head.round < 500
        told = federation.story.named("best_model")[-1]
        second = federation.state.record(info.session, 2).record.model
        assert (told["round"], told["metric"], told["value"], told["model"]) == (2, "accuracy", 0.8, second)
        best = best_model(federation.state, stored)
        assert (best.round, best.model, best.value) == (2, second, 0.8)


async def test_what_was_validated_before_a_restart_counts_after_it(tmp_path: Path) -> None:
    plan = {"rounds": 500, "stop_metric": "accuracy", "stop_patience": 3}
    async with Federation(tmp_path) as federation:
        app = App([0.5, 0.9])
        await grow(federation, tmp_path, ann=app)
        info = await federation.start_session(SEED, **plan)
        await federation.story.until("round_validated", round=2)
        await federation.stop_reducer()
        app.scores = []  # nothing is as good any more
        await federation.start_reducer()
        await federation.story.until("session_finished")
        assert "accuracy was not better than 0.9 (round 2)" in federation.state.session(info.session).reason


async def test_a_client_that_can_not_validate_is_named_and_a_metric_that_never_comes_too(
    tmp_path: Path,
) -> None:
    async with Federation(tmp_path) as federation:
        shy = App()
        await grow(federation, tmp_path, ann=shy, mia=Mute())
        shy.gate.clear()
        info = await federation.start_session(SEED, rounds=1, min_clients=2, stop_metric="f1")
        told = await federation.story.until("client_failed", client="mia")
        assert (told["round"], told["kind"], told["session"]) == (1, "validate", info.session)
        assert "no labels here" in told["reason"]
        failed = federation.reducer.progress(info.session)["failed"]
        assert (failed["round"], list(failed["clients"])) == (1, ["mia"])
        shy.gate.set()
        finished = await federation.story.until("session_finished")
        assert finished["reason"].startswith("no client ever reported f1")
        reasons = [seen["reason"] for seen in federation.story.named("waiting")]
        assert any("no client reports f1; they report accuracy, first" in reason for reason in reasons)
        with pytest.raises(NotFound, match="metric 'f1'; there are accuracy, first"):
            best_model(federation.state, federation.state.session(info.session))
