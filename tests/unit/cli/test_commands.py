"""Commands that ask a reducer, end to end over HTTP."""

from __future__ import annotations

import json
import socket
import threading
from hashlib import sha256

import pytest

from fedn.cli.rest_client import only
from fedn.domain.errors import InvalidInput, NotFound
from fedn.domain.messages import Gauge, Registration
from fedn.reducer.events import EventHub
from fedn.reducer.rest import create_app
from fedn.reducer.web import Web


@pytest.fixture
def seed(fedn, small, tmp_path):
    file = tmp_path / "zeros.safetensors"
    file.write_bytes(small.model_file())
    return fedn.json("model", "seed", file)["digest"]


# --- models ----------------------------------------------------------------------------------------


def test_a_model_is_seeded_listed_and_downloaded(fedn, small, tmp_path):
    data = small.model_file(2.0, size=700_000)
    file = tmp_path / "twos.safetensors"
    file.write_bytes(data)
    info = fedn.json("model", "seed", file)
    assert (info["digest"], info["name"], info["size"]) == (sha256(data).hexdigest(), "twos", len(data))
    assert "twos" in fedn.good("model", "list")
    assert info.pop("known") is False
    assert fedn.json("model", "list")["models"] == [info]
    target = tmp_path / "back.safetensors"
    fedn.good("model", "download", info["digest"][:8], "-o", target)
    assert target.read_bytes() == data
    assert "is there already" in fedn.refused(2, "model", "download", info["digest"], "-o", target)
    fedn.good("model", "download", info["digest"], "-o", target, "--force")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.safetensors", "twos.safetensors"]


def test_a_download_goes_on_where_it_broke_off(fedn, small, seed, tmp_path):
    part = tmp_path / f".back.{seed[:16]}.part"
    part.write_bytes(small.model_file()[:10])
    fedn.good("model", "download", seed, "-o", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == small.model_file()


def test_a_download_whose_bytes_are_wrong_is_thrown_away(fedn, seed, tmp_path):
    part = tmp_path / f".back.{seed[:16]}.part"
    part.write_bytes(b"x" * 10)
    result = fedn("model", "download", seed, "-o", tmp_path / "back")
    assert result.exit_code == 1
    assert "are not model" in result.stderr
    assert not (tmp_path / "back").exists()
    assert not part.exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"PK\x03\x04 not a model at all", "is a zip archive, such as numpy's .npz"),
        (lambda data: data[:-3], "truncated"),
        (lambda data: b"", "is empty"),
        (lambda data: b"PK", "shorter than 8 bytes"),
    ],
)
def test_a_file_that_is_no_model_is_refused_before_it_travels(alone, small, tmp_path, spoil, words):
    file = tmp_path / "bad.safetensors"
    file.write_bytes(spoil(small.model_file()))
    message = alone.refused(2, "model", "seed", file)
    assert words in message
    assert "bad.safetensors" in message


def test_a_model_beyond_the_limit_is_refused(fedn, small, tmp_path):
    file = tmp_path / "big.safetensors"
    file.write_bytes(small.model_file(size=5 * 2**20))
    assert "max_model_bytes" in fedn.refused(1, "model", "seed", file)


def test_an_unknown_model_is_not_found(fedn, seed):
    assert "There is no model 'feed'" in fedn.refused(4, "model", "download", "feed")


# --- sessions --------------------------------------------------------------------------------------


def test_a_session_without_a_seed_says_how_to_seed(fedn):
    assert "fedn model seed" in fedn.refused(4, "session", "start")


