"""A client's app for tests of real processes: training waits for a file, and every training is noted."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


class Gated:
    """Adds 1 + index to every element once ``gate-<index>`` (or ``gate-all``) exists in FEDN_TEST_DIR."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.folder = Path(os.environ["FEDN_TEST_DIR"])

    def train(self, model: dict[str, Any], config: Any) -> tuple[dict[str, Any], int]:
        gates = [self.folder / f"gate-{self.index}", self.folder / "gate-all"]
        while not any(gate.exists() for gate in gates):
            time.sleep(0.02)
        with (self.folder / f"trained-{self.index}").open("a") as log:
            log.write(f"{config['round']}\n")
        return {name: value + 1 + self.index for name, value in model.items()}, 10 + self.index

    def validate(self, model: dict[str, Any]) -> dict[str, float]:
        return {"mean": float(model["w"].mean())}


def app(index: int, clients: int) -> Gated:
    return Gated(index)
