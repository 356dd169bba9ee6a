"""A client's app whose training is one call that keeps the interpreter to itself, as some frameworks do."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

HELD_SECONDS = 2
_libc = ctypes.PyDLL(None)  # unlike CDLL it does not let other threads run meanwhile


class Busy:
    """Adds 1 to every element; nothing else of its process runs while it trains."""

    def __init__(self, index: int) -> None:
        self.log = Path(os.environ["FEDN_TEST_DIR"]) / f"trained-{index}"

    def train(self, model: dict[str, Any], config: Any) -> tuple[dict[str, Any], int]:
        _libc.sleep(HELD_SECONDS)
        with self.log.open("a") as log:
            log.write(f"{config['round']}\n")
        return {name: value + 1 for name, value in model.items()}, 10

    def validate(self, model: dict[str, Any]) -> dict[str, float]:
        return {}


def app(index: int, clients: int) -> Busy:
    return Busy(index)
