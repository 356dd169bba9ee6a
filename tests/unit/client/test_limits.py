"""How much of the machine training may use: seen from within a process of its own, which keeps the limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from fedn.client.limits import THREADS, choose

SHOW = """
import json, os, subprocess, sys, threading
from pathlib import Path
from fedn.client.limits import limit_cpus
stop, begun = threading.Event(), threading.Event()
def wait():
    begun.set()
    stop.wait()
earlier = threading.Thread(target=wait)
earlier.start()
begun.wait()
limit_cpus(int(sys.argv[1]), sys.argv[2])
tasks = [sorted(os.sched_getaffinity(int(task.name))) for task in Path("/proc/self/task").iterdir()]
stop.set()
child = subprocess.run([sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"],
                       capture_output=True, text=True)
found = {"tasks": tasks, "child": json.loads(child.stdout)}
found |= {"threads": os.environ.get("OMP_NUM_THREADS"), "blas": os.environ.get("OPENBLAS_NUM_THREADS")}
print(json.dumps(found))
"""


def shown(most: int, **environment: str) -> Any:
    kept = {name: value for name, value in os.environ.items() if name not in THREADS}
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(most), "ann"], capture_output=True, text=True, check=True,
        env={**kept, **environment},
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_every_thread_and_child_is_kept_to_so_many_processors() -> None:
    told = shown(1, OPENBLAS_NUM_THREADS="3")
    assert len(told["tasks"]) == 2
    assert all(task == told["child"] for task in told["tasks"])
    assert len(told["child"]) == 1
    assert (told["threads"], told["blas"]) == ("1", "3")  # what was said stays


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_without_a_limit_nothing_changes() -> None:
    told = shown(0)
    assert told["child"] == sorted(os.sched_getaffinity(0))
    assert told["threads"] is None


def test_clients_of_one_machine_are_spread_over_it() -> None:
    cpus = [0, 1, 2, 3, 8, 9]
    chosen = [tuple(choose(cpus, 2, f"client-{number}")) for number in range(50)]
    assert {cpu for two in chosen for cpu in two} == set(cpus)
    assert all(len(set(two)) == 2 for two in chosen)
    assert choose(cpus, 2, "ann") == choose(cpus, 2, "ann")
    assert sorted(choose(cpus, 99, "ann")) == cpus


GREEDY = """
from fedn.client.limits import limit_memory
limit_memory(1 << 30)
bytearray(100 << 20)
try:
    bytearray(2 << 30)
except MemoryError:
    print("refused")
"""


def test_beyond_its_memory_there_is_none() -> None:
    done = subprocess.run([sys.executable, "-c", GREEDY], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
