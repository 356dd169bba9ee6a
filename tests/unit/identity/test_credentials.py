"""What a member keeps on disk: for its owner alone, and whole after any crash."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from crashes import crashes

from fedn.domain.errors import Conflict, Damaged, StoreUnavailable, Unauthenticated
from fedn.domain.identity import Role
from fedn.identity.authority import Authority
from fedn.identity.certificates import CLOCK_SLACK, new_key, new_request, read_request
from fedn.identity.credentials import Credentials, Keyring, Wallet
from fedn.identity.secret_files import MAX_BYTES, create_private, make_private_directory, write_private

NOW = time.time()
HOUR = 3600.0
ONE, TWO = Authority.create("one", NOW), Authority.create("two", NOW)


def issued(keyring: Keyring, authority: Authority = ONE, seconds: float = HOUR) -> bytes:
    return authority.issue(read_request(new_request(keyring.key(), Role.CLIENT, "ann")), NOW, seconds)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "state" / "identity")


def test_what_was_saved_is_loaded(keyring: Keyring) -> None:
    assert keyring.load() is None
    saved = keyring.save(issued(keyring), ONE.certificate)
    assert Keyring(keyring.directory).load() == saved
    assert str(saved.principal) == "client:ann"


def test_the_key_is_made_once_and_kept(keyring: Keyring) -> None:
    key = keyring.key()
    keyring.save(issued(keyring), ONE.certificate)
    keyring.save(issued(keyring, TWO), TWO.certificate)
    assert keyring.key() == key == Keyring(keyring.directory).key()


def test_many_that_start_at_once_agree_on_one_key(keyring: Keyring) -> None:
    keys: list[bytes] = []
    ready = threading.Barrier(8)

    def start() -> None:
        ready.wait()
        keys.append(Keyring(keyring.directory).key())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_only_the_owner_can_read_it(keyring: Keyring) -> None:
    keyring.save(issued(keyring), ONE.certificate)
    assert keyring.directory.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in keyring.directory.iterdir()}
    assert modes == dict.fromkeys(("key.pem", "certificate.pem", "authority.pem"), 0o600)


def test_files_are_made_with_their_mode_and_not_given_it_afterwards(tmp_path: Path) -> None:
    """A reader that is quick must not get in between; the umask of this process would let it."""
    code = (
        "import os, sys, pathlib\n"
        "os.umask(0)\n"
        "from fedn.identity.secret_files import write_private\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "made = []\n"
        "def watch(event, args):\n"
        "    if event == 'os.rename': made.append(os.stat(args[0]).st_mode & 0o777)\n"
        "sys.addaudithook(watch)\n"
        "write_private(path, b'secret')\n"
        "print([oct(mode) for mode in made], oct(path.stat().st_mode & 0o777))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "f")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['0o600'] 0o600\n"


def test_an_empty_folder_that_is_there_becomes_private_and_a_full_one_is_left_alone(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    for path in (empty, full):
        path.mkdir(mode=0o755)
    (full / "mine").write_text("")
    make_private_directory(empty)
    make_private_directory(full)
    assert [path.stat().st_mode & 0o777 for path in (empty, full)] == [0o700, 0o755]


def test_a_certificate_for_another_key_is_not_saved(keyring: Keyring, tmp_path: Path) -> None:
    saved = keyring.save(issued(keyring), ONE.certificate)
    others = issued(Keyring(tmp_path / "other"))
    for certificate, authority in ((others, ONE), (issued(keyring), TWO), (b"certificate?", ONE)):
        with pytest.raises(Unauthenticated, match="not for this key, or not by this authority"):
            keyring.save(certificate, authority.certificate)
    assert keyring.load() == saved


@pytest.mark.parametrize("file", ["key.pem", "certificate.pem", "authority.pem"])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN NOTHING-----", b"x" * (MAX_BYTES + 1)])
def test_damage_is_named_with_the_file_and_a_remedy(keyring: Keyring, file: str, content: bytes) -> None:
    keyring.save(issued(keyring), ONE.certificate)
    (keyring.directory / file).write_bytes(content)
    with pytest.raises(Damaged, match=rf"{file} .*remove it"):
        keyring.load()


def test_a_key_that_was_exchanged_is_damage(keyring: Keyring) -> None:
    keyring.save(issued(keyring), ONE.certificate)
    (keyring.directory / "key.pem").write_bytes(new_key())
    with pytest.raises(
        Damaged, match=r"certificate\.pem is not for the key beside it; remove it, and join anew"
    ):
        keyring.load()


def test_a_folder_that_can_t_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        Keyring(tmp_path / "file" / "identity").key()


def test_nothing_shows_the_key(keyring: Keyring) -> None:
    held = keyring.save(issued(keyring), ONE.certificate)
    body = held.key.decode().splitlines()[1]
    for shown in (repr(held), str(held), repr(Wallet(held)), repr(keyring), repr(ONE)):
        assert body not in shown
        assert "PRIVATE" not in shown
    assert ONE.reveal_key().decode().splitlines()[1] not in repr(ONE)


def test_half_of_a_life_is_counted_from_its_issue(keyring: Keyring) -> None:
    short = keyring.save(issued(keyring, seconds=60), ONE.certificate)
    assert short.expires_at == int(NOW + 60)
    assert short.renew_at == pytest.approx(NOW + 30, abs=1)
    assert CLOCK_SLACK > 60  # counted from not_before, half would be over already


def test_a_wallet_tells_of_what_is_new(keyring: Keyring) -> None:
    first = keyring.save(issued(keyring), ONE.certificate)
    second = keyring.save(issued(keyring), ONE.certificate)
    wallet, told = Wallet(first), list[Credentials]()
    end = wallet.on_change(told.append)
    wallet.replace(second)
    assert wallet.current is second
    end()
    wallet.replace(first)
    end()
    assert wallet.current is first
    assert told == [second]


# --- crashes ---------------------------------------------------------------------------------------


def test_a_crash_while_the_key_is_made_leaves_one_or_none(tmp_path: Path) -> None:
    out = crashes(
        """
