"""`make rehearse`: the containers' own files, started without an engine, and three rounds trained with them.

Not rehearsed: whether images can be built and pulled, restart policies, limits of memory, and what the images
of the stores do: MongoDB 6.0 and OpenStack Swift stand in for MongoDB 8.0 and SeaweedFS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which

sys.path.append(str(Path(__file__).parents[1] / "support"))

APART = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
PROBE = (
    "mount -t tmpfs tmpfs /run && mkdir /run/u /run/w /run/m && ip link add name br0 type bridge"
    " && ip netns add c0 && mount -t overlay overlay -o lowerdir=/,upperdir=/run/u,workdir=/run/w /run/m"
)
PATIENCE = 180.0


def why_not() -> str:
    """Why nothing can be rehearsed on this machine; or ''."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux may make network namespaces"
    missing = [tool for tool in ("ip", "nsenter", "setpriv", "unshare") if not which(tool)]
    missing += [module for module in ("compose_spec", "fiftyone", "swift") if not find_spec(module)]
    if missing:
        return f"{', '.join(missing)} is not installed"
    done = subprocess.run([*APART, "sh", "-c", PROBE], capture_output=True, text=True, check=False)
    return f"namespaces can't be made here: {done.stderr.strip()}" if done.returncode else ""


def main() -> None:
    if why := why_not():
        print(f"skipped: {why}")
    else:  # in the place of this process: whoever kills it ends it all
        os.execvp(APART[0], [*APART, sys.executable, __file__, "inside"])


def inside() -> None:
    from compose_files import enabled, filled, load
    from containers import HOME, ROOT, World, sh
    from swift_s3 import ACCESS_KEY, SECRET_KEY

    sh("mount", "-t", "tmpfs", "tmpfs", "/run")
    keys = {"FEDN_MINIO_ACCESS_KEY": ACCESS_KEY, "FEDN_MINIO_SECRET_KEY": SECRET_KEY}
    env = filled(ROOT / ".env.example") | keys
    project = load([ROOT / file for file in env["COMPOSE_FILE"].split(":")], env)
    services = project["services"]
    running = enabled(services, env["COMPOSE_PROFILES"])
    world = World(project, enabled(services, env["COMPOSE_PROFILES"], "standby"))
    try:
        story(world, env, [*running])
    except BaseException:
        for log in sorted(HOME.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}", file=sys.stderr)
        raise


def story(world, env, services) -> None:
    """What a user does: over REST from outside, and by `docker compose run fedn`."""
    print("MongoDB 6.0 and OpenStack Swift stand in for the images of the stores", flush=True)
    begun, fedn = time.monotonic(), partial(world.run, "fedn")
    world.up(*services)
    print(f"{len(services)} services were started in {time.monotonic() - begun:.0f} s", flush=True)
    assert world.of("reducer")[0].inside("getent", "hosts", "mongo")
    assert not world.of("client")[0].inside("getent", "hosts", "mongo"), "a client finds the stores"
    with reducer(env["FEDN_REDUCER_PORT"]) as asked:
        clients = until(lambda: attached(asked), lambda them: len(them) == int(env["CLIENTS"]))
        package = fedn("package", "upload", f"/files/{env['EXAMPLE']}").split()[0]
        model = fedn("model", "seed", "/data/seed.safetensors").split()[0]
        wanted = {"model": model, "plan": {"package": package, "rounds": 3, "min_clients": len(clients)}}
        trained(asked, first := asked.post("/sessions", wanted)["session"])
        world.up("reducer-standby")
        second = asked.post("/sessions", wanted)["session"]
    begun = time.monotonic()
    world.of("reducer")[0].kill()
    with until(lambda: reducer("8091"), bool) as asked:
        print(f"a killed reducer was replaced in {time.monotonic() - begun:.1f} s", flush=True)
        trained(asked, second)
        world.up(*services)  # once more: what is there stays, and everybody is who they were
        assert until(lambda: attached(asked), lambda them: len(them) == len(clients)) == clients
    print(world.run("reducer", "store", "check"))
    for session in (first, second):
        print(fedn("trail", "verify", session), flush=True)


def reducer(port: str):
    """The reducer that is published at a port; None while there is none."""
    from containers import HOME

    from fedn.domain.errors import LinkBroken
    from fedn.sdk.http import Reducer

    with suppress(LinkBroken):
        return Reducer(f"https://127.0.0.1:{port}", (HOME / "volumes/admin/admin.token").read_text().strip())


def attached(asked) -> set[str]:
    return {client["client"] for client in asked.get("/clients")["clients"]}


def trained(asked, session: str) -> None:
    it = until(lambda: asked.get(f"/sessions/{session}"), lambda it: it["state"] != "running")
    assert (it["state"], it["head"]["round"]) == ("finished", 3), it


def until(look, well):
    """What ``look`` returns, as soon as it is well."""
    deadline = time.monotonic() + PATIENCE
    while not well(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


if __name__ == "__main__":
    (inside if sys.argv[1:] == ["inside"] else main)()
