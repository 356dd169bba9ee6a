"""What commands show of a session beside its rounds: who takes part, its best model, what clients answer."""

from __future__ import annotations

import json

import pytest

from fedn.domain.ids import ClientId, digest_of
from fedn.ports import MetricRow, Observed, PackageInfo


@pytest.fixture
def session(service, small):
    """Three rounds, of which the second is the best."""
    started = small.seeded(service, rounds=4, stop_metric="accuracy").session
    for accuracy in (0.5, 0.9, 0.7):
        service.commit(started, accuracy)
    return started


def model_of(service, session, round_: int) -> str:
    return service.state.record(session, round_).record.model


# --- starting --------------------------------------------------------------------------------------


def test_a_hyperparameter_may_change_from_round_to_round(fedn, service, small, tmp_path):
    service.seed_model([small.model_file()], "zeros", 0)
    plan = tmp_path / "plan.yaml"
    plan.write_text('config: {momentum: {"1": 0.5, "3": 0.9}}\n')
    started = fedn.json(
        "session", "start", "--plan", plan, "--config", 'lr={"1": 0.1, "10": 0.01}', "--config", "note=[1"
    )
    assert started["plan"]["config"] == {
        "lr": {"1": 0.1, "10": 0.01}, "momentum": {"1": 0.5, "3": 0.9}, "note": "[1",
    }  # fmt: skip
    wrong = fedn.refused(2, "session", "start", "--config", 'lr={"2": 0.1}')
    assert "config.lr: is a schedule without round 1" in wrong


def test_a_package_is_named_by_its_name_or_the_beginning_of_its_digest(fedn, service, small):
    service.seed_model([small.model_file()], "zeros", 0)
    old, new, other = (digest_of(name.encode()) for name in ("old", "new", "other"))
    for at, (digest, name) in enumerate([(old, "mnist"), (new, "mnist"), (other, "tabular")]):
        service.state.add_package(PackageInfo(digest, 10, name, {"name": name}, float(at)))
    for text, digest in [("mnist", new), ("tabular", other), (old[:9], old), (other, other)]:
        assert fedn.json("session", "start", "--package", text)["plan"]["package"] == digest
    assert "There is no package 'nothing'" in fedn.refused(4, "session", "start", "--package", "nothing")


def test_the_model_that_a_session_starts_from_is_named_and_a_name_that_runs_is_warned_of(
    fedn, service, small
):
    first = service.seed_model([small.model_file(1.0)], "ones", 0)
    newest = service.seed_model([small.model_file(2.0)], "twos", 0)
    result = fedn("session", "start", "--name", "same")
    assert f"started from model {newest.digest[:12]} (twos)." in result.stdout
    assert "newest seed model; --model takes another" in result.stderr
    assert "Warning" not in result.stderr
    result = fedn("session", "start", "--name", "same", "--model", first.digest[:9])
    assert f"started from model {first.digest[:12]} (ones)." in result.stdout
    assert "newest" not in result.stderr
    assert "Warning: session-1 has the name 'same', too" in result.stderr
    message = fedn.refused(2, "session", "show", "same")
    assert "2 sessions are named 'same': session-2 (running), session-1 (running) — give the id" in message


# --- showing ---------------------------------------------------------------------------------------


def test_show_names_who_takes_part_who_can_not_and_the_best_model(fedn, service, session):
    checked = {"columns": 64.0, "classes": 10.0}
    service.state.add_metrics(
        [MetricRow(session, 0, "check", ClientId("client-a"), 600, checked)], service.term
    )
    service.unfit_clients = {ClientId("client-z"): "data: has 5 columns"}
    service.end(session, "finished", "")
    text = fedn.good("session", "show", session)
    assert "round 2, accuracy 0.9000, model " + model_of(service, session, 2) in text
    assert "classes 10  columns 64" in text
    assert "data: has 5 columns" in text
    shown = fedn.json("session", "show", session)
    assert [row["client"] for row in shown["checks"]] == ["client-a"]
    assert shown["best"]["round"] == 2
    assert shown["unfit"] == {"client-z": "data: has 5 columns"}
    service.unfit_clients = None  # the reducer has been started anew since
    assert "is not known any more" in fedn("session", "show", session).stderr


def test_a_session_nobody_has_validated_has_no_best_model_and_no_table_of_clients(fedn, service, small):
    session = small.seeded(service).session
    assert fedn.json("session", "show", session)["best"] is None
    assert "Takes part" not in fedn.good("session", "show", session)
    message = fedn.refused(4, "model", "download", "--best", "--session", session)
    assert "no validated round has the metric 'accuracy'; there are no metrics yet; give --round" in message
    message = fedn.refused(4, "session", "predict", session, "--model", "best")
    assert "there are no metrics yet; give --model latest, or a round's number" in message


def test_metrics_from_before_the_fit_are_told_apart(fedn, service, session):
    trained = {"accuracy": 0.75, "before_accuracy": 0.25, "before_loss": 2.0}
    row = MetricRow(session, 3, "train", ClientId("client-a"), 5, trained)
    service.state.add_metrics([row], service.term)
    service.end(session, "finished", "")
    assert "accuracy 0.7500  before fit: accuracy 0.2500  loss 2.0000" in fedn.good(
        "session", "show", session
    )
    [told] = [line for line in fedn.good("session", "watch", session).splitlines() if "before fit" in line]
    assert told.startswith("round    3  accuracy 0.7000 at 2 clients  before fit: accuracy 0.2500")


