"""What a combiner says, before a client believes it: ids that may name files, digests, sizes.

A combiner is a member of the network, not a friend: whatever it says must neither lead out of the client's
folders nor fill its disk. Called by `driver.py` for every message.
"""

from __future__ import annotations

from fedn.domain import messages as m
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import check_digest, check_id
from fedn.domain.model import MAX_HEADER_BYTES
from fedn.packages.members import MAX_BYTES

MAX_MODEL_BYTES = 2**40 + MAX_HEADER_BYTES


def check_told(message: m.CombinerMessage) -> None:
    """Raise InvalidInput naming the field that no honest combiner sends; its stream ends then."""
    if isinstance(message, m.Welcome):
        return
    check_id("session", message.session)
    if message.round < 0:
        raise InvalidInput("round", f"{message.round} is not a round", "rounds count from 1")
    match message:
        case m.Task():
            _check_task(message)
        case m.Granted(digest=digest) | m.UpdateRefused(digest=digest) | m.Receipt(digest=digest):
            check_digest("digest", digest)


def _check_task(task: m.Task) -> None:
    check_digest("model", task.model)
    if not 0 < task.model_size <= MAX_MODEL_BYTES:
        raise InvalidInput("model_size", f"{task.model_size} bytes", f"1 to {MAX_MODEL_BYTES} are taken")
    if task.package:
        check_digest("package", task.package)
        if not 0 < task.package_size <= MAX_BYTES:
            raise InvalidInput("package_size", f"{task.package_size} bytes", f"1 to {MAX_BYTES} are taken")
