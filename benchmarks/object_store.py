"""``python -m benchmarks.object_store``: a model up to a real S3 service and down again, and its memory.

The service is Swift on loopback, as in the tests. Beside ours, in the same run and in turn: ``plain``,
minio's own client on a file, which neither hashes nor keeps anything; and ``disk``, the same bytes written
to a file, synced and read. Each is a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
CHUNK = 2**20
SYSTEMS = ("disk", "plain", "ours")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.object_store", description=__doc__)
    parser.add_argument("--bytes", type=int, default=10**9)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where to work, on a real disk")
    parser.add_argument("--work", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        print(json.dumps(worked(chosen.work, chosen.url, chosen.bytes, chosen.dir)))
    else:
        compare(chosen.bytes, chosen.repetitions, chosen.dir)


def compare(size: int, repetitions: int, directory: Path | None) -> None:
    """Run all in turn and print medians, ratios and peaks."""
    sys.path.insert(0, str(SUPPORT))
    from swift_s3 import ACCESS_KEY, SECRET_KEY, Swift

    os.environ |= {"FEDN_S3_ACCESS_KEY": ACCESS_KEY, "FEDN_S3_SECRET_KEY": SECRET_KEY}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
    where = directory or Path("/var/tmp")
    with tempfile.TemporaryDirectory(prefix="fedn-bench-", dir=where) as home, Swift(Path(home)) as swift:
        for _ in range(repetitions):
            for name in SYSTEMS:
                found[name].append(run(name, swift.url, size, Path(home)))
    print(
        f"{size / 1e6:g} MB, medians of {repetitions}; {os.cpu_count()} cores; in brackets the ratio to plain"
    )
    plain = medians(found["plain"])
    for name in SYSTEMS:
        one = medians(found[name])
        print(f"{name:6} put {one['put']:6.0f} MB/s ({one['put'] / plain['put']:.2f})   "
              f"get {one['get']:6.0f} MB/s ({one['get'] / plain['get']:.2f})   "
              f"peak memory over idle {one['peak']:5.0f} MB")  # fmt: skip


def run(name: str, url: str, size: int, directory: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.object_store", "--work", name, "--url", url]
    done = subprocess.run(
        [*command, "--bytes", str(size), "--dir", str(directory)], check=True, capture_output=True
    )
    return json.loads(done.stdout)


def medians(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


# --- in a process of its own ------------------------------------------------------------------------


def worked(name: str, url: str, size: int, directory: Path) -> dict[str, float]:
    """MB/s both ways, and MB of peak memory beyond what the process had before."""
    up, down = {"disk": disk, "plain": plain, "ours": ours}[name](url, size, directory)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    up()
    between = time.monotonic()
    down()
    ended = time.monotonic()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {
        "put": size / 1e6 / (between - began), "get": size / 1e6 / (ended - between), "peak": peak / 1e6,
    }  # fmt: skip


def chunks(size: int) -> Iterator[memoryview]:
    """Bytes that are new in every run, made at memory's speed."""
    block = memoryview(os.urandom(2 * CHUNK))
    for number, start in enumerate(range(0, size, CHUNK)):
        offset = number % CHUNK
        yield block[offset : offset + min(CHUNK, size - start)]


def disk(_: str, size: int, directory: Path):
    path = directory / "disk"

    def up() -> None:
        with path.open("wb", buffering=0) as file:
            for chunk in chunks(size):
                file.write(chunk)
            os.fsync(file.fileno())

    def down() -> None:
        with path.open("rb", buffering=0) as file:
            while file.read(CHUNK):
                pass
        path.unlink()

    return up, down


def plain(url: str, size: int, directory: Path):
    from minio import Minio

    client = Minio(
        endpoint=url.partition("://")[2], access_key=os.environ["FEDN_S3_ACCESS_KEY"],
        secret_key=os.environ["FEDN_S3_SECRET_KEY"], secure=False, region="us-east-1",
    )  # fmt: skip
    if not client.bucket_exists(bucket_name="bench"):
        client.make_bucket(bucket_name="bench")
    source = directory / "plain"
    with source.open("wb") as file:
        file.writelines(chunks(size))

    def up() -> None:
        with source.open("rb") as file:
            client.put_object(
                bucket_name="bench", object_name="plain", data=file, length=size, part_size=8 * CHUNK
            )

    def down() -> None:
        answer = client.get_object(bucket_name="bench", object_name="plain")
        for _ in answer.stream(CHUNK):
            pass
        answer.close()
        client.remove_object(bucket_name="bench", object_name="plain")
        source.unlink()

    return up, down


def ours(url: str, size: int, directory: Path):
    from fedn.stores import open_models

    store = open_models(f"s3://bench/models?endpoint={url}&cache={directory}")
    digests: list[str] = []

    def up() -> None:
        digests.append(store.put(chunks(size))[0])

    def down() -> None:
        for _ in store.read(digests[0]):
            pass
        store.delete(digests[0])

    return up, down


if __name__ == "__main__":
    main()
