"""Buttons, drop zones and choosers that the story passes by: each does what it says."""

from __future__ import annotations

import base64
import io
import shlex
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy
import pytest
from package_files import FILES, MANIFEST, archive
from pages import charts, forgive, later_rounds, live
from safetensors.numpy import load
from sdk_clients import until

import fedn
from fedn.helpers.files import seed_file
from fedn.sandbox.digits import seed_model

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
DROP = """([name, data]) => {
    const dropped = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    dropped.items.add(new File([bytes], name));
    const event = new DragEvent("drop", { dataTransfer: dropped, bubbles: true });
    document.querySelector(".drop").dispatchEvent(event);
}"""


@pytest.fixture
def network(trained) -> Iterator[fedn.Network]:
    with fedn.Network(trained.sandbox.url) as network:
        yield network


def combiners(network) -> dict[str, dict]:
    return {one["combiner"]: one for one in network.status()["combiners"]}


def downloaded(page, link) -> tuple[str, bytes]:
    with page.expect_download() as coming:
        link.click()
    return coming.value.suggested_filename, Path(coming.value.path()).read_bytes()


def test_a_combiner_is_drained_and_filled_again(trained, network, window) -> None:
    page = window(trained.sandbox.url).go("/combiners/combiner-2")
    live(page)
    page.get_by_role("button", name="Drain", exact=True).click()
    page.locator("dialog button[value=yes]").click()
    undrain = page.get_by_role("button", name="Undrain")
    expect(undrain).to_be_visible()
    until(lambda: len(combiners(network)["combiner-1"]["clients"]) == 5)
    expect(page.locator("#combiner")).to_contain_text("drain")
    undrain.click()
    expect(page.get_by_role("button", name="Drain", exact=True)).to_be_visible()


