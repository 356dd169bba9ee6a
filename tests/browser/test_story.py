"""From an empty network to a trained model, with a browser alone: by mouse, and by keyboard."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from pages import Gates, forgive, later_rounds, live, mark, tab_to

from fedn.helpers.files import seed_file
from fedn.sandbox.digits import seed_model

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
SEED = seed_file(seed_model())


def test_the_whole_story(empty: Gates, window) -> None:
    view = window(empty.sandbox.url)
    _clients_come(view.go("/"), empty)
    _a_seed_is_uploaded(view.page, empty)
    forgive(view, "status of 400")  # as browsers tell of a wrong file that is refused
    session = _a_session_is_started(view.page)
    stays = mark(view.page)
    _rounds_arrive(view.page, empty)
    _a_client_is_lost(view, empty)
    _it_is_stopped(view.page)
    assert stays(), "the session's page was loaded anew"
    _the_model_is_downloaded(view.page, empty)
    _the_trail_verifies(view, session)
    _it_is_told_of(view, session)


def _clients_come(page, empty: Gates) -> None:
    """The first steps say what is there, and what is to be done next."""
    live(page)
    done = page.locator(".step.done strong")
    expect(done).to_have_text(["A combiner"])
    stays = mark(page)
    for index in range(3):
        empty.sandbox.start_client(index)
    expect(done).to_have_text(["A combiner", "Clients"])
    expect(page.locator(".health")).to_contain_text("3 clients")
    assert stays()


def _a_seed_is_uploaded(page, empty: Gates) -> None:
    """A wrong file takes nothing away; a good one is shown, and kept only when one says so."""
    page.click("#to-seed")
    file, said, keep = page.locator("#file"), page.locator("#seed > .outcome"), page.locator("#keep")
    wrong = {"name": "holiday.jpg", "mimeType": "image/jpeg", "buffer": b"\xff\xd8\xff\xe0" * 20}
    file.set_input_files(wrong)
    expect(said).to_contain_text("holiday.jpg")
    expect(keep).to_be_hidden()
    file.set_input_files({"name": "digits.safetensors", "mimeType": "", "buffer": SEED})
    expect(keep.locator("[data-is=digest]")).to_have_text(sha256(SEED).hexdigest())
    expect(keep.locator("[data-is=parameters]")).to_have_text("2,420")
    expect(keep.locator("tbody tr")).to_have_count(5)
    page.fill("#keep #name", "an untrained perceptron")
    file.set_input_files(wrong)
    expect(said).to_contain_text("What was in digits.safetensors is still below")
    expect(page.locator("#keep #name")).to_have_value("an untrained perceptron")
    assert empty.network.models() == []
    page.get_by_role("button", name="Keep it as a seed").click()
    expect(keep.locator(".outcome")).to_contain_text("an untrained perceptron is a seed model now")
    assert [model["digest"] for model in empty.network.models()] == [sha256(SEED).hexdigest()]
    page.get_by_role("link", name="Start a session with it").click()


def _a_session_is_started(page) -> str:
    """What is out of range is marked while one writes, and the preview says what will happen."""
    rounds, preview = page.locator("#rounds"), page.locator("#preview")
    expect(preview).to_contain_text("3 clients at 2 combiners")
    rounds.fill("0")
    expect(page.locator("#rounds-wrong")).to_contain_text("1")
    expect(rounds).to_have_attribute("aria-invalid", "true")
    expect(preview).to_contain_text("rounds")
    rounds.fill("100000")
    expect(rounds).to_have_attribute("aria-invalid", "false")
    page.fill("#min_clients", "2")
    expect(preview).to_contain_text("100,000 rounds will be committed")
    expect(preview).to_contain_text("needs 2 updates")
    page.fill("#name", "the story")
    page.get_by_role("button", name="Start the session").click()
    page.wait_for_url("**/sessions/*")
    expect(page.locator("h1")).to_contain_text("the story")
    return str(page.url.rpartition("/")[2])


def _rounds_arrive(page, empty: Gates) -> None:
    """The open round shows who works on it; committed ones come into table and chart by themselves."""
    live(page)
    expect(page.locator("#open-round .lane")).to_have_count(3)
    expect(page.locator("#open-round .lane .said").first).to_contain_text("training")
    expect(page.locator("#rounds")).to_contain_text("No round is committed yet")
    empty.open("all")
    later_rounds(page, 3)
    page.wait_for_function("() => document.getElementById('curve').data?.at(-1).x.length >= 3")
    assert "accuracy" in page.locator("#metric").inner_text()


def _a_client_is_lost(view, empty: Gates) -> None:
    """A client that is killed while it trains is told of, and the others go on without it."""
    page = view.page
    empty.open(0, 1)
    lane = page.locator("#open-round .lane", has=page.get_by_role("link", name="client-3", exact=True))
    expect(page.locator("#open-round .lane .said", has_text="done")).to_have_count(2)
    expect(lane.locator(".said")).to_contain_text("training")
    empty.sandbox.kill("client-3")
    row = page.locator("#wrong tr", has_text="client-3").first
    expect(row).to_contain_text("lost")
    later_rounds(page)
    other = view.tab()
    other.goto(view.url + "/network")
    expect(other.locator("#network-tables tr", has_text="client-3")).to_contain_text("gone")
    other.close()


def _it_is_stopped(page) -> None:
    """A person is asked before; who says no has changed nothing."""
    dialog, state = page.locator("dialog"), page.locator("#session-head .state")
    page.get_by_role("button", name="Stop").hover()
    page.mouse.down()
    later_rounds(page, 1)  # a slow click holds, whatever is drawn anew meanwhile
    page.mouse.up()
    expect(dialog).to_contain_text("the story")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    expect(state).to_have_text("running")
    page.get_by_role("button", name="Stop").click()
    dialog.get_by_role("button", name="Yes").click()
    expect(state).to_have_text("cancelled")


def _the_model_is_downloaded(page, empty: Gates) -> None:
    """Its bytes are those of its digest, and not those of the seed."""
    page.locator("#now .fact", has_text="Newest model").get_by_role("link").first.click()
    digest = page.locator(".digest-whole").first.inner_text()
    with page.expect_download() as coming:
        page.locator("a[download]", has_text=".safetensors").click()
    data = Path(coming.value.path()).read_bytes()
    assert sha256(data).hexdigest() == digest != sha256(SEED).hexdigest()
    assert digest == empty.network.sessions()[0]["head"]["model"]


def _the_trail_verifies(view, session: str) -> None:
    page = view.go(f"/sessions/{session}/trail")
    page.get_by_role("button", name="Verify the trail").click()
    expect(page.locator("#verified")).to_contain_text("The trail is whole")
    expect(page.locator("#verified")).to_contain_text("(the beginning's and")


def _it_is_told_of(view, session: str) -> None:
    """In the events, and as the cause of what became of the session."""
    page = view.go(f"/events?session={session}")
    expect(page.locator("#events li", has_text="stopped").first).to_be_visible()
    page.get_by_role("link", name="warnings and errors").click()
    expect(page.locator("#events li", has_text="client-3").first).to_be_visible()
    page = view.go(f"/sessions/{session}/why")
    expect(page.locator("#cause")).not_to_be_empty()
    expect(page.locator(".answer")).to_contain_text("stopped")


def test_by_keyboard_alone(empty: Gates, window) -> None:
    """From the link that skips the menu through the form to a running session."""
    empty.network.seed(seed_model(), name="digits", progress=False)  # the same once more changes nothing
    empty.open()
    page = window(empty.sandbox.url).go("/start")
    live(page)
    expect(tab_to(page, ".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    tab_to(page, "#name")
    page.keyboard.type("by keyboard")
    tab_to(page, "#rounds")
    page.keyboard.press("Control+A")
    page.keyboard.type("7")
    expect(page.locator("#preview")).to_contain_text("7 rounds will be committed")
    tab_to(page, "#plan button.btn-primary")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sessions/*")
    expect(page.locator("h1")).to_contain_text("by keyboard")
    live(page)
    tab_to(page, "#session-head button.btn-outline-danger")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("dialog button[value=yes]")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#session-head .state")).to_have_text("cancelled")
