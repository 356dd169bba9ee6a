"""A session with a package, through all tiers: fetched by digest, run in workers, and who fails stays out."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from small_packages import Runner, Small, gone, python, running, until

from fedn.domain.ids import Digest
from fedn.packages.archive import inspect
from fedn.ports import PackageInfo
from fedn.testing.federation import Federation

CODE = """
import os, time

def startup(data):
    if data == "unreadable":
        raise FileNotFoundError("/home/ann/1990")
    return data

def train(model, data, config):
    if data == "exits":
        os._exit(3)
    if data == "never":
        time.sleep(600)
    return {**model, "w": model["w"] + 1}, 10, {"pid": os.getpid()}

def validate(model, data):
    return 5, {"mean": model["w"].mean()}
"""
FAILING = {
    "unreadable": "package.startup(): raised FileNotFoundError",
    "exits": "package: its worker ended with exit status 3",
    "never": "package: took longer than 8 s, and was stopped",
}
SEED = {"w": np.zeros(4, dtype=np.float32)}


def upload(federation: Federation, small: Small) -> None:
    federation.models.put([small.archive], Digest(small.digest))
    manifest = inspect(small.archive).manifest
    federation.state.add_package(
        PackageInfo(Digest(small.digest), len(small.archive), manifest.name, manifest.as_dict(), 0.0)
    )


async def test_rounds_go_on_without_those_whose_code_fails_and_everybody_sees_why(tmp_path: Path) -> None:
    small = python(CODE, "startup", "train", "validate", timeout=8)
    runners: dict[str, Runner] = {}
    with ExitStack() as stack:
        async with Federation(tmp_path) as federation:
            await federation.add_combiner("combiner-1")
            upload(federation, small)
            for data in ("good", *FAILING):
                runners[data] = stack.enter_context(running(tmp_path / data, data))
                await federation.run_client(data, runners[data].trainer)
            await federation.story.until("network_changed", clients=4)
            plan = {"rounds": 1, "package": small.digest, "check": False, "round_deadline": 60.0}
            info = await federation.start_session(SEED, **plan)
            await federation.story.until("session_finished", seconds=90.0)
            head = federation.state.session(info.session).head
            assert federation.tensors(head.model)["w"].tolist() == [1.0] * 4
            (pid,) = runners["good"].workers
            refused = {
                absent.client: absent.reason
                for absent in federation.state.record(info.session, 1).record.refused
            }
            told = [str(seen.fields) for seen in federation.story.events]
    assert refused.keys() == FAILING.keys()
    assert all(reason in refused[data] for data, reason in FAILING.items())
    assert not any("ann" in text for text in told)
    assert gone(pid)


async def test_a_check_keeps_out_whoever_can_not_take_part(tmp_path: Path) -> None:
    small = python(CODE, "startup", "train", "validate")
    with running(tmp_path / "1", "good") as good, running(tmp_path / "2", "unreadable") as bad:
        async with Federation(tmp_path) as federation:
            await federation.add_combiner("combiner-1")
            upload(federation, small)
            await federation.run_client("good", good.trainer)
            await federation.run_client("bad", bad.trainer)
            await federation.story.until("network_changed", clients=2)
            await federation.start_session(SEED, rounds=1, package=small.digest)
            unfit = await federation.story.until("client_unfit", client="bad")
            assert "package.startup(): raised FileNotFoundError" in unfit["reason"]
            await federation.story.until("session_finished")


async def test_what_nobody_waits_for_is_killed(tmp_path: Path) -> None:
    """Its round is committed without it: the client is free for the next task."""
    small = python(CODE, "startup", "train", "validate")
    with running(tmp_path / "1", "good") as good, running(tmp_path / "2", "never") as never:
        async with Federation(tmp_path) as federation:
            await federation.add_combiner("combiner-1")
            upload(federation, small)
            await federation.run_client("good", good.trainer)
            await federation.run_client("never", never.trainer)
            await federation.story.until("network_changed", clients=2)
            plan = {"rounds": 1, "package": small.digest, "check": False, "round_deadline": 5.0}
            await federation.start_session(SEED, **plan)
            await federation.story.until("session_finished", seconds=60.0)
            trained_in = never.workers[0]
            await asyncio.to_thread(until, lambda: gone(trained_in))
            await federation.story.until("round_validated", clients=2)  # the next task got a new worker
