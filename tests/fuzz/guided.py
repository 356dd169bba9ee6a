"""Coverage-guided fuzzing of what reads bytes: `python tests/fuzz/guided.py [RUNS]`, or `make fuzz`.

Each target runs in a process of its own, under atheris (libFuzzer), from the good inputs of the other fuzz
tests; what must hold is what holds there. Where atheris can't be imported this says so and does nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).parent
SECONDS, MEGABYTES, GROWTH = 20, 1024, 64
"""No input may take so long, no process become so large, nor grow so much after its start."""
MOST_BYTES = 4096


def main() -> int:
    try:
        import atheris  # noqa: F401
    except ImportError as error:
        print(f"guided fuzzing is left out: atheris can't be imported here ({error})")
        return 0
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    return max(fuzz(target, runs) for target in TARGETS)


def fuzz(target: str, runs: int) -> int:
    """Run one target and say in a line how it went; of a fault all that is known."""
    with tempfile.TemporaryDirectory() as directory:
        flags = (f"-runs={runs}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", "-seed=1",
                 f"-max_len={MOST_BYTES}", f"-artifact_prefix={directory}/fault-")  # fmt: skip
        command = [sys.executable, __file__, "--target", target, f"{directory}/corpus", *flags]
        begun = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        taken = time.monotonic() - begun
        faults = [file.read_bytes() for file in Path(directory).glob("fault-*")]
    last = re.search(r"#(\d+)\s+DONE\s+cov: (\d+)", done.stderr)
    sizes = [int(size) for size in re.findall(r"rss: (\d+)Mb", done.stderr)]
    if done.returncode or not last or max(sizes) - sizes[0] > GROWTH:
        print(f"{target}: a fault ({done.returncode}, {sizes[:1]} to {sizes[-1:]} MiB)")
        print(done.stdout[-3000:], done.stderr[-3000:], *map(repr, faults), sep="\n")
        return 1
    print(f"{int(last[1]):>8} {taken:>7.1f} s  guided: {target} ({last[2]} branches, {sizes[-1]} MiB)")
    return 0


# --- inside a target's process ---------------------------------------------------------------------


def chunk() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    from test_fuzz_bytes import TARGETS as KNOWN

    target = KNOWN["chunk"]()
    return target.try_, target.good


def header() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    from test_fuzz_bytes import TARGETS as KNOWN

    target = KNOWN["header"]()
    return target.try_, target.good


def codec() -> tuple[Callable[[bytes], object], Iterable[bytes]]:
    """The first byte says which message the others are to be."""
    from test_fuzz_codec import MESSAGES, examples, read

    def one(data: bytes) -> None:
        if data:
            read(MESSAGES[data[0] % len(MESSAGES)], data[1:])

    good = (bytes([index]) + raw for index, name in enumerate(MESSAGES) for raw in examples(name, 3))
    return one, (raw for raw in good if len(raw) <= MOST_BYTES)


TARGETS = {"chunk": chunk, "header": header, "codec": codec}


def child(target: str, corpus: str, flags: list[str]) -> None:
    import atheris

    sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
    with atheris.instrument_imports(include=["fedn.domain", "fedn.wire", "fedn.helpers", "json"]):
        one, good = TARGETS[target]()
    Path(corpus).mkdir()
    for number, raw in enumerate(good):
        (Path(corpus) / str(number)).write_bytes(raw)
    atheris.Setup([sys.argv[0], corpus, *flags], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--target"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        sys.exit(main())