def test_a_session_takes_its_plan_from_a_file_and_flags_beat_it(fedn, seed, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("rounds: 7\nmin_clients: 2\nconfig: {lr: 0.5, momentum: 0.9}\n")
    flags = [
        "--rounds",
        "3",
        "--no-validate",
        "--config",
        "lr=0.1",
        "--config",
        "note=slow",
        "--config",
        "on=true",
    ]
    info = fedn.json("session", "start", "--model", seed[:6], "--name", "mine", "--plan", plan, *flags)
    got = info["plan"]
    assert (got["rounds"], got["min_clients"], got["validate"]) == (3, 2, False)
    assert got["config"] == {"lr": 0.1, "momentum": 0.9, "note": "slow", "on": True}
    assert (info["name"], info["head"]["model"]) == ("mine", seed)


def test_a_session_starts_from_the_model_of_a_name_that_no_other_has(fedn, seed, service, small):
    other = service.seed_model([small.model_file(2.0)], "twos", 0).digest
    name = next(item["name"] for item in fedn.json("model", "list")["models"] if item["digest"] == seed)
    for given, model in ((name, seed), ("twos", other)):
        assert fedn.json("session", "start", "--model", given)["head"]["model"] == model
    third = service.seed_model([small.model_file(3.0)], "twos", 0).digest
    message = fedn.refused(2, "session", "start", "--model", "twos")
    assert f"2 models are named 'twos' ({third[:16]}, {other[:16]})" in message


def test_a_wrong_plan_file_names_the_field(alone, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("rouns: 7\n")
    assert "rouns: is not a plan field" in alone.refused(2, "session", "start", "--plan", plan)


def test_sessions_are_listed_shown_and_stopped_by_the_beginning_of_their_id(fedn, service, small):
    session = small.seeded(service, rounds=4).session
    service.commit(session, 0.5)
    assert session in fedn.good("session", "list")
    shown = fedn.json("session", "show", session)
    assert [item["round"] for item in shown["rounds"]] == [0, 1]
    assert shown["rounds"][1]["metrics"]["validate"]["metrics"]["accuracy"] == pytest.approx(0.5)
    text = fedn.good("session", "show", "session-")
    assert "accuracy 0.5000" in text
    assert "1 of 4" in text
    assert fedn.json("session", "pause", "sess")["state"] == "paused"
    assert "goes on; its last committed round is 1" in fedn("session", "resume", "sess").output
    assert fedn.json("session", "stop", "sess")["state"] == "cancelled"


def test_an_unknown_or_ambiguous_session_is_named(fedn, service, small):
    assert "There is no session 'zzz'" in fedn.refused(4, "session", "show", "zzz")
    first = small.seeded(service).plan
    service.start_session("two", "", first)
    assert "matches 2 (session-" in fedn.refused(2, "session", "show", "session")
    assert fedn.json("session", "show", "session-1")["session"] == "session-1"
    assert fedn.json("session", "show", "two")["session"] == "session-2"
    service.start_session("two", "", first)
    assert "2 sessions are named 'two': session-3 (running)" in fedn.refused(2, "session", "show", "two")
    service.start_session("session-1", "", first)  # an id is nobody's name
    assert fedn.json("session", "show", "session-1")["name"] == "digits"


def test_only_the_one_beginning_counts():
    known = ["abc", "abd", "ab"]
    assert only("session", "bd", known, "x") == "abd"
    assert only("session", "ab", known, "x") == "ab"
    assert only("session", "abc", known, "x") == "abc"
    with pytest.raises(InvalidInput):
        only("session", "a", known, "x")
    for text in ("", "z"):
        with pytest.raises(NotFound):
            only("session", text, known, "x")


# --- watching --------------------------------------------------------------------------------------


def test_watching_a_session_that_ended_tells_its_whole_story(fedn, service, small):
    session = small.seeded(service, rounds=2).session
    for accuracy in (0.5, 0.75):
        service.commit(session, accuracy)
    service.end(session, "finished", "")
    out = fedn.good("session", "watch", session)
    assert "round    1  accuracy 0.5000 at 2 clients  (2 updates, 30 examples)" in out
    assert "round    2  accuracy 0.7500" in out
    assert "Session finished after round 2" in out
    lines = [json.loads(line) for line in fedn.good("session", "watch", session, "--json").splitlines()]
    told = [(line["event"], line.get("round")) for line in lines]
    assert told[1:] == [
        ("round_committed", 1), ("round_validated", 1), ("round_committed", 2), ("round_validated", 2),
        ("session_ended", 2),
    ]  # fmt: skip


def test_a_watcher_that_comes_late_sees_every_rounds_metrics(fedn, service, small):
    session = small.seeded(service, rounds=12).session
    for number in range(12):
        service.commit(session, number / 100)
    service.end(session, "finished", "")
    out = fedn.good("session", "watch", session)
    assert [line for line in out.splitlines() if line.startswith("round") and "accuracy" not in line] == []


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_watching_a_session_that_did_not_finish_exits_with_1(fedn, service, small, outcome):
    session = small.seeded(service).session
    service.end(session, outcome, "the clients have gone")
    result = fedn("session", "watch", session)
    assert result.exit_code == 1
    assert f"Session {outcome} after round 0: the clients have gone" in result.stdout
    assert fedn("session", "watch", session, "--json").exit_code == 1


def test_a_watcher_sees_a_session_live_and_why_it_waits(fedn, service, small):
    session = small.seeded(service, rounds=1).session
    service.progress = {"state": "waiting", "reason": "1 of 2 clients are here"}
    told: list[object] = []
    watcher = threading.Thread(target=lambda: told.append(fedn("session", "watch", session)))
    watcher.start()
    while not service.hub.streams_open:  # the watcher is there
        watcher.join(0.01)
    service.progress = {"state": "running", "reason": "", "round": 1, "expected": 2, "received": 1}
    service.commit(session, 0.5)
    service.end(session, "finished", "")
    watcher.join(30)
    (result,) = told
    assert result.exit_code == 0, result.output
    assert "accuracy 0.5000" in result.stdout


def test_a_watcher_is_told_once_whom_a_round_waits_for(fedn, service, small):
    session = small.seeded(service, rounds=1).session
    late = {"seconds": 42.25, "median": 12.0, "clients": ["client-a", "client-b"], "more": 3}
    service.progress = {"state": "running", "reason": "", "round": 1, "expected": 9, "received": 4,
                        "stragglers": late}  # fmt: skip
    service.commit(session, 0.5)
    service.end(session, "finished", "")
    words = (
        "round 1 has taken 42.2 s and waits for client-a, client-b and 3 more; half of the others took 12.0 s"
    )
    assert fedn.good("session", "watch", session).count(words) == 1
    told = [json.loads(line) for line in fedn.good("session", "watch", session, "--json").splitlines()]
    assert [one for one in told if one["event"] == "stragglers"] == [
        {"event": "stragglers", "session": session, "round": 1, **late}
    ]


def test_a_watcher_survives_a_restart_of_the_reducer(fedn_at, settings, service, small):
    session = small.seeded(service, rounds=1).session
    with socket.create_server(("127.0.0.1", 0)) as free:
        settings = settings.model_copy(update={"port": free.getsockname()[1]})
    first = Web(create_app(service, settings), settings)
    first.start()
    told: list[object] = []
    fedn = fedn_at(f"http://127.0.0.1:{first.port}")
    watcher = threading.Thread(target=lambda: told.append(fedn("session", "watch", session, "--json")))
    watcher.start()
    while not service.hub.streams_open:
        watcher.join(0.01)
    service.hub.close()
    first.stop()
    service.hub = EventHub()
    second = Web(create_app(service, settings), settings)
    second.start()
    service.commit(session, 0.5)
    service.end(session, "finished", "")
    watcher.join(30)
    service.hub.close()
    second.stop()
    (result,) = told
    assert result.exit_code == 0, result.output
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert events.count("round_committed") == 1
    assert events[-1] == "session_ended"


def test_a_watcher_gives_up_when_its_patience_is_over(alone, fedn, service, small, monkeypatch):
    session = small.seeded(service).session
    from fedn.cli.rest_client import Reducer

    monkeypatch.setattr(Reducer, "session", lambda self, text: text)
    assert "No reducer answers" in alone.refused(3, "session", "watch", session, "--patience", "0")


def test_starting_and_watching_in_one(fedn, service, seed):
    real = service.start_session

    def start_and_finish(*args):
        info = real(*args)
        service.commit(info.session, 0.9)
        service.end(info.session, "finished", "")
        return info

    service.start_session = start_and_finish
    assert "Session finished after round 1" in fedn.good("session", "start", "--rounds", "1", "--watch")
    lines = fedn.good("session", "start", "--rounds", "1", "--watch", "--json").splitlines()
    assert json.loads(lines[-1])["event"] == "session_ended"


# --- trail, status ---------------------------------------------------------------------------------


def test_the_trail_is_shown_and_verified(fedn, service, small):
    session = small.seeded(service).session
    service.commit(session, 0.5)
    assert "seed" in fedn.good("trail", "show", session)
    records = fedn.json("trail", "show", session)["records"]
    assert [sha256(item["raw"].encode()).hexdigest() for item in records] == [
        item["digest"] for item in records
    ]
    assert "client-b" in fedn.good("trail", "show", session, "--round", "1")
    fedn.refused(4, "trail", "show", session, "--round", "9")
    assert "is whole" in fedn.good("trail", "verify", session)
    report = fedn.json("trail", "verify", session)
    assert (report["ok"], report["rounds"], report["head"]) == (True, 2, records[1]["digest"])


def test_a_damaged_trail_exits_with_1(fedn, service, small):
    session = small.seeded(service).session
    service.commit(session, 0.5)
    service.models.delete(service.state.session(session).head.model)
    result = fedn("trail", "verify", session)
    assert result.exit_code == 1
    assert "is missing" in result.stdout


def test_a_trail_is_verified_offline(alone, small, tmp_path):
    from fedn.stores import open_models, open_state

    state_url, models_url = f"sqlite:///{tmp_path}/state.db", f"file://{tmp_path}/models"
    service = small.SmallService()
    service.state, service.models = open_state(state_url), open_models(models_url)
    service.term = service.state.take_term()
    session = small.seeded(service).session
    service.commit(session, 0.5)
    service.state.close()
    service.models.close()
    stores = ["--state", state_url, "--models", models_url]
    assert alone.json("trail", "verify", session[:4], *stores)["ok"] is True
    alone.refused(4, "trail", "verify", "zzz", *stores)


def test_status_draws_the_network(fedn, service, small):
    assert "fedn combiner start" in fedn.good("status")
    service.register(Registration(1, "c1", "127.0.0.1:12080", "i1"))
    small.seeded(service)
    text = fedn.good("status")
    for part in ("combiner c1  127.0.0.1:12080  live, 2 clients", "name of client-a", "session session-1"):
        assert part in text
    answer = fedn.json("status")
    assert (answer["reducer"]["ready"], answer["combiners"][0]["combiner"]) == (True, "c1")
    service.reason = "starting"
    result = fedn("status")
    assert result.exit_code == 3
    assert "not ready: starting" in result.stdout


def test_status_shows_gauges_above_half_and_all_when_asked(fedn, service, small):
    service.register(Registration(1, "c1", "127.0.0.1:12080", "i1"))
    service.gauges = (Gauge("uploads", 3, 4, 4), Gauge("parked", 1, 10_000, 7))
    assert "uploads 3 of 4, at most 4 so far" in fedn.good("status")
    assert "parked" not in fedn.good("status")
    assert "parked 1 of 10000, at most 7 so far" in fedn.good("status", "--verbose")
    [combiner] = fedn.json("status")["combiners"]
    assert combiner["gauges"][1] == {"name": "parked", "value": 1, "limit": 10_000, "peak": 7}


def test_what_others_named_can_not_redraw_the_terminal(fedn, service, small):
    plan = small.seeded(service).plan
    seed = service.seed_model([small.model_file()], "\x1b[2J[red]x", 0)
    service.start_session("\x1b]0;title\x07[bold]", seed.digest, plan)
    for args in (["session", "list"], ["model", "list"], ["status"]):
        assert "\x1b" not in fedn.good(*args)
    assert "[red]x" in fedn.good("model", "list")
