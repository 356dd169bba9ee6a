"""What `reducer start`, `combiner start` and `client start` have in common."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeVar

from fedn import logs
from fedn.cli.options import load_settings
from fedn.config import Settings, exposed

S = TypeVar("S", bound=Settings)


def prepare(kind: type[S], file: Path | None, given: dict[str, Any], as_json: bool) -> S:
    """Settings from everywhere, and the log set up as they say."""
    settings = load_settings(kind, file, given)
    logs.configure(kind.tier, settings.log_level, settings.log_json or as_json, insecure=settings.insecure)
    if warning := exposed(kind, file):
        logging.getLogger("fedn.config").warning(warning)
    return settings