base = Path(sys.argv[1])
step, survived = 0, False
while not survived:
    step += 1
    ring = Keyring(base / str(step))
    survived = crashing(step, ring.key)
    key = ring.directory / "key.pem"
    before = key.read_bytes() if key.exists() else None
    assert before in (None, ring.key())
    assert key.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in ring.directory.iterdir() if path.suffix == ".pem") == ["key.pem"]
print(step)
""",
        tmp_path,
    )
    assert int(out) > 5


def test_a_crash_between_two_networks_never_leaves_a_pair_that_does_not_match(
    tmp_path: Path, keyring: Keyring
) -> None:
    """Joined to one network, joining another, killed before each file operation in turn."""
    for name, authority in (("one", ONE), ("two", TWO)):
        (tmp_path / f"{name}.certificate").write_bytes(issued(keyring, authority))
        (tmp_path / f"{name}.authority").write_bytes(authority.certificate)
    out = crashes(
        """
base, directory = Path(sys.argv[1]), Path(sys.argv[2])
pairs = {name: ((base / f"{name}.certificate").read_bytes(), (base / f"{name}.authority").read_bytes())
         for name in ("one", "two")}
step, survived, found = 0, False, []
while not survived:
    step += 1
    ring = Keyring(directory)
    ring.save(*pairs["one"])
    assert whole(directory).authority == pairs["one"][1]
    survived = crashing(step, lambda: ring.save(*pairs["two"]))
    held = whole(directory)
    found.append(next((name for name, pair in pairs.items() if held and held.authority == pair[1]), "none"))
    assert ring.save(*pairs["two"]) == whole(directory)
print(step, *dict.fromkeys(found))
""",
        tmp_path,
        keyring.directory,
    )
    steps, *found = out.split()
    assert int(steps) > 5
    assert found == ["one", "none", "two"]  # the old one, then nothing, then the new one; never a mixture


def test_a_crash_while_a_certificate_is_renewed_leaves_the_old_or_the_new(
    tmp_path: Path, keyring: Keyring
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.certificate").write_bytes(issued(keyring))
    (tmp_path / "authority").write_bytes(ONE.certificate)
    out = crashes(
        """
base, directory = Path(sys.argv[1]), Path(sys.argv[2])
authority = (base / "authority").read_bytes()
certificates = [(base / f"{name}.certificate").read_bytes() for name in ("one", "two")]
step, survived, found = 0, False, []
while not survived:
    step += 1
    ring = Keyring(directory)
    ring.save(certificates[0], authority)
    survived = crashing(step, lambda: ring.save(certificates[1], authority))
    found.append(certificates.index(whole(directory).certificate))
print(step, *dict.fromkeys(found))
""",
        tmp_path,
        keyring.directory,
    )
    steps, *found = out.split()
    assert int(steps) > 3
    assert found == ["0", "1"]


def test_a_file_is_created_once_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    create_private(path, b"new")
    with pytest.raises(Conflict, match="is there already"):
        create_private(path, b"other")
    assert path.read_bytes() == b"new"
    write_private(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert [found.name for found in tmp_path.iterdir()] == ["key.pem"]
