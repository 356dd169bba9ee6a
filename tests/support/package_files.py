"""Compute packages for tests: good ones as folders, and archives that say whatever a test wants."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

MANIFEST = """\
name: mnist-keras
description: Digits.
helper: keras
entry_points:
  startup: {python: "app:startup"}
  train: {python: "app:train"}
  validate: python validate.py <model_in> <metrics_out>
hyperparameters: {learning_rate: 1e-3, epochs: 1, augment: true, name: adam}
requirements: [numpy >= 1.26]
timeout: 600
"""
FILES: Mapping[str, str] = {
    "fedn.yaml": MANIFEST,
    "app.py": "def startup(data): ...\n\n\ndef train(model, data, config): ...\n",
    "validate.py": "print()\n",
    "tools/prepare.sh": "#!/bin/sh\n",
}


def write(root: Path, files: Mapping[str, str | bytes] = FILES) -> Path:
    """A folder with these files; the .sh ones may be executed."""
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(0o755 if path.endswith(".sh") else 0o644)
    return root


def archive(
    files: Mapping[str, str | bytes] = FILES, *extra: tarfile.TarInfo, kind: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar as Python's own `tarfile` writes it, with members without content behind the files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=kind) as tar:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in extra:
            tar.addfile(info)
    return packed.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """A member without content."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info
