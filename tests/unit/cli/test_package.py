"""`fedn package`: from a folder to the reducer and back, end to end over HTTP."""

from __future__ import annotations

from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
from package_files import FILES as KERAS
from package_files import archive, member, write

from fedn.packages.archive import extract

FILES = {**KERAS, "fedn.yaml": KERAS["fedn.yaml"].replace("helper: keras", "helper: numpy")}


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "digits", FILES)


def test_a_folder_is_packed_inspected_and_verified(alone, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = alone.json("package", "create", folder)
    assert made["file"] == "mnist-keras.tar"
    file = tmp_path / "mnist-keras.tar"
    assert made["digest"] == sha256(file.read_bytes()).hexdigest()
    assert [entry["path"] for entry in made["files"]] == sorted(FILES)
    without_file = {key: value for key, value in made.items() if key != "file"}
    assert alone.json("package", "inspect", file) == alone.json("package", "inspect", folder) == without_file
    words = alone.good("package", "inspect", folder)
    for word in (
        made["digest"],
        "app:train",
        "learning_rate=0.001",
        "numpy>=1.26",
        "600 s",
        "tools/prepare.sh",
    ):
        assert word in words
    assert alone.json("package", "verify", file, "--digest", made["digest"])["ok"] is True
    assert f"sha256 {made['digest']}" in alone.good("package", "verify", file)
    message = alone.refused(1, "package", "verify", file, "--digest", "0" * 64)
    assert f"has digest {made['digest']}, not {'0' * 64}; get the file again" in message

    assert "is there already" in alone.refused(2, "package", "create", folder)
    assert alone.json("package", "create", folder, "--force") == made
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits", "mnist-keras.tar"]
    assert "lies in the folder itself" in alone.refused(
        2, "package", "create", folder, "-o", folder / "x.tar"
    )


def test_a_folder_goes_up_as_the_archive_that_it_makes_and_comes_back(fedn, folder, tmp_path):
    write(folder, {"vocabulary.txt": "word\n" * 200_000})  # beyond what the server reads in one piece
    info = fedn.json("package", "upload", folder)
    assert info["digest"] == fedn.json("package", "inspect", folder)["digest"]
    file = tmp_path / "p.tar"
    fedn.good("package", "create", folder, "-o", file)
    assert fedn.good("package", "upload", file) == info["digest"] + "\n"
    hint = fedn("package", "upload", folder).stderr
    assert "fedn model seed FILE" in hint
    assert "fedn session start --package mnist-keras --model" in hint
    (listed,) = fedn.json("package", "list")["packages"]
    assert (listed["digest"], listed["name"]) == (info["digest"], "mnist-keras")
    assert "mnist-keras" in fedn.good("package", "list")
    assert fedn.json("package", "show", "mnist-keras")["digest"] == info["digest"]
    shown = fedn.good("package", "show", info["digest"][:8])
    for word in (info["digest"], "app:train", "learning_rate=0.001", "numpy>=1.26", "uploaded", "600 s"):
        assert word in shown
    back = tmp_path / "back.tar"
    fedn.good("package", "download", info["digest"][:8], "-o", back)
    assert back.read_bytes() == file.read_bytes()
    assert "is there already" in fedn.refused(2, "package", "download", info["digest"], "-o", back)
    assert "There is no package 'feed'" in fedn.refused(4, "package", "download", "feed")
    write(folder, {"vocabulary.txt": "word\n"})  # another one of the same name
    hint = fedn("package", "upload", folder)
    assert f"--package {hint.stdout[:16]} --model" in hint.stderr


def test_an_empty_list_says_what_to_do(fedn):
    assert "fedn package upload" in fedn.good("package", "list")


@pytest.mark.parametrize("command", ["create", "inspect", "upload"])
def test_a_bad_folder_is_refused_before_anything_travels(alone, folder, command):
    (folder / "data").symlink_to("/etc")
    assert "package: data: is a link" in alone.refused(2, "package", command, folder)
    (folder / "data").unlink()
    (folder / "fedn.yaml").write_text(FILES["fedn.yaml"].replace("train:", "trian:"))
    assert "fedn.yaml: entry_points.trian" in alone.refused(2, "package", command, folder)
    (folder / "fedn.yaml").unlink()
    assert "has no fedn.yaml" in alone.refused(2, "package", command, folder)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fedn.yaml": FILES["fedn.yaml"].replace("helper: numpy", "helper: numpi")}, "'numpi' is unknown"),
        (KERAS, "entry_points.build: is missing, and without it the helper keras has no model for train"),
        ({"app.py": "def startup(data): ...\ndef trian(): ...\n"}, "app.py has no train — did you mean"),
        ({"app.py": "def startup(data): ...\nclass A:\n    def train(): ...\n"}, "app.py has no train"),
        ({"app.py": "def startup(data): ...\ndef train(:\n"}, "app.py is not valid Python (line 2: "),
    ],
)
def test_what_the_code_shows_to_be_wrong_is_named(alone, folder, tmp_path, changed, words):
    write(folder, changed)
    for command in ("inspect", "create", "upload"):
        assert words in alone("package", command, folder).stderr
    file = tmp_path / "p.tar"
    file.write_bytes(archive({**FILES, **changed}))
    assert words in alone.refused(2, "package", "inspect", file)