def test_watch_tells_who_can_not_take_part_and_whose_validation_failed_once(fedn, service, session):
    service.progress = {
        "state": "running", "reason": "", "unfit": {"client-y": "data: has 5 columns"},
        "failed": {"round": 2, "clients": {"client-z": "app.validate() failed"}},
    }  # fmt: skip
    for event, fields in [
        ("client_unfit", {"client": "client-y", "reason": "data: has 5 columns"}),
        ("client_failed", {"client": "client-a", "round": 3, "reason": "boom", "kind": "validate"}),
        ("client_failed", {"client": "client-a", "round": 3, "reason": "asked", "inquiry": "i-1"}),
    ]:
        service.hub.observe(Observed(event, {"session": session, **fields}))
    service.hub.observe(
        Observed("client_failed", {"session": "other", "client": "b", "round": 1, "reason": ""})
    )
    service.end(session, "finished", "")
    lines = [json.loads(line) for line in fedn.good("session", "watch", session, "--json").splitlines()]
    told = [(line["event"], line["client"], line["reason"]) for line in lines if "client" in line]
    assert told == [
        ("client_unfit", "client-y", "data: has 5 columns"),
        ("client_failed", "client-z", "app.validate() failed"),
        ("client_failed", "client-a", "boom"),
    ]
    text = fedn.good("session", "watch", session)
    assert "client-y can't take part: data: has 5 columns" in text
    assert "client-a did not validate round 3: boom" in text


# --- models of rounds ------------------------------------------------------------------------------


def test_a_model_of_a_session_is_downloaded(fedn, service, session, tmp_path):
    target = tmp_path / "model.safetensors"

    def downloaded(*which: object) -> str:
        return fedn.json("model", "download", *which, "-o", target, "--force")["digest"]

    of = ("--session", session)
    assert downloaded(*of, "--best") == model_of(service, session, 2)
    assert downloaded(*of, "--best", "--direction", "min") == model_of(service, session, 1)
    assert downloaded(*of, "--round", 0) == model_of(service, session, 0)
    assert downloaded(*of) == downloaded(*of, "--round", 3) == model_of(service, session, 3)
    assert "has no round 9" in fedn.refused(4, "model", "download", *of, "--round", 9)
    for args, words in [
        ([], "Give a DIGEST, or --session SESSION"),
        (["3f2a", *of], "Give a DIGEST, or --session SESSION"),
        (["3f2a", "--best"], "--round and --best go with --session."),
        ([*of, "--round", 1, "--best"], "Give --round or --best"),
        ([*of, "--metric", "loss"], "go with --best"),
    ]:
        assert words in fedn.refused(2, "model", "download", *args)


def test_the_model_of_a_round_is_known_by_a_part_of_its_digest(fedn, service, session, tmp_path):
    target = tmp_path / "model.safetensors"
    service.commit(session, 0.8)  # so that neither is the head
    for whole in (model_of(service, session, 1), model_of(service, session, 0)):
        for part in (whole[:10], whole[-10:].upper(), whole):
            answer = fedn.json("model", "download", part, "-o", target, "--force")
            assert answer["digest"] == whole
        assert fedn.json("session", "evaluate", session, "--model", whole[:10])["model"] == whole
    packaged, _ = service.models.put([b"a package"])
    service.state.add_package(PackageInfo(packaged, 9, "mnist", {}, 1.0))
    for unknown in (packaged[:10], "zzz"):
        message = fedn.refused(4, "model", "download", unknown)
        assert f"There is no model '{unknown}'" in message
        assert "fedn trail show" in message


# --- asking ----------------------------------------------------------------------------------------


def test_predictions_are_asked_for_and_shown_by_client(fedn, service, session):
    answer = fedn.json("session", "predict", session)
    assert (answer["kind"], answer["running"], answer["model"]) == (
        "prediction", False, model_of(service, session, 3),
    )  # fmt: skip
    assert [one["client"] for one in answer["answers"]] == ["client-a"]
    text = fedn.good("session", "predict", session)
    assert "client-b" in text
    assert "boom" in text
    assert "prediction of model" in text


def test_an_evaluation_takes_the_best_model_a_rounds_or_any(fedn, service, session):
    asked = []
    real = service.ask_clients
    service.ask_clients = lambda session, question: (asked.append(question), real(session, question))[1]
    second = model_of(service, session, 2)
    for which in ("latest", "best", "1", second):
        assert fedn.json("session", "evaluate", session, "--model", which)["kind"] == "evaluation"
    assert [(question.model, question.round) for question in asked] == [
        ("", None), (second, None), ("", 1), (second, None),
    ]  # fmt: skip
    assert "has no round 9" in fedn.refused(4, "session", "evaluate", session, "--model", "9")


def test_what_each_client_did_is_shown(fedn, service, session):
    found = fedn.json("session", "clients", session)["clients"]
    assert [(one["client"], one["rounds"], one["examples"], one["last_round"]) for one in found] == [
        ("client-a", 3, 30, 3), ("client-b", 3, 60, 3),
    ]  # fmt: skip
    assert found[0]["validate"]["metrics"]["accuracy"] == pytest.approx(0.4)
    assert "client-b" in fedn.good("session", "clients", session)
