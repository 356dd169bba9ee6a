"""The sandbox's digits, whose clients train only while a file lets them: so a test sees them at it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedn.aggregation.dtypes import Array
from fedn.sandbox.digits import DigitsApp, load, split

BREATH_SECONDS = 0.2
"""Before each training: else rounds follow upon each other so quickly that the browser gets no processor."""


class HeldDigits(DigitsApp):
    """Trains while one of ``gates`` is there."""

    def __init__(self, images: Array, labels: Array, gates: tuple[Path, ...]) -> None:
        super().__init__(images, labels)
        self.gates = gates

    def train(self, model: Any, config: Mapping[str, Any]) -> tuple[Any, int, dict[str, float]]:
        while not any(gate.exists() for gate in self.gates):
            time.sleep(0.02)
        time.sleep(BREATH_SECONDS)
        return super().train(model, config)


def app(index: int, clients: int) -> HeldDigits:
    """Client ``index`` (from 0) of ``clients``; its gates are ``gate-<index>`` and ``gate-all``."""
    images, labels = load()
    mine = split(labels, clients)[index]
    folder = Path(os.environ["FEDN_TEST_DIR"])
    return HeldDigits(images[mine], labels[mine], (folder / f"gate-{index}", folder / "gate-all"))
