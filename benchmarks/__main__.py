"""``python -m benchmarks``: round overhead, ingest and memory, each beside two floors of the same run.

Takes thirteen minutes; ``--quick`` under two, with wider spreads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report import Comparison, Series
from benchmarks.sampling import Peaks, processor_seconds
from benchmarks.systems import CLIENT_PROCESSES, COMBINERS, System, start_all

LAYOUT = f"1 on top, {COMBINERS} in the middle, the clients in {CLIENT_PROCESSES} processes"
WORDS = f"""\
Medians (quartiles) over all rounds; ratios are of each repetition's medians, ours and floors in turn.
Processes of each: {LAYOUT}; all on loopback.
ours     reducer, combiners and clients over real gRPC and HTTP. Durable: every update in its client's
         journal and every model in the reducer's store (fsync of file and folder), every round a SQLite
         commit (write-ahead log, synchronous = FULL); caches of models are not. Checked: digests of update,
         part and model, layout, finiteness. Validation is off; clients change one number instead of training.
bare     the same bytes and barriers on asyncio gRPC: no store, no checks.
checked  bare, and for each update a journal with fsync, sha256 at both ends, a staging file, finiteness;
         neither parts nor models are hashed or stored.
tls      ours with certificates on both sides of every connection; otherwise ours is plain.
Memory is anonymous resident memory, sampled: the peak over idle, of the combiners the higher."""


FLOORS = ("bare", "checked")


@dataclass(frozen=True)
class Work:
    """One comparison: ``repetitions`` × ``rounds`` measured rounds of each system."""

    name: str
    title: str
    clients: int
    model_bytes: int
    repetitions: int
    rounds: int
    others: tuple[str, ...] = FLOORS


def works(quick: bool) -> list[Work]:
    """What is measured, in order."""
    large = 50_000_000 if quick else 100_000_000
    sizes = (5, 20) if quick else (5, 10, 20)
    repetitions, rounds = (2, 25) if quick else (5, 50)
    overhead = Work("overhead", "Round overhead: 10 clients, 4 kB", 10, 4_000, repetitions, rounds)
    ingest = Work("ingest", f"Ingest: 10 clients, {large / 1e6:g} MB of float32", 10, large,
                  *((1, 2) if quick else (4, 3)))  # fmt: skip
    memory = [
        Work(f"memory_{n}", f"Memory: {n} clients, 20 MB of float32", n, 20_000_000, 1, 2 if quick else 4,
             others=() if quick else FLOORS)
        for n in sizes
    ]  # fmt: skip
    secured = [
        replace(work, name=f"tls_{work.name}", title=f"TLS: {work.title.partition(': ')[2]}", others=("tls",))
        for work in (overhead, ingest)
    ]
    return [overhead, ingest, *memory, *secured]


def compare(work: Work, directory: Path) -> Comparison:
    """Run ours and the floors in turn, all of them started before."""
    home = directory / work.name
    home.mkdir()
    systems = start_all(home, work.model_bytes, work.clients, work.others)
    series = {system.name: Series() for system in systems}
    try:
        for repetition in range(work.repetitions):
            # Every other time backwards, so that nobody always follows the same neighbour.
            for system in systems if repetition % 2 == 0 else systems[::-1]:
                measure(system, work.rounds, series[system.name])
    finally:
        for system in systems:
            system.stop()
    return Comparison(work.title, work.clients, work.model_bytes, series)


def measure(system: System, rounds: int, series: Series) -> None:
    before = processor_seconds(system.pids())
    with Peaks(list(system.idle)) as watched:
        series.repetitions.append(system.rounds(rounds + 1))
    series.processor.append((processor_seconds(system.pids()) - before) / (rounds + 1))
    over = {pid: peak - system.idle[pid] for pid, peak in watched.peaks.items()}
    series.middle_peak = max(series.middle_peak, *(over[pid] for pid in system.middle))
    series.top_peak = max(series.top_peak, *(size for pid, size in over.items() if pid not in system.middle))


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute; numbers are rougher")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--only", default="", help="comparisons whose name starts so: overhead, ingest, memory, tls"
    )
    parser.add_argument("--dir", type=Path, help="where to work (default: the folder for temporary files)")
    return parser.parse_args(arguments)


def main() -> None:
    chosen = options()
    began = time.monotonic()
    results: dict[str, Comparison] = {}
    if not chosen.json:
        print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}\n{WORDS}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fedn-bench-", dir=chosen.dir) as directory:
        for work in works(chosen.quick):
            if not work.name.startswith(chosen.only):
                continue
            results[work.name] = compare(work, Path(directory))
            if not chosen.json:
                print("", *results[work.name].lines(), sep="\n", flush=True)
    seconds = round(time.monotonic() - began, 1)
    if chosen.json:
        told = {name: comparison.as_dict() for name, comparison in results.items()}
        print(json.dumps({"cores": os.cpu_count(), "seconds": seconds, **told}))
    else:
        print(f"\n{seconds:.0f} s")


if __name__ == "__main__":
    main()
