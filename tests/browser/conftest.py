"""A real browser on real reducers. Whatever a test does, no page may log an error or ask another host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from package_files import write
from pages import Gates, chromium_path
from ports import settled_port
from sdk_clients import until

import fedn
from fedn.sandbox.digits import seed_model
from fedn.sandbox.processes import Sandbox

PATIENCE_MS = 60_000
HELD = f"{Path(__file__).with_name('held_digits.py')}:app"
CLIENTS = 3


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """The browser, for a module and no longer: while it is open, its event loop keeps others from running."""
    if (path := chromium_path()) is None:
        pytest.skip("no Chromium here: install it (Debian: apt install chromium) to run the browser tests")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    api.expect.set_options(timeout=PATIENCE_MS)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(frozen=True)
class Trained:
    """A network with something to see on every page."""

    sandbox: Sandbox
    session: fedn.Session
    package: str


class Window:
    """One browser window on a reducer. It keeps what its console and its scripts complain of."""

    def __init__(self, browser, url: str, **options: object) -> None:
        self.url = url
        self.errors: list[str] = []
        self.forgiven: list[str] = []
        self.astray: list[str] = []
        self.context = browser.new_context(
            **({"viewport": {"width": 1280, "height": 900}, "accept_downloads": True} | options)
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.tab()

    def tab(self):
        """Another tab of the same person."""
        page = self.context.new_page()
        page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._asked)
        return page

    def go(self, path: str):
        """Load a page of the reducer."""
        answer = self.page.goto(self.url + path)
        assert answer.ok, f"{path}: {answer.status}"
        return self.page

    def complaints(self) -> list[str]:
        """What no test has forgiven."""
        return [error for error in self.errors if not any(word in error for word in self.forgiven)]

    def _asked(self, request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme not in ("data", "blob") and asked.netloc != urlsplit(self.url).netloc:
            self.astray.append(request.url)


@pytest.fixture
def window(chromium) -> Iterator[object]:
    """Opens windows by the URL of a reducer; what they complained of at the end fails the test.

    A test that breaks something on purpose forgives what that causes.
    """
    opened: list[Window] = []

    def open_window(url: str, **options: object) -> Window:
        opened.append(Window(chromium, url, **options))
        return opened[-1]

    yield open_window
    for one in opened:
        one.context.close()
        assert one.complaints() == []
        assert one.astray == []


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gates]:
    """A reducer and two combiners, without clients, models or sessions. Its clients train behind gates.

    ``sandbox.start_client`` starts the first to third of three.
    """
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDN_TEST_DIR", str(folder))
        with Sandbox(folder / "network", 2, 0, settled_port(), app=HELD) as running:
            running.clients = CLIENTS
            with fedn.Network(running.url) as network:
                until(lambda: len(network.status()["combiners"]) == 2)
                yield Gates(running, folder, network)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Two combiners, five clients, a package, and a session of handwritten digits that has finished."""
    folder = tmp_path_factory.mktemp("trained")
    with Sandbox(folder, 2, 5, settled_port()) as running, fedn.Network(running.url) as network:
        until(lambda: len(network.clients()) == 5)
        package = network.upload_package(write(folder / "package"), progress=False)
        session = network.start(seed_model(), name="digits", rounds=4, min_clients=5, progress=False)
        assert session.wait(progress=False) == "finished"
        yield Trained(running, session, package)
