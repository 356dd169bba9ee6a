"""What happened is known after the reducer has gone, by the same numbers; readers go on where they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ports import settled_port
from sdk_clients import SEED, until

import fedn
from fedn.reducer.event_keeping import LEAP
from fedn.sandbox.processes import Sandbox
from fedn.sdk.http import Reducer


def test_events_outlive_reducers_that_stop_and_that_are_killed(tmp_path: Path) -> None:
    with Sandbox(tmp_path, 1, 0, settled_port()) as sandbox, Reducer(sandbox.url) as reducer:
        until(lambda: events(reducer, event="reducer_started"))
        with fedn.Network(sandbox.url) as network:
            session = network.start(SEED, rounds=1)
            told = until(lambda: events(reducer, session=session.id))
            assert told[0]["sentence"].startswith(f"Session {session.id}")
            (started,) = events(reducer, event="reducer_started")
            assert started["number"] == 1

            process = sandbox.processes["reducer"].popen
            process.terminate()
            process.wait()
            sandbox.kill("reducer")  # what is left of it
            sandbox.start_reducer()
            started, stopped, again = until(lambda: three(reducer))
            assert (stopped["event"], again["number"]) == ("reducer_stopped", stopped["number"] + 1)
            assert reducer.get(f"/events/{told[0]['number']}") == told[0]
            stream = reducer.events(str(told[0]["number"]))
            between = [next(stream)["number"] for _ in range(again["number"] - told[0]["number"])]
            assert between == list(range(told[0]["number"] + 1, again["number"] + 1))
            stream.close()

            last = until(lambda: events(reducer, newest=1, limit=1))[0]["number"]
            sandbox.kill("reducer")
            sandbox.start_reducer()
            until(lambda: events(reducer, event="reducer_started", after=LEAP))
            lagging = reducer.events(str(last))
            assert next(lagging)["event"] == "lagged"
            lagging.close()


def events(reducer: Reducer, **query: Any) -> list[dict[str, Any]]:
    return list(reducer.get("/events", **query)["events"])


def three(reducer: Reducer) -> list[dict[str, Any]]:
    """The beginnings and the end, once there are as many."""
    found = events(reducer, event=["reducer_started", "reducer_stopped"])
    return found if len(found) == 3 else []