def test_the_command_that_is_copied_adds_a_client(trained, window, tmp_path) -> None:
    """Of an owner's own code, with the settings file of the page, as its owner would do it."""
    view = window(trained.sandbox.url)
    view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = view.go("/network/join")
    page.fill("#name", "clinic-9")
    page.locator("#runs").select_option("app")
    page.fill("#app", "fedn.sandbox.digits:app")
    page.get_by_role("button", name="Make the commands").click()
    name, settings = downloaded(page, page.locator("a[download]", has_text="Download"))
    (tmp_path / name).write_bytes(settings)
    page.locator("[data-copy=start]").click()
    expect(page.locator("[data-copy=start]")).to_have_text("Copied")
    program, *rest = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    assert program == "fedn"
    expect(page.locator("#arrived")).to_contain_text("Not yet")
    environment = trained.sandbox.environment | {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    with subprocess.Popen(
        [Path(sys.executable).with_name("fedn"), *rest], cwd=tmp_path, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as client:  # fmt: skip
        expect(page.locator("#arrived")).to_contain_text("Yes:")
        client.terminate()
        client.wait(timeout=30)


def test_a_package_is_dropped_looked_into_and_started_with(trained, window) -> None:
    view = window(trained.sandbox.url)
    page = view.go("/packages")
    live(page)
    packed = archive({**FILES, "fedn.yaml": MANIFEST.replace("mnist-keras", "dropped")})
    upload, outcome = page.get_by_role("button", name="Upload"), page.locator("#upload .outcome")
    page.evaluate(DROP, ["cat.jpg", base64.b64encode(b"a picture").decode()])
    expect(outcome).to_contain_text("is not called .tar")  # before anything is sent
    page.evaluate(DROP, ["wrong.tar", base64.b64encode(b"no archive").decode()])
    expect(outcome).to_be_empty()
    upload.click()
    expect(outcome).to_contain_text("wrong.tar")
    forgive(view, "status of 400")
    page.evaluate(DROP, ["dropped.tar", base64.b64encode(packed).decode()])
    upload.click()
    expect(page.locator("#package-list")).to_contain_text("dropped")
    page.locator("#package-list").get_by_role("link", name="dropped").first.click()
    expect(page.locator(".digest-whole")).to_have_text(sha256(packed).hexdigest())
    page.get_by_role("link", name="validate.py").click()
    expect(page.locator(".opened pre")).to_have_text("print()")
    page.get_by_role("link", name="Start a session with it").click()
    expect(page.locator("#package")).to_have_value(sha256(packed).hexdigest())


def test_a_seed_may_be_dropped(trained, network, window) -> None:
    page = window(trained.sandbox.url).go("/seed")
    data = seed_file({"weights": numpy.ones((3, 4))})
    page.evaluate(DROP, ["dropped.safetensors", base64.b64encode(data).decode()])
    expect(page.locator("#keep [data-is=digest]")).to_have_text(sha256(data).hexdigest())
    page.get_by_role("button", name="Keep it as a seed").click()
    expect(page.locator("#keep .outcome")).to_contain_text("dropped is a seed model now.")
    assert sha256(data).hexdigest() in {one["digest"] for one in network.models()}
    page.fill("#keep #name", "again")
    page.get_by_role("button", name="Keep it as a seed").click()
    expect(page.locator("#keep .outcome")).to_contain_text(
        "again was a seed model already, and is the newest now; it was called dropped before."
    )
    page.get_by_role("button", name="Keep it as a seed").click()
    expect(page.locator("#keep .outcome p")).to_have_text(
        "again was a seed model already, and is the newest now."
    )
    assert page.url.startswith(trained.sandbox.url)
    expect(page.locator("#file-hint")).to_contain_text(f"--reducer {trained.sandbox.url}")


def test_a_form_for_a_plan_says_what_a_package_takes_and_what_is_wrong(trained, network, window) -> None:
    view = window(trained.sandbox.url)
    forgive(view, "status of 400")
    page = view.go(f"/start?package={trained.package}")
    known, config = page.locator("#config-known"), page.locator("#config")
    expect(known).to_have_text(
        "The package mnist-keras has these, with their defaults: augment = true, epochs = 1, "
        'learning_rate = 0.001, name = "adam"'
    )
    expect(config).to_have_attribute("placeholder", '{"augment":true,"epochs":1}')
    preview = page.locator("#preview")
    expect(preview).to_contain_text("None of the 5 clients can take part: they run apps of their own.")
    config.fill('{"epoch": 3}')
    wrong = page.locator("#config-wrong")
    expect(wrong).to_contain_text(
        "epoch is not a hyperparameter of package mnist-keras — did you mean 'epochs'?"
    )
    page.get_by_role("button", name="Start the session").click()
    expect(config).to_be_focused()
    expect(wrong).to_contain_text("epoch is not a hyperparameter")
    config.fill('{"epochs": "many"}')
    expect(wrong).to_contain_text("epochs: 'many' is a text")
    page.select_option("#package", "")
    expect(known).to_have_text("Without a package the names are those of the clients' own apps.")
    expect(config).to_have_attribute("placeholder", "")
    expect(preview).to_contain_text("asks all 5 clients")


def test_whole_numbers_go_up_and_down_and_say_what_is_wrong(trained, network, window) -> None:
    view = window(trained.sandbox.url)
    page = view.go("/start")
    rounds, wrong, preview = page.locator("#rounds"), page.locator("#rounds-wrong"), page.locator("#preview")
    rounds.press("ArrowUp")
    expect(preview).to_contain_text("11 rounds will be committed.")
    sessions = len(network.sessions())
    for written, said in (
        ("", "is empty"),
        ("-", "is not a number"),
        ("1.5", "not a whole number"),
        ("0", "1 to 1"),
    ):
        rounds.press("Control+A")
        rounds.press("Delete")
        rounds.press_sequentially(written)
        expect(wrong).to_contain_text(said)
        expect(preview).to_have_text("One field needs a change: rounds.")
        page.get_by_role("button", name="Start the session").click()
        expect(rounds).to_be_focused()
        expect(wrong).to_contain_text(said)
    forgive(view, "status of 400")
    assert len(network.sessions()) == sessions


def test_a_name_that_is_taken_is_told_of_while_one_writes(trained, network, window) -> None:
    page = window(trained.sandbox.url).go("/start")
    live(page)
    page.fill("#name", "twin")
    expect(page.locator("#preview")).to_contain_text("10 rounds will be committed.")
    session = network.start(seed_model(), name="twin", rounds=100_000, min_clients=5, progress=False)
    expect(page.locator("#preview")).to_contain_text("A session called twin runs already")
    session.stop()
    expect(page.locator("#preview")).not_to_contain_text("already")


def test_a_model_comes_in_each_format_and_is_compared(trained, window) -> None:
    head = trained.session.info()["head"]["model"]
    page = window(trained.sandbox.url).go(f"/models/{head}")
    name, data = downloaded(page, page.locator("a[download]", has_text=".safetensors"))
    assert (name, sha256(data).hexdigest()) == (f"{head[:12]}.safetensors", head)
    name, other = downloaded(page, page.locator("a[download]", has_text=".npz"))
    assert name == f"{head[:12]}.npz"
    tensors, arrays = load(data), numpy.load(io.BytesIO(other))
    assert tensors.keys() == set(arrays.files)
    assert all(numpy.array_equal(tensors[one], arrays[one]) for one in arrays.files)
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("h1")).to_have_text("Two models compared")
    expect(page.locator("dt", has_text="Norm of the difference")).to_be_visible()


def test_a_session_rests_and_goes_on(trained, network, window) -> None:
    session = network.start(seed_model(), name="rests", rounds=100_000, min_clients=5, progress=False)
    page = window(trained.sandbox.url).go(f"/sessions/{session.id}")
    live(page)
    state = page.locator("#session-head .state")
    later_rounds(page)
    page.get_by_role("button", name="Pause").click()
    expect(state).to_have_text("paused")
    expect(page.locator("#now")).to_contain_text("rests until somebody resumes it")
    page.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("running")
    later_rounds(page)
    session.stop()
    expect(state).to_have_text("cancelled")


def test_sessions_are_chosen_for_a_chart(trained, window) -> None:
    page = window(trained.sandbox.url).go(f"/plot?session={trained.session.id}")
    charts(page)
    assert "metric=accuracy" in page.url
    page.locator("#metric").select_option("train/loss")
    page.wait_for_url("**metric=loss*")
    page.wait_for_function(
        "() => document.getElementById('compared').layout.yaxis.title.text.startsWith('loss')"
    )
    page.locator(f"[id='{trained.session.id}']").uncheck()
    expect(page.locator("#compared-empty")).to_be_visible()


def test_events_are_filtered_by_what_the_form_says(trained, window) -> None:
    page = window(trained.sandbox.url).go("/events")
    page.locator("#filter > summary").click()
    page.locator("#session").select_option(trained.session.id)
    page.locator("#event").select_option("round_committed")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#events li")).to_have_count(4)
    page.locator("#events li a.said").first.click()
    expect(page.locator("h1")).to_be_visible()
    assert "/events/" in page.url


def test_colours_are_kept(trained, window) -> None:
    page = window(trained.sandbox.url, color_scheme="light").go("/")
    page.locator("#theme").select_option("dark")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")


def test_a_session_page_verifies_its_trail_and_leads_to_it(trained, window) -> None:
    page = window(trained.sandbox.url).go(f"/sessions/{trained.session.id}")
    page.get_by_role("button", name="Verify the trail").click()
    expect(page.locator("#verified")).to_contain_text(
        "The trail is whole: 5 records (the beginning's and 4 rounds')"
    )
    expect(page.locator("#verified .digest-whole")).to_have_text(trained.session.info()["head"]["record"])
    page.get_by_role("link", name="Show the trail").click()
    page.wait_for_url("**/trail")