@pytest.mark.parametrize(
    "code",
    [
        "startup = train = raise_it = None\nraise SystemExit('was run')",
        "try:\n    from x import startup, fit as train\nexcept ImportError:\n    def train(): ...\n",
        "from other import *",
        "globals()['train'] = globals()['startup'] = print",
        "def __getattr__(name): ...",
        "if (startup := 1): train: object = print",
    ],
)
def test_a_function_is_found_however_it_is_defined(alone, folder, code):
    write(folder, {"app.py": code})
    assert "app:train" in alone.good("package", "inspect", folder)


@pytest.mark.parametrize("command", ["verify", "inspect", "upload"])
def test_a_bad_file_is_refused_before_it_travels(alone, tmp_path, command):
    file = tmp_path / "bad.tar"
    for data, words in [
        (b"rubbish", "is no tar archive"),
        (archive({**FILES, "../evil": ""}), "../evil: is not a plain path"),
        (archive(FILES, member("app", b"2", linkname="/etc")), "app: is a link"),
        (archive({"app.py": ""}), "has no fedn.yaml"),
    ]:
        file.write_bytes(data)
        assert words in alone.refused(2, "package", command, file)
    assert "can't be read" in alone.refused(2, "package", command, tmp_path / "nowhere.tar")


def test_a_file_of_the_package_is_no_archive(alone, folder):
    write(folder, {"app.py": "# long\n" * 200})
    for command in ("inspect", "upload"):
        said = alone.refused(2, "package", command, folder / "app.py")
        assert f"package: app.py is no tar archive — give its folder, {folder}" in said


def test_init_writes_a_package_that_is_good_and_trains(alone, tmp_path):
    folder = tmp_path / "my-package"
    files = alone.json("package", "init", folder)["files"]
    assert files == [str(folder / name) for name in ("fedn.yaml", "app.py", ".fednignore")]
    np.savez(folder / "mine.npz", x=np.ones((2, 3)), y=np.ones(2))
    alone.good("package", "create", folder, "-o", tmp_path / "p.tar")
    manifest = extract(tmp_path / "p.tar", tmp_path / "out").manifest
    spec = spec_from_file_location("starter_app", tmp_path / "out" / "app.py")
    app = module_from_spec(spec)
    spec.loader.exec_module(app)
    assert not (tmp_path / "out" / "mine.npz").exists()
    assert [len(part) for part in app.startup(str(folder / "mine.npz"))] == [2, 2]
    data, model = app.startup("demo"), app.build()
    before = app.validate(model, data)[1]["rmse"]
    model, examples = app.train(model, data, dict(manifest.hyperparameters))
    assert app.validate(model, data) == (examples, pytest.approx({"rmse": 0.0}, abs=before / 2))
    assert "is there already" in alone.refused(2, "package", "init", folder)
    assert "not a valid name" in alone.refused(2, "package", "init", tmp_path / "a b")


def test_the_files_of_an_uploaded_package_are_listed_and_read(fedn, folder, service, small):
    digest = fedn.json("package", "upload", folder)["digest"]
    told = fedn.json("package", "files", digest[:8])
    assert {one["path"] for one in told["files"]} == set(FILES)
    assert fedn.good("package", "files", digest, "app.py") == FILES["app.py"]
    assert "has no file" in fedn.refused(4, "package", "files", digest, "tools/app.py")
    assert "is not a plain path" in fedn.refused(2, "package", "files", digest, "../app.py")
    small.seeded(service, package=digest)
    assert "digits (running)" in fedn.good("package", "show", digest)
