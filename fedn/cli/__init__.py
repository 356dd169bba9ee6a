"""The command line: one module per noun, each loaded only when it is used."""

from __future__ import annotations

from fedn.cli.root import main

__all__ = ["main"]
