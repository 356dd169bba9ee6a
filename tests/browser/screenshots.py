"""`make screenshots`: pictures of a real federation's pages into docs/images, as the README shows them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from pages import chromium_path, live
from playwright.sync_api import sync_playwright
from ports import settled_port
from sdk_clients import until

import fedn
from fedn.sandbox.digits import seed_model
from fedn.sandbox.processes import Sandbox

IMAGES = Path(__file__).parents[2] / "docs/images"
SHOTS = (
    ("overview", "/", "light", (1280, 800)),
    ("session", "/sessions/{session}", "light", (1280, 1100)),
    ("network", "/network", "dark", (1280, 800)),
    ("start", "/start", "light", (1280, 800)),
)
"""Name, page, colours, size."""


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(Path(folder), 2, 5, settled_port()) as sandbox,
        fedn.Network(sandbox.url) as network,
        sync_playwright() as playwright,
    ):
        until(lambda: len(network.clients()) == 5)
        session = network.start(seed_model(), name="digits", rounds=10_000, min_clients=5, progress=False)
        until(lambda: session.round >= 12)
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        for name, path, colours, (width, height) in SHOTS:
            page = browser.new_page(color_scheme=colours, viewport={"width": width, "height": height})
            page.goto(sandbox.url + path.format(session=session.id))
            live(page)
            page.wait_for_timeout(1500)  # charts ease in
            page.screenshot(path=IMAGES / f"{name}.png")
            print(f"docs/images/{name}.png")
        browser.close()
        session.stop()


if __name__ == "__main__":
    main()
