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
from importlib.util import find_spec
from pathlib import Path
from shutil import which

sys.path.append(str(Path(__file__).parents[1] / "support"))

APART = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
PROBE = "mount -t tmpfs tmpfs /run && ip link add name br0 type bridge && ip netns add c0"
PATIENCE = 180.0


def main() -> None:
    if why := why_not():
        print(f"skipped: {why}", file=sys.stderr)
    else:  # in the place of this process: whoever kills it ends it all
        os.execvp(APART[0], [*APART, sys.executable, __file__, "inside"])


def why_not() -> str:
    """Why nothing can be rehearsed on this machine; or ''."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux may make network namespaces; run it as root"
    missing = [tool for tool in ("ip", "nsenter", "setpriv", "unshare", "wget") if not which(tool)]
    missing += [module for module in ("compose_spec", "fiftyone", "swift") if not find_spec(module)]
    if missing:
        return f"{', '.join(missing)}: not installed (ip comes with iproute2, the modules with `make dev`)"
    done = subprocess.run([*APART, "sh", "-c", PROBE], capture_output=True, text=True, check=False)
    return f"namespaces can't be made here: {done.stderr.strip()}" if done.returncode else ""


def inside() -> None:
    from compose_files import enabled, filled, load
    from containers import HOME, ROOT, World, sh
    from swift_s3 import ACCESS_KEY, SECRET_KEY

    sh("mount -t tmpfs tmpfs /run; ip link set lo up")
    keys = {"FEDN_MINIO_ACCESS_KEY": ACCESS_KEY, "FEDN_MINIO_SECRET_KEY": SECRET_KEY}
    env = filled(ROOT / ".env.example") | keys
    project = load([ROOT / file for file in env["COMPOSE_FILE"].split(":")], env)
    chosen = env["COMPOSE_PROFILES"]
    world = World(project, enabled(project["services"], chosen, "standby"))
    try:
        story(world, env, [*enabled(project["services"], chosen)])
    except BaseException:
        for log in sorted(HOME.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}", file=sys.stderr)
        raise


def story(world, env, services) -> None:
    """What a user does: over REST from outside, and by `docker compose run fedn`."""
    print("MongoDB 6.0 and OpenStack Swift stand in for the images of the stores", flush=True)
    [first], [standby], client = world.of("reducer"), world.of("reducer-standby"), world.of("client")[0]
    early = world.of("combiner-invite")[0], first  # before the token and the stores that they wait for
    world.up(*(it.service for it in early))
    waiting = [it.popen for it in early]
    world.up(*services)
    assert first.inside("getent", "hosts", "mongo")
    assert not client.inside("getent", "hosts", "mongo"), "a client finds the stores"
    with until(lambda: reducer(env["FEDN_REDUCER_PORT"])) as asked:
        assert [it.popen for it in early] == waiting, "who came early did not wait"
        until(lambda: len(attached(asked)) == int(env["CLIENTS"]))
        clients, invited = attached(asked), invitations(asked)
        package = world.run("fedn", "package", "upload", f"/files/{env['EXAMPLE']}").split()[0]
        model = world.run("fedn", "model", "seed", "/data/seed.safetensors").split()[0]
        wanted = {"model": model, "plan": {"package": package, "rounds": 3, "min_clients": len(clients)}}
        one = asked.post("/sessions", wanted)["session"]
        until(lambda: trained(asked, one))
        world.up("reducer-standby")
        until(lambda: standby.healthy)
        two = asked.post("/sessions", wanted)["session"]
    first.kill()
    begun = time.monotonic()
    with until(lambda: reducer("8091")) as asked:
        print(f"a killed reducer was replaced in {time.monotonic() - begun:.1f} s", flush=True)
        until(lambda: trained(asked, two))
        world.up(*services)  # once more: what is there stays, and everybody is who they were
        until(lambda: first.healthy)  # as a standby
        until(lambda: attached(asked) == clients)
        until(lambda: len(invitations(asked)) == 1 and not invitations(asked) & invited)
    print(world.run("reducer", "store", "check"))
    for session in (one, two):
        print(world.run("fedn", "trail", "verify", session), flush=True)


def reducer(port: str):
    """The reducer that is published at a port; None while there is none."""
    from fedn.domain.errors import LinkBroken
    from fedn.sdk.http import Reducer

    token = Path("/run/rehearsal/volumes/admin/admin.token").read_text().strip()
    with suppress(LinkBroken):
        return Reducer(f"https://127.0.0.1:{port}", token)


def attached(asked) -> set[str]:
    return {client["client"] for client in asked.get("/clients")["clients"]}


def invitations(asked) -> set[str]:
    """Tokens by which clients may still join."""
    tokens = asked.get("/tokens")["tokens"]
    return {it["token"] for it in tokens if it["role"] == "client" and not it["revoked_at"]}


def trained(asked, session: str) -> bool:
    it = asked.get(f"/sessions/{session}")
    return (it["state"], it["head"]["round"]) == ("finished", 3)


def until(look):
    """What ``look`` returns, as soon as that is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


if __name__ == "__main__":
    (inside if sys.argv[1:] == ["inside"] else main)()
