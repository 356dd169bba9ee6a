"""A real S3 service for tests: OpenStack Swift with its S3 API, on free ports of loopback.

One process each for accounts, containers, objects and the proxy that speaks S3. They die with the thread
that started them, and their files lie in the folder that was given. Needs Linux.

As a script, `swift_s3.py FOLDER HOST PORT`, it runs until somebody ends it.
"""

from __future__ import annotations

import getpass
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from ports import settled_port

ACCESS_KEY = "fed:key"
SECRET_KEY = "secretkey12"
GUEST_KEY = "fed:guest"
"""Has the same secret, and may do nothing."""
PATIENCE = 120.0
_DYING_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
os.execv(sys.argv[1], sys.argv[1:])
"""
_STORES = ("account", "container", "object")
_FILTERS = {
    "catch_errors": "", "gatekeeper": "", "healthcheck": "", "listing_formats": "",
    "s3api": "s3_acl = no\nlocation = us-east-1\n",
    "tempauth": f"user_{ACCESS_KEY.replace(':', '_')} = {SECRET_KEY} .admin\n"
                f"user_{GUEST_KEY.replace(':', '_')} = {SECRET_KEY}\n",
    "copy": "", "slo": "", "dlo": "",
    "versioned_writes": "allow_versioned_writes = true\nallow_object_versioning = true\n",
    "symlink": "",
}  # fmt: skip
_RINGS = """
import sys
from swift.common.ring import RingBuilder
for name, port in (pair.split("=") for pair in sys.argv[2:]):
    builder = RingBuilder(2, 1, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk",
                     "replication_ip": "127.0.0.1", "replication_port": int(port), "weight": 1})
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{name}.ring.gz")
"""


class Swift:
    """Runs while inside ``with``. ``url`` is its endpoint; the keys are ACCESS_KEY and SECRET_KEY.

    With ``certificate`` and ``key`` (PEM files) it speaks TLS; ``in_memory`` keeps objects in memory. S3 is
    spoken at ``host`` and ``port``, which is a free one if it is 0.
    """

    def __init__(
        self, root: Path, certificate: Path | None = None, key: Path | None = None, in_memory: bool = False,
        host: str = "127.0.0.1", port: int = 0,
    ) -> None:  # fmt: skip
        self._root = root
        self._tls = f"cert_file = {certificate}\nkey_file = {key}\n" if certificate else ""
        self._objects = "mem_object" if in_memory else "object"
        self._ports = dict(zip((*_STORES, "proxy"), _ports(), strict=False))
        self._host, self._ports["proxy"] = host, port or self._ports["proxy"]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._read = 0
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._ports['proxy']}"

    def __enter__(self) -> Swift:
        (self._root / "devices" / "disk").mkdir(parents=True)
        (self._root / "cache").mkdir()
        self._configure()
        pairs = [f"{name}={self._ports[name]}" for name in _STORES]
        subprocess.run([sys.executable, "-c", _RINGS, str(self._root), *pairs], check=True)
        try:
            for name in self._ports:
                self._launch(name)
            for name in self._ports:
                self._wait(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str) -> None:
        """Start ``account``, ``container``, ``object`` or ``proxy`` again, which ends with this thread."""
        self._launch(name)
        self._wait(name)

    def _launch(self, name: str) -> None:
        server = [
            str(Path(sys.executable).with_name(f"swift-{name}-server")),
            str(self._root / f"{name}.conf"),
        ]
        command = [sys.executable, "-c", _DYING_WITH_PARENT, *server, "verbose"]
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self._processes.pop(name)
        if self._log("proxy").exists():
            self._read = len(self._log("proxy").read_text(errors="replace"))
        process.kill()
        process.wait()

    def stop(self) -> None:
        for name in list(self._processes):
            self.kill(name)

    def until_refused(self, name: str) -> None:
        """Wait until the proxy has asked a server that is not there; what it said before does not count."""
        deadline, port = time.monotonic() + PATIENCE, f"127.0.0.1:{self._ports[name]}"
        while port not in (said := self._log("proxy").read_text(errors="replace")[self._read :]):
            if time.monotonic() > deadline:
                raise AssertionError(f"nobody asked swift's {name}: {said[-2000:]}")
            time.sleep(0.02)

    def _log(self, name: str) -> Path:
        return self._root / f"{name}.log"

    def _said(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")[-2000:]

    def _wait(self, name: str) -> None:
        """Until a server answers; any answer will do."""
        deadline = time.monotonic() + PATIENCE
        address = self.url if name == "proxy" else f"http://127.0.0.1:{self._ports[name]}"
        while not _answers(f"{address}/healthcheck"):
            code = self._processes[name].poll()
            if code is not None or time.monotonic() > deadline:
                raise AssertionError(f"swift's {name} does not come up ({code}): {self._said(name)}")
            time.sleep(0.02)

    def _configure(self) -> None:
        hashes = "[swift-hash]\nswift_hash_path_prefix = tests\nswift_hash_path_suffix = tests\n"
        (self._root / "swift.conf").write_text(hashes)
        for name in _STORES:
            app = f"use = egg:swift#{self._objects if name == 'object' else name}\n"
            self._write(name, f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\n{app}")
        self._write("proxy", "".join([
            "[pipeline:main]\n", f"pipeline = {' '.join(_FILTERS)} proxy-server\n",
            "[app:proxy-server]\nuse = egg:swift#proxy\n",
            "allow_account_management = true\naccount_autocreate = true\n",
            "error_suppression_limit = 1000000\n",  # a server that is back is asked at once
            *(f"[filter:{name}]\nuse = egg:swift#{name}\n{options}" for name, options in _FILTERS.items()),
        ]), self._tls)  # fmt: skip

    def _write(self, name: str, pipeline: str, more: str = "") -> None:
        host = self._host if name == "proxy" else "127.0.0.1"
        common = (
            f"[DEFAULT]\nbind_ip = {host}\nbind_port = {self._ports[name]}\nworkers = 0\n"
            f"user = {getpass.getuser()}\nswift_dir = {self._root}\nlog_level = WARNING\n"
            f"devices = {self._root}/devices\nmount_check = false\ndisable_fallocate = true\n"
            f"recon_cache_path = {self._root}/cache\n"
        )
        (self._root / f"{name}.conf").write_text(common + more + pipeline)


def _ports() -> Iterator[int]:
    """Free ports, no two of them the same."""
    seen: set[int] = set()
    while True:
        if (port := settled_port()) not in seen:
            seen.add(port)
            yield port


def _answers(url: str) -> bool:
    try:
        build_opener(ProxyHandler({})).open(url, timeout=5).close()
    except URLError as error:
        return bool(getattr(error, "code", 0)) or "CERTIFICATE" in str(error)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    with Swift(Path(sys.argv[1]) / "swift", host=sys.argv[2], port=int(sys.argv[3])):
        signal.pause()
