"""`fedn.yaml`: what it says, and what is said about a wrong one."""

from __future__ import annotations

import json

import pytest
from package_files import MANIFEST, write

from fedn.domain.errors import InvalidInput
from fedn.packages.manifest import EntryPoint, manifest_from, read_manifest

SMALL = {"name": "small", "entry_points": {"train": "sh train.sh <model_in> <model_out>"}}

HEAD = "name: x\nentry_points: {train: t}\n"


def refused(text: str | bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        read_manifest(text)
    return caught.value.message


def small(**changes: object) -> str:
    """SMALL with some keys changed, as a text."""
    return json.dumps(SMALL | changes)


def points(**entry_points: object) -> str:
    return small(entry_points=entry_points)


def test_everything_that_a_manifest_can_say():
    manifest = read_manifest(MANIFEST)
    assert (manifest.name, manifest.description, manifest.helper) == ("mnist-keras", "Digits.", "keras")
    assert manifest.entry_points == {
        "startup": EntryPoint("python", "app:startup"),
        "train": EntryPoint("python", "app:train"),
        "validate": EntryPoint("command", "python validate.py <model_in> <metrics_out>"),
    }
    assert dict(manifest.hyperparameters) == {
        "learning_rate": 0.001, "epochs": 1, "augment": True, "name": "adam"
    }  # fmt: skip
    assert manifest.requirements == ("numpy>=1.26",)
    assert manifest.timeout == 600.0


def test_the_least_that_a_manifest_says():
    manifest = read_manifest(small(description=None, hyperparameters=None, timeout=None))
    assert (manifest.helper, manifest.hyperparameters, manifest.requirements) == ("numpy", {}, ())
    assert (manifest.description, manifest.timeout) == ("", None)


@pytest.mark.parametrize(
    "text", [MANIFEST, small(), points(train={"python": "a.b:c"}, build={"python": "a:b"})]
)
def test_as_json_it_is_the_same(text):
    manifest = read_manifest(text)
    assert manifest_from(json.loads(json.dumps(manifest.as_dict()))) == manifest


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        (small(nam="x"), "nam", "did you mean 'name'?"),
        (small(name=None), "name", "is missing"),
        (small(name="a b"), "name", "not a valid name"),
        (small(name=7), "name", "is a number"),
        (small(helper="../keras"), "helper", "not a valid name"),
        (small(description=["x"]), "description", "is a list"),
        (small(description="x\u001b[2J"), "description", "control characters"),
        (small(entry_points="train.py"), "entry_points", "is a text"),
        (small(entry_points=None), "entry_points", "is missing"),
        (points(), "entry_points.train", "is missing"),
        (points(train=None), "entry_points.train", "is nothing"),
        (points(train=" "), "entry_points.train", "is empty"),
        (points(trian="sh t.sh", train="sh t.sh"), "entry_points.trian", "did you mean 'train'?"),
        (points(train="sh t.sh <modelin>"), "entry_points.train", "<modelin> is not a placeholder"),
        (points(train="sh t.sh <modelin>"), "entry_points.train", "did you mean <model_in>?"),
        (points(train={"pyton": "a:b"}), "entry_points.train.pyton", "did you mean 'python'?"),
        ("name: x\nentry_points: {train: {on: 'a:b'}}", "entry_points.train", "'True' is no name"),
        (points(train={}), "entry_points.train.python", "is nothing"),
        (points(train={"python": "app.train"}), "entry_points.train.python", "names no function"),
        (points(train={"python": "../app:train"}), "entry_points.train.python", "names no function"),
        (points(train="sh t.sh", check="sh c.sh"), "entry_points.check", "can only be a Python function"),
        (points(train="sh t.sh", startup={"python": "a:b"}), "entry_points.startup", "goes with Python"),
        (points(train="sh t.sh", build={"python": "a:b"}), "entry_points.build", "goes with Python"),
        (small(hyperparameters=[1]), "hyperparameters", "is a list"),
        (small(hyperparameters={"a-b": 1}), "hyperparameters.a-b", "not a valid name"),
        (small(hyperparameters={"seed": 1}), "hyperparameters.seed", "set by the system"),
        (small(hyperparameters={"lr": 1, "LR": 2}), "hyperparameters.LR", "differs from lr only in"),
        (small(hyperparameters={"Round": 1}), "hyperparameters.Round", "both would be FEDN_CONFIG_ROUND"),
        (small(hyperparameters={"lr": [1]}), "hyperparameters.lr", "its default is a list"),
        (small(hyperparameters={"lr": 2**63}), "hyperparameters.lr", "too large"),
        (small(hyperparameters={f"h{n}": n for n in range(65)}), "hyperparameters", "at most 64"),
        (f"{HEAD}hyperparameters: {{lr: .nan}}", "hyperparameters.lr", "not finite"),
        (f"{HEAD}hyperparameters: {{on: 1}}", "hyperparameters", "'True' in quotes"),
        (small(requirements=[1]), "requirements", "is a list"),
        (small(requirements={"numpy": "1"}), "requirements", "is a mapping"),
        (small(requirements=["numpy>=x y"]), "requirements", "is not a requirement"),
        (small(requirements=["Fedn>=0.1"]), "requirements", "another fedn"),
        (small(requirements=["--index-url=x"]), "requirements", "is not a requirement"),
        (small(requirements=["a @ file:///x.whl"]), "requirements", "names an address"),
        (small(requirements="wishes.txt"), "requirements", "has no file 'wishes.txt'"),
        (small(timeout=0), "timeout", "no number of seconds"),
        (small(timeout=True), "timeout", "no number of seconds"),
        (small(timeout="10m"), "timeout", "no number of seconds"),
    ],
    ids=lambda value: value[-60:] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_is_named(text, field, words):
    message = refused(text)
    assert message.startswith(f"fedn.yaml: {field}")
    assert words in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is nothing"),
        ("- train", "is a list"),
        ("name: [", "is not YAML"),
        ("name: x\nname: y", "the key 'name' is given twice"),
        ("name: x\n---\nname: y", "is not YAML"),
        (b"name: \xff", "is not YAML"),
        ("name: !!python/name:os.system x", "uses a tag"),
        ("a: &a [x, x]\nb: [*a, *a]", "uses an anchor or an alias"),
        ("a: *a", "uses an anchor or an alias"),
        ("a: " + "[" * 60_000, "more than 8 deep"),
        ("a: [" + "1," * 5000 + "]", "more than 4096 values"),
        ("# " + "x" * 2**16, "longer than 65536 bytes"),
        ("a: 2000-99-99", "is not YAML"),
        (f"a: {'9' * 6000}", "is not YAML"),
        ("? [a, b]\n: c", "is not YAML"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_small_and_plain_yaml_is_refused(text, words):
    message = refused(text)
    assert message.startswith("fedn.yaml: ")
    assert words in message
    assert len(message) < 1000


# --- with the files of the package -----------------------------------------------------------------


def test_a_folder_is_read_with_what_it_names(tmp_path):
    assert read_manifest(write(tmp_path)) == read_manifest(MANIFEST)


@pytest.mark.parametrize("path", ["deep/app.py", "deep/app/__init__.py"])
def test_python_is_looked_for_as_a_file_or_a_folder(tmp_path, path):
    text = points(train={"python": "deep.app:train"})
    write(tmp_path, {"fedn.yaml": text})
    with pytest.raises(InvalidInput, match=r"entry_points\.train: the package has neither deep/app\.py nor"):
        read_manifest(tmp_path)
    write(tmp_path, {path: ""})
    assert read_manifest(tmp_path).entry_points["train"].target == "deep.app:train"


def test_requirements_may_be_lines_of_a_file(tmp_path):
    lines = "# wishes\nnumpy >= 1.26  # arrays\n\n  scipy[all]\n"
    write(tmp_path, {"fedn.yaml": small(requirements="wishes.txt"), "wishes.txt": lines})
    manifest = read_manifest(tmp_path)
    assert manifest.requirements == ("numpy>=1.26", "scipy[all]")
    assert manifest_from(manifest.as_dict()) == manifest
    write(tmp_path, {"wishes.txt": "numpy\n-r other.txt\n"})
    with pytest.raises(
        InvalidInput, match=r"requirements \(wishes.txt\): '-r other.txt' is not a requirement"
    ):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../wishes.txt", "/etc/passwd", "link.txt", "."])
def test_a_requirements_file_lies_in_the_package(tmp_path, name):
    (tmp_path / "wishes.txt").write_text("numpy")
    folder = write(tmp_path / "package", {"fedn.yaml": small(requirements=name)})
    (folder / "link.txt").symlink_to(tmp_path / "wishes.txt")
    with pytest.raises(InvalidInput):
        read_manifest(folder)


def test_a_folder_without_a_manifest_says_so(tmp_path):
    with pytest.raises(InvalidInput, match=r"package: has no fedn\.yaml — .*fedn package init"):
        read_manifest(tmp_path)
    with pytest.raises(InvalidInput, match="is not a folder"):
        read_manifest(tmp_path / "nowhere")
