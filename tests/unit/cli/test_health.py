"""`fedn health`, as a container's health check asks: a reducer over HTTP, a combiner by gRPC and TLS."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import identities
from click.testing import CliRunner, Result
from secured import NAME, secured

from fedn.cli.root import root
from fedn.domain.identity import Role
from fedn.identity.authority import Authority
from fedn.identity.credentials import Credentials, Keyring
from fedn.identity.secret_files import create_private, make_private_directory

NOBODY = "http://127.0.0.1:9"


def test_a_reducer_is_well_when_it_is_ready(fedn, service) -> None:
    assert json.loads(fedn.good("health", "--json")) == {"healthy": True, "asked": fedn.url}
    service.reason = "has no term yet"
    refused = fedn("health")
    assert (refused.exit_code, "has no term yet" in refused.output) == (3, True)


def test_a_reducer_that_stands_by_is_well_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "standby"
    words = ["health", "--standby", str(file), "--reducer", NOBODY]
    assert CliRunner().invoke(root, words).exit_code == 3
    file.write_text("reducer on a (process 1) leads")
    done = CliRunner().invoke(root, words)
    assert (done.exit_code, done.output) == (0, "Standing by: reducer on a (process 1) leads.\n")
    os.utime(file, (time.time() - 60,) * 2)
    assert CliRunner().invoke(root, words).exit_code == 3


def test_who_is_not_there_is_waited_for_and_then_named() -> None:
    done = CliRunner().invoke(root, ["health", "--wait", "0.6", "--reducer", NOBODY])
    assert (done.exit_code, "No reducer answers" in done.output) == (3, True)


def keep(credentials: Credentials, folder: Path) -> None:
    keyring = Keyring(folder)
    make_private_directory(folder)
    create_private(folder / "key.pem", credentials.key)
    keyring.save(credentials.certificate, credentials.authority)


async def test_a_combiner_is_asked_with_an_identity_of_its_own(tmp_path: Path) -> None:
    async def ask(port: int, identity: Path) -> Result:
        words = ["health", "--combiner", f"127.0.0.1:{port}", "--identity", str(identity)]
        return await asyncio.to_thread(CliRunner().invoke, root, words)

    async with secured(tmp_path / "combiner") as network:
        keep(identities.member(network.authority, Role.COMBINER, NAME), tmp_path / "identity")
        not_yet = await ask(network.port, tmp_path / "nothing")
        assert (not_yet.exit_code, "has it joined?" in not_yet.output) == (3, True)
        well = await ask(network.port, tmp_path / "identity")
        assert (well.exit_code, "is well" in well.output) == (0, True)
        stranger = identities.member(Authority.create("other", time.time()), Role.COMBINER, NAME)
        keep(stranger, tmp_path / "stranger")
        refused = await ask(network.port, tmp_path / "stranger")
        assert (refused.exit_code, "is not well" in refused.output) == (3, True)
    assert (await ask(network.port, tmp_path / "identity")).exit_code == 3
