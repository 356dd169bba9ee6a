"""`make screenshots`: pictures of a real federation's pages into docs/images, as the README shows them."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from pages import chromium_path, live
from playwright.sync_api import expect, sync_playwright
from ports import settled_port
from sdk_clients import until

import fedn
from fedn.sandbox import digits
from fedn.sandbox.processes import Sandbox

IMAGES = Path(__file__).parents[2] / "docs/images"
CLIENTS, COMBINERS = 7, 2
SHOTS = (
    ("overview", "/", "light", (1280, 800)),
    ("session", "/sessions/{session}", "light", (1280, 1100)),
    ("network", "/network", "dark", (1280, 800)),
    ("start", "/start", "light", (1280, 800)),
)
"""Name, page, colours, size."""


class SlowDigits(digits.DigitsApp):
    """Takes as long for a training as it has images, so that the clients are seen at different things."""

    def train(self, model: Any, config: Mapping[str, Any]) -> tuple[Any, int, dict[str, float]]:
        time.sleep(0.5 + len(self.train_labels) / 100)
        return super().train(model, config)


def app(index: int, clients: int) -> SlowDigits:
    """Client ``index`` (from 0) of ``clients``."""
    images, labels = digits.load()
    mine = digits.split(labels, clients)[index]
    return SlowDigits(images[mine], labels[mine])


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(Path(folder), COMBINERS, CLIENTS, settled_port(), app=f"{__file__}:app") as sandbox,
        fedn.Network(sandbox.url) as network,
        sync_playwright() as playwright,
    ):
        until(lambda: len(network.clients()) == CLIENTS)
        plan = {"min_clients": CLIENTS - 1, "progress": False}
        network.start(digits.seed_model(), name="pilot", rounds=2, **plan).wait(progress=False)
        session = network.start(digits.seed_model(), name="handwritten digits", rounds=40, **plan)
        until(lambda: session.round >= 12)
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        for name, path, colours, (width, height) in SHOTS:
            page = browser.new_page(color_scheme=colours, viewport={"width": width, "height": height})
            page.goto(sandbox.url + path.format(session=session.id))
            live(page)
            page.wait_for_timeout(1500)  # charts ease in
            if name == "session":
                expect(page.locator("#open-round .said", has_text="done").first).to_be_visible(timeout=60_000)
            page.screenshot(path=IMAGES / f"{name}.png")
            print(f"docs/images/{name}.png")
        browser.close()
        session.stop()


if __name__ == "__main__":
    main()
